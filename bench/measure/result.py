"""What an experiment found, and how it is kept."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from fgnumba.bench.measure.files import write
from fgnumba.errors import RunError
from fgnumba.runs.figures import leave

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DATA, FIGURE = "data.json", "figure.svg"


@dataclass(frozen=True)
class Request:
    """How an experiment is to be run.

    Parameters
    ----------
    name : of the experiment.
    seed : of everything random.
    quick : a shortened run, which says so.
    data_dir : folder of MNIST's files; None: where the library keeps them.
    folder : of data and figure, and of what an interrupted run goes on from.
    advance : told now and then what runs.
    """

    name: str
    seed: int = 0
    quick: bool = False
    data_dir: str | None = None
    folder: Path | None = None
    advance: Callable[[str], None] = lambda what: None


class Comparison(NamedTuple):
    """A number here, beside the paper's where the paper gives one."""

    what: str
    here: str
    paper: str = ""


@dataclass(frozen=True)
class Result:
    """Outcome of an experiment.

    Parameters
    ----------
    title : what was run, in a line.
    comparisons : numbers beside the paper's.
    data : everything that the figure shows, as JSON values; settings and seeds among it.
    draw : returns the figure.
    """

    title: str
    comparisons: list[Comparison]
    data: dict[str, Any]
    draw: "Callable[[], Figure]"

    def table(self) -> str:
        """Return the comparisons as aligned text."""
        lines = [Comparison("", "here", "paper"), *self.comparisons]
        widths = [max(len(line[column]) for line in lines) for column in range(2)]
        return "\n".join(
            f"{line.what:{widths[0]}}  {line.here:>{widths[1]}}  {line.paper}".rstrip() for line in lines
        )

    def write(self, folder: Path, warn: Callable[[str], None] = lambda line: None) -> None:
        """Write ``data.json`` and ``figure.svg``, each whole or not at all; what was there is replaced.

        Parameters
        ----------
        warn : told in a line where the figure cannot be drawn.

        Raises
        ------
        RunError
            The folder cannot be written.
        """
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunError(f"out: {folder} cannot be written: {error.strerror or error}") from None
        shown = {"title": self.title, "comparisons": [list(line) for line in self.comparisons]}
        write(folder / DATA, json.dumps({**shown, **self.data}, indent=1, allow_nan=False) + "\n")
        leave(folder / FIGURE, self.draw, warn)
