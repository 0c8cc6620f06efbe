"""Find a device, the CPU or a GPU, by its name."""

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
"""The environment variable that says which device ``auto`` stands for."""


def resolve(name: str | Device) -> Device:
    """Return the device that `name` stands for.

    Parameters
    ----------
    name : str or Device
        ``cpu``, ``cuda`` or ``auto``. ``auto`` stands for the device that the environment variable ``FGNUMBA_DEVICE``
        names; if that is not set, for the GPU if the machine has one, and else for the CPU. A device, such as a GPU
        that :func:`cuda` returned with its own settings, stands for itself.

    Returns
    -------
    Device
        The device.

    Raises
    ------
    DeviceError
        If the name is unknown, or the machine does not have the device. Only ``auto`` falls back to the CPU.

    Examples
    --------
    >>> import fgnumba as fg
    >>> fg.device.resolve("cpu").name
    'cpu'
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
    """Return the machine's GPU, with the settings given.

    Parameters
    ----------
    precision : str, optional
        The number format in which matrix products multiply: ``float32``, ``tf32`` or ``bf16``. The products are
        summed in float32 in each case. By default ``float32``.
    tangent_precision : str, optional
        The number format of the products of tangents. By default it is `precision`.
    graph : bool, optional
        Whether a training step is captured as one CUDA graph, which is then replayed. If not, every kernel is launched
        by itself. By default True.

    Returns
    -------
    Device
        The GPU, for the argument ``device`` of a model.

    Raises
    ------
    DeviceError
        If the GPU, its driver or a Python package for it is missing. The message says which.
    ConfigError
        If a precision is unknown, or `graph` is neither true nor false.
    """
    from fgnumba.kernels.devices.gpu import Gpu

    captured = flag("graph", graph)
    return Gpu(_driver(), precision, tangent_precision, captured)


def _driver() -> "Driver":
    from fgnumba.kernels.cuda.cuda_driver import cuda_driver

    return cuda_driver()
