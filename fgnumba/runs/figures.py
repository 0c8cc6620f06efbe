"""Figures of runs and experiments.

A figure is drawn without a window and without matplotlib's backend or the user's choice of one. A run never depends on
its figure: where the figure cannot be drawn, the run says so on one line and goes on.
"""

import io
import logging
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fgnumba import colours
from fgnumba.colours import UNKNOWN, Style
from fgnumba.errors import printable
from fgnumba.runs.configuration import CONFIG, RunConfig, named
from fgnumba.runs.loss_log import read_losses
from fgnumba.storage.durable import replace
from fgnumba.training import curves
from fgnumba.training.checkpoints import METRICS
from fgnumba.training.metrics import read_records
from fgnumba.training.records import Record

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_BACKEND = "MPLBACKEND"
# The date is left out, so that the same numbers give the same file.
_OPTIONS: dict[str, dict[str, Any]] = {".png": {"dpi": 150}, ".svg": {"metadata": {"Date": None}}}


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


def of_records(
    records: Sequence[Record],
    losses: curves.Losses | None = None,
    title: str = "",
    style: Style = UNKNOWN,
) -> "Figure":
    """Return the figure of a run: the loss in one panel, the error or the metric of a regression below it.

    The second panel is left out where neither was measured on validation data. ``fgnumba.training.curves`` says what
    the lines and marks mean.

    Parameters
    ----------
    records : sequence of Record
        The run's records, in the order of their steps.
    losses : sequence of float, optional
        The training loss of each step. None (the default): the records' means are drawn.
    title : str
        Text above the panels. Default: none.
    style : Style
        The colour of the run's estimator. Default: that of text.
    """
    found = curves.measure(records)
    count = 1 if found is None else 2
    figure = blank(7, 0.6 + 2.5 * count)
    axes = figure.subplots(count, 1, sharex=True, squeeze=False)[:, 0]
    curves.draw_loss(axes[0], records, losses, style)
    if found is not None:
        curves.draw_measure(axes[1], records, found, style)
    axes[-1].set_xlabel("step")
    # A file name in the title may contain dollar signs, which must not be read as mathematics.
    figure.suptitle(title, fontsize=10, parse_math=False)
    return figure


def of_run(folder: Path) -> "Figure":
    """Return the figure of the run in a folder, in the colour of its estimator.

    Parameters
    ----------
    folder : Path
        The run folder.
    """
    config = RunConfig.from_toml(folder / CONFIG)
    records = read_records(folder / METRICS)
    return of_records(records, read_losses(folder), title_of(config), colours.style(config.estimator))


def title_of(config: RunConfig) -> str:
    """Return a line that says what was trained and how: the data, the model, estimator, optimiser and learning rate.

    Parameters
    ----------
    config : RunConfig
        The settings of the run, with every one written out.
    """
    estimator = config.estimator or "estimator by default"
    if config.directions is not None and config.directions > 1:
        estimator += f", T = {config.directions}"
    rate = "" if config.learning_rate is None else f" at rate {config.learning_rate:.3g}"
    return printable(f"{named(config)}: {estimator}, {config.optimizer or 'optimiser by default'}{rate}")
