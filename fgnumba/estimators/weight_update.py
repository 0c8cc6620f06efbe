"""The update of weight perturbation: the second half of a step, once the coefficient of each direction is known.

    g = h + Σ_t c_t v_t,  c_t in float32

is followed by the optimiser's step along g. The directions are drawn again here, so an update depends on the seed, the
step, the coefficients c and the learning rate alone: a log of these is enough to replay a run without data and without
a forward pass.
"""

from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from fgnumba.estimators.base import Setting, Update
from fgnumba.kernels.machine.interfaces import Operation
from fgnumba.kernels.ops import descent as rules
from fgnumba.kernels.ops import optimizer as optimizer_rules
from fgnumba.kernels.shared.loss import RESULT
from fgnumba.layers.parameters import Parameter
from fgnumba.model.directions import Direction
from fgnumba.objects.bound import Bound
from fgnumba.optimizers import SGD


class Directed(Protocol):
    """An estimator whose update is h + Σ_t c_t v_t along random directions of the parameters."""

    @property
    def directions(self) -> int:
        """The number of directions T."""

    @property
    def drawn(self) -> type[Direction]:
        """The class of the directions."""

    @property
    def control(self) -> float:
        """The factor of a control variate h; 0: there is none."""

    @property
    def keeps_step(self) -> bool:
        """Whether the last step of SGD is kept, as its momentum is."""


def control_of(setting: Setting, parameter: Parameter) -> npt.NDArray[np.float32]:
    """Return the control variate h of a parameter, an array of the state."""
    return setting.state.moment("control", parameter)


def in_update(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    """Return the coefficients c (..., T) float32 that ``kernels.ops.descent`` computes from `values` (..., 1 + T)."""
    return (values[..., 1:] / (values.shape[-1] - 1)).astype(np.float32)


class Descent(Bound):
    """The operations of an update.

    Parameters
    ----------
    estimator : Directed
        The estimator.
    setting : Setting
        The setting to which it is bound.
    values : device array, (1 + T,) float64
        The coefficients, T c_t at index 1 + t, read when the operations run.
    result : device array, (1,) of dtype ``kernels.shared.loss.RESULT``
        Nothing is moved unless its field `finite` is 1.
    last : device array, (1 + T,) float64, optional
        The memory in which the coefficients of the last update are kept. By default an array of its own.

    Attributes
    ----------
    fused : bool
        Whether the update is one pass over the parameters.
    operations : tuple of Operation
        The operations in the order in which they run. If the optimiser is plain SGD or has heavy-ball momentum, and
        h = 0, they make one pass over the parameters.
    """

    def __init__(
        self,
        estimator: Directed,
        setting: Setting,
        values: npt.NDArray[np.float64],
        result: npt.NDArray[Any],
        last: npt.NDArray[np.float64] | None = None,
    ) -> None:
        self._estimator, self._setting = estimator, setting
        optimizer = setting.optimizer
        alone = estimator.control == 0 and isinstance(optimizer, SGD)
        self.fused = alone and isinstance(optimizer, SGD) and (optimizer.plain or optimizer.heavy_ball)
        # Plain SGD is momentum with a factor of 0, whose moments are the last step.
        self._momentum = self.fused and (estimator.keeps_step or not setting.plain)
        self.last = setting.device.zeros(values.shape, np.float64) if last is None else last
        rates = setting.rates.array if setting.rates else None
        self.operations = (*self._along(values, result, rates), *self._after(result))

    @property
    def moments(self) -> list[tuple[Parameter, npt.NDArray[np.float32]]]:
        """Each parameter and its m, where the last step was -η m: the momentum, or the last estimate without one."""
        setting = self._setting
        kind = "step" if setting.plain else "moment"
        return [(p, setting.state.moment(kind, p)) for p in setting.model.packed_parameters.values()]

    def _along(
        self, values: npt.NDArray[np.float64], result: npt.NDArray[Any], rates: Any
    ) -> list[Operation]:
        setting = self._setting
        rule = rules.STORE
        if self.fused:
            rule = rules.MOMENTUM if self._momentum else rules.SGD
        parameters = setting.model.packed_parameters
        return list(
            setting.device.kernels.descent.bind_all(
                setting.device.isa,
                setting.device.threads,
                thetas=[p.packed if self.fused else setting.gradient(name) for name, p in parameters.items()],
                kind=self._estimator.drawn.kind,
                count=self._estimator.directions,
                parameters=[p.index for p in parameters.values()],
                stream=setting.stream.array,
                values=values,
                result=result,
                rates=rates,
                rule=rule,
                moments=[moment for _, moment in self.moments] if self._momentum else None,
                first=self._estimator.drawn.base,
            )
        )

    def _after(self, result: npt.NDArray[Any]) -> list[Operation]:
        """Return what follows a stored gradient: the control variate is added and updated, then the optimiser steps."""
        if self.fused:
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
        """Return a program that takes the last update back, or None if the update is not one pass over the parameters.

        It computes θ + η g with the directions drawn again, or θ + η m if there is a momentum m.
        """
        if not self.fused:
            return None
        values, device = self.last, self._setting.device
        assert self._setting.rates is not None
        # The program has rates of its own, so an interrupt cannot leave those of the steps changed.
        rates = self._setting.rates.host.copy()
        rates["learning_rate"] = -learning_rate
        if self._momentum:
            # With a momentum factor of 1 and a gradient of 0, m ← 1 m + 0 leaves the momentum unchanged.
            rates["momentum"], values = 1.0, device.zeros(values.shape, np.float64)
        good = device.array(np.ones(1, RESULT))
        return device.program(self._along(values, good, device.array(rates)))


class WeightUpdate(Update):
    """The update of a step without its pass, as a program of its own."""

    def __init__(self, estimator: Directed, setting: Setting) -> None:
        self._device = setting.device
        self._host = np.zeros(1 + estimator.directions)
        self._values = self._device.staged(self._host.shape, np.float64)
        self._result = self._device.array(np.ones(1, RESULT))
        self._descent = Descent(estimator, setting, self._values.array, self._result, self._values.array)
        self._program = self._device.program(self._descent.operations)
        self.last = self._descent.last

    @property
    def runs(self) -> int:
        """The number of runs of the program that came to their end."""
        return self._program.runs

    def run(self, coefficients: npt.NDArray[np.float32]) -> None:
        """Move the parameters by the optimiser's step along Σ_t c_t v_t."""
        # T c_t has at most 24 + 20 bits and is exact in float64, so the kernel's division by T gives c_t back.
        np.multiply(coefficients, len(coefficients), out=self._host[1:], dtype=np.float64)
        self._values.load(self._host)
        self._program.run()

    @property
    def finite(self) -> bool:
        """Whether every update so far was finite."""
        return bool(self._device.values(self._result)["finite"][0] == 1)

    def taking_back(self, learning_rate: float) -> Any:
        """Return a program that takes the last update back, or None; see :meth:`Descent.taking_back`."""
        return self._descent.taking_back(learning_rate)
