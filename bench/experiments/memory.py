"""Peak memory of whole processes by depth: inference, forward gradients, reverse mode, reverse mode checkpointed.

Each mode runs in a process of its own; what counts is the rise of its resident memory while it takes a few steps,
beyond what it held when the model was there. The activations of a batch of 1024 are as large as a layer's parameters.
"""

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

from fgnumba.bench import machine
from fgnumba.bench.experiments.result import Comparison, Request, Result
from fgnumba.errors import RunError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DEPTHS, QUICK_DEPTHS = (1, 5, 10, 20, 40, 70, 100), (1, 10)
BATCH, WIDTH = 1024, 1024
MODES = {
    "inference": "inference",
    "forward": "forward gradient",
    "reverse": "reverse mode",
    "checkpointed": "reverse mode, checkpointed",
}
COLOURS = {"inference": "#8a8f98", "forward": "#c1440e", "reverse": "#1f5fa8", "checkpointed": "#2e7d32"}


def memory(request: Request) -> Result:
    """Measure every mode at every depth, each in a process of its own."""
    depths = QUICK_DEPTHS if request.quick else DEPTHS
    rows: list[dict[str, Any]] = []
    for layers in depths:
        request.advance(f"{layers} layers of {depths[-1]}")
        rows.append({"layers": layers, **{mode: _measured(mode, layers) for mode in MODES}})
    comparisons = []
    for mode, label in MODES.items():
        values = [row[mode] / 1e6 for row in rows]
        comparisons.append(
            Comparison(
                f"MB beside the model, {label}, {depths[0]} to {depths[-1]} layers",
                " ".join(f"{value:.0f}" for value in values),
            )
        )
    length = f", depths to {depths[-1]}" if request.quick else ""
    title = f"{request.name}: peak beside the model, layers of {WIDTH}, batch {BATCH}{length}"
    data = {
        "name": request.name,
        "quick": request.quick,
        "seed": request.seed,
        "batch": BATCH,
        "machine": machine.facts(),
        "rows": rows,
    }
    return Result(title, comparisons, data, lambda: _draw(title, rows))


def _measured(mode: str, layers: int) -> int:
    """Return the bytes by which a process's resident memory rises."""
    command = [sys.executable, "-m", "fgnumba.bench.experiments.memory", mode, str(layers)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise RunError(f"memory: {mode}, {layers} layers: {last}")
    found: int = json.loads(done.stdout)
    return found


def _resident() -> int:
    """Return the highest resident memory of this process so far, in bytes."""
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _run(mode: str, layers: int) -> int:
    import numpy as np

    import fgnumba as fg
    from fgnumba.bench import networks, reverse

    def model(hidden: int) -> fg.Sequential:
        return networks.perceptron((WIDTH,) * hidden)

    def steps(one: fg.Sequential, x: Any, y: Any) -> None:
        trainer: Any
        if mode == "forward":
            trainer = fg.Trainer(one, optimizer=fg.SGD(1e-9))
        elif mode != "inference":
            trainer = reverse.ReverseTrainer(one, 1e-9, checkpoint=mode == "checkpointed")
        for _ in range(3):
            if mode == "inference":
                one.plan(len(x), loss=fg.SoftmaxCrossEntropy()).run(x, y)
            else:
                trainer.step(x, y)

    rng = np.random.default_rng(0)
    x, y = rng.random((BATCH, *networks.IMAGE), np.float32), rng.integers(0, 10, BATCH)
    # Compiled code is there before, whichever mode it is for.
    steps(model(2), x[:32], y[:32])
    one = model(layers)
    before = _resident()
    steps(one, x, y)
    return _resident() - before


def _draw(title: str, rows: list[dict[str, Any]]) -> "Figure":
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.5, 3.4), layout="constrained")
    axis = figure.subplots()
    for mode, label in MODES.items():
        megabytes = [row[mode] / 1e6 for row in rows]
        layers = [row["layers"] for row in rows]
        axis.plot(layers, megabytes, marker="o", markersize=3, label=label, color=COLOURS[mode])
    axis.set_xlabel("layers")
    axis.set_ylabel("MB beside the model")
    axis.legend(fontsize=8, frameon=False)
    axis.set_title(title, fontsize=9, loc="left")
    return figure


if __name__ == "__main__":
    print(_run(sys.argv[1], int(sys.argv[2])))
