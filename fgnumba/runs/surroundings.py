"""Where a run took place: versions and processor, which its config.toml holds and its report shows."""

import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from fgnumba.device import cpu
from fgnumba.errors import DeviceError
from fgnumba.kernels.devices.precision import described
from fgnumba.kernels.emit.vector import MULTIPLYING, OVERRIDE
from fgnumba.model.graph import Graph
from fgnumba.runs.configuration import RunConfig

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


def check_multiplies(folder: Path, config: RunConfig, facts: Mapping[str, Any]) -> None:
    """Raise DeviceError unless this processor has the precision of a run that continues on the CPU.

    Parameters
    ----------
    folder : Path
        The run folder, for the message.
    config : RunConfig
        The run's settings, with a new precision if the user gave one.
    facts : mapping
        What its config.toml says of it, among this the processor on which it began.
    """
    if config.device != "cpu":
        return
    try:
        cpu(config.precision, config.tangent_precision)
    except DeviceError:
        names = str(facts.get("processor", "")).replace("-twin", "").split(", ")
        began = next((name for name in names if name in MULTIPLYING), None)
        precision = described(config.precision, config.tangent_precision or config.precision)
        raise DeviceError(
            f"{folder}: the products of this run are in {precision}{f', by {began}' if began else ''}, which the "
            f"processor does not have: --precision float32 continues it with other bits, "
            f"{OVERRIDE}={began or MULTIPLYING[0]}-twin slowly{' with the same' if began else ''}"
        ) from None


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
