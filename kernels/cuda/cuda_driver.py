"""The driver of an NVIDIA GPU: memory, copies and graphs through CUDA's driver API, launches through numba-cuda.

Source: docs.nvidia.com, CUDA Driver API; nvidia.github.io, cuda.bindings.
"""

import contextlib
import ctypes
import gc
import os
import threading
import weakref
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from fgnumba.errors import DeviceError
from fgnumba.kernels.cuda.driver import Blocks, Driver, View, out_of_memory
from fgnumba.kernels.cuda.kernel import Kernel, converted

LOADING = "CUDA_MODULE_LOADING"

MINIMUM_DRIVER = 13000
"""Oldest version of CUDA that the driver must support, as 1000 major + 10 minor: kernels are compiled by CUDA 13.0."""

_NUMPY: dict[str, Callable[[Any], Any]] = {
    "int32": np.int32,
    "int64": np.int64,
    "float32": np.float32,
    "float64": np.float64,
}


@contextlib.contextmanager
def _modules_loaded_at_once() -> Iterator[None]:
    """Initialise CUDA such that kernels are loaded when they are compiled, not by a launch that might be captured.

    ``cuInit`` reads an environment variable, once. It is removed again, so that no process started later inherits it.
    """
    if LOADING in os.environ:
        yield
        return
    os.environ[LOADING] = "EAGER"
    try:
        yield
    finally:
        os.environ.pop(LOADING, None)


@cache
def cuda_driver() -> "CudaDriver":
    """Return the process's one driver; DeviceError where there is no GPU."""
    return CudaDriver()


class _Graph:
    """A graph that can be launched."""

    def __init__(self, executable: Any) -> None:
        self.executable = executable


class CudaDriver(Driver):
    """The first NVIDIA GPU that CUDA lists; the environment variable ``CUDA_VISIBLE_DEVICES`` selects what it lists.

    One stream serves all models and threads; while a graph is captured, a lock keeps other threads out.

    Raises
    ------
    DeviceError
        numba-cuda is not installed; there is no driver, or it is too old; there is no GPU.
    """

    dlpack_device = 2  # kDLCUDA

    def __init__(self) -> None:
        self._lock, self._thread = threading.RLock(), threading.local()
        self._context: Any = None
        self._capturing = False
        # What garbage collection gives up, at any time and in any thread: functions of the API, and what they take.
        self._given_up: list[tuple[Callable[..., Any], Any]] = []
        try:
            from cuda.bindings import driver

            from fgnumba.kernels.cuda import target
        except ImportError as error:
            raise DeviceError(
                f"device: 'cuda' is not available: numba-cuda is not installed ({_one_line(error)}); "
                "pip install 'fgnumba[cuda]', or use 'cpu' or 'auto'"
            ) from None
        self._api = driver
        with _modules_loaded_at_once():
            self._check_driver()
            device = target.current_device()
        self.name = device.name.decode() if isinstance(device.name, bytes) else str(device.name)
        self.capability = tuple(device.compute_capability)
        if self.capability < (8, 0):
            raise DeviceError(
                f"device: {self.name} has compute capability {self.capability[0]}.{self.capability[1]}; "
                f"at least 8.0 is required"
            )
        self.processors = int(device.MULTIPROCESSOR_COUNT)
        self._context = self._ask(driver.cuCtxGetCurrent)
        self._thread.ready = True
        self._stream = self._ask(driver.cuStreamCreate, driver.CUstream_flags.CU_STREAM_NON_BLOCKING)
        self.stream, self.number = int(self._stream), int(device.id)
        self._numba_stream = target.stream(int(self._stream))

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
        if status != api.CUresult.CUDA_SUCCESS:
            raise DeviceError(f"device: 'cuda' is not available: {self._text(status)}; use 'cpu' or 'auto'")
        version = self._ask(api.cuDriverGetVersion)
        if version < MINIMUM_DRIVER:
            raise DeviceError(
                f"device: the NVIDIA driver supports CUDA {version // 1000}.{version % 1000 // 10}; at least "
                f"{MINIMUM_DRIVER // 1000}.{MINIMUM_DRIVER % 1000 // 10} (driver 580) is required"
            )

    def _text(self, status: Any) -> str:
        """Return CUDA's description of a status."""
        error, text = self._api.cuGetErrorString(status)
        known = error == self._api.CUresult.CUDA_SUCCESS and text
        return f"{text.decode()} ({status.name})" if known else str(status)

    def _call(self, function: Callable[..., Any], *arguments: Any) -> tuple[Any, ...]:
        """Call the driver's API with its context set in this thread, one thread at a time; return all results."""
        with self._lock:
            if self._context is not None and not getattr(self._thread, "ready", False):
                # A context is a thread's own to set.
                self._thread.ready = self._api.cuCtxSetCurrent(self._context)[0] == 0
            if self._given_up and not self._capturing:
                self._drain()
            found: tuple[Any, ...] = function(*arguments)
            return found

    def _ask(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call the driver's API and return its results without the status; DeviceError where it failed."""
        status, *results = self._call(function, *arguments)
        if status != self._api.CUresult.CUDA_SUCCESS:
            raise DeviceError(f"device: the GPU failed: {self._text(status)} in {function.__name__}")
        return results[0] if len(results) == 1 else tuple(results)

    def _drain(self) -> None:
        """Give back memory and graphs that nobody refers to, after everything that was asked for has ended."""
        given_up, self._given_up = self._given_up, []
        self._api.cuStreamSynchronize(self._stream)
        for function, handle in given_up:
            function(handle)

    def allocate(self, nbytes: int) -> int:
        nbytes = max(nbytes, 1)
        status, address = self._call(self._api.cuMemAlloc, nbytes)
        if status == self._api.CUresult.CUDA_ERROR_OUT_OF_MEMORY:
            # Models that nobody refers to any more may wait for the collector: they refer to themselves.
            gc.collect()
            status, address = self._call(self._api.cuMemAlloc, nbytes)
        if status == self._api.CUresult.CUDA_ERROR_OUT_OF_MEMORY:
            raise out_of_memory(self.name, nbytes, self._ask(self._api.cuMemGetInfo)[0])
        if status != self._api.CUresult.CUDA_SUCCESS:
            raise DeviceError(f"device: the GPU failed: {self._text(status)} in cuMemAlloc")
        self._ask(self._api.cuMemsetD8Async, address, 0, nbytes, self._stream)
        return int(address)

    def free(self, address: int) -> None:
        # Not at once: a finalizer may run in any thread, and while a stream is captured.
        self._given_up.append((self._api.cuMemFree, address))

    def pinned(self, nbytes: int) -> npt.NDArray[np.uint8]:
        address = int(self._ask(self._api.cuMemAllocHost, max(nbytes, 1)))
        held = (ctypes.c_uint8 * nbytes).from_address(address)
        given_up, release = self._given_up_later, self._api.cuMemFreeHost
        weakref.finalize(held, given_up, release, address).atexit = False
        array = np.ctypeslib.as_array(held)
        array[:] = 0
        return array

    def _given_up_later(self, function: Callable[..., Any], handle: Any) -> None:
        self._given_up.append((function, handle))

    @staticmethod
    def _is_pinned(array: npt.NDArray[Any]) -> bool:
        """Whether an array lies in memory of :meth:`pinned`: only those arrays have a ctypes array as their base."""
        base: Any = array
        while isinstance(base, np.ndarray):
            base = base.base
        return isinstance(getattr(base, "obj", base), ctypes.Array)

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
        self._compiled(kernel)

    def _compiled(self, kernel: Kernel) -> Any:
        try:
            return kernel.compiled
        except Exception as error:
            raise DeviceError(f"device: kernel {kernel.name} cannot be loaded: {_one_line(error)}") from error

    def launch(self, kernel: Kernel, blocks: Blocks, values: tuple[Any, ...]) -> None:
        typed = tuple(
            converted(kind, value, _as_numpy) for kind, value in zip(kernel.kinds, values, strict=True)
        )
        configured = self._compiled(kernel)[blocks, (kernel.threads, 1, 1), self._numba_stream]
        try:
            self._call(lambda: configured(*typed) or ())
        except Exception as error:
            raise DeviceError(
                f"device: kernel {kernel.name} cannot be launched: {_one_line(error)}"
            ) from error

    def capture(self, work: Callable[[], None]) -> Any:
        api = self._api
        mode = api.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL
        with self._lock:
            self._ask(api.cuStreamBeginCapture, self._stream, mode)
            self._capturing = True
            try:
                work()
                template = self._ask(api.cuStreamEndCapture, self._stream)
            except BaseException:
                # The stream goes back to normal; what was captured is worth nothing.
                api.cuStreamEndCapture(self._stream)
                raise
            finally:
                self._capturing = False
            executable = self._ask(api.cuGraphInstantiate, template, 0)
            self._ask(api.cuGraphDestroy, template)
            self._ask(api.cuGraphUpload, executable, self._stream)
        graph = _Graph(executable)
        weakref.finalize(graph, self._given_up_later, api.cuGraphExecDestroy, executable).atexit = False
        return graph

    def replay(self, graph: Any) -> None:
        self._ask(self._api.cuGraphLaunch, graph.executable, self._stream)

    def synchronize(self) -> None:
        self._ask(self._api.cuStreamSynchronize, self._stream)

    def wait_for_stream(self, stream: int) -> None:
        # 1 and 2 are the legacy and the per-thread default stream, by those numbers.
        self._ask(self._api.cuStreamSynchronize, stream)

    def check_place(self, address: int) -> None:
        kind = self._api.CUpointer_attribute.CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL
        found = int(self._ask(self._api.cuPointerGetAttribute, kind, address))
        if found != self.number:
            raise DeviceError(f"an array lies on GPU {found}; GPU {self.number} is required")

    def view(self, x: Any) -> View:
        return view_of(x, self.stream)

    def mark(self) -> Any:
        event = self._ask(self._api.cuEventCreate, self._api.CUevent_flags.CU_EVENT_DISABLE_TIMING)
        self._ask(self._api.cuEventRecord, event, self._stream)
        return event

    def wait(self, mark: Any) -> None:
        self._ask(self._api.cuEventSynchronize, mark)
        self._ask(self._api.cuEventDestroy, mark)


def view_of(x: Any, stream: int | None) -> View:
    """Take an array of another library through DLPack by cuda-core, which needs no driver for it.

    Parameters
    ----------
    x : object
        The array.
    stream : int or None
        The stream that waits for what the other library still writes.

    Returns
    -------
    View
        The array. Its owner gives the array back when nothing refers to it any more.

    Raises
    ------
    BufferError, NotImplementedError, TypeError, RuntimeError
        The array's type cannot be read.
    """
    from cuda.core.utils import StridedMemoryView

    found = StridedMemoryView.from_dlpack(x, stream_ptr=stream)
    return View(found.ptr, tuple(found.shape), found.strides, found.dtype, found)


def _data(array: npt.NDArray[Any]) -> int:
    return int(array.__array_interface__["data"][0])


def _as_numpy(kind: str, value: Any) -> Any:
    return _NUMPY[kind](value)


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
