"""What the library asks of a GPU: memory, copies, launches and graphs.

The driver of the simulated GPU is here; that of a real one is ``cuda_driver``. Everything goes through one stream:
operations run in the order in which they are asked for, some time after that.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fgnumba.errors import DeviceError
from fgnumba.kernels.cuda import simulator
from fgnumba.kernels.cuda.kernel import Kernel
from fgnumba.objects.bound import Bound

Blocks = tuple[int, int, int]


class View(NamedTuple):
    """An array of another library.

    Parameters
    ----------
    address : int
        Address of the first element.
    shape : tuple of int
        Shape.
    strides : tuple of int or None
        Distance of neighbours along each axis, in elements. None: the array is C-contiguous.
    dtype : numpy.dtype or None
        Type of the elements; None if NumPy has none for it.
    owner : object
        What keeps the memory alive.
    """

    address: int
    shape: tuple[int, ...]
    strides: tuple[int, ...] | None
    dtype: np.dtype[Any] | None
    owner: Any


class Driver(Bound, ABC):
    """A GPU as its driver shows it.

    Attributes
    ----------
    name : str
        Name of the card.
    capability : tuple of int
        Compute capability, such as (9, 0).
    processors : int
        Number of multiprocessors.
    dlpack_device : int
        DLPack's number for this kind of device.
    number : int
        Number of the card.
    stream : int or None
        Handle of the stream of all operations, as other libraries take it; None where there is no stream.
    """

    name: str
    capability: tuple[int, int]
    processors: int
    dlpack_device: int
    number: int = 0
    stream: int | None = None

    @abstractmethod
    def allocate(self, nbytes: int) -> int:
        """Return the address of `nbytes` bytes of memory, filled with zeros; DeviceError where there is no room."""

    @abstractmethod
    def free(self, address: int) -> None:
        """Give the memory at an address back."""

    @abstractmethod
    def pinned(self, nbytes: int) -> npt.NDArray[np.uint8]:
        """Return `nbytes` bytes of the host's memory, zeros, which copies can use while the host goes on."""

    @abstractmethod
    def to_device(self, address: int, source: npt.NDArray[Any]) -> None:
        """Copy a contiguous host array to an address. The array may change once this returns, unless it is pinned."""

    @abstractmethod
    def to_host(self, target: npt.NDArray[Any], address: int) -> None:
        """Copy from an address to a contiguous host array, which is filled once this returns, unless it is pinned."""

    @abstractmethod
    def on_device(self, target: int, source: int, nbytes: int) -> None:
        """Copy `nbytes` bytes from one address of the GPU to another."""

    @abstractmethod
    def launch(self, kernel: Kernel, blocks: Blocks, values: tuple[Any, ...]) -> None:
        """Launch a kernel on a grid of blocks, with the values of its parameters in order."""

    @abstractmethod
    def load(self, kernel: Kernel) -> None:
        """Compile and load a kernel, so that no later launch does."""

    @abstractmethod
    def capture(self, work: Callable[[], None]) -> Any:
        """Return what `work` asks for as a graph, without running it; DeviceError where it cannot be captured."""

    @abstractmethod
    def replay(self, graph: Any) -> None:
        """Ask for everything that a graph holds."""

    @abstractmethod
    def synchronize(self) -> None:
        """Wait for everything that was asked for; DeviceError where some of it failed."""

    @abstractmethod
    def wait_for_stream(self, stream: int) -> None:
        """Wait for everything that another library has put into a stream of its own."""

    @abstractmethod
    def check_place(self, address: int) -> None:
        """Raise DeviceError where the array of another library at this address is on another GPU."""

    @abstractmethod
    def view(self, x: Any) -> View:
        """Take an array through DLPack, after what its library still writes to it.

        BufferError, NotImplementedError, TypeError or RuntimeError where its type cannot be read.
        """

    @abstractmethod
    def mark(self) -> Any:
        """Return a mark behind everything that was asked for so far."""

    @abstractmethod
    def wait(self, mark: Any) -> None:
        """Wait for everything before a mark; DeviceError where some of it failed."""


class _Pinned(np.ndarray[Any, Any]):
    """Memory of the host that copies of the simulated GPU read or write later; its views are of this type too."""


class SimulatedDriver(Driver):
    """A GPU that is not there: its memory is the host's, and the ``simulator`` runs its kernels.

    As on a GPU, operations run after they were asked for, here when they are waited for. So a test sees it where the
    host changes an array too early.

    Parameters
    ----------
    total : int
        Bytes of memory that can be allocated.
    """

    name, capability, processors = "simulated GPU", (9, 0), 4
    dlpack_device = 1  # kDLCPU: its memory is the host's

    _GUARD = 256

    def __init__(self, total: int = 1 << 30) -> None:
        self._left = total
        self._held: dict[int, npt.NDArray[np.uint8]] = {}
        self._asked: list[Callable[[], None]] = []
        self._captured: list[Callable[[], None]] | None = None
        self._done = 0
        self._to_free: list[int] = []
        self._busy = False

    def _ask(self, work: Callable[[], None]) -> None:
        (self._asked if self._captured is None else self._captured).append(work)

    def _flush(self, until: int | None = None) -> None:
        """Run what was asked for: everything, or the first `until` operations since the driver was made."""
        assert self._captured is None, "a stream that is captured cannot be waited for"
        self._busy = True
        try:
            while self._asked and (until is None or self._done < until):
                self._done += 1
                self._asked.pop(0)()
        finally:
            self._busy = False
        while self._to_free:
            self._release(self._to_free.pop())

    def allocate(self, nbytes: int) -> int:
        if nbytes > self._left:
            raise out_of_memory(self.name, nbytes, self._left)
        # Room on both sides, so that one array's end is not another's beginning.
        buffer = np.zeros(nbytes + 3 * self._GUARD, np.uint8)
        start = self._GUARD + -(buffer.ctypes.data + self._GUARD) % self._GUARD
        array = buffer[start : start + nbytes]
        simulator.memory.add(array)
        address = int(array.ctypes.data)
        self._held[address] = array
        self._left -= nbytes
        return address

    def free(self, address: int) -> None:
        # The garbage collector may ask in the midst of a kernel.
        self._to_free.append(address)
        if not self._busy and self._captured is None:
            self._flush()

    def _release(self, address: int) -> None:
        array = self._held.pop(address)
        simulator.memory.remove(array)
        self._left += array.nbytes

    def pinned(self, nbytes: int) -> npt.NDArray[np.uint8]:
        return np.zeros(nbytes, np.uint8).view(_Pinned)

    def to_device(self, address: int, source: npt.NDArray[Any]) -> None:
        def copy() -> None:
            if source.nbytes:
                simulator.memory.at(address, source.nbytes, 1)[:] = source.reshape(-1).view(np.uint8)

        self._ask(copy)
        if not isinstance(source, _Pinned):
            self._flush()

    def to_host(self, target: npt.NDArray[Any], address: int) -> None:
        def copy() -> None:
            if target.nbytes:
                target.reshape(-1).view(np.uint8)[:] = simulator.memory.at(address, target.nbytes, 1)

        self._ask(copy)
        if not isinstance(target, _Pinned):
            self._flush()

    def on_device(self, target: int, source: int, nbytes: int) -> None:
        def copy() -> None:
            if nbytes:
                simulator.memory.at(target, nbytes, 1)[:] = simulator.memory.at(source, nbytes, 1)

        self._ask(copy)

    def launch(self, kernel: Kernel, blocks: Blocks, values: tuple[Any, ...]) -> None:
        self._ask(lambda: simulator.run(kernel.function, values, blocks, kernel.threads))

    def load(self, kernel: Kernel) -> None:
        pass

    def capture(self, work: Callable[[], None]) -> Any:
        self._captured = graph = list[Callable[[], None]]()
        try:
            work()
        finally:
            self._captured = None
        return graph

    def replay(self, graph: Any) -> None:
        self._asked += graph

    def synchronize(self) -> None:
        self._flush()

    def wait_for_stream(self, stream: int) -> None:
        pass

    def check_place(self, address: int) -> None:
        simulator.memory.at(address, 1, 1)

    def view(self, x: Any) -> View:
        found = np.from_dlpack(x)
        strides = tuple(stride // found.itemsize for stride in found.strides)
        return View(found.ctypes.data, found.shape, strides, found.dtype, found)

    def mark(self) -> Any:
        return self._done + len(self._asked)

    def wait(self, mark: Any) -> None:
        self._flush(mark)


def out_of_memory(name: str, asked: int, free: int) -> DeviceError:
    """Return the error for memory that is not there.

    Parameters
    ----------
    name : str
        Name of the card.
    asked : int
        Bytes that were asked for.
    free : int
        Bytes that are free.

    Returns
    -------
    DeviceError
        The error, to be raised.
    """
    return DeviceError(
        f"device: {name} has no room: {asked:,} bytes asked for, {free:,} bytes free; "
        f"take a smaller batch, fewer directions or a smaller model"
    )
