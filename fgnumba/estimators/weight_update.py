"""The second half of weight perturbation: what a step does once it knows what each direction is multiplied by.

    g = h + Σ_t c_t v_t,  c_t in float32

and the optimiser's step along g. The directions are drawn again, so that seed, step, c and the learning rate are all
that an update is made of: with those in a log, a run can be taken again without data and without a pass.
"""

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fgnumba.estimators.base import Setting, Update
from fgnumba.kernels.machine.interfaces import Operation
from fgnumba.kernels.ops import descent as rules
from fgnumba.kernels.ops import optimizer as optimizer_rules
from fgnumba.kernels.shared.loss import RESULT
from fgnumba.layers.parameters import Parameter
from fgnumba.objects.bound import Bound
from fgnumba.optimizers import SGD

if TYPE_CHECKING:
    from fgnumba.estimators.weight import WeightPerturbation


def control_of(setting: Setting, parameter: Parameter) -> npt.NDArray[np.float32]:
    """Return a parameter's control variate h."""
    return setting.state.moment("control", parameter)


def in_update(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    """Return c, (..., T), of (..., 1 + T) values as ``kernels.ops.descent`` takes them: the float32 it computes."""
    return (values[..., 1:] / (values.shape[-1] - 1)).astype(np.float32)


class Descent(Bound):
    """The operations of an update.

    Parameters
    ----------
    values : (1 + T,) float64 with T c_t at 1 + t, read when the operations run.
    result : (1,) ``loss.RESULT``: nothing is moved unless its `finite` is 1.
    last : where the values of the last update are kept; by default an array of its own.

    Attributes
    ----------
    operations : in order: one pass over the parameters with plain or heavy-ball SGD and h = 0.
    """

    def __init__(
        self,
        estimator: "WeightPerturbation",
        setting: Setting,
        values: npt.NDArray[np.float64],
        result: npt.NDArray[Any],
        last: npt.NDArray[np.float64] | None = None,
    ) -> None:
        self._estimator, self._setting = estimator, setting
        optimizer = setting.optimizer
        fused = estimator.control == 0 and isinstance(optimizer, SGD)
        self._momentum = fused and isinstance(optimizer, SGD) and optimizer.heavy_ball
        self._fused = fused and (setting.plain or self._momentum)
        self.last = setting.device.zeros(values.shape, np.float64) if last is None else last
        rates = setting.rates.array if setting.rates else None
        self.operations = (*self._along(values, result, rates), *self._after(result))

    def _along(
        self, values: npt.NDArray[np.float64], result: npt.NDArray[Any], rates: Any
    ) -> list[Operation]:
        setting = self._setting
        rule = rules.STORE
        if self._fused:
            rule = rules.MOMENTUM if self._momentum else rules.SGD
        parameters = setting.model.packed_parameters
        return list(
            setting.device.kernels.descent.bind_all(
                setting.device.isa,
                setting.device.threads,
                thetas=[
                    p.packed if self._fused else setting.gradient(name) for name, p in parameters.items()
                ],
                kind=self._estimator.drawn.kind,
                count=self._estimator.directions,
                parameters=[p.index for p in parameters.values()],
                stream=setting.stream.array,
                values=values,
                result=result,
                rates=rates,
                rule=rule,
                moments=[setting.state.moment("moment", p) for p in parameters.values()]
                if self._momentum
                else None,
                first=self._estimator.drawn.base,
            )
        )

    def _after(self, result: npt.NDArray[Any]) -> list[Operation]:
        """Return what follows a stored gradient: the control variate is put back, and the optimiser's step."""
        if self._fused:
            return []
        operations, setting = [], self._setting
        if self._estimator.control > 0:
            initial = np.zeros(1, optimizer_rules.RATES)
            P, T = setting.model.parameter_count, self._estimator.directions
            initial["momentum"] = 1.0 - min(1.0, self._estimator.control * T / P)
            rates = setting.device.array(initial)
            operations = [
                setting.device.kernels.optimizer.bind(
                    setting.device.threads,
                    theta=setting.gradient(name),
                    gradient=setting.gradient(name),
                    rule=optimizer_rules.CORRECT,
                    rates=rates,
                    result=result,
                    first_moment=control_of(setting, parameter),
                )
                for name, parameter in setting.model.packed_parameters.items()
            ]
        return operations + setting.updates(result)

    def taking_back(self, learning_rate: float) -> Any:
        """Return what takes the last update back: θ + η g, its directions drawn again; θ + η m with momentum.

        None elsewhere.
        """
        if not self._fused:
            return None
        values, device = self.last, self._setting.device
        assert self._setting.rates is not None
        # Settings of its own: those of the steps stay as they are, whatever interrupts it.
        rates = self._setting.rates.host.copy()
        rates["learning_rate"] = -learning_rate
        if self._momentum:
            # m ← 1 m + 0 leaves the moment as it is.
            rates["momentum"], values = 1.0, device.zeros(values.shape, np.float64)
        good = device.array(np.ones(1, RESULT))
        return device.program(self._along(values, good, device.array(rates)))


class WeightUpdate(Update):
    """An update as a program of its own."""

    def __init__(self, estimator: "WeightPerturbation", setting: Setting) -> None:
        self._device = setting.device
        self._host = np.zeros(1 + estimator.directions)
        self._values = self._device.staged(self._host.shape, np.float64)
        self._result = self._device.array(np.ones(1, RESULT))
        self._descent = Descent(estimator, setting, self._values.array, self._result, self._values.array)
        self._program = self._device.program(self._descent.operations)
        self.last = self._descent.last

    @property
    def runs(self) -> int:
        """Runs of the program."""
        return self._program.runs

    def run(self, coefficients: npt.NDArray[np.float32]) -> None:
        """Move the parameters along Σ_t c_t v_t."""
        # T c_t has at most 24 + 20 bits: the kernel's division gives c_t back.
        np.multiply(coefficients, len(coefficients), out=self._host[1:], dtype=np.float64)
        self._values.load(self._host)
        self._program.run()

    @property
    def finite(self) -> bool:
        """Whether every update so far was."""
        return bool(self._device.values(self._result)["finite"][0] == 1)

    def taking_back(self, learning_rate: float) -> Any:
        """Return what takes the last update back, of the step that the stream says; None where nothing can."""
        return self._descent.taking_back(learning_rate)
