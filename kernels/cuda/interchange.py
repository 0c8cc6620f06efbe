"""Arrays on a GPU, exchanged with other libraries without a copy: CUDA array interface (version 3) and DLPack.

NumPy writes the capsules that are given, cuda-core reads those that are taken, and the one of the simulated GPU, whose
memory is the host's, NumPy reads. What cuda-core does only where there is a driver is done here for both: it asks the
driver about each address before it gives a capsule or reads the CUDA array interface. It also refuses version 2 of that
interface, which PyTorch has.

Sources: numba.readthedocs.io, CUDA Array Interface; dmlc.github.io/dlpack, C API; nvidia.github.io, cuda.core,
StridedMemoryView.
"""

import ctypes
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from fgnumba.errors import DeviceError, DtypeError
from fgnumba.kernels.cuda.driver import Driver
from fgnumba.kernels.cuda.memory import DeviceArray

_NUMBERS = "iuf"
_WITH_STREAM, _LEGACY_STREAM = 3, 1
_NAME = b"dltensor"


class _Head(ctypes.Structure):
    """The beginning of DLPack's ``DLManagedTensor``."""

    _fields_ = (("data", ctypes.c_void_p), ("device_type", ctypes.c_int32), ("device_id", ctypes.c_int32))


_pointer = ctypes.pythonapi.PyCapsule_GetPointer
_pointer.restype, _pointer.argtypes = ctypes.c_void_p, (ctypes.py_object, ctypes.c_char_p)


class _Lent:
    """Shows an array's memory to NumPy, as if it were the host's, and keeps it alive as long as NumPy does."""

    def __init__(self, array: DeviceArray) -> None:
        self._array = array

    @property
    def __array_interface__(self) -> dict[str, Any]:
        array = self._array
        return {
            "shape": array.shape,
            "typestr": array.dtype.str,
            "data": (array.address, False),
            "version": 3,
        }


def capsule(array: DeviceArray) -> Any:
    """Return an array as a DLPack capsule, which keeps the array alive until its taker, or else itself, is gone."""
    # NumPy reads no element. Its capsule has a destructor and a deleter in C, which may run at any time: while an
    # exception is raised, or in a thread that Python does not know. Functions of Python could not.
    found = np.asarray(_Lent(array)).__dlpack__()
    head = _Head.from_address(_pointer(found, _NAME))
    head.device_type, head.device_id = array.driver.dlpack_device, array.driver.number
    return found


def adopt(x: Any, driver: Driver) -> DeviceArray | None:
    """Return an array of another library as one of ours, which shares its memory.

    Parameters
    ----------
    x : object
        The array.
    driver : Driver
        Driver of the GPU.

    Returns
    -------
    DeviceArray or None
        The array; None where `x` is no array on a GPU.

    Raises
    ------
    DeviceError
        The array lies on another GPU, or is not C-contiguous.
    DtypeError
        Its elements are not real numbers.
    """
    if isinstance(x, DeviceArray):
        return x
    if isinstance(x, np.ndarray):
        return None
    # DLPack first: it says which stream is to wait for what is being written.
    device = getattr(x, "__dlpack_device__", None)
    if device is not None and int(device()[0]) == driver.dlpack_device:
        return _of_dlpack(x, int(device()[1]), driver)
    interface = getattr(x, "__cuda_array_interface__", None)
    return None if interface is None else _of_interface(x, interface, driver)


def _of_interface(x: Any, interface: dict[str, Any], driver: Driver) -> DeviceArray:
    shape, dtype = tuple(interface["shape"]), np.dtype(interface["typestr"])
    strides = interface.get("strides")
    # A stride that is no whole number of elements stays one that is not contiguous.
    _check(shape, None if strides is None else [s / dtype.itemsize for s in strides], type(x).__name__)
    if dtype.kind not in _NUMBERS or not dtype.isnative:
        raise DtypeError(
            f"an array on the GPU has dtype {dtype}; real numbers are required, in this machine's byte order"
        )
    if interface.get("mask") is not None:
        raise DtypeError(f"a {type(x).__name__} on the GPU has a mask; an array without one is required")
    driver.check_place(int(interface["data"][0]))
    if interface.get("stream") is not None:
        driver.wait_for_stream(int(interface["stream"]))
    elif interface.get("version", 0) < _WITH_STREAM:
        driver.wait_for_stream(_LEGACY_STREAM)
    return DeviceArray(int(interface["data"][0]), shape, dtype, x, driver)


def _of_dlpack(x: Any, number: int, driver: Driver) -> DeviceArray:
    if number != driver.number:
        raise DeviceError(f"an array lies on GPU {number}; GPU {driver.number} is required")
    try:
        found = driver.view(x)
        dtype = found.dtype
    except (BufferError, NotImplementedError, TypeError, RuntimeError) as error:
        raise DtypeError(
            f"a {type(x).__name__} on the GPU cannot be read: {error}; an array of real numbers is required"
        ) from None
    if dtype is None or dtype.kind not in _NUMBERS:
        raise DtypeError(f"an array on the GPU has dtype {dtype}; real numbers are required")
    _check(found.shape, found.strides, type(x).__name__)
    return DeviceArray(found.address, found.shape, dtype, found.owner, driver)


def _check(shape: tuple[int, ...], strides: Sequence[float] | None, name: str) -> None:
    """Raise DeviceError unless an array is C-contiguous; `strides` are in elements."""
    if strides is None or math.prod(shape) == 0:
        return
    expected = 1
    for size, stride in zip(reversed(shape), reversed(strides), strict=True):
        if size > 1 and stride != expected:
            raise DeviceError(
                f"a {name} of shape {shape} is not C-contiguous on the GPU; a contiguous copy is required"
            )
        expected *= size
