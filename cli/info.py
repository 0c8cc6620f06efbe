"""``fgtrain info``."""

import json
import platform
import shutil
import subprocess
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from fgnumba.cli.message import show

if TYPE_CHECKING:
    from fgnumba.model.plan import Plan


IMAGE, CLASSES, BATCH = (28, 28, 1), 10, 64
"""What a model is planned for."""


@click.command()
@click.option(
    "--model", metavar="NAME|FILE.toml", help="Also the plan of a model: layers, buffers, multiply-adds."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def info(model: str | None, as_json: bool) -> None:
    """Print versions, processor, vector width, threads, cache folder, GPU and estimators.

    A model is planned for 28x28x1 images in 10 classes, a batch of 64 and one rank-1 direction.
    """
    facts, plan = gather(), None
    if model is not None:
        count, plan = planned(model)
        facts |= {"model": model, "parameters": count}
    if as_json:
        rows = {} if plan is None else {"plan": [asdict(row) for row in plan.rows]}
        show(json.dumps(facts | rows))
        return
    width = max(map(len, facts))
    lines = []
    for name, value in facts.items():
        shown = ", ".join(value) if isinstance(value, list) else value
        lines.append(f"{name.replace('_', ' '):{width}}  {shown}")
    show("\n".join(lines if plan is None else [*lines, f"\n{plan}"]))


def gather() -> dict[str, Any]:
    """Return what there is to know about this installation and machine."""
    import numpy as np

    from fgnumba import __version__
    from fgnumba.estimators import RECIPES
    from fgnumba.kernels.devices import tuning
    from fgnumba.kernels.emit import vector
    from fgnumba.kernels.machine import numba_settings
    from fgnumba.kernels.machine.cache import cache_folder
    from fgnumba.kernels.machine.threads import chosen

    # After the library, which says in a line what is wrong with Numba's settings.
    import llvmlite  # isort: skip
    import numba  # isort: skip

    isa, threads = vector.instruction_set(), chosen()
    return {
        "fgnumba": __version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "numba": numba.__version__,
        "llvmlite": llvmlite.__version__,
        "compiler": numba_settings.problem() or "compiles",
        "platform": platform.platform(),
        "processor": str(llvmlite.binding.get_host_cpu_name()),
        "vector": f"{isa.name}, {isa.lanes} float32 lanes",
        "tile": tuning.described(isa),
        "vector_executable": list(vector.executable()),
        "threads": threads.count,
        "threads_because": threads.reason,
        "cache_folder": str(cache_folder()),
        "executable": sys.executable,
        "gpu": gpu(),
        "cuda": cuda(),
        "estimators": sorted(RECIPES),
    }


def planned(name: str) -> "tuple[int, Plan]":
    """Return the number of parameters of the model called `name`, and its plan."""
    import numpy as np

    from fgnumba.kernels.rules.directions import RANK1
    from fgnumba.kernels.rules.philox import STREAM
    from fgnumba.layers import Perturbation
    from fgnumba.layers.losses import SoftmaxCrossEntropy
    from fgnumba.model.plan import Plan
    from fgnumba.runs.assembly import written_model
    from fgnumba.runs.configuration import RunConfig
    from fgnumba.runs.presets import model_from

    tables, where = written_model(RunConfig(model=name), CLASSES)
    model = model_from(tables, CLASSES, where, IMAGE, device="cpu")
    perturbation = Perturbation(RANK1, 1, np.zeros(1, STREAM))
    return model.parameter_count, Plan(model, BATCH, perturbation, SoftmaxCrossEntropy(), training=True)


def cuda() -> str:
    """Return the GPU that models run on with ``device="cuda"``, or why there is none."""
    from fgnumba import device
    from fgnumba.errors import DeviceError

    try:
        return device.cuda().description
    except DeviceError as error:
        return str(error).removeprefix("device: ")


def gpu() -> str:
    """Return the names of NVIDIA GPUs, as their driver's own tool knows them, or ``none``."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return "none"
    command = [tool, "--query-gpu=name", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return "none"
    return ", ".join(done.stdout.split("\n")).strip(", ") or "none"
