"""The curves of a run: its loss and its error over the steps, drawn on axes of matplotlib.

Training is a thin line, validation a strong one with a dot at each record, and the test part a square at the end. So
they can be told apart without any colour. A ring marks the best record on the validation data.
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fgnumba.colours import GREY, GRID, INK, UNKNOWN, Style
from fgnumba.errors import ConfigError, shown
from fgnumba.training.records import Record
from fgnumba.training.scoring import SMALLER_IS_BETTER
from fgnumba.training.text_metrics import NATS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

POINTS = 100
"""Largest number of points in the curve of the training loss; each is the mean of equally many steps."""

Points = list[tuple[float, float]]
Losses = Sequence[float] | npt.NDArray[np.float64]


class Measure(NamedTuple):
    """What the lower panel of a run shows: the error in per cent, or a metric of a regression.

    Parameters
    ----------
    name : str
        Its name: ``error``, or that of the metric, such as ``r2``.
    label : str
        Text at the axis.
    validation : list of (float, float)
        Steps and values on the validation data.
    test : list of (float, float)
        Step and value on the test data, if there are any.
    largest : bool
        Whether the largest value is the best one.
    """

    name: str
    label: str
    validation: Points
    test: Points
    largest: bool


def points(records: Sequence[Record], name: str) -> Points:
    """Return steps and values of a quantity of records, without those that are not finite.

    Parameters
    ----------
    records : sequence of Record
        The records.
    name : str
        A field of ``Record``, such as ``validation_loss``.
    """
    pairs = ((record.step, float(getattr(record, name))) for record in records)
    return [(step, value) for step, value in pairs if math.isfinite(value)]


def measure(records: Sequence[Record]) -> Measure | None:
    """Return what the lower panel of a run shows, or None if validation measured nothing but losses.

    Parameters
    ----------
    records : sequence of Record
        The records of the run.
    """
    if of_text(records):
        # Its loss says it all, in nats per character.
        return None
    parts = [points(records, f"{part}_accuracy") for part in ("validation", "test")]
    if parts[0]:
        errors = [[(step, 100 * (1 - accuracy)) for step, accuracy in part] for part in parts]
        return Measure("error", "error, %", errors[0], errors[1], False)
    names = dict.fromkeys(name for record in records for name in record.metrics)
    for name in dict.fromkeys(name.removeprefix("validation_").removeprefix("test_") for name in names):
        found = [_metric(records, f"{part}_{name}") for part in ("validation", "test")]
        if found[0]:
            return Measure(name, _LABELS.get(name, name), found[0], found[1], name not in SMALLER_IS_BETTER)
    return None


def of_text(records: Sequence[Record]) -> bool:
    """Return whether records are those of a run on a text."""
    return any(name.endswith(f"_{NATS}") for record in records for name in record.metrics)


def loss_label(records: Sequence[Record]) -> str:
    """Return the text at the axis of the losses: what they are, or their unit where the data are a text.

    Parameters
    ----------
    records : sequence of Record
        The records of the run.
    """
    if not of_text(records):
        return "loss"
    # Where the symbols are bytes, a character has several, and the loss is that of one.
    pairs = (
        (record.value(f"{part}_loss"), record.value(f"{part}_{NATS}"))
        for record in records
        for part in ("validation", "test")
    )
    same = all(loss == nats for loss, nats in pairs if math.isfinite(loss) and math.isfinite(nats))
    return "nats per character" if same else "nats per byte"


_LABELS = {"r2": "R²", "mae": "mean absolute error", "rmse": "root mean squared error"}


def _metric(records: Sequence[Record], name: str) -> Points:
    pairs = ((record.step, float(record.metrics.get(name, math.nan))) for record in records)
    return [(step, value) for step, value in pairs if math.isfinite(value)]


def training_loss(records: Sequence[Record], losses: Losses | None = None) -> Points:
    """Return the curve of the training loss: means over equally many steps, or those of the records.

    Parameters
    ----------
    records : sequence of Record
        The records of the run.
    losses : sequence of float, optional
        The loss of each step, NaN where it is not known. None (the default): the records' means are the curve.
    """
    of_records = points(records, "loss")
    if losses is None or not len(losses):
        return of_records
    last = min(len(losses), records[-1].step) if records else len(losses)
    width = -(-last // POINTS)
    result = []
    for end in range(width, last + 1, width):
        known = [float(loss) for loss in losses[end - width : end] if math.isfinite(loss)]
        if known:
            result.append((float(end), math.fsum(known) / len(known)))
    return result if len(result) > len(of_records) else of_records


def best(records: Sequence[Record]) -> int | None:
    """Return the step of the best record on the validation data, or None if there is none.

    The best one has the lowest error, or the best metric of a regression, or else the lowest validation loss.

    Parameters
    ----------
    records : sequence of Record
        The records of the run.
    """
    found = measure(records)
    if found is not None and found.validation:
        choose = max if found.largest else min
        return int(choose(found.validation, key=lambda point: point[1])[0])
    losses = points(records, "validation_loss")
    return int(min(losses, key=lambda point: point[1])[0]) if losses else None


def draw(records: Sequence[Record], ax: Any = None) -> "list[Axes]":
    """Draw the curves of a run on given axes or in a new figure, as ``History.plot`` says, and return the axes.

    Parameters
    ----------
    records : sequence of Record
        The records of the run.
    ax : Axes or sequence of Axes, optional
        Where to draw. None (the default): a new figure.

    Raises
    ------
    ConfigError
        There are no records, or `ax` is neither one nor two axes.
    """
    if not records:
        raise ConfigError("the history has no records; there is nothing to draw")
    found = measure(records)
    if ax is None:
        from matplotlib import pyplot

        count = 1 if found is None else 2
        _, panels = pyplot.subplots(
            count, 1, sharex=True, squeeze=False, figsize=(6.4, 2.8 * count), layout="constrained"
        )
        axes = list(panels[:, 0])
    else:
        axes = [ax] if hasattr(ax, "plot") else list(ax) if hasattr(ax, "__iter__") else []
        if len(axes) not in (1, 2) or not all(hasattr(one, "plot") for one in axes):
            raise ConfigError(f"ax is {shown(ax)}; axes of matplotlib, or two of them, are required")
    draw_loss(axes[0], records)
    if found is not None and len(axes) == 2:
        draw_measure(axes[1], records, found)
    axes[-1].set_xlabel("step")
    return axes


def draw_loss(
    axes: "Axes", records: Sequence[Record], losses: Losses | None = None, style: Style = UNKNOWN
) -> None:
    """Draw the losses of a run.

    Parameters
    ----------
    axes : Axes
        Where to draw.
    records : sequence of Record
        The records of the run.
    losses : sequence of float, optional
        The loss of each step. None (the default): the records alone are drawn.
    style : Style
        The colour of the run's estimator. Default: that of text.
    """
    curve = training_loss(records, losses)
    judged = points(records, "validation_loss")
    _line(axes, curve, "training", color=style.colour, linewidth=1.1, alpha=0.75 if judged else 1)
    _judged(axes, judged, points(records, "test_loss"), best(records), style)
    _finish(axes, loss_label(records), [value for _, value in curve + judged])


def draw_measure(axes: "Axes", records: Sequence[Record], found: Measure, style: Style = UNKNOWN) -> None:
    """Draw the error or the metric of a run.

    Parameters
    ----------
    axes : Axes
        Where to draw.
    records : sequence of Record
        The records of the run.
    found : Measure
        What :func:`measure` returned for them.
    style : Style
        The colour of the run's estimator. Default: that of text.
    """
    _judged(axes, found.validation, found.test, best(records), style)
    values = [value for _, value in found.validation + found.test]
    _finish(axes, found.label, values, logarithmic=found.name == "error")


def _line(axes: "Axes", curve: Points, label: str, **drawn: Any) -> None:
    if curve:
        axes.plot(*zip(*curve, strict=True), label=label, **drawn)


def _judged(axes: "Axes", validation: Points, test: Points, step: int | None, style: Style) -> None:
    """Draw the values on validation and test data, with a ring around the best record and its value beside it."""
    _line(axes, validation, "validation", color=style.colour, linewidth=2, marker="o", markersize=3.5)
    marked = [point for point in validation if point[0] == step]
    if marked:
        ring = {"marker": "o", "markersize": 11, "markerfacecolor": "none", "markeredgewidth": 1.6}
        label = f"best record: {marked[0][1]:.3g} at step {step:,}"
        _line(axes, marked, label, color=INK, linestyle="", **ring)
    ends = {"marker": "s", "markersize": 6, "markerfacecolor": "white", "markeredgewidth": 1.6}
    if test:
        _line(axes, test, f"test: {test[-1][1]:.3g}", color=INK, linestyle="", zorder=5, **ends)


def _finish(axes: "Axes", label: str, values: Sequence[float], logarithmic: bool = True) -> None:
    """Name the axis, choose its scale, and draw the grid and the legend."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axes.set_ylabel(label)
    if logarithmic and values and min(values) > 0:
        axes.set_yscale("log")
        # Where the values span less than a power of ten, a few of the numbers between need labels, too.
        span = max(values) / min(values)
        between = (1.0,) if span > 100 else (1.0, 2.0, 5.0) if span > 8 else (1.0, 1.5, 2.0, 3.0, 5.0, 7.0)
        axes.yaxis.set_major_locator(LogLocator(subs=between))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())
    axes.grid(color=GRID, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(colors=GREY, labelcolor=INK)
    if axes.get_legend_handles_labels()[1]:
        axes.legend(frameon=False, fontsize=9)
