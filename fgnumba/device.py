"""Devices by name."""

import os
from typing import TYPE_CHECKING

from fgnumba.errors import DeviceError, did_you_mean, shown
from fgnumba.kernels.devices.device import CPU, Device
from fgnumba.validation import flag

if TYPE_CHECKING:
    from fgnumba.kernels.cuda.driver import Driver

__all__ = ["cuda", "resolve"]

NAMES = ("auto", "cpu", "cuda")
OVERRIDE = "FGNUMBA_DEVICE"
"""Environment variable that says what ``auto`` stands for."""


def resolve(name: str | Device) -> Device:
    """Return the device that `name` stands for.

    ``auto`` is what the environment variable ``FGNUMBA_DEVICE`` says, else a GPU where there is one, else the CPU.

    A :class:`fgnumba.kernels.devices.gpu.Gpu` stands for itself: one of other precision, or without graphs.

    Raises
    ------
    DeviceError
        The name is unknown, or the device is not there: only ``auto`` chooses.
    """
    if isinstance(name, Device):
        return name
    source = "device"
    if isinstance(name, str) and name == "auto" and os.environ.get(OVERRIDE):
        source, name = OVERRIDE, os.environ[OVERRIDE]
    if not isinstance(name, str) or name not in NAMES:
        raise DeviceError(f"{source}: unknown device {shown(name)}{did_you_mean(str(name), NAMES)}")
    if name == "cuda":
        return cuda()
    if name == "auto":
        try:
            return cuda()
        except DeviceError:
            return CPU
    return CPU


def cuda(precision: str = "float32", tangent_precision: str | None = None, graph: bool = True) -> Device:
    """Return the machine's GPU.

    Parameters
    ----------
    precision : of products: ``float32``, ``tf32`` or ``bf16``; their sums are float32.
    tangent_precision : of the tangents' products; None: the same.
    graph : whether a step is captured as one CUDA graph and replayed; else every kernel is launched by itself.

    Raises
    ------
    DeviceError
        There is no GPU, no driver, or no package for it; the message says which.
    ConfigError
        The precision is unknown, or `graph` neither true nor false.
    """
    from fgnumba.kernels.devices.gpu import Gpu

    captured = flag("graph", graph)
    return Gpu(_driver(), precision, tangent_precision, captured)


def _driver() -> "Driver":
    from fgnumba.kernels.cuda.cuda_driver import cuda_driver

    return cuda_driver()
