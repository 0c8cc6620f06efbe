"""The README's figure, from a benchmark report: ``python -m fgnumba.bench.figure REPORT.json FIGURE.svg``."""

import json
import sys
from pathlib import Path

TITLES = {
    "logistic": "784-10 logistic regression",
    "perceptron": "784-1024-1024-10 perceptron",
    "cnn": "four 3x3 convolutions, 64 channels",
}
COLOURS = {"fgnumba": "#c1440e", "JAX": "#8a8f98", "PyTorch": "#b9bec6"}


def draw(report: Path, figure: Path) -> None:
    """Draw the time of a training step here and in the peers."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    steps = {
        benchmark["extra_info"]["network"]: benchmark["extra_info"]["seconds"]
        for benchmark in json.loads(report.read_text())["benchmarks"]
        if "seconds" in benchmark["extra_info"]
    }
    figure_, axes = plt.subplots(1, len(steps), figsize=(10, 2.2), constrained_layout=True)
    for axis, name in zip(axes, [name for name in TITLES if name in steps], strict=True):
        names = [n for n in COLOURS if n in steps[name]]
        scale, unit = (1e3, "ms") if max(steps[name].values()) > 1e-3 else (1e6, "µs")
        bars = axis.barh(names, [steps[name][n] * scale for n in names], color=[COLOURS[n] for n in names])
        axis.bar_label(bars, fmt=f"%.3g {unit}", padding=4)
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
