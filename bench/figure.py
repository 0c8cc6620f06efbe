"""The README's figure, from a benchmark report: ``python -m fgnumba.bench.figure REPORT.json FIGURE.svg``."""

import json
import sys
from pathlib import Path

TITLES = {"perceptron": "784-1024-1024-10 perceptron", "logistic": "784-10 logistic regression"}
COLOURS = {"fgnumba": "#c1440e", "JAX": "#8a8f98", "PyTorch": "#b9bec6"}


def draw(report: Path, figure: Path) -> None:
    """Draw the time of a training step here and in the peers."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    steps = {
        benchmark["params"]["name"]: benchmark["extra_info"]["seconds"]
        for benchmark in json.loads(report.read_text())["benchmarks"]
        if "seconds" in benchmark["extra_info"]
    }
    figure_, axes = plt.subplots(1, len(steps), figsize=(8, 2.4), constrained_layout=True)
    for axis, (name, seconds) in zip(axes, steps.items(), strict=True):
        names = list(seconds)
        bars = axis.barh(names, [seconds[n] * 1e6 for n in names], color=[COLOURS[n] for n in names])
        axis.bar_label(bars, fmt="%.0f µs", padding=4)
        axis.invert_yaxis()
        axis.set_title(TITLES[name], fontsize=10, loc="left")
        axis.spines[["top", "right", "bottom"]].set_visible(False)
        axis.set_xticks([])
        axis.margins(x=0.25)
        axis.tick_params(left=False)
    figure_.suptitle(
        "One training step, batch 64, one core: forward gradient here, reverse mode there", fontsize=10
    )
    figure.parent.mkdir(parents=True, exist_ok=True)
    figure_.savefig(figure, metadata={"Date": None})


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: python -m fgnumba.bench.figure REPORT.json FIGURE.svg")
    draw(Path(sys.argv[1]), Path(sys.argv[2]))
