"""Optimisers: how a step follows a gradient."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
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
from fgnumba.validation import MAX_FLOAT32, flag, optional, real_number, store, whole_number

Gradients = Mapping[str, npt.NDArray[np.float32]]
Memory = Callable[[str, Parameter], npt.NDArray[np.float32]]
"""Returns an optimiser's array of a kind for a parameter, packed like it: the same one every time."""


class Optimizer(ABC):
    """What turns gradients into steps; `moments` is how many arrays the size of the parameters it keeps.

    Parameters
    ----------
    learning_rate : η₀, above 0, or a schedule: a function of the step, counted from 0
        (``fgnumba.schedules``).
    decay : k of η_i = η₀ exp(-i k); only beside a number.
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
        """Return η at `step`; ConfigError where a schedule returns what is no learning rate."""
        rate = self.schedule(whole_number("step", step, 0))
        return real_number(f"the schedule's learning rate at step {step}", rate)

    @property
    def plain(self) -> bool:
        """Whether a step is θ - η g and no more, which an estimator may take without storing g."""
        return False

    @abstractmethod
    def constants(self) -> dict[str, float]:
        """Return the fields of ``kernels.ops.optimizer.RATES`` that stay as they are."""

    @property
    @abstractmethod
    def rule(self) -> int:
        """The rule of ``kernels.ops.optimizer``."""

    def set_rates(self, rates: npt.NDArray[Any], step: int, learning_rate: float | None = None) -> float:
        """Write what a step needs into `rates`, and return its learning rate: the schedule's where none is given."""
        step = whole_number("step", step, 0)
        rate = self.rate(step) if learning_rate is None else real_number("learning_rate", learning_rate)
        rates["learning_rate"] = rate
        for correction, moment in (("correction", "momentum"), ("correction2", "beta2")):
            rates[correction] = 1.0 - float(rates[moment][0]) ** (step + 1)
        return rate

    def new_rates(self) -> npt.NDArray[Any]:
        """Return (1,) ``RATES`` with the constants in it."""
        rates = np.zeros(1, kernels.RATES)
        self.begin_rates(rates)
        return rates

    def begin_rates(self, rates: npt.NDArray[Any]) -> None:
        """Write the constants into (1,) ``RATES``, and zeros elsewhere."""
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
        """Return the operations of a step on all `parameters`, whose gradients are packed like them."""
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
        """Return one rule's pass over all parameters."""
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
        """Arrays the size of the parameters that the rule keeps."""
        return self.moments


def norm_of(
    device: Device,
    parameters: Mapping[str, Parameter],
    arrays: Gradients,
    rates: npt.NDArray[Any],
    ball: bool,
) -> list[Operation]:
    """Return the operations that write the norm of all `arrays` together, and the factor that follows from it."""
    bound = device.kernels.optimizer
    sizes = [bound.square_sums(arrays[name].size) for name in parameters]
    squares, start = device.zeros((sum(sizes),), np.float64), 0
    operations = []
    for (name, parameter), size in zip(parameters.items(), sizes, strict=True):
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


@dataclass(frozen=True)
class SGD(Optimizer):
    """Stochastic gradient descent, with momentum where asked for.

        g' = g + λ θ,  g ← g min(1, c / ‖g‖) before that where it is clipped
        θ ← θ - η_i g'                                       momentum 0
        m ← μ m + g',  θ ← θ - η_i m                         heavy ball
        m ← μ m + g',  θ ← θ - η_i (g' + μ m)                Nesterov

    Parameters
    ----------
    learning_rate, decay : as every optimiser takes them, see :class:`Optimizer`.
    momentum : μ, from 0 to below 1. Needs one more array the size of the parameters.
    nesterov : Nesterov's momentum instead of the heavy ball.
    weight_decay : λ, 0 or above.
    clip_norm : c, above 0: the greatest norm of the gradient of all parameters together; None for any. The clipped
        gradient is biased: shorter where noise makes it long.

    Raises
    ------
    ConfigError
    """

    learning_rate: float | Schedule
    decay: float = 0.0
    momentum: float = 0.0
    nesterov: bool = False
    weight_decay: float = 0.0
    clip_norm: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        store(
            self,
            momentum=real_number("momentum", self.momentum, below=1),
            nesterov=flag("nesterov", self.nesterov),
            weight_decay=real_number("weight_decay", self.weight_decay, below=MAX_FLOAT32),
            clip_norm=optional(real_number, "clip_norm", self.clip_norm, above_zero=True),
        )
        if self.nesterov and self.momentum == 0:
            raise ConfigError("nesterov needs a momentum above 0")

    @property
    def plain(self) -> bool:
        """Whether a step is θ - η g and no more."""
        return self.momentum == 0 and self.weight_decay == 0 and self.clip_norm is None

    @property
    def heavy_ball(self) -> bool:
        """Whether a step is that of the heavy ball and no more."""
        return self.momentum > 0 and not self.nesterov and self.weight_decay == 0 and self.clip_norm is None

    def constants(self) -> dict[str, float]:
        """Return momentum, decay and clipping."""
        return {"momentum": self.momentum, "weight_decay": self.weight_decay, **_clip(self.clip_norm)}

    @property
    def rule(self) -> int:
        """SGD, MOMENTUM or NESTEROV."""
        if self.momentum == 0:
            return kernels.SGD
        return kernels.NESTEROV if self.nesterov else kernels.MOMENTUM

    @property
    def number_of_moments(self) -> int:
        """1 with momentum."""
        return int(self.momentum > 0)


@dataclass(frozen=True)
class Adam(Optimizer):
    """Adam.

        g' = g + λ θ
        m ← β₁ m + (1 - β₁) g',  v ← β₂ v + (1 - β₂) g'²
        θ ← θ - η_i (m / (1 - β₁ⁱ)) / (√(v / (1 - β₂ⁱ)) + ε)

    Parameters
    ----------
    learning_rate, decay : as every optimiser takes them, see :class:`Optimizer`.
    beta1, beta2 : from 0 to below 1.
    epsilon : ε, above 0.
    weight_decay : λ, 0 or above.
    clip_norm : as for :class:`SGD`.

    Needs two more arrays the size of the parameters, and one for the gradient. Its steps follow the signs of a noisy
    gradient more than its size: the direction is biased. Source: D. P. Kingma, J. Ba, arXiv 1412.6980.

    Raises
    ------
    ConfigError
    """

    learning_rate: float | Schedule = 1e-3
    decay: float = 0.0
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    weight_decay: float = 0.0
    clip_norm: float | None = None

    moments: ClassVar[int] = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        store(
            self,
            beta1=real_number("beta1", self.beta1, below=1),
            beta2=real_number("beta2", self.beta2, below=1),
            epsilon=real_number("epsilon", self.epsilon, above_zero=True, below=MAX_FLOAT32),
            weight_decay=real_number("weight_decay", self.weight_decay, below=MAX_FLOAT32),
            clip_norm=optional(real_number, "clip_norm", self.clip_norm, above_zero=True),
        )

    def constants(self) -> dict[str, float]:
        """Return the betas, epsilon, decay and clipping."""
        return {
            "momentum": self.beta1,
            "beta2": self.beta2,
            "epsilon": self.epsilon,
            "weight_decay": self.weight_decay,
            **_clip(self.clip_norm),
        }

    @property
    def rule(self) -> int:
        """ADAM."""
        return kernels.ADAM


@dataclass(frozen=True)
class AdamW(Adam):
    """Adam with weight decay apart from the gradient: θ ← θ - η_i λ θ beside Adam's own step.

    Parameters: as for :class:`Adam`; `weight_decay` 0.01 by default. Source: I. Loshchilov, F. Hutter,
    arXiv 1711.05101.
    """

    weight_decay: float = 0.01

    def constants(self) -> dict[str, float]:
        """Return Adam's, with the decay decoupled."""
        return {**super().constants(), "weight_decay": 0.0, "decoupled_decay": self.weight_decay}


@dataclass(frozen=True)
class FrankWolfe(Optimizer):
    """Frank–Wolfe steps over a ball, along an average of gradients; nothing is ever projected.

        m ← m + ρ (g - m)
        s = argmin over the ball of m · s = -r m / ‖m‖ (l2) or -r sign(m) (linf)
        θ ← θ + η_i (s - θ)

    Parameters
    ----------
    radius : r, above 0. The initial parameters should lie in the ball: each step moves towards it.
    learning_rate, decay : η_i, at most 1; a schedule may be 2 / (i + 2), the classic one.
    norm : ``l2``, of all parameters together, or ``linf``, of every entry.
    averaging : ρ, above 0 to 1.

    Needs two arrays the size of the parameters. Sources: M. Frank, P. Wolfe, 1956; with averaged stochastic
    gradients, A. Mokhtari, H. Hassani, A. Karbasi, arXiv 1804.09554.

    Raises
    ------
    ConfigError
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
        """Return η at `step`; ConfigError where it is above 1."""
        rate = super().rate(step)
        if rate > 1:
            raise ConfigError(f"the learning rate at step {step} is {rate:g}; Frank-Wolfe takes at most 1")
        return rate

    def constants(self) -> dict[str, float]:
        """Return averaging and radius."""
        return {"momentum": 1.0 - self.averaging, "radius": self.radius}

    @property
    def rule(self) -> int:
        """BALL_L2 or BALL_LINF."""
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
        """Return the average, its norm, and the step towards the ball."""
        common = (device, parameters, gradients, rates, result, memory)
        averages = {name: memory("moment", parameter) for name, parameter in parameters.items()}
        return [
            *self.updates(*common, kernels.AVERAGE),
            *norm_of(device, parameters, averages, rates, ball=True),
            *self.updates(*common, self.rule),
        ]


OPTIMIZERS = {"sgd": SGD, "adam": Adam, "adamw": AdamW, "frank-wolfe": FrankWolfe}
"""By the names that configurations use."""


def _clip(clip_norm: float | None) -> dict[str, float]:
    return {} if clip_norm is None else {"clip_norm": clip_norm}
