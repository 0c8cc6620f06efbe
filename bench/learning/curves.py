"""What a comparison of estimators found: a curve for each run, a table of their ends, and a figure."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from fgnumba.bench.measure.result import Result
from fgnumba.colours import GRID, styles
from fgnumba.runs.figures import blank

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass
class Curve:
    """The course of a run. Its first evaluation is before the first step.

    Parameters
    ----------
    name : str
        Name of the estimator.
    seed : int
        Seed of the run.
    settings : dict
        Settings of the run, as JSON values.
    steps : list of int
        Number of steps before each evaluation.
    seconds : list of float
        Time that these steps took, without evaluations.
    products : list of float
        Number of multiply-adds of these steps.
    losses : list of float
        Test loss in each evaluation.
    accuracies : list of float
        Test accuracy in each evaluation.
    ended : str or None
        Why the run ended before its budget was used up, or None (the default) if it did not.
    """

    name: str
    seed: int
    settings: dict[str, Any]
    steps: list[int] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    products: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    accuracies: list[float] = field(default_factory=list)
    ended: str | None = None

    def first(self, accuracy: float, what: str) -> float | None:
        """Return how much the run had used when it first reached an accuracy, or None if it never did.

        Parameters
        ----------
        accuracy : float
            The test accuracy, from 0 to 1.
        what : str
            The quantity to return: ``steps``, ``seconds`` or ``products``.
        """
        used: list[float] = getattr(self, what)
        return next((u for u, a in zip(used, self.accuracies, strict=True) if a >= accuracy), None)


@dataclass(frozen=True)
class EstimatorResult(Result):
    """The result of a comparison. Its table has a row for each estimator, with means over the seeds."""

    names: Sequence[str] = ()
    curves: Sequence[Curve] = ()
    target: float | None = None

    def table(self) -> str:
        """Return the rows as aligned text."""
        heads = ["estimator", "rate", "steps", "seconds", "products", "test loss", "accuracy"]
        if self.target is not None:
            heads += [f"steps to {self.target:g}", "seconds"]
        lines = [heads, *(self._row(name) for name in self.names)]
        widths = [max(len(line[column]) for line in lines) for column in range(len(heads))]
        return "\n".join(
            "  ".join(
                f"{cell:{width}}" if column == 0 else f"{cell:>{width}}"
                for column, (cell, width) in enumerate(zip(line, widths, strict=True))
            )
            for line in lines
        )

    def of(self, name: str) -> list[Curve]:
        """Return the curves of an estimator, one for each seed.

        Parameters
        ----------
        name : str
            The estimator.
        """
        return [curve for curve in self.curves if curve.name == name]

    def _row(self, name: str) -> list[str]:
        curves = self.of(name)
        n = len(curves)
        ended = sum(curve.ended is not None for curve in curves)
        rate = curves[0].settings["learning_rate"]
        row = [
            name,
            "measured" if rate is None else f"{rate:.3g}",
            f"{sum(c.steps[-1] for c in curves) / n:.0f}",
            f"{sum(c.seconds[-1] for c in curves) / n:.1f}",
            f"{sum(c.products[-1] for c in curves) / n:.2e}",
            "diverged" if ended else f"{sum(c.losses[-1] for c in curves) / n:.4f}",
            f"{sum(c.accuracies[-1] for c in curves) / n:.4f}",
        ]
        if self.target is not None:
            for what in ("steps", "seconds"):
                amounts = [c.first(self.target, what) for c in curves]
                reached = [value for value in amounts if value is not None]
                row.append("never" if len(reached) < n else f"{sum(reached) / n:.4g}")
        return row


def draw(
    title: str, names: Sequence[str], curves: Sequence[Curve], like: Mapping[str, str] | None = None
) -> "Figure":
    """Return the figure of a comparison: test loss and error over steps, seconds and multiply-adds.

    Parameters
    ----------
    title : str
        Title of the figure.
    names : sequence of str
        The estimators, each of which is drawn as ``fgnumba.colours`` says.
    curves : sequence of Curve
        The runs; each is a line.
    like : mapping of str to str, optional
        For labels that are not names of estimators, the estimator that each stands for. None (the default): there are
        no such labels.
    """
    figure = blank(11, 5.6)
    axes = figure.subplots(2, 3, sharey="row", sharex="col")
    meant = {name: (like or {}).get(name, name) for name in names}
    drawn_as = styles(meant.values())
    for name in names:
        drawn = drawn_as[meant[name]]
        for number, curve in enumerate(c for c in curves if c.name == name):
            style: dict[str, Any] = {"color": drawn.colour, "linestyle": drawn.dash, "linewidth": 1.4}
            errors = [100 * (1 - accuracy) for accuracy in curve.accuracies]
            for column, what in enumerate(("steps", "seconds", "products")):
                used = getattr(curve, what)
                label = name if number == 0 and column == 0 else None
                axes[0, column].plot(used, curve.losses, label=label, **style)
                axes[1, column].plot(used, errors, **style)
    for column, what in enumerate(("step", "seconds of steps", "multiply-adds")):
        axes[1, column].set_xlabel(what)
        axes[1, column].locator_params(axis="x", nbins=5)
        for row in range(2):
            axes[row, column].grid(color=GRID, linewidth=0.6)
            axes[row, column].spines[["top", "right"]].set_visible(False)
    axes[0, 0].set(ylabel="test loss", yscale="log")
    axes[1, 0].set(ylabel="test error, %", yscale="log")
    # Below the panels: of sixteen estimators, a legend inside of one would cover their curves.
    figure.legend(loc="outside lower center", ncols=min(6, len(names)), fontsize=8, frameon=False)
    # A file name in the title may contain dollar signs, which must not be read as mathematics.
    figure.suptitle(title, fontsize=10, parse_math=False)
    return figure


def redrawn(data: dict[str, Any], like: Mapping[str, str] | None = None) -> "Figure":
    """Return the figure of a comparison again.

    Parameters
    ----------
    data : dict
        The comparison's ``data.json``.
    like : mapping of str to str, optional
        As :func:`draw` takes it. Default: None.
    """
    curves = []
    for values in data["curves"]:
        losses = [math.nan if loss is None else loss for loss in values["losses"]]
        curves.append(Curve(**{**values, "losses": losses}))
    return draw(data["title"], list(dict.fromkeys(curve.name for curve in curves)), curves, like)
