"""What a descent returns: the variables that it reached, their value, and the records on the way there."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from fgnumba.colours import GRID
from fgnumba.errors import ConfigError, shown
from fgnumba.training.records import History

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass
class Minimum:
    """What :func:`fgnumba.minimize` reached.

    Parameters
    ----------
    x : float, ndarray or tuple
        The variables, in the form of the starting point.
    value : float
        f(x).
    steps : int
        Number of steps after which x was reached.
    history : History
        The records: ``step``, ``loss`` (f(x) after that step), ``learning_rate`` and ``seconds``. ``history.ended_by``
        says why the descent ended, and ``history.to_frame()`` gives a data frame.
    """

    x: Any
    value: float
    steps: int
    history: History = field(repr=False)

    def plot(self, ax: "Axes | None" = None) -> "Axes":
        """Draw f(x) against the step with matplotlib, on a logarithmic axis where it is above 0, and return the axes.

        Parameters
        ----------
        ax : Axes, optional
            Where to draw. None (the default): a new figure of ``matplotlib.pyplot``.

        Raises
        ------
        ConfigError
            `ax` is no axes.
        """
        if ax is None:
            from matplotlib import pyplot

            _, ax = pyplot.subplots(figsize=(6.4, 3.2), layout="constrained")
        elif not hasattr(ax, "plot"):
            raise ConfigError(f"ax is {shown(ax)}; axes of matplotlib are required")
        records = self.history.records
        values = [record.loss for record in records]
        ax.plot([record.step for record in records], values)
        ax.set(xlabel="step", ylabel="f(x)", yscale="log" if min(values, default=0.0) > 0 else "linear")
        ax.grid(color=GRID, linewidth=0.6)
        ax.spines[["top", "right"]].set_visible(False)
        return ax
