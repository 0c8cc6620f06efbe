"""The GPU that a measurement ran on: its properties, and its peak rates by the data sheet."""

import platform
import re
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

import numba
import numpy as np

import fgnumba
from fgnumba.bench.revisions.compare import git
from fgnumba.errors import ConfigError
from fgnumba.kernels.cuda.cuda_driver import CudaDriver, Driver

PACKAGES = ("numba-cuda", "cuda-bindings", "nvidia-cuda-nvcc", "nvidia-nvjitlink")


class Rates(NamedTuple):
    """Peak rates of a GPU in floating-point operations per second, or None where one is not known.

    They are that of float32 without tensor cores, and that of bf16 with tensor cores and without sparsity.
    """

    float32: float | None
    bf16: float | None


DATA_SHEETS = {
    r"\bH200(?! NVL)": Rates(67e12, 989.4e12),
    r"\bH100\b.*HBM3": Rates(67e12, 989.4e12),
    r"\bA100\b": Rates(19.5e12, 312e12),
}
"""Rates by a pattern of the GPU's name. Source: NVIDIA's data sheets of the H200, H100 (SXM) and A100."""


def rates(name: str, capability: tuple[int, int], processors: int, clock: float | None) -> Rates:
    """Return the peak rates of a GPU: those of its data sheet, else float32's from its clock.

    Parameters
    ----------
    name : str
        Name of the GPU.
    capability : tuple of int
        Its compute capability, such as (9, 0).
    processors : int
        Number of its multiprocessors.
    clock : float or None
        Its highest clock rate in Hz, if it is known.
    """
    for pattern, known in DATA_SHEETS.items():
        if re.search(pattern, name):
            return known
    # Float32 results per clock and multiprocessor. Source: CUDA C++ Programming Guide, "Arithmetic Instructions".
    lanes = 64 if capability == (8, 0) else 128
    return Rates(None if clock is None else 2.0 * lanes * processors * clock, None)


def card(driver: Driver) -> dict[str, Any]:
    """Return the properties of a GPU, its driver and its rates as JSON values.

    Parameters
    ----------
    driver : Driver
        The driver of the GPU.
    """
    cuda, clock = _asked(driver)
    peaks = rates(driver.name, driver.capability, driver.processors, clock)
    return {
        "name": driver.name,
        "capability": ".".join(map(str, driver.capability)),
        "processors": driver.processors,
        "clock_hz": clock,
        "float32_flops": peaks.float32,
        "bf16_flops": peaks.bf16,
        "driver": _driver_version(),
        "cuda": cuda,
    }


def _asked(driver: Driver) -> tuple[str | None, float | None]:
    """Return the CUDA version that the driver supports, and the GPU's highest clock rate in Hz."""
    if not isinstance(driver, CudaDriver):
        return None, None
    from cuda.bindings import driver as api

    _, number = api.cuDriverGetVersion()
    _, device = api.cuDeviceGet(0)
    status, kilohertz = api.cuDeviceGetAttribute(
        api.CUdevice_attribute.CU_DEVICE_ATTRIBUTE_CLOCK_RATE, device
    )
    known = status == api.CUresult.CUDA_SUCCESS and kilohertz > 0
    return f"{number // 1000}.{number % 1000 // 10}", 1e3 * kilohertz if known else None


def _driver_version() -> str | None:
    try:
        text = Path("/proc/driver/nvidia/version").read_text()
    except OSError:
        return None
    match = re.search(r"\s(\d+\.\d+(?:\.\d+)*)\s", text)
    return match[1] if match else None


def versions() -> dict[str, str | None]:
    """Return the versions of the packages, and the commit of the checkout."""
    found: dict[str, str | None] = {
        "fgnumba": fgnumba.__version__,
        "commit": _commit(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "numba": numba.__version__,
        "numpy": np.__version__,
    }
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = None
    return found


def _commit() -> str | None:
    try:
        changed = git("status", "--porcelain", "--untracked-files=no")
        return git("rev-parse", "HEAD") + (" and changes" if changed else "")
    except ConfigError:
        return None
