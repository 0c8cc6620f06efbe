"""The result of an experiment: its numbers and its figure, and the files in which they are kept."""

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
    """The way in which an experiment is to be run.

    Parameters
    ----------
    name : str
        Name of the experiment.
    seed : int
        Seed of everything random. Default: 0.
    quick : bool
        Whether to run a shortened version, whose title says so. Default: False.
    data_dir : str, optional
        Folder of MNIST's IDX files. None (the default): they are downloaded once and kept in the user's cache.
    folder : Path, optional
        Folder for data, figure, and the state from which an interrupted experiment continues. None (the default): no
        such state is kept.
    advance : callable
        Called with a description of what runs now. Default: ignores it.
    """

    name: str
    seed: int = 0
    quick: bool = False
    data_dir: str | None = None
    folder: Path | None = None
    advance: Callable[[str], None] = lambda what: None


class Comparison(NamedTuple):
    """A number of an experiment and the paper's.

    Parameters
    ----------
    what : str
        What was measured.
    here : str
        Our number.
    paper : str
        The paper's number; empty (the default) if it gives none.
    """

    what: str
    here: str
    paper: str = ""


@dataclass(frozen=True)
class Result:
    """The result of an experiment.

    Parameters
    ----------
    title : str
        A line that says what was run.
    comparisons : list of Comparison
        Our numbers and the paper's.
    data : dict
        Everything that the figure shows, with settings and seeds, as JSON values.
    draw : callable
        Returns the figure.
    """

    title: str
    comparisons: list[Comparison]
    data: dict[str, Any]
    draw: "Callable[[], Figure]"

    @property
    def content(self) -> dict[str, Any]:
        """What ``data.json`` holds: the title, the comparisons and the data, as JSON values."""
        return {"title": self.title, "comparisons": [list(line) for line in self.comparisons], **self.data}

    def table(self) -> str:
        """Return the comparisons as aligned text."""
        lines = [Comparison("", "here", "paper"), *self.comparisons]
        widths = [max(len(line[column]) for line in lines) for column in range(2)]
        return "\n".join(
            f"{line.what:{widths[0]}}  {line.here:>{widths[1]}}  {line.paper}".rstrip() for line in lines
        )

    def write(self, folder: Path, warn: Callable[[str], None] = lambda line: None) -> None:
        """Write ``data.json`` and ``figure.svg``, each completely or not at all, and replace existing ones.

        Parameters
        ----------
        folder : Path
            The folder, created if it does not exist.
        warn : callable
            Called with a line of text if the figure cannot be drawn. Default: ignores it.

        Raises
        ------
        RunError
            The folder cannot be written.
        """
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunError(f"out: {folder} cannot be written: {error.strerror or error}") from None
        write(folder / DATA, json.dumps(self.content, indent=1, allow_nan=False) + "\n")
        leave(folder / FIGURE, self.draw, warn)
