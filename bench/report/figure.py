"""The figure of a training step: its time here and in other frameworks, measured on one core."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fgnumba.bench.report.results_page import load
from fgnumba.colours import FORWARD, JAX, PYTORCH, REVERSE
from fgnumba.runs.figures import blank, leave

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TITLES = {
    "logreg": "784-10 logistic regression",
    "mlp": "784-1024-1024-10 perceptron",
    "cnn": "4 convolutions, 64 channels",
}
COLOURS = {"forward gradient": FORWARD, "reverse mode": REVERSE, "JAX": JAX, "PyTorch": PYTORCH}


def write_figure(path: Path, warn: Callable[[str], None]) -> None:
    """Draw the time of a training step along a forward gradient, and by reverse mode here and in other frameworks.

    Parameters
    ----------
    path : Path
        The file to write.
    warn : callable
        Called with a line of text if the figure cannot be drawn.
    """
    report = load("bench-one")
    if report is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        leave(path, lambda: _draw(report), warn)


def _draw(report: dict[str, Any]) -> "Figure":
    steps = {name: _times(report, name) for name in TITLES}
    figure = blank(10, 2.4)
    for axis, (name, title) in zip(figure.subplots(1, len(steps)), TITLES.items(), strict=True):
        times = steps[name]
        scale, unit = (1, "ms") if max(times.values()) > 1 else (1e3, "µs")
        bars = axis.barh(
            list(times), [value * scale for value in times.values()], color=[COLOURS[key] for key in times]
        )
        axis.bar_label(bars, fmt=f"%.3g {unit}", padding=4)
        axis.invert_yaxis()
        axis.set_title(title, fontsize=10, loc="left")
        axis.spines[["top", "right", "bottom"]].set_visible(False)
        axis.set_xticks([])
        axis.margins(x=0.3)
        axis.tick_params(left=False)
    figure.suptitle("One training step, batch 64, one core; JAX and PyTorch by reverse mode", fontsize=10)
    return figure


def _times(report: dict[str, Any], network: str) -> dict[str, float]:
    """Return the times of a network's training steps in milliseconds, by their labels in the figure."""
    rows = [row for row in report["ratios"] if (row["name"], row["batch"]) == (network, 64)]
    ours = next(row for row in rows if (row["direction"], row["directions"]) == ("rank1", 1))
    times = {"forward gradient": ours["step_ms"], "reverse mode": ours["reverse_step_ms"]}
    for row in report["peers"]:
        if (row["name"], row["direction"]) == (network, "rank1"):
            times[row["peer"]] = row["reverse_step_ms"]
    return times
