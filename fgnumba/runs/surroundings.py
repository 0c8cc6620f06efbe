"""Where a run took place: versions and processor, which its config.toml holds and its report shows."""

import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from fgnumba.model.graph import Graph

PACKAGES = ("numpy", "numba")
NAMES = ("version", "python", *PACKAGES, "processor")
"""Keys of the ``[run]`` table that say where a run took place."""


def surroundings(model: Graph, own_version: str) -> dict[str, Any]:
    """Return the versions, and the processor that a model runs on, by the names in `NAMES`.

    Parameters
    ----------
    model : Graph
        The model.
    own_version : str
        Version of fgnumba.
    """
    found = {name: _version(name) for name in PACKAGES}
    return {
        "version": own_version,
        "python": platform.python_version(),
        **{name: text for name, text in found.items() if text is not None},
        "processor": _processor(model),
    }


def _version(package: str) -> str | None:
    """Return the version of a package, or None in a program whose packages carry none."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _processor(model: Graph) -> str:
    device = model.processor
    if not device.by_parts:
        return device.description
    from llvmlite.binding import get_host_cpu_name

    threads = device.threads
    return f"{get_host_cpu_name()}, {device.isa.name}, {threads} thread{'' if threads == 1 else 's'}"
