"""A learning rate that is measured in the run, in place of one that is given: trainers measure it."""

from dataclasses import dataclass, field
from typing import NoReturn

from fgnumba.errors import ConfigError
from fgnumba.optimizers.schedules import Constant, Schedule
from fgnumba.validation import real_number


@dataclass(frozen=True)
class MeasuredRate:
    """A learning rate that a trainer measures in its first steps, and watches from then on.

    It is the `learning_rate` of :class:`fgnumba.Adam`, :class:`fgnumba.AdamW` or :class:`fgnumba.SGD`;
    ``optimizer="auto"`` is the one of these that suits the estimator, with a rate of this kind. A forward pass along a
    direction u gives the tangents of the outputs, and these the exact curvature uᵀGu, G being the generalised
    Gauss-Newton matrix of a batch (:meth:`fgnumba.Loss.gauss_newton`). The peak η is the rate with which

        Adam    ½ η² uᵀGu = 0.12 f₀           u the step of the optimiser at rate 1, f₀ the first loss
        SGD     η tr G = 0.08 T (1 - μ)       tr G the mean of vᵀGv over directions v of weight perturbation

    The first keeps what a step changes at the outputs to a small part of the loss. The second leaves of the expected
    decrease of the loss, -η ‖∇f‖² + ½ η² ‖∇f‖² tr G / T, all but 4 %, which the noise of T directions takes; with P
    parameters, T stands for T P / (P + T + 1). Curvatures are means over 12 measurements in the first 64 steps,
    geometric ones of uᵀGu. Later ones, every 256 steps in the end, only lower the rate: it stays below twice the peak
    that the last one alone would give.
    The learning rate of step i is η times the share that `shape` has for it. With Adam it rises over 16 steps, and the
    first step has rate 0: it only fills the optimiser's means, from which u follows.

    Parameters
    ----------
    shape : callable, optional
        The share of the peak at each step: a function of the step, such as ``Exponential(1.0, 4 / steps)``, with which
        it falls as in a run of ``fgtrain train``. By default 1 at every step.

    Raises
    ------
    ConfigError
        If the shape is no function of the step, or a share is no number of 0 or above.

    Examples
    --------
    >>> import fgnumba as fg
    >>> shape = fg.schedules.Exponential(1.0, 4 / 500)
    >>> optimizer = fg.Adam(fg.schedules.MeasuredRate(shape))
    """

    shape: Schedule = field(default_factory=lambda: Constant(1.0))

    def __post_init__(self) -> None:
        if not callable(self.shape):
            raise ConfigError(f"shape is {self.shape!r}; a function of the step is required")

    def __call__(self, step: int) -> NoReturn:
        """Raise ConfigError: the rate is no function of the step."""
        raise ConfigError(
            "learning_rate is a MeasuredRate, which only a trainer's steps measure; a number or a schedule is required"
        )

    def share(self, step: int) -> float:
        """Return the share of the peak at a step, counted from 0.

        Parameters
        ----------
        step : int
            The number of the step.
        """
        return real_number(f"the shape's share at step {step}", self.shape(step))
