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
            **clipping(self.clip_norm),
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
