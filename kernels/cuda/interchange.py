"""Arrays on a GPU, exchanged with other libraries without a copy: CUDA array interface (version 3) and DLPack.

Sources: numba.readthedocs.io, CUDA Array Interface; dmlc.github.io/dlpack, C API.
"""

import ctypes
import math
from typing import Any

import numpy as np

from fgnumba.errors import DeviceError, DtypeError
from fgnumba.kernels.cuda.driver import Driver
from fgnumba.kernels.cuda.memory import DeviceArray

_CODES = {"i": 0, "u": 1, "f": 2}
_KINDS = {code: kind for kind, code in _CODES.items()}
_WITH_STREAM, _LEGACY_STREAM = 3, 1
_NAME, _USED = b"dltensor", b"used_dltensor"


class _Tensor(ctypes.Structure):
    _fields_ = (
        ("data", ctypes.c_void_p),
        ("device_type", ctypes.c_int32),
        ("device_id", ctypes.c_int32),
        ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    )


class _Managed(ctypes.Structure):
    pass


_Deleter = ctypes.CFUNCTYPE(None, ctypes.POINTER(_Managed))
_Managed._fields_ = (("tensor", _Tensor), ("context", ctypes.c_void_p), ("deleter", _Deleter))

_api = ctypes.pythonapi
_api.PyCapsule_New.restype = ctypes.py_object
_api.PyCapsule_New.argtypes = (ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p)
_api.PyCapsule_GetPointer.restype = ctypes.c_void_p
_api.PyCapsule_GetPointer.argtypes = (ctypes.py_object, ctypes.c_char_p)
_api.PyCapsule_SetName.argtypes = (ctypes.py_object, ctypes.c_char_p)

_lent: dict[int, tuple[Any, ...]] = {}
"""What a capsule points to, by the address of its structure; it must live until the capsule's taker gives it back."""


@_Deleter
def _give_back(managed: Any) -> None:
    _lent.pop(ctypes.addressof(managed.contents), None)


def capsule(array: DeviceArray) -> Any:
    """Return an array as a DLPack capsule. A capsule that nobody takes keeps its array until the process ends."""
    sizes = (ctypes.c_int64 * array.ndim)(*array.shape)
    managed = _Managed()
    managed.tensor = _Tensor(
        array.address,
        array.driver.dlpack_device,
        array.driver.number,
        array.ndim,
        _CODES[array.dtype.kind],
        8 * array.dtype.itemsize,
        1,
        sizes,
        None,
        0,
    )
    managed.deleter = _give_back
    address = ctypes.addressof(managed)
    _lent[address] = (managed, sizes, array)
    return _api.PyCapsule_New(address, _NAME, None)


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
    _check(shape, None if strides is None else [s // dtype.itemsize for s in strides], type(x).__name__)
    if dtype.kind not in _CODES:
        raise DtypeError(f"an array on the GPU has dtype {dtype}; real numbers are required")
    driver.check_place(int(interface["data"][0]))
    if interface.get("stream") is not None:
        driver.wait_for_stream(int(interface["stream"]))
    elif interface.get("version", 0) < _WITH_STREAM:
        driver.wait_for_stream(_LEGACY_STREAM)
    return DeviceArray(int(interface["data"][0]), shape, dtype, x, driver)


def _of_dlpack(x: Any, number: int, driver: Driver) -> DeviceArray:
    if number != driver.number:
        raise DeviceError(f"an array lies on GPU {number}; GPU {driver.number} is required")
    found = x.__dlpack__() if driver.stream is None else x.__dlpack__(stream=driver.stream)
    address = _api.PyCapsule_GetPointer(found, _NAME)
    managed = _Managed.from_address(address)
    tensor = managed.tensor
    shape = tuple(tensor.shape[i] for i in range(tensor.ndim))
    strides = [tensor.strides[i] for i in range(tensor.ndim)] if tensor.strides else None
    if tensor.code not in _KINDS or tensor.lanes != 1:
        raise DtypeError(f"an array on the GPU has DLPack's type {tensor.code}; real numbers are required")
    _check(shape, strides, type(x).__name__)
    _api.PyCapsule_SetName(found, _USED)
    dtype = np.dtype(f"{_KINDS[tensor.code]}{tensor.bits // 8}")
    at = int(tensor.data) + int(tensor.byte_offset)
    return DeviceArray(at, shape, dtype, _Taken(managed), driver)


def _check(shape: tuple[int, ...], strides: list[int] | None, name: str) -> None:
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


class _Taken:
    """Holds the array of a DLPack capsule, and gives it back when nothing refers to this object any more."""

    def __init__(self, managed: Any) -> None:
        self._managed = managed

    def __del__(self) -> None:
        if self._managed.deleter:
            self._managed.deleter(ctypes.byref(self._managed))
