"""Figures of results that exist, drawn again from their numbers."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fgnumba.bench.experiments import depth, fair_map, local, memory, mnist
from fgnumba.bench.experiments.descent import redrawn as descent
from fgnumba.bench.experiments.monte_carlo import redrawn as monte_carlo
from fgnumba.bench.learning import curves
from fgnumba.bench.measure.result import DATA, FIGURE
from fgnumba.runs.figures import leave

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DRAWN: "dict[str, Callable[[dict[str, Any]], Figure]]" = {
    "figure1": monte_carlo,
    "beale": descent,
    "rosenbrock": descent,
    "logreg": mnist.redrawn,
    "mlp": mnist.redrawn,
    "cnn": mnist.redrawn,
    "depth": depth.redrawn,
    "memory": memory.redrawn,
    "local-losses": local.redrawn,
    "fair-map": fair_map.redrawn,
}
"""The function that draws the figure of each experiment; comparisons of estimators have one of their own."""


def redraw(folder: Path, warn: Callable[[str], None]) -> None:
    """Draw the figure of the result in a folder again.

    Parameters
    ----------
    folder : Path
        The folder, which holds ``data.json`` of an experiment or a comparison.
    warn : callable
        Called with a line of text if the figure cannot be drawn.
    """
    data = json.loads((folder / DATA).read_text(encoding="utf-8"))
    draw = DRAWN.get(data.get("name"), curves.redrawn)
    leave(folder / FIGURE, lambda: draw(data), warn)
