"""Stochastic gradient descent."""

from dataclasses import dataclass

from fgnumba.errors import ConfigError
from fgnumba.kernels.ops import optimizer as kernels
from fgnumba.optimizers.base import Optimizer, clipping
from fgnumba.optimizers.schedules import Schedule
from fgnumba.validation import MAX_FLOAT32, flag, optional, real_number, store


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
        return {"momentum": self.momentum, "weight_decay": self.weight_decay, **clipping(self.clip_norm)}

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
