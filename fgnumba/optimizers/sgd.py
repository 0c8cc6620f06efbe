"""Stochastic gradient descent."""

from dataclasses import dataclass

from fgnumba.errors import ConfigError
from fgnumba.kernels.ops import optimizer as kernels
from fgnumba.optimizers.base import Optimizer, clipping
from fgnumba.optimizers.schedules import Schedule
from fgnumba.validation import MAX_FLOAT32, flag, optional, real_number, store


@dataclass(frozen=True)
class SGD(Optimizer):
    """Stochastic gradient descent, optionally with momentum, weight decay and clipping.

        g  ← g min(1, c / ‖g‖)                               if it is clipped
        g' = g + λ θ
        θ  ← θ - η_i g'                                      momentum 0
        m  ← μ m + g',  θ ← θ - η_i m                        heavy ball
        m  ← μ m + g',  θ ← θ - η_i (g' + μ m)               Nesterov

    Parameters
    ----------
    learning_rate : float or callable
        The learning rate η₀, above 0, or a schedule; see :class:`Optimizer`.
    decay : float, optional
        The decay k of η_i = η₀ exp(-i k). By default 0.
    momentum : float, optional
        The factor μ, at least 0 and below 1. Above 0 it needs one more array of the size of the parameters. By default
        0.
    nesterov : bool, optional
        Whether the momentum is Nesterov's in place of the heavy ball's. By default False.
    weight_decay : float, optional
        The factor λ, 0 or above. By default 0.
    clip_norm : float, optional
        The greatest norm c, above 0, of the gradient of all parameters together; a longer gradient is shortened to it.
        This makes an unbiased estimate biased: it is shorter where noise makes it long. By default none is clipped.

    Raises
    ------
    ConfigError
        If an argument is out of its range.

    Examples
    --------
    >>> import fgnumba as fg
    >>> fg.SGD(learning_rate=2e-4, decay=1e-4).rate(step=10_000)  # 2e-4 / e
    7.357588823428847e-05
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
        """Whether a step is θ ← θ - η g and no more."""
        return self.momentum == 0 and self.weight_decay == 0 and self.clip_norm is None

    @property
    def heavy_ball(self) -> bool:
        """Whether a step is the heavy ball's and no more."""
        return self.momentum > 0 and not self.nesterov and self.weight_decay == 0 and self.clip_norm is None

    def constants(self) -> dict[str, float]:
        """Return momentum, weight decay and clipping norm."""
        return {"momentum": self.momentum, "weight_decay": self.weight_decay, **clipping(self.clip_norm)}

    @property
    def rule(self) -> int:
        """The rule of the kernel: SGD, MOMENTUM or NESTEROV."""
        if self.momentum == 0:
            return kernels.SGD
        return kernels.NESTEROV if self.nesterov else kernels.MOMENTUM

    @property
    def number_of_moments(self) -> int:
        """The number of arrays of the size of the parameters that the rule uses: 1 with momentum, else 0."""
        return int(self.momentum > 0)
