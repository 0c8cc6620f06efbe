"""Frank–Wolfe steps over a ball."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy.typing as npt

from fgnumba.errors import ConfigError
from fgnumba.kernels.devices.device import Device
from fgnumba.kernels.machine.interfaces import Operation
from fgnumba.kernels.ops import optimizer as kernels
from fgnumba.layers.parameters import Parameter
from fgnumba.optimizers.base import Gradients, Memory, Optimizer, norm_of
from fgnumba.optimizers.schedules import Schedule
from fgnumba.validation import MAX_FLOAT32, real_number, store


@dataclass(frozen=True)
class FrankWolfe(Optimizer):
    """Frank–Wolfe steps within a ball, along an average of gradients. No projection on the ball is needed.

        m ← m + ρ (g - m)
        s = argmin over the ball of m · s = -r m / ‖m‖ (l2) or -r sign(m) (linf)
        θ ← θ + η_i (s - θ)

    Each step moves towards a point of the ball, so parameters that start in the ball stay in it. The optimiser needs
    two arrays of the size of the parameters. Sources: M. Frank, P. Wolfe, 1956; with averaged stochastic gradients, A.
    Mokhtari, H. Hassani, A. Karbasi, arXiv 1804.09554.

    Parameters
    ----------
    radius : float
        The radius r of the ball, above 0. The initial parameters should lie in the ball.
    learning_rate : float or callable, optional
        The learning rate η₀, above 0 and at most 1, or a schedule; the classic one is 2 / (i + 2). By default 1e-3.
    decay : float, optional
        The decay k of η_i = η₀ exp(-i k). By default 0.
    norm : str, optional
        The norm of the ball: ``l2`` (the default) of all parameters together, or ``linf`` of every element.
    averaging : float, optional
        The weight ρ of the newest gradient in the average, above 0 and at most 1. By default 0.1.

    Raises
    ------
    ConfigError
        If an argument is out of its range.
    """

    radius: float
    learning_rate: float | Schedule = 1e-3
    decay: float = 0.0
    norm: str = "l2"
    averaging: float = 0.1

    moments: ClassVar[int] = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        averaging = real_number("averaging", self.averaging)
        if not 0 < averaging <= 1:
            raise ConfigError(f"averaging is {self.averaging!r}; a number above 0 and up to 1 is required")
        store(
            self,
            radius=real_number("radius", self.radius, above_zero=True, below=MAX_FLOAT32),
            averaging=averaging,
        )
        self.rate(0)
        if not isinstance(self.norm, str) or self.norm not in ("l2", "linf"):
            raise ConfigError(f"norm is {self.norm!r}; 'l2' or 'linf' is required")

    def rate(self, step: int) -> float:
        """Return the learning rate at `step`; raise ConfigError if it is above 1."""
        rate = super().rate(step)
        if rate > 1:
            raise ConfigError(f"the learning rate at step {step} is {rate:g}; Frank-Wolfe takes at most 1")
        return rate

    def constants(self) -> dict[str, float]:
        """Return the weight of the average and the radius."""
        return {"momentum": 1.0 - self.averaging, "radius": self.radius}

    @property
    def rule(self) -> int:
        """The rule of the kernel: BALL_L2 or BALL_LINF."""
        return kernels.BALL_L2 if self.norm == "l2" else kernels.BALL_LINF

    def bind(
        self,
        device: Device,
        parameters: Mapping[str, Parameter],
        gradients: Gradients,
        rates: npt.NDArray[Any],
        result: npt.NDArray[Any],
        memory: Memory,
    ) -> list[Operation]:
        """Return the operations of a step: the average, its norm, and the step towards a point of the ball."""
        common = (device, parameters, gradients, rates, result, memory)
        averages = {name: memory("moment", parameter) for name, parameter in parameters.items()}
        return [
            *self.updates(*common, kernels.AVERAGE),
            *norm_of(device, parameters, averages, rates, ball=True),
            *self.updates(*common, self.rule),
        ]
