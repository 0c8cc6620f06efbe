"""``fgtrain info``."""

import json
import platform
import shutil
import subprocess
import sys
from typing import Any

import click


@click.command()
@click.option("--model", metavar="NAME|FILE.toml", help="Also the model's layers and size, on the digits.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def info(model: str | None, as_json: bool) -> None:
    """Print versions, processor, vector width, threads, cache folder and GPU."""
    facts = gather() | ({} if model is None else describe(model))
    if as_json:
        click.echo(json.dumps(facts))
        return
    width = max(map(len, facts))
    for name, value in facts.items():
        shown = ", ".join(map(str, value)) if isinstance(value, list) else value
        click.echo(f"{name.replace('_', ' '):{width}}  {shown}")


def gather() -> dict[str, Any]:
    """Return what there is to know about this installation and machine."""
    import llvmlite
    import numba
    import numpy as np

    from fgnumba import __version__
    from fgnumba.kernels import vector
    from fgnumba.kernels.cache import cache_folder
    from fgnumba.kernels.threads import thread_count, try_threading_layer

    isa = vector.instruction_set()
    return {
        "fgnumba": __version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "numba": numba.__version__,
        "llvmlite": llvmlite.__version__,
        "platform": platform.platform(),
        "processor": str(llvmlite.binding.get_host_cpu_name()),
        "vector": f"{isa.name}, {isa.lanes} float32 lanes",
        "vector_executable": list(vector.executable()),
        "threads": thread_count(),
        "threading_layer": try_threading_layer(),
        "cache_folder": str(cache_folder()),
        "executable": sys.executable,
        "gpu": gpu(),
    }


def describe(name: str) -> dict[str, Any]:
    """Return the layers and the number of parameters of a model for the embedded digits."""
    from fgnumba.cli.train import build
    from fgnumba.configuration import RunConfig
    from fgnumba.datasets import load

    _, model = build(RunConfig(model=name), load("digits"))
    return {"model": name, "layers": list(map(str, model.layers)), "parameters": model.parameter_count}


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
