"""Figures: drawn without a window, a backend or the user's settings of one, and never what a run depends on."""

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
# Without a date, the same numbers are the same file.
_OPTIONS: dict[str, dict[str, Any]] = {".png": {"dpi": 150}, ".svg": {"metadata": {"Date": None}}}
_LOSS, _ACCURACY = "#c1440e", "#33658a"


def leave(path: Path, draw: "Callable[[], Figure]", warn: Callable[[str], None]) -> None:
    """Write a figure in the format that its name ends in, as :func:`attempt` does."""

    def content() -> bytes:
        with _silent():
            stream = io.BytesIO()
            draw().savefig(stream, format=path.suffix[1:], **_OPTIONS[path.suffix])
        return stream.getvalue()

    attempt(path, content, warn)


def attempt(path: Path, content: Callable[[], bytes], warn: Callable[[str], None]) -> None:
    """Write what `content` makes; where that fails for whatever reason, say so in a line.

    An installation without fonts, a broken matplotlib, a full disk: none of them is worth what was computed. Only who
    interrupts it is heard: a module that calls ``sys.exit`` is broken as others are.
    """
    try:
        replace(path, content())
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        reason = getattr(error, "strerror", None) or str(error)
        warn(printable(f"{path} is left out: {type(error).__name__}{f': {reason}' if reason else ''}"))


def blank(width: float, height: float) -> "Figure":
    """Return an empty figure of so many inches, which draws by itself: no backend is chosen, and none is loaded."""
    _load()
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _load() -> None:
    """Import matplotlib whatever backend the environment names: a bad name would fail the import."""
    with _without_backend() as named:
        import matplotlib
    if named:
        # As the import would have done: the process may go on to draw figures of its own.
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
    """Drop what matplotlib has to say of folders, settings and fonts."""
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
    """Return the figure of a run: losses and accuracies over steps. What was not taken is not drawn.

    Training and validation are lines, the test figures a dot each, where the run ended.
    """
    figure = blank(7, 4)
    axis = figure.subplots()
    right = axis.twinx()
    _plot(axis, records, "loss", "training loss", color=_LOSS)
    for on, what, color in ((axis, "loss", _LOSS), (right, "accuracy", _ACCURACY)):
        _plot(on, records, f"validation_{what}", f"validation {what}", color=color, ls="--")
        _plot(on, records, f"test_{what}", f"test {what}", color=color, ls="", marker="o")
    axis.set(xlabel="step", ylabel="loss", yscale="log")
    right.set_ylabel("accuracy", color=_ACCURACY)
    right.set_ylim(0, 1)
    lines = [*axis.get_lines(), *right.get_lines()]
    axis.legend(lines, [str(line.get_label()) for line in lines], loc="center right", frameon=False)
    return figure


def _plot(axis: "Axes", records: Sequence[Record], what: str, label: str, **style: Any) -> None:
    """Draw a figure of the records that have it."""
    points = [(r.step, getattr(r, what)) for r in records if not math.isnan(getattr(r, what))]
    if points:
        axis.plot(*zip(*points, strict=True), label=label, **style)
