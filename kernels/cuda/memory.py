"""Arrays on a GPU: an address, a shape and a dtype. Only kernels and copies read and write their elements."""

import math
import weakref
from typing import Any

import numpy as np
import numpy.typing as npt

from fgnumba.kernels.cuda.driver import Driver
from fgnumba.objects.bound import Bound


class DeviceArray(Bound):
    """A C-contiguous array on a GPU.

    Parts along the first axis, and the array under another shape, share its memory. Other libraries take the array
    without a copy through ``__cuda_array_interface__`` (version 3) or DLPack, which wait for what was asked of the GPU.

    Parameters
    ----------
    address : int
        Address of the first element.
    shape : tuple of int
        Shape.
    dtype : numpy.dtype
        Type of the elements.
    owner : object
        What keeps the memory alive.
    driver : Driver
        Driver of the GPU.
    """

    def __init__(
        self, address: int, shape: tuple[int, ...], dtype: np.dtype[Any], owner: Any, driver: Driver
    ) -> None:
        self.address, self.shape, self.dtype = address, shape, dtype
        self._owner, self._driver = owner, driver

    @classmethod
    def zeros(
        cls, driver: Driver, shape: tuple[int, ...], dtype: npt.DTypeLike = np.float32
    ) -> "DeviceArray":
        """Return an array of zeros.

        Parameters
        ----------
        driver : Driver
            Driver of the GPU.
        shape : tuple of int
            Shape.
        dtype : dtype
            Type of the elements.

        Returns
        -------
        DeviceArray
            The array.

        Raises
        ------
        DeviceError
            There is no room for it.
        """
        kind = np.dtype(dtype)
        # Tiles load 16 bytes at a time: the last of them may begin in the array and end past it.
        address = driver.allocate(-(-math.prod(shape) * kind.itemsize // 16) * 16)
        owner = _Owner()
        weakref.finalize(owner, driver.free, address).atexit = False
        return cls(address, tuple(map(int, shape)), kind, owner, driver)

    @property
    def driver(self) -> Driver:
        """The driver of the GPU that the array is on."""
        return self._driver

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Number of bytes."""
        return self.size * self.dtype.itemsize

    def __len__(self) -> int:
        return self.shape[0]

    def reshape(self, *shape: Any) -> "DeviceArray":
        """Return the same elements under another shape; -1 stands for the axis that follows from the others."""
        sizes = list(shape[0] if len(shape) == 1 and isinstance(shape[0], (tuple, list)) else shape)
        if -1 in sizes:
            known = -math.prod(sizes)
            sizes[sizes.index(-1)] = self.size // known if known else 0
        if math.prod(sizes) != self.size:
            raise ValueError(f"an array of shape {self.shape} has no shape {tuple(sizes)}")
        return DeviceArray(self.address, tuple(sizes), self.dtype, self._owner, self._driver)

    def __getitem__(self, key: int | slice) -> "DeviceArray":
        if isinstance(key, slice):
            start, stop, step = key.indices(self.shape[0])
            if step != 1:
                raise ValueError("an array on a GPU is cut in steps of 1")
            shape = (max(0, stop - start), *self.shape[1:])
        elif isinstance(key, (int, np.integer)) and -self.shape[0] <= key < self.shape[0]:
            start, shape = int(key) % self.shape[0], self.shape[1:]
        else:
            raise IndexError(f"an array on a GPU has no element {key!r}: download it first")
        row = math.prod(self.shape[1:]) * self.dtype.itemsize
        return DeviceArray(self.address + start * row, shape, self.dtype, self._owner, self._driver)

    def view(self, dtype: npt.DTypeLike) -> "DeviceArray":
        """Return the same bytes as elements of another dtype; the last axis changes its length."""
        kind = np.dtype(dtype)
        last = self.shape[-1] * self.dtype.itemsize // kind.itemsize
        return DeviceArray(self.address, (*self.shape[:-1], last), kind, self._owner, self._driver)

    def upload(self, values: npt.ArrayLike) -> None:
        """Copy values from the host; they are broadcast to the array's shape."""
        array = np.ascontiguousarray(np.broadcast_to(np.asarray(values, self.dtype), self.shape))
        self._driver.to_device(self.address, array)

    def download(self) -> npt.NDArray[Any]:
        """Return a copy of the array on the host."""
        found = np.empty(self.shape, self.dtype)
        self._driver.to_host(found, self.address)
        return found

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> npt.NDArray[Any]:
        if copy is False:
            raise ValueError("an array on a GPU has to be copied to the host")
        return self.download().astype(self.dtype if dtype is None else dtype, copy=False)

    def __copy__(self) -> "DeviceArray":
        found = DeviceArray.zeros(self._driver, self.shape, self.dtype)
        found.copy_from(self)
        return found

    def __deepcopy__(self, memo: dict[int, Any]) -> "DeviceArray":
        return self.__copy__()

    def copy_from(self, other: "DeviceArray") -> None:
        """Copy the elements of an array of the same number of bytes on the same GPU."""
        assert other.nbytes == self.nbytes
        self._driver.on_device(self.address, other.address, self.nbytes)

    def synchronize(self) -> None:
        """Wait for everything that was asked of the GPU."""
        self._driver.synchronize()

    def __dlpack__(self, **unused: Any) -> Any:
        from fgnumba.kernels.cuda.interchange import capsule

        self.synchronize()
        return capsule(self)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self._driver.dlpack_device, self._driver.number

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        self.synchronize()
        return {
            "shape": self.shape,
            "typestr": self.dtype.str,
            "descr": self.dtype.descr,
            "data": (self.address, False),
            "strides": None,
            "stream": None,
            "version": 3,
        }

    def __repr__(self) -> str:
        return f"DeviceArray(shape={self.shape}, dtype={self.dtype}, address={self.address:#x})"


class _Owner:
    """Stands for the memory: it is freed when nothing refers to this object any more."""

    __slots__ = ("__weakref__",)
