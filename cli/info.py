"""``fgtrain info``: versions, the machine, and the plan of a model."""

import json
import platform
import shutil
import subprocess
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from fgnumba.cli import completion
from fgnumba.cli.message import show
from fgnumba.cli.options import examples, trust_the_user
from fgnumba.cli.sections import Sectioned

if TYPE_CHECKING:
    from fgnumba.model.plan import Plan


IMAGE, CLASSES, BATCH = (28, 28, 1), 10, 64
"""The input shape, number of classes and batch size that the plan of a model is shown for."""
WINDOW, SYMBOLS = (64,), 65
"""The shape of a window of a text, and the number of its different symbols; the batch size is that of its runs."""

EXTRAS = (
    *("scikit-learn", "pandas", "polars", "pyarrow", "narwhals", "torch", "jax", "onnx", "onnxruntime"),
    *("tensorboard", "tensorboardX", "mlflow", "mlflow-skinny", "wandb", "trackio", "optuna", "joblib"),
    "numba-cuda",
)
"""Packages that fgnumba can work with and does not require: data frames, other frameworks, loggers, searches."""


@click.command(
    cls=Sectioned,
    epilog=examples(
        "fgtrain info",
        "fgtrain info --model cnn    # the kernel calls of a training step",
        "fgtrain info --json",
    ),
)
@click.option(
    "--model",
    shell_complete=completion.names(completion.MODELS, or_file=True),
    metavar="NAME|FILE.toml",
    help="Also print the plan of this model (logreg, mlp, cnn, resnet, vgg, char-lstm, or a TOML file): each operation "
    "of a step, its shape, its buffers and its number of multiply-adds.",
)
@click.option("--json", "as_json", is_flag=True, help="Print all of it as one JSON object.")
def info(model: str | None, as_json: bool) -> None:
    """Print the versions, the machine and the gradient estimators.

    Shown are the versions, the processor and its vector width, the precision of products that auto stands for and why,
    which of its instruction sets multiply bfloat16, the number of threads and why it was chosen, the folder of cached
    kernels, the GPU, the names of all gradient estimators, the estimators, losses and data sets that other
    packages add (entry points), and the optional packages that are installed.

    A plan is computed for images of shape 28x28x1 in 10 classes, batches of 64, and one rank-1 direction; of char-lstm,
    for windows of 64 characters of which 65 are different, and batches of 32.
    """
    facts, plan = gather(), None
    if model is not None:
        trust_the_user()
        count, plan = planned(model)
        facts |= {"model": model, "parameters": count}
    if as_json:
        rows = {} if plan is None else {"plan": [asdict(row) for row in plan.rows]}
        show(json.dumps(facts | rows))
        return
    width = max(map(len, facts))
    lines = []
    for name, value in facts.items():
        shown = (", ".join(value) or "none") if isinstance(value, list) else value
        lines.append(f"{name.replace('_', ' '):{width}}  {shown}")
    show("\n".join(lines if plan is None else [*lines, f"\n{plan}"]))


def gather() -> dict[str, Any]:
    """Return the versions, the machine's properties and the estimators, by the names that ``--json`` prints."""
    import numpy as np

    from fgnumba import __version__
    from fgnumba.estimators import RECIPES
    from fgnumba.kernels.devices import precision, tuning
    from fgnumba.kernels.emit import vector
    from fgnumba.kernels.machine import numba_settings
    from fgnumba.kernels.machine.cache import cache_folder
    from fgnumba.kernels.machine.threads import chosen

    # Imported after the library, which reports a wrong setting of Numba on one line.
    import llvmlite  # isort: skip
    import numba  # isort: skip

    isa, threads = vector.instruction_set(), chosen()
    return {
        "fgnumba": __version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "numba": numba.__version__,
        "llvmlite": llvmlite.__version__,
        "compiler": numba_settings.problem() or "works",
        "platform": platform.platform(),
        "processor": str(llvmlite.binding.get_host_cpu_name()),
        "vector": f"{isa.name}, {isa.lanes} float32 lanes",
        "tile": tuning.described(isa),
        "vector_executable": list(vector.executable()),
        "precision": precision.explained(isa),
        "multiplies_bfloat16": [name for name in vector.executable() if name in vector.MULTIPLYING],
        "amx": amx(),
        "threads": threads.count,
        "threads_because": threads.reason,
        "cache_folder": str(cache_folder()),
        "executable": sys.executable,
        "gpu": gpu(),
        "cuda": cuda(),
        "estimators": sorted(RECIPES),
        "entry_points": entry_points(),
        "extras": extras(),
    }


def entry_points() -> list[str]:
    """Return the estimators, losses and data sets of other packages, each with its package; none is imported."""
    from fgnumba.objects.code import GROUPS, installed, package_of

    return [
        f"{kind} {point.name} of {package_of(point)}"
        for group, kind in GROUPS.items()
        for name, point in installed(group).items()
        if ":" in name
    ]


def extras() -> list[str]:
    """Return the optional packages that are installed, each with its version; none of them is imported."""
    from importlib.metadata import PackageNotFoundError, version

    found = []
    for name in EXTRAS:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    return found


def planned(name: str) -> "tuple[int, Plan]":
    """Return the number of parameters of a model, and its plan.

    Parameters
    ----------
    name : str
        A model's name, such as ``cnn``, or the path of a TOML file.
    """
    import numpy as np

    from fgnumba.kernels.rules.directions import RANK1
    from fgnumba.kernels.rules.philox import STREAM
    from fgnumba.layers import Perturbation
    from fgnumba.layers.losses import SoftmaxCrossEntropy
    from fgnumba.model.plan import Plan
    from fgnumba.runs.assembly import written_model
    from fgnumba.runs.configuration import RunConfig
    from fgnumba.runs.presets import TEXT_MODELS, model_from
    from fgnumba.runs.text_settings import of_kind, reads_windows

    shape: tuple[int, ...] = IMAGE
    classes, batch = CLASSES, BATCH
    if name in TEXT_MODELS:
        shape, classes, batch = WINDOW, SYMBOLS, of_kind(reads_windows({"model": name})).batch_size
    tables, where = written_model(RunConfig(model=name), classes)
    model = model_from(tables, classes, where, shape, device="cpu")
    perturbation = Perturbation(RANK1, 1, np.zeros(1, STREAM))
    return model.parameter_count, Plan(model, batch, perturbation, SoftmaxCrossEntropy(), training=True)


def amx() -> str:
    """Return whether products can use AMX's tiles, or why not."""
    from fgnumba.kernels.emit import vector
    from fgnumba.kernels.emit.tile_permission import refusal

    if not vector.host_features().issuperset(vector.INSTRUCTION_SETS["amx"].features):
        return "not in this processor"
    return refusal() or "usable"


def cuda() -> str:
    """Return the GPU that models run on with ``device="cuda"``, or why there is none."""
    from fgnumba import device
    from fgnumba.errors import DeviceError

    try:
        return device.cuda().description
    except DeviceError as error:
        return str(error).removeprefix("device: ")


def gpu() -> str:
    """Return the names of the NVIDIA GPUs that ``nvidia-smi`` lists, or ``none``."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return "none"
    command = [tool, "--query-gpu=name", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return "none"
    return ", ".join(done.stdout.split("\n")).strip(", ") or "none"
