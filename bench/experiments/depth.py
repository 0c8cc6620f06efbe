"""Rf, Rb and memory over the depth of a network, as in arXiv 2202.08587, section 5.4, figure 6.

The network has 1 to 100 hidden layers of width 1024; the batch size is 64.
"""

import gc
from typing import TYPE_CHECKING, Any

import fgnumba as fg
from fgnumba.bench import reverse
from fgnumba.bench.measure import machine, networks
from fgnumba.bench.measure.machine import Watch, quiet
from fgnumba.bench.measure.result import Comparison, Request, Result
from fgnumba.bench.measure.timing import interleaved
from fgnumba.colours import CHECKPOINTED, DIRECTIONS, FORWARD, REVERSE, Style
from fgnumba.kernels.rules.directions import GAUSSIAN, RANK1
from fgnumba.runs.figures import blank

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DEPTHS = (1, 2, 3, 5, 10, 20, 30, 50, 70, 100)
QUICK_DEPTHS = (1, 3, 10)
BATCH, WIDTH = 64, 1024
STYLES = {
    "rf": Style(FORWARD),
    "rf_gaussian": DIRECTIONS["gaussian"],
    "rb": Style(REVERSE),
    "rb_checkpointed": Style(CHECKPOINTED, "--"),
    "rf_over_rb": Style(FORWARD),
    "rf_over_rb_gaussian": DIRECTIONS["gaussian"],
    "forward_bytes": Style(FORWARD),
    "reverse_bytes": Style(REVERSE),
    "checkpointed_bytes": Style(CHECKPOINTED, "--"),
}
PAPER_RATIOS = {depth: "under 0.6" for depth in DEPTHS if depth <= 10} | {100: "a little over 0.8"}


def by_depth(request: Request) -> Result:
    """Measure the ratios and the memory at every depth.

    Parameters
    ----------
    request : Request
        The way in which the experiment is to be run.
    """
    depths = QUICK_DEPTHS if request.quick else DEPTHS
    rows = []
    for layers in depths:
        request.advance(f"depth {layers} of {depths[-1]}")
        rows.append(measured(layers, 2.0 if request.quick else 12.0))
        gc.collect()
    comparisons = []
    for row in rows:
        low, high = row["rf_over_rb_interval"]
        comparisons.append(
            Comparison(
                f"Rf/Rb, {row['layers']} layers",
                f"{row['rf_over_rb']:.3f} [{low:.3f}, {high:.3f}]",
                PAPER_RATIOS.get(row["layers"], ""),
            )
        )
    for label, key, paper in (("Rf", "rf", "3 to 4"), ("Rb", "rb", "4 to 5")):
        values = [row[key] for row in rows]
        comparisons.append(
            Comparison(f"{label}, least and most", f"{min(values):.2f} to {max(values):.2f}", paper)
        )
    for label, key in (
        ("forward gradient", "forward_bytes"),
        ("reverse mode", "reverse_bytes"),
        ("reverse mode, checkpointed", "checkpointed_bytes"),
    ):
        values = [row[key] / 1e6 for row in rows]
        comparisons.append(
            Comparison(f"MB beside parameters and gradient: {label}", f"{values[0]:.1f} to {values[-1]:.1f}")
        )
    length = f", depths to {depths[-1]}" if request.quick else ""
    title = f"{request.name}: layers of {WIDTH} with ReLU, batch {BATCH}{length}"
    data = {
        "name": request.name,
        "quick": request.quick,
        "seed": request.seed,
        "machine": machine.facts(),
        "rows": rows,
    }
    return Result(title, comparisons, data, lambda: _draw(title, rows))


def measured(layers: int, seconds: float) -> dict[str, Any]:
    """Return the ratios and the memory of a perceptron, from interleaved measurements.

    Parameters
    ----------
    layers : int
        Number of hidden layers.
    seconds : float
        Approximate time to measure, in seconds.
    """
    model = networks.perceptron((WIDTH,) * layers)
    x, y = networks.data(BATCH)
    loss = fg.SoftmaxCrossEntropy()
    primal = model.plan(BATCH, loss=loss)
    rank1, gaussian = (model.plan(BATCH, kind, 1, loss) for kind in (RANK1, GAUSSIAN))
    backward = reverse.ReversePlan(model, BATCH, loss)
    checkpointed = reverse.ReversePlan(model, BATCH, loss, checkpoint=True)
    watch, peak = Watch(), machine.Peak()
    timings = interleaved(
        {
            "f": lambda: primal.run(x, y),
            "rank1": lambda: rank1.run(x, y),
            "gaussian": lambda: gaussian.run(x, y),
            "reverse": lambda: backward.run(x, y),
            "checkpointed": lambda: checkpointed.run(x, y),
            "peak": peak,
        },
        seconds=seconds,
    )
    ratio = timings.interval("rank1", "reverse")
    return {
        "layers": layers,
        "f_ms": timings.seconds("f") * 1e3,
        "rf": timings.ratio("rank1", "f"),
        "rf_gaussian": timings.ratio("gaussian", "f"),
        "rb": timings.ratio("reverse", "f"),
        "rb_checkpointed": timings.ratio("checkpointed", "f"),
        "rf_over_rb": ratio.value,
        "rf_over_rb_interval": [ratio.low, ratio.high],
        "rf_over_rb_gaussian": timings.ratio("gaussian", "reverse"),
        "parameter_bytes": model.parameter_count * 4,
        "forward_bytes": rank1.nbytes,
        "reverse_bytes": backward.nbytes,
        "checkpointed_bytes": checkpointed.nbytes,
        "disturbed": quiet(watch.foreign_share(), timings.spread("peak")),
    }


def _draw(title: str, rows: list[dict[str, Any]]) -> "Figure":
    figure = blank(9, 3.4)
    times, ratios, memory = figure.subplots(1, 3)
    layers = [row["layers"] for row in rows]
    for axis, lines in (
        (
            times,
            {
                "rf": "Rf, rank-1",
                "rf_gaussian": "Rf, Gaussian",
                "rb": "Rb",
                "rb_checkpointed": "Rb, checkpointed",
            },
        ),
        (ratios, {"rf_over_rb": "Rf/Rb, rank-1", "rf_over_rb_gaussian": "Rf/Rb, Gaussian"}),
        (
            memory,
            {"forward_bytes": "forward", "reverse_bytes": "reverse", "checkpointed_bytes": "checkpointed"},
        ),
    ):
        for key, label in lines.items():
            scale = 1e-6 if key.endswith("bytes") else 1
            colour, dash = STYLES[key]
            values = [row[key] * scale for row in rows]
            axis.plot(layers, values, color=colour, linestyle=dash, marker="o", markersize=3, label=label)
        axis.set_xlabel("layers")
        axis.set_ylim(bottom=0)
        axis.legend(fontsize=7, frameon=False)
    memory.set_title("MB beside parameters", loc="left", fontsize=9)
    figure.suptitle(title, fontsize=10)
    return figure


def redrawn(data: dict[str, Any]) -> "Figure":
    """Return the figure of a result again.

    Parameters
    ----------
    data : dict
        The result's ``data.json``.
    """
    return _draw(data["title"], data["rows"])
