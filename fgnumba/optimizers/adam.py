"""Adam and AdamW."""

from dataclasses import dataclass
from typing import ClassVar

from fgnumba.kernels.ops import optimizer as kernels
from fgnumba.optimizers.base import Optimizer, clipping
from fgnumba.optimizers.schedules import Schedule
from fgnumba.validation import MAX_FLOAT32, optional, real_number, store


@dataclass(frozen=True)
class Adam(Optimizer):
    """Adam.

        g' = g + λ θ
        m ← β₁ m + (1 - β₁) g',  v ← β₂ v + (1 - β₂) g'²
        θ ← θ - η_i (m / (1 - β₁ⁱ)) / (√(v / (1 - β₂ⁱ)) + ε)

    In the powers, i counts the steps from 1. Adam needs two more arrays of the size of the parameters, and one for the
    gradient. Its steps follow the signs of a noisy gradient more than its size, so even with an unbiased estimate the
    direction of a step is biased.
    Source: D. P. Kingma, J. Ba, arXiv 1412.6980.

    Parameters
    ----------
    learning_rate : float or callable, optional
        The learning rate η₀, above 0, or a schedule; see :class:`Optimizer`. By default 1e-3.
    decay : float, optional
        The decay k of η_i = η₀ exp(-i k). By default 0.
    beta1 : float, optional
        The factor β₁ of the mean of gradients, at least 0 and below 1. By default 0.9.
    beta2 : float, optional
        The factor β₂ of the mean of squared gradients, at least 0 and below 1. By default 0.999.
    epsilon : float, optional
        The number ε in the denominator, above 0. By default 1e-8.
    weight_decay : float, optional
        The factor λ, 0 or above. By default 0.
    clip_norm : float, optional
        The greatest norm of the gradient of all parameters together, as for :class:`SGD`. By default none is clipped.

    Raises
    ------
    ConfigError
        If an argument is out of its range.
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
        """Return β₁, β₂, ε, weight decay and clipping norm."""
        return {
            "momentum": self.beta1,
            "beta2": self.beta2,
            "epsilon": self.epsilon,
            "weight_decay": self.weight_decay,
            **clipping(self.clip_norm),
        }

    @property
    def rule(self) -> int:
        """The rule of the kernel: ADAM."""
        return kernels.ADAM


@dataclass(frozen=True)
class AdamW(Adam):
    """Adam with weight decay that is kept out of the gradient: θ ← θ - η_i λ θ in addition to Adam's own step.

    Source: I. Loshchilov, F. Hutter, arXiv 1711.05101.

    Parameters
    ----------
    learning_rate : float or callable, optional
        The learning rate η₀, above 0, or a schedule; see :class:`Optimizer`. By default 1e-3.
    decay : float, optional
        The decay k of η_i = η₀ exp(-i k). By default 0.
    beta1 : float, optional
        The factor β₁ of the mean of gradients, at least 0 and below 1. By default 0.9.
    beta2 : float, optional
        The factor β₂ of the mean of squared gradients, at least 0 and below 1. By default 0.999.
    epsilon : float, optional
        The number ε in the denominator, above 0. By default 1e-8.
    weight_decay : float, optional
        The factor λ, 0 or above. By default 0.01.
    clip_norm : float, optional
        The greatest norm of the gradient of all parameters together, as for :class:`SGD`. By default none is clipped.

    Raises
    ------
    ConfigError
        If an argument is out of its range.
    """

    weight_decay: float = 0.01

    def constants(self) -> dict[str, float]:
        """Return Adam's constants, with the weight decay outside the gradient."""
        return {**super().constants(), "weight_decay": 0.0, "decoupled_decay": self.weight_decay}
