"""Weight perturbation: the parameters themselves are moved along random directions."""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from fgnumba.directions import by_name
from fgnumba.estimators.base import Estimate, Estimator, Setting
from fgnumba.kernels.descent import cpu as descent
from fgnumba.kernels.philox import MAX_DIRECTIONS
from fgnumba.kernels.program import Operation, Program
from fgnumba.layers import Perturbation
from fgnumba.optimizers import SGD
from fgnumba.plan import Plan
from fgnumba.validation import whole_number


@dataclass(frozen=True)
class WeightPerturbation(Estimator):
    """Weight perturbation: the mean of T forward gradients, whose passes share the primal.

        g = (1 / T) Σ_t (∇f · v_t) v_t

    Parameters
    ----------
    direction : ``rank1``, ``rademacher`` or ``gaussian``, see ``fgnumba.directions``.
    directions : T, at least 1.

    Unbiased; E‖g - ∇f‖² = (P - 1) / T ‖∇f‖² for signs, (P + 1) / T for Gaussians. Products the size of x W
    in a hidden layer, the primal included: 1 + T for rank-1, 1 + 2 T for the others; in the first layer 1
    and 1 + T. Source: arXiv 2202.08587.

    Raises
    ------
    ConfigError
    """

    direction: str = "rank1"
    directions: int = 1

    name: ClassVar[str] = "weight-perturbation"

    def __post_init__(self) -> None:
        by_name(self.direction)
        whole_number("directions", self.directions, 1, MAX_DIRECTIONS)

    @property
    def kind(self) -> int:
        """The direction as the kernels know it."""
        return by_name(self.direction).kind

    @property
    def unbiased(self) -> bool:
        """True."""
        return True

    @property
    def statement(self) -> str:
        """What E[g] is."""
        return "E[g] = ∇f"

    def relative_variance(self, parameters: int) -> float:
        """Return (P ± 1) / T."""
        return (parameters + (1 if self.direction == "gaussian" else -1)) / self.directions

    def bind(self, setting: Setting) -> "WeightEstimate":
        """Return the estimate at a setting."""
        return WeightEstimate(self, setting)


class WeightEstimate(Estimate):
    """Weight perturbation on B examples: dual pass, loss and update as one program."""

    def __init__(self, estimator: WeightPerturbation, setting: Setting) -> None:
        self._estimator, self._setting = estimator, setting
        optimizer = setting.optimizer
        fused = isinstance(optimizer, SGD) and (optimizer.plain or optimizer.heavy_ball)
        self._momentum = fused and isinstance(optimizer, SGD) and optimizer.heavy_ball
        perturbation = Perturbation(estimator.kind, estimator.directions, setting.stream)
        self.plan = Plan(setting.model, setting.batch, perturbation, setting.loss, training=True)
        self._fused = fused
        self.plan.append(self._updates(self.plan.values, self.plan.result))
        if not fused:
            self.plan.append(setting.updates(self.plan.threads, self.plan.result))
        self.values, self.operations = self.plan.values, self.plan.operations
        self._last = np.zeros_like(self.values)

    @property
    def nbytes(self) -> int:
        """Bytes of buffers and scratch memory."""
        return self.plan.nbytes

    def _updates(self, values: npt.NDArray[np.float64], result: npt.NDArray[Any]) -> list[Operation]:
        setting, estimator = self._setting, self._estimator
        rule = descent.STORE
        if self._fused:
            rule = descent.MOMENTUM if self._momentum else descent.SGD
        return [
            descent.bind(
                self.plan.isa,
                self.plan.threads,
                theta=parameter.packed if self._fused else setting.gradient(name),
                kind=estimator.kind,
                count=estimator.directions,
                parameter=parameter.index,
                stream=setting.stream,
                values=values,
                result=result,
                rates=setting.rates,
                rule=rule,
                moment=setting.state.moment("moment", parameter) if self._momentum else None,
            )
            for name, parameter in setting.model.packed_parameters.items()
        ]

    def run(self, x: npt.NDArray[Any], targets: npt.NDArray[Any]) -> bool:
        """Run the program; nothing is moved where the loss or an update is not finite."""
        self.plan.run(x, targets)
        if self.plan.result["finite"][0] != 1:
            return False
        self._last[...] = self.values
        return True

    def undo(self, learning_rate: float) -> bool:
        """Take the last update back: θ + η g, its directions drawn again; θ + η m with momentum."""
        if not self._fused:
            return False
        rates, values = self._setting.rates, self._last
        assert rates is not None
        before = rates.copy()
        rates["learning_rate"] = -learning_rate
        if self._momentum:
            # m ← 1 m + 0 leaves the moment as it is.
            rates["momentum"], values = 1.0, np.zeros_like(values)
        Program(self._updates(values, np.ones_like(self.plan.result))).run()
        rates[...] = before
        return True
