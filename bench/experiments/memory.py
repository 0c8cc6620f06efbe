"""Peak memory of whole processes over the depth of a network.

Compared are inference, forward gradients, reverse mode, and reverse mode with activation checkpointing. Each runs in a
process of its own. What counts is by how much the process's resident memory rises, while it takes a few steps, above
its size when the model had been made. The activations of a batch of 1024 are as large as a layer's parameters. Only
Linux reports a process's highest resident memory since a chosen moment.
"""

import gc
import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fgnumba.bench.measure import machine
from fgnumba.bench.measure.result import Comparison, Request, Result
from fgnumba.colours import CHECKPOINTED, FORWARD, INFERENCE, REVERSE
from fgnumba.errors import RunError
from fgnumba.runs.figures import blank

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
COLOURS = {"inference": INFERENCE, "forward": FORWARD, "reverse": REVERSE, "checkpointed": CHECKPOINTED}


def peak_memory(request: Request) -> Result:
    """Measure every mode at every depth, each in a process of its own.

    Parameters
    ----------
    request : Request
        The way in which the experiment is to be run.
    """
    if not Path("/proc/self/clear_refs").exists():
        raise RunError("memory: this experiment reads /proc/self, which Linux has")
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
    """Return by how many bytes the resident memory of a process rises."""
    source = f"from {__name__} import print_measured; print_measured({mode!r}, {layers})"
    command = [sys.executable, "-c", source]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise RunError(f"memory: {mode}, {layers} layers: {last}")
    found: int = json.loads(done.stdout)
    return found


def _resident(what: str) -> int:
    """Return the resident memory of this process in bytes: ``VmRSS`` is the present one, ``VmHWM`` the highest one."""
    for line in Path("/proc/self/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == what:
            return int(value.split()[0]) * 1024
    raise RunError(f"memory: this system does not report {what}")


def print_measured(mode: str, layers: int) -> None:
    """Measure a mode in this process, and print the bytes.

    Parameters
    ----------
    mode : str
        The mode, such as ``inference``.
    layers : int
        Number of hidden layers.
    """
    print(_run(mode, layers))


def _run(mode: str, layers: int) -> int:
    import numpy as np

    import fgnumba as fg
    from fgnumba.bench import reverse
    from fgnumba.bench.measure import networks

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
    # Kernels are compiled before the measurement, for every mode.
    steps(model(2), x[:32], y[:32])
    one = model(layers)
    gc.collect()
    # Resets the highest resident memory, which the making of the model may have raised.
    Path("/proc/self/clear_refs").write_text("5")
    before = _resident("VmRSS")
    steps(one, x, y)
    return _resident("VmHWM") - before


def _draw(title: str, rows: list[dict[str, Any]]) -> "Figure":
    figure = blank(5.5, 3.4)
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


def redrawn(data: dict[str, Any]) -> "Figure":
    """Return the figure of a result again.

    Parameters
    ----------
    data : dict
        The result's ``data.json``.
    """
    return _draw(data["title"], data["rows"])
