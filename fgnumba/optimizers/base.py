"""The base class of optimisers: a learning rate for each step, and the operations that move the parameters."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from fgnumba.errors import ConfigError
from fgnumba.kernels.devices.device import Device
from fgnumba.kernels.machine.interfaces import Operation
from fgnumba.kernels.ops import optimizer as kernels
from fgnumba.layers.parameters import Parameter
from fgnumba.optimizers.schedules import Constant, Exponential, Schedule
from fgnumba.validation import real_number, store, whole_number

Gradients = Mapping[str, npt.NDArray[np.float32]]
Memory = Callable[[str, Parameter], npt.NDArray[np.float32]]
"""A function that returns the array of one kind ("moment", …) that an optimiser keeps for a parameter, packed like it.

It returns the same array every time.
"""


class Optimizer(ABC):
    """The base class of optimisers, which turn gradients into steps of the parameters.

    Parameters
    ----------
    learning_rate : float or callable
        The learning rate η₀, above 0; or a schedule, which is a function of the step, counted from 0
        (``fgnumba.schedules``).
    decay : float
        The decay k of the learning rate η_i = η₀ exp(-i k), 0 or above. It must be 0 with a schedule.

    Attributes
    ----------
    moments : int
        The number of arrays of the size of the parameters that the optimiser keeps.

    Raises
    ------
    ConfigError
        If an argument is out of its range, or there is a decay beside a schedule.
    """

    moments: ClassVar[int] = 0
    learning_rate: float | Schedule
    decay: float

    def __post_init__(self) -> None:
        store(self, decay=real_number("decay", self.decay))
        if not callable(self.learning_rate):
            store(self, learning_rate=Constant(self.learning_rate).learning_rate)
        elif self.decay != 0:
            raise ConfigError(f"decay is {self.decay!r} beside a schedule; give one of the two")

    @cached_property
    def schedule(self) -> Schedule:
        """The learning rate as a function of the step."""
        if callable(self.learning_rate):
            return self.learning_rate
        return Exponential(self.learning_rate, self.decay) if self.decay else Constant(self.learning_rate)

    def rate(self, step: int) -> float:
        """Return the learning rate at `step`; raise ConfigError unless it is a finite number, 0 or above."""
        rate = self.schedule(whole_number("step", step, 0))
        return real_number(f"the schedule's learning rate at step {step}", rate)

    @property
    def plain(self) -> bool:
        """Whether a step is θ ← θ - η g and no more, which an estimator may take without storing g."""
        return False

    @abstractmethod
    def constants(self) -> dict[str, float]:
        """Return the fields of ``kernels.ops.optimizer.RATES`` that are the same in every step."""

    @property
    @abstractmethod
    def rule(self) -> int:
        """The rule by which the kernel computes a step, a constant of ``kernels.ops.optimizer``."""

    def set_rates(self, rates: npt.NDArray[Any], step: int, learning_rate: float | None = None) -> float:
        """Write the numbers that a step needs into `rates`.

        Parameters
        ----------
        rates : ndarray, (1,) of dtype ``kernels.ops.optimizer.RATES``
            Written.
        step : int
            The number of the step, counted from 0.
        learning_rate : float, optional
            The learning rate. By default it is the schedule's.

        Returns
        -------
        float
            The learning rate.
        """
        step = whole_number("step", step, 0)
        rate = self.rate(step) if learning_rate is None else real_number("learning_rate", learning_rate)
        rates["learning_rate"] = rate
        for correction, moment in (("correction", "momentum"), ("correction2", "beta2")):
            rates[correction] = 1.0 - float(rates[moment][0]) ** (step + 1)
        return rate

    def new_rates(self) -> npt.NDArray[Any]:
        """Return a new array, (1,) of dtype ``RATES``, that holds the constants."""
        rates = np.zeros(1, kernels.RATES)
        self.begin_rates(rates)
        return rates

    def begin_rates(self, rates: npt.NDArray[Any]) -> None:
        """Write the constants into `rates`, (1,) of dtype ``RATES``, and zeros into its other fields."""
        rates[...] = np.zeros(1, kernels.RATES)
        rates["factor"], rates["clip_norm"] = 1.0, np.inf
        for name, value in self.constants().items():
            rates[name] = value

    def bind(
        self,
        device: Device,
        parameters: Mapping[str, Parameter],
        gradients: Gradients,
        rates: npt.NDArray[Any],
        result: npt.NDArray[Any],
        memory: Memory,
    ) -> list[Operation]:
        """Return the operations of a step on all parameters.

        Parameters
        ----------
        device : Device
            The device whose kernels are bound.
        parameters : mapping of str to Parameter
            The parameters by name.
        gradients : mapping of str to device array
            Their gradients by name, packed like the parameters.
        rates : device array, (1,) of dtype ``kernels.ops.optimizer.RATES``
            The numbers that a step needs, read when the operations run.
        result : device array, (1,) of dtype ``kernels.shared.loss.RESULT``
            Nothing is moved unless its field `finite` is 1.
        memory : callable
            A function that returns the array of one kind that is kept for a parameter.
        """
        operations: list[Operation] = []
        if self.constants().get("clip_norm", np.inf) < np.inf:
            operations += norm_of(device, parameters, gradients, rates, ball=False)
        return operations + self.updates(device, parameters, gradients, rates, result, memory, self.rule)

    def updates(
        self,
        device: Device,
        parameters: Mapping[str, Parameter],
        gradients: Gradients,
        rates: npt.NDArray[Any],
        result: npt.NDArray[Any],
        memory: Memory,
        rule: int,
    ) -> list[Operation]:
        """Return the operations by which one rule of the kernel passes over all parameters; see :meth:`bind`."""
        names = ("moment", "second_moment")[: self.number_of_moments]
        return [
            device.kernels.optimizer.bind(
                device.threads,
                theta=parameter.packed,
                gradient=gradients[name],
                rule=rule,
                rates=rates,
                result=result,
                **{
                    field: memory(kind, parameter)
                    for field, kind in zip(("first_moment", "second_moment"), names, strict=False)
                },
            )
            for name, parameter in parameters.items()
        ]

    @property
    def number_of_moments(self) -> int:
        """The number of arrays of the size of the parameters that the rule uses."""
        return self.moments


def norm_of(
    device: Device,
    parameters: Mapping[str, Parameter],
    arrays: Gradients,
    rates: npt.NDArray[Any],
    ball: bool,
) -> list[Operation]:
    """Return the operations that write the norm of all `arrays` together, and the factor that follows from it.

    The factor is radius / norm for a `ball`, which takes a step to its surface; else min(1, clip_norm / norm). An array
    that several parameters share counts once.
    """
    bound = device.kernels.optimizer
    counted = dict(parameters)
    seen: list[Any] = []
    for name in parameters:
        if any(arrays[name] is array for array in seen):
            del counted[name]
        seen.append(arrays[name])
    sizes = [bound.square_sums(arrays[name].size) for name in counted]
    squares, start = device.zeros((sum(sizes),), np.float64), 0
    operations = []
    for (name, parameter), size in zip(counted.items(), sizes, strict=True):
        operations.append(
            bound.bind_squares(
                device.threads,
                values=arrays[name],
                columns=parameter.shape[-1],
                groups=parameter.groups,
                squares=squares[start : start + size],
            )
        )
        start += size
    return [*operations, bound.bind_factor(squares=squares, ball=ball, rates=rates)]


def clipping(clip_norm: float | None) -> dict[str, float]:
    """Return the field of ``RATES`` that holds the greatest norm, or no field if gradients are not clipped."""
    return {} if clip_norm is None else {"clip_norm": clip_norm}
