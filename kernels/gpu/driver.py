"""What a GPU's driver is asked for: memory, copies, launches, graphs. Once for a GPU, once for the simulator.

Everything goes through one stream: operations run in the order in which they are asked for.
"""

import ctypes
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from fgnumba.errors import DeviceError
from fgnumba.kernels.gpu import simulator
from fgnumba.kernels.gpu.kernel import Kernel

Blocks = tuple[int, int, int]

MINIMUM_DRIVER = 13000
"""CUDA's version that the driver must support at least, 1000 major + 10 minor: kernels are compiled by CUDA 13.0."""


class Driver(ABC):
    """A GPU as its driver shows it.

    Attributes
    ----------
    name, capability, processors : the card, its compute capability, its multiprocessors.
    dlpack_device, number : what DLPack calls this kind of device, and the card's number.
    stream : of all operations, as other libraries take it; None where there is none.
    """

    name: str
    capability: tuple[int, int]
    processors: int
    dlpack_device: int
    number: int = 0
    stream: int | None = None

    @abstractmethod
    def allocate(self, nbytes: int) -> int:
        """Return the address of `nbytes` of memory, zeros; DeviceError where there are not so many."""

    @abstractmethod
    def free(self, address: int) -> None:
        """Give memory back."""

    @abstractmethod
    def pinned(self, nbytes: int) -> npt.NDArray[np.uint8]:
        """Return host memory that copies can read and write while the host goes on."""

    @abstractmethod
    def to_device(self, address: int, source: npt.NDArray[Any]) -> None:
        """Copy a contiguous host array; it may change again when this returns, unless it is pinned."""

    @abstractmethod
    def to_host(self, target: npt.NDArray[Any], address: int) -> None:
        """Copy to a contiguous host array; it is there when this returns, unless it is pinned."""

    @abstractmethod
    def on_device(self, target: int, source: int, nbytes: int) -> None:
        """Copy from device to device."""

    @abstractmethod
    def launch(self, kernel: Kernel, blocks: Blocks, values: tuple[Any, ...]) -> None:
        """Launch a kernel."""

    @abstractmethod
    def load(self, kernel: Kernel) -> None:
        """Compile and load a kernel, so that no later launch does."""

    @abstractmethod
    def capture(self, work: Callable[[], None]) -> Any:
        """Return what `work` asks for as a graph, without doing it; DeviceError where that cannot be captured."""

    @abstractmethod
    def replay(self, graph: Any) -> None:
        """Do what a graph holds."""

    @abstractmethod
    def synchronize(self) -> None:
        """Wait for all that was asked for; DeviceError where some of it failed."""

    @abstractmethod
    def wait_for_stream(self, stream: int) -> None:
        """Wait for all that another library has asked a stream of its own for."""

    @abstractmethod
    def mark(self) -> Any:
        """Return a mark behind all that was asked for so far."""

    @abstractmethod
    def wait(self, mark: Any) -> None:
        """Wait for all before a mark; DeviceError where some of it failed."""


class SimulatedDriver(Driver):
    """A GPU that is not there: host memory, and kernels run by ``gpu.simulator``."""

    name, capability, processors = "simulated GPU", (9, 0), 4
    dlpack_device = 1  # kDLCPU: its memory is the host's

    _GUARD = 256

    def __init__(self, total: int = 1 << 30) -> None:
        self._left = total
        self._held: dict[int, npt.NDArray[np.uint8]] = {}

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
        array = self._held.pop(address)
        simulator.memory.remove(array)
        self._left += array.nbytes

    def pinned(self, nbytes: int) -> npt.NDArray[np.uint8]:
        return np.zeros(nbytes, np.uint8)

    def to_device(self, address: int, source: npt.NDArray[Any]) -> None:
        if source.nbytes:
            simulator.memory.at(address, source.nbytes, 1)[:] = source.reshape(-1).view(np.uint8)

    def to_host(self, target: npt.NDArray[Any], address: int) -> None:
        if target.nbytes:
            target.reshape(-1).view(np.uint8)[:] = simulator.memory.at(address, target.nbytes, 1)

    def on_device(self, target: int, source: int, nbytes: int) -> None:
        if nbytes:
            simulator.memory.at(target, nbytes, 1)[:] = simulator.memory.at(source, nbytes, 1)

    def launch(self, kernel: Kernel, blocks: Blocks, values: tuple[Any, ...]) -> None:
        if self._captured is not None:
            self._captured.append((kernel, blocks, values))
        else:
            simulator.run(kernel.function, values, blocks, kernel.threads)

    _captured: "list[tuple[Kernel, Blocks, tuple[Any, ...]]] | None" = None

    def load(self, kernel: Kernel) -> None:
        pass

    def capture(self, work: Callable[[], None]) -> Any:
        graph: list[tuple[Kernel, Blocks, tuple[Any, ...]]] = []
        self._captured = graph
        try:
            work()
        finally:
            self._captured = None
        return graph

    def replay(self, graph: Any) -> None:
        for launch in graph:
            self.launch(*launch)

    def synchronize(self) -> None:
        pass

    def wait_for_stream(self, stream: int) -> None:
        pass

    def mark(self) -> Any:
        return None

    def wait(self, mark: Any) -> None:
        pass


class CudaDriver(Driver):
    """The first NVIDIA GPU that CUDA shows (``CUDA_VISIBLE_DEVICES`` says which these are).

    Raises
    ------
    DeviceError
        numba-cuda is not installed; there is no driver, or it is too old; there is no GPU.
    """

    dlpack_device = 2  # kDLCUDA

    def __init__(self) -> None:
        self._known_threads = {threading.get_ident()}
        try:
            from cuda.bindings import driver
        except ImportError:
            raise DeviceError(
                "device: 'cuda' needs numba-cuda, which is not installed: pip install 'fgnumba[cuda]'"
            ) from None
        self._api = driver
        self._check_driver()
        from fgnumba.kernels.gpu import target

        device = target.current_device()
        self.name = device.name.decode() if isinstance(device.name, bytes) else str(device.name)
        self.capability = tuple(device.compute_capability)
        if self.capability < (8, 0):
            raise DeviceError(
                f"device: {self.name} has compute capability {self.capability[0]}.{self.capability[1]}; "
                f"at least 8.0 is required"
            )
        self.processors = int(device.MULTIPROCESSOR_COUNT)
        self._stream = self._ask(driver.cuStreamCreate, driver.CUstream_flags.CU_STREAM_NON_BLOCKING)
        self._context = self._ask(driver.cuCtxGetCurrent)
        self._capturing = False
        self._to_free: list[int] = []
        self.stream, self.number = int(self._stream), int(device.id)
        self._numba_stream = target.stream(int(self._stream))
        self._pinned_ranges: list[tuple[int, int]] = []

    def _check_driver(self) -> None:
        api = self._api
        try:
            (status,) = api.cuInit(0)
        except RuntimeError:
            raise DeviceError(
                "device: 'cuda' is not available: there is no NVIDIA driver on this machine; use 'cpu' or 'auto'"
            ) from None
        if status == api.CUresult.CUDA_ERROR_NO_DEVICE:
            raise DeviceError(
                "device: 'cuda' is not available: the driver finds no NVIDIA GPU; use 'cpu' or 'auto'"
            )
        if status == api.CUresult.CUDA_SUCCESS:
            version = self._ask(api.cuDriverGetVersion)
            if version < MINIMUM_DRIVER:
                raise DeviceError(
                    f"device: the NVIDIA driver supports CUDA {version // 1000}.{version % 1000 // 10}; at least "
                    f"{MINIMUM_DRIVER // 1000}.{MINIMUM_DRIVER % 1000 // 10} (driver 580) is required"
                )
            return
        raise DeviceError(f"device: 'cuda' is not available: {self._text(status)}; use 'cpu' or 'auto'")

    def _text(self, status: Any) -> str:
        """Return what CUDA says of a status."""
        error, text = self._api.cuGetErrorString(status)
        known = error == self._api.CUresult.CUDA_SUCCESS and text
        return f"{text.decode()} ({status.name})" if known else str(status)

    def _ask(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call the driver and return what it returns beside the status; DeviceError where it failed."""
        if threading.get_ident() not in self._known_threads:
            # A context is a thread's own to set.
            self._known_threads.add(threading.get_ident())
            self._api.cuCtxSetCurrent(self._context)
        status, *results = function(*arguments)
        if status != self._api.CUresult.CUDA_SUCCESS:
            raise DeviceError(f"device: the GPU failed: {self._text(status)} in {function.__name__}")
        return results[0] if len(results) == 1 else tuple(results)

    def allocate(self, nbytes: int) -> int:
        status, address = self._api.cuMemAlloc(max(nbytes, 1))
        if status == self._api.CUresult.CUDA_ERROR_OUT_OF_MEMORY:
            raise out_of_memory(self.name, nbytes, self._ask(self._api.cuMemGetInfo)[0])
        if status != self._api.CUresult.CUDA_SUCCESS:
            raise DeviceError(f"device: the GPU failed: {self._text(status)} in cuMemAlloc")
        self._ask(self._api.cuMemsetD8Async, address, 0, max(nbytes, 1), self._stream)
        return int(address)

    def free(self, address: int) -> None:
        # The garbage collector may ask at any time; while a stream is captured the driver forbids it.
        self._to_free.append(address)
        while self._to_free and not self._capturing:
            self._api.cuMemFree(self._to_free.pop())

    def pinned(self, nbytes: int) -> npt.NDArray[np.uint8]:
        address = int(self._ask(self._api.cuMemAllocHost, nbytes))
        # Held until the process ends: there are a few hundred kilobytes of it at most.
        held = (ctypes.c_uint8 * nbytes).from_address(address)
        array = np.ctypeslib.as_array(held)
        self._pinned_ranges.append((address, address + nbytes))
        return array

    def _is_pinned(self, array: npt.NDArray[Any]) -> bool:
        address = array.__array_interface__["data"][0]
        return any(start <= address < end for start, end in self._pinned_ranges)

    def to_device(self, address: int, source: npt.NDArray[Any]) -> None:
        if not source.nbytes:
            return
        self._ask(self._api.cuMemcpyHtoDAsync, address, _data(source), source.nbytes, self._stream)
        if not self._is_pinned(source):
            self.synchronize()

    def to_host(self, target: npt.NDArray[Any], address: int) -> None:
        if not target.nbytes:
            return
        self._ask(self._api.cuMemcpyDtoHAsync, _data(target), address, target.nbytes, self._stream)
        if not self._is_pinned(target):
            self.synchronize()

    def on_device(self, target: int, source: int, nbytes: int) -> None:
        if nbytes:
            self._ask(self._api.cuMemcpyDtoDAsync, target, source, nbytes, self._stream)

    def load(self, kernel: Kernel) -> None:
        assert kernel.compiled

    def launch(self, kernel: Kernel, blocks: Blocks, values: tuple[Any, ...]) -> None:
        typed = tuple(_NUMPY[kind](value) for kind, value in zip(kernel.kinds, values, strict=True))
        kernel.compiled[blocks, (kernel.threads, 1, 1), self._numba_stream](*typed)

    def capture(self, work: Callable[[], None]) -> Any:
        api = self._api
        self.synchronize()
        mode = api.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL
        self._ask(api.cuStreamBeginCapture, self._stream, mode)
        self._capturing = True
        try:
            work()
        except BaseException:
            # The stream goes back to normal; what was captured is worth nothing.
            api.cuStreamEndCapture(self._stream)
            raise
        finally:
            self._capturing = False
        graph = self._ask(api.cuStreamEndCapture, self._stream)
        executable = self._ask(api.cuGraphInstantiate, graph, 0)
        self._ask(api.cuGraphUpload, executable, self._stream)
        return executable, graph

    def replay(self, graph: Any) -> None:
        self._ask(self._api.cuGraphLaunch, graph[0], self._stream)

    def synchronize(self) -> None:
        self._ask(self._api.cuStreamSynchronize, self._stream)

    def wait_for_stream(self, stream: int) -> None:
        # 1 and 2 are the legacy and the per-thread default stream, by those numbers.
        self._ask(self._api.cuStreamSynchronize, stream)

    def mark(self) -> Any:
        event = self._ask(self._api.cuEventCreate, self._api.CUevent_flags.CU_EVENT_DISABLE_TIMING)
        self._ask(self._api.cuEventRecord, event, self._stream)
        return event

    def wait(self, mark: Any) -> None:
        self._ask(self._api.cuEventSynchronize, mark)
        self._ask(self._api.cuEventDestroy, mark)


_NUMPY: dict[str, Callable[[Any], Any]] = {
    "int32": np.int32,
    "int64": np.int64,
    "float32": np.float32,
    "float64": np.float64,
}


def _data(array: npt.NDArray[Any]) -> int:
    return int(array.__array_interface__["data"][0])


def out_of_memory(name: str, asked: int, free: int) -> DeviceError:
    """Return the error for memory that is not there."""
    return DeviceError(
        f"device: {name} has no room: {asked:,} bytes asked for, {free:,} bytes free; "
        f"take a smaller batch, fewer directions or a smaller model"
    )
