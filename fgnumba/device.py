"""Find a device, the CPU or a GPU, by its name."""

import os
from collections.abc import Callable
from typing import TYPE_CHECKING

from fgnumba.errors import ConfigError, DeviceError, did_you_mean, shown
from fgnumba.kernels.devices.device import CPU, Cpu, Device
from fgnumba.kernels.emit.precision import AUTO, FLOAT32
from fgnumba.validation import flag

if TYPE_CHECKING:
    from fgnumba.kernels.cuda.driver import Driver

__all__ = ["cpu", "cuda", "resolve"]

NAMES = ("auto", "cpu", "cuda")
OVERRIDE = "FGNUMBA_DEVICE"
"""The environment variable that says which device ``auto`` stands for."""


def resolve(name: str | Device, precision: str = AUTO, tangent_precision: str | None = None) -> Device:
    """Return the device that `name` stands for.

    Parameters
    ----------
    name : str or Device
        ``cpu``, ``cuda`` or ``auto``. ``auto`` stands for the device that the environment variable ``FGNUMBA_DEVICE``
        names; if that is not set, for the GPU if the machine has one, and else for the CPU. A device, such as a GPU
        that :func:`cuda` returned with its own settings, stands for itself.
    precision : str, optional
        The precision of matrix products, one of those that the device has: see :func:`cpu` and :func:`cuda`. By default
        ``auto``, which on a GPU stands for ``float32``.
    tangent_precision : str, optional
        The precision of the products of tangents. By default it is `precision`.

    Returns
    -------
    Device
        The device.

    Raises
    ------
    DeviceError
        If the name is unknown, or the machine does not have the device or its processor not the precision. Only
        ``auto`` falls back to the CPU.
    ConfigError
        If the device has no such precision, or `name` is a device, which has its own, and a precision is given.

    Examples
    --------
    >>> import fgnumba as fg
    >>> fg.device.resolve("cpu").name
    'cpu'
    """
    if isinstance(name, Device):
        if precision != AUTO or tangent_precision is not None:
            raise ConfigError("precision: the device is no name, and has its own")
        if isinstance(name, Cpu):
            # A copy of a model may have come from another processor.
            name.check()
        return name
    source = "device"
    if isinstance(name, str) and name == "auto" and os.environ.get(OVERRIDE):
        source, name = OVERRIDE, os.environ[OVERRIDE]
    if not isinstance(name, str) or name not in NAMES:
        raise DeviceError(f"{source}: unknown device {shown(name)}{did_you_mean(str(name), NAMES)}")
    if name != "cpu":
        found = (FLOAT32 if given == AUTO else given for given in (precision, tangent_precision))
        try:
            return _checked("cuda", cuda, *found)
        except DeviceError:
            if name == "cuda":
                raise
    return _checked("cpu", cpu, precision, tangent_precision)


def _checked(name: str, made: Callable[..., Device], *precisions: str | None) -> Device:
    """Return the device that a function makes with precisions; the error about one that it lacks names the device."""
    try:
        return made(*precisions)
    except ConfigError as error:
        raise ConfigError(f"device {name}: {error}") from None


def cpu(precision: str = AUTO, tangent_precision: str | None = None) -> Device:
    """Return the processor, with the precision given.

    A bfloat16 is a float32 with 8 bits of significand in place of 24. Some processors multiply them faster (AMX,
    AVX512-BF16, Arm's BFMMLA). A float32 is the sum of three, x = x₀ + x₁ + x₂, each the rounding of what the ones
    before it leave. So are the factors of a product x w represented, and its terms are summed in float32:

    ========  =============================================================  ========================
    float32   x w                                                            no rounding of a factor
    bf16x3    x₀w₀ + x₀w₁ + x₁w₀ + x₁w₁ + x₀w₂ + x₂w₀                        2⁻²⁴, as float32
    bf16x2    x₀w₀ + x₀w₁ + x₁w₀                                             2⁻¹⁷
    bf16      x₀w₀                                                           2⁻⁸
    ========  =============================================================  ========================

    The last column is the largest relative error of a factor. Parameters, biases, activations, losses, updates and
    directions are float32 in any case. So are the products inside attention, of channels by channels, of eligibility
    traces, of Laplacians, and of inputs with rank-1 directions.

    Results in ``float32`` do not depend on which of these a processor multiplies. In the others they are the same bits
    for a precision and an instruction set, for any number of threads.

    Parameters
    ----------
    precision : str, optional
        The precision of the primal's products: ``float32``, ``bf16x3``, ``bf16x2`` or ``bf16``. By default ``auto``:
        the one that the environment variable ``FGNUMBA_PRECISION`` names; if that is not set, the fastest on this
        processor whose JVPs are within 1e-5 ‖∇f‖ ‖v‖ of the exact ones, which is ``float32`` where no other is faster.
    tangent_precision : str, optional
        The precision of the products of tangents. By default it is `precision`.

    Returns
    -------
    Device
        The processor, for the argument ``device`` of a model.

    Raises
    ------
    ConfigError
        If a precision is unknown.
    DeviceError
        If the processor's instruction set does not multiply bfloat16, and a precision needs that.

    Examples
    --------
    >>> import fgnumba as fg
    >>> fg.device.cpu("float32")
    cpu(precision='float32')
    >>> model = fg.Sequential([fg.Dense(10)], input_shape=64, device=fg.device.cpu("float32"))

    Source: G. Henry, P. T. P. Tang, A. Heinecke, Leveraging the bfloat16 artificial intelligence datatype for
    higher-precision computations, arXiv 1904.06376, section 3.
    """
    device = Cpu(precision, tangent_precision)
    # There is one object for what most models run on.
    device = CPU if device == CPU else device
    device.check()
    return device


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
