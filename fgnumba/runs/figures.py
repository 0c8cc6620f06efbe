"""Figures of runs and experiments.

A figure is drawn without a window and without matplotlib's backend or the user's choice of one. A run never depends on
its figure: where the figure cannot be drawn, the run says so on one line and goes on.
"""

import io
import logging
import math
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fgnumba.errors import printable
from fgnumba.storage.durable import replace
from fgnumba.training.records import Record

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_BACKEND = "MPLBACKEND"
# The date is left out, so that the same numbers give the same file.
_OPTIONS: dict[str, dict[str, Any]] = {".png": {"dpi": 150}, ".svg": {"metadata": {"Date": None}}}
_LOSS, _ACCURACY = "#c1440e", "#33658a"


def leave(path: Path, draw: "Callable[[], Figure]", warn: Callable[[str], None]) -> None:
    """Draw a figure and write it in the format of its file name, ``.png`` or ``.svg``.

    Parameters
    ----------
    path : Path
        The file; an existing one is replaced.
    draw : callable
        Returns the figure.
    warn : callable
        Called with a line of text where the figure cannot be drawn or written; no exception is raised then.
    """

    def content() -> bytes:
        with _silent():
            stream = io.BytesIO()
            draw().savefig(stream, format=path.suffix[1:], **_OPTIONS[path.suffix])
        return stream.getvalue()

    attempt(path, content, warn)


def attempt(path: Path, content: Callable[[], bytes], warn: Callable[[str], None]) -> None:
    """Compute the content of a file and write it; where either fails for any reason, warn on one line.

    The reason may be an installation without fonts, a broken matplotlib or a full disk. None of these may lose the
    results that have been computed. Only an interrupt passes through; even a ``sys.exit`` in a broken module does not.

    Parameters
    ----------
    path : Path
        The file; an existing one is replaced.
    content : callable
        Returns the bytes of the file.
    warn : callable
        Called with a line of text where the file is left out.
    """
    try:
        replace(path, content())
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        reason = getattr(error, "strerror", None) or str(error)
        warn(printable(f"{path} is left out: {type(error).__name__}{f': {reason}' if reason else ''}"))


def blank(width: float, height: float) -> "Figure":
    """Return an empty figure that can be drawn without choosing or loading a backend of matplotlib.

    Parameters
    ----------
    width, height : float
        Size in inches.
    """
    _load()
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _load() -> None:
    """Import matplotlib without the backend that ``MPLBACKEND`` names: an unknown name would fail the import."""
    with _without_backend() as named:
        import matplotlib
    if named:
        # Select the backend as the import would have done, because the program may draw figures of its own later.
        with suppress(ValueError):
            matplotlib.rcParams["backend"] = named


@contextmanager
def _without_backend() -> Iterator[str | None]:
    named = os.environ.pop(_BACKEND, None)
    try:
        yield named
    finally:
        if named is not None:
            os.environ[_BACKEND] = named


@contextmanager
def _silent() -> Iterator[None]:
    """Suppress matplotlib's warnings about folders, settings and fonts."""
    logger = logging.getLogger("matplotlib")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(before)


def of_records(records: Sequence[Record]) -> "Figure":
    """Return the figure of a run: its losses and accuracies over the steps.

    Training and validation are drawn as lines, the test loss and accuracy as dots at the step where the run ended.
    Quantities that no record has are left out.

    Parameters
    ----------
    records : sequence of Record
        The run's records, in the order of their steps.
    """
    figure = blank(7, 4)
    axis = figure.subplots()
    right = axis.twinx()
    _plot(axis, records, "loss", "training loss", color=_LOSS)
    for on, quantity, color in ((axis, "loss", _LOSS), (right, "accuracy", _ACCURACY)):
        _plot(on, records, f"validation_{quantity}", f"validation {quantity}", color=color, ls="--")
        _plot(on, records, f"test_{quantity}", f"test {quantity}", color=color, ls="", marker="o")
    axis.set(xlabel="step", ylabel="loss", yscale="log")
    right.set_ylabel("accuracy", color=_ACCURACY)
    right.set_ylim(0, 1)
    lines = [*axis.get_lines(), *right.get_lines()]
    axis.legend(lines, [str(line.get_label()) for line in lines], loc="center right", frameon=False)
    return figure


def _plot(axis: "Axes", records: Sequence[Record], what: str, label: str, **style: Any) -> None:
    """Draw the quantity `what`, a field of `Record`, over the steps of those records in which it is not NaN."""
    points = [(r.step, getattr(r, what)) for r in records if not math.isnan(getattr(r, what))]
    if points:
        axis.plot(*zip(*points, strict=True), label=label, **style)
