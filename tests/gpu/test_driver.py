"""Calls of the GPU's driver and the handling of its answers, with a double of CUDA's driver API."""

import sys
import threading
from enum import IntEnum
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

import fgnumba as fg
from fgnumba.kernels.cuda.cuda_driver import CudaDriver
from fgnumba.kernels.cuda.kernel import Kernel
from fgnumba.kernels.cuda.primitives import Address, Size


class Status(IntEnum):
    CUDA_SUCCESS = 0
    CUDA_ERROR_OUT_OF_MEMORY = 2
    CUDA_ERROR_NO_DEVICE = 100
    CUDA_ERROR_SYSTEM_DRIVER_MISMATCH = 803
    CUDA_ERROR_ILLEGAL_ADDRESS = 700


class Api(ModuleType):
    """A double of ``cuda.bindings.driver``: notes calls, answers from `answers` by name."""

    CUresult = Status
    CUstream_flags = SimpleNamespace(CU_STREAM_NON_BLOCKING=1)
    CUstreamCaptureMode = SimpleNamespace(CU_STREAM_CAPTURE_MODE_THREAD_LOCAL=1)
    CUevent_flags = SimpleNamespace(CU_EVENT_DISABLE_TIMING=2)

    def __init__(self, **answers):
        super().__init__("cuda.bindings.driver")
        self.calls = []
        self.answers = {
            "cuDriverGetVersion": (Status.CUDA_SUCCESS, 13000),
            "cuStreamCreate": (Status.CUDA_SUCCESS, 77),
            "cuCtxGetCurrent": (Status.CUDA_SUCCESS, 33),
            "cuMemAlloc": (Status.CUDA_SUCCESS, 4096),
            "cuMemGetInfo": (Status.CUDA_SUCCESS, 1234567, 9999999),
            "cuEventCreate": (Status.CUDA_SUCCESS, 55),
            "cuStreamEndCapture": (Status.CUDA_SUCCESS, 66),
            "cuGraphInstantiate": (Status.CUDA_SUCCESS, 88),
            "cuGetErrorString": (Status.CUDA_SUCCESS, b"what went wrong"),
            **answers,
        }

    def __getattr__(self, name):
        if not name.startswith("cu"):
            raise AttributeError(name)

        def function(*arguments):
            self.calls.append((name, *arguments))
            answer = self.answers.get(name, (Status.CUDA_SUCCESS,))
            if isinstance(answer, Exception):
                raise answer
            return answer

        function.__name__ = name
        return function


class Target(ModuleType):
    """A double of the module that compiles."""

    def __init__(self, capability=(9, 0)):
        super().__init__("fgnumba.kernels.cuda.target")
        self.launched = []
        self.capability = capability

    def current_device(self):
        return SimpleNamespace(
            name=b"NVIDIA Double", compute_capability=self.capability, MULTIPROCESSOR_COUNT=132, id=0
        )

    def stream(self, handle):
        return ("stream", handle)

    def dispatcher(self, function, kinds, threads, resident):
        return Configurable(self.launched)


class Configurable:
    """A compiled kernel: ``kernel[blocks, threads, stream](*values)``."""

    def __init__(self, launched):
        self.launched = launched

    def __getitem__(self, configuration):
        return lambda *values: self.launched.append((configuration, values))


@pytest.fixture
def made(monkeypatch):
    """Return a function that makes a driver of doubles."""

    def make(capability=(9, 0), **answers):
        api, target = Api(**answers), Target(capability)
        bindings = ModuleType("cuda.bindings")
        bindings.__dict__["driver"] = api
        for name, module in {
            "cuda": ModuleType("cuda"),
            "cuda.bindings": bindings,
            "cuda.bindings.driver": api,
            "fgnumba.kernels.cuda.target": target,
        }.items():
            monkeypatch.setitem(sys.modules, name, module)
        monkeypatch.setattr(sys.modules["fgnumba.kernels.cuda"], "target", target, raising=False)
        return CudaDriver(), api, target

    return make


def nothing(x: Address, n: Size) -> None: ...


KERNEL = Kernel("test-nothing", nothing, 64)


def test_a_card_is_known(made):
    driver, _, _ = made()
    assert (driver.name, driver.capability, driver.processors) == ("NVIDIA Double", (9, 0), 132)
    assert driver.stream == 77


def test_without_the_package_it_is_said_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "cuda.bindings", None)
    with pytest.raises(fg.DeviceError, match=r"numba-cuda is not installed .* pip install 'fgnumba\[cuda\]'"):
        CudaDriver()


@pytest.mark.parametrize(
    ("answers", "message"),
    [
        (
            {"cuInit": RuntimeError("libcuda.so.1")},
            "there is no NVIDIA driver on this machine; use 'cpu' or 'auto'",
        ),
        ({"cuInit": (Status.CUDA_ERROR_NO_DEVICE,)}, "the driver finds no NVIDIA GPU; use 'cpu' or 'auto'"),
        (
            {"cuInit": (Status.CUDA_ERROR_SYSTEM_DRIVER_MISMATCH,)},
            r"what went wrong \(CUDA_ERROR_SYSTEM_DRIVER_MISMATCH\); use 'cpu' or 'auto'",
        ),
        (
            {"cuDriverGetVersion": (Status.CUDA_SUCCESS, 12040)},
            r"the NVIDIA driver supports CUDA 12.4; at least 13.0 \(driver 580\) is required",
        ),
        ({"capability": (7, 5)}, "NVIDIA Double has compute capability 7.5; at least 8.0 is required"),
    ],
)
def test_a_device_that_will_not_do_is_named(made, answers, message):
    with pytest.raises(fg.DeviceError, match=message):
        made(**answers)


def test_memory_that_is_not_there(made):
    driver, _, _ = made(cuMemAlloc=(Status.CUDA_ERROR_OUT_OF_MEMORY, 0))
    with pytest.raises(fg.DeviceError, match="4,000,000,000 bytes asked for, 1,234,567 bytes free"):
        driver.allocate(4_000_000_000)


def test_memory_begins_as_zeros(made):
    driver, api, _ = made()
    assert driver.allocate(100) == 4096
    assert api.calls[-1] == ("cuMemsetD8Async", 4096, 0, 100, 77)


def test_a_failure_of_the_gpu_names_the_call(made):
    driver, _, _ = made(cuStreamSynchronize=(Status.CUDA_ERROR_ILLEGAL_ADDRESS,))
    with pytest.raises(
        fg.DeviceError, match=r"what went wrong \(CUDA_ERROR_ILLEGAL_ADDRESS\) in cuStreamSynchronize"
    ):
        driver.synchronize()


def test_copies_of_memory_that_is_not_pinned_are_waited_for(made):
    driver, api, _ = made()
    host = np.zeros(10, np.float32)
    driver.to_device(4096, host)
    assert [call[0] for call in api.calls[-2:]] == ["cuMemcpyHtoDAsync", "cuStreamSynchronize"]
    driver.to_host(host, 4096)
    assert api.calls[-2:] == [
        ("cuMemcpyDtoHAsync", host.ctypes.data, 4096, 40, 77),
        ("cuStreamSynchronize", 77),
    ]


def test_a_launch_has_its_types(made):
    driver, _, target = made()
    KERNEL.__dict__.pop("compiled", None)
    driver.launch(KERNEL, (3, 2, 1), (4096, 5))
    ((configuration, values),) = target.launched
    assert configuration == ((3, 2, 1), (64, 1, 1), ("stream", 77))
    assert [type(value) for value in values] == [np.int64, np.int32]
    KERNEL.__dict__.pop("compiled", None)


def test_a_capture_is_ended_whatever_happens(made):
    driver, api, _ = made()
    graph = driver.capture(lambda: None)
    names = [call[0] for call in api.calls]
    assert names[names.index("cuStreamBeginCapture") :] == [
        "cuStreamBeginCapture",
        "cuStreamEndCapture",
        "cuGraphInstantiate",
        "cuGraphDestroy",
        "cuGraphUpload",
    ]
    driver.replay(graph)
    assert api.calls[-1] == ("cuGraphLaunch", 88, 77)

    def fail():
        raise fg.DeviceError("no")

    with pytest.raises(fg.DeviceError, match="no"):
        driver.capture(fail)
    assert api.calls[-1][0] == "cuStreamEndCapture"


def test_nothing_is_freed_while_a_stream_is_captured(made):
    driver, api, _ = made()

    def work():
        driver.free(4096)
        assert "cuMemFree" not in [call[0] for call in api.calls]

    driver.capture(work)
    driver.free(8192)
    driver.synchronize()
    names = [call[0] for call in api.calls]
    ended = names.index("cuStreamEndCapture")
    # What is given back has been waited for, and not while the stream was captured.
    assert "cuStreamSynchronize" not in names[names.index("cuStreamBeginCapture") : ended]
    assert names.index("cuMemFree") > names.index("cuStreamSynchronize") > ended
    assert [call[1] for call in api.calls if call[0] == "cuMemFree"] == [4096, 8192]


def test_another_thread_gets_the_context(made):
    driver, api, _ = made()
    # A number of a thread that has ended may be that of the next.
    for _ in range(2):
        thread = threading.Thread(target=driver.synchronize)
        thread.start()
        thread.join()
        assert api.calls[-2:] == [("cuCtxSetCurrent", 33), ("cuStreamSynchronize", 77)]


def test_a_launch_that_fails_names_the_kernel(made, monkeypatch):
    driver, _, _ = made()

    def fail(*values):
        raise RuntimeError("CUDA_ERROR_ILLEGAL_ADDRESS\n...")

    monkeypatch.setitem(KERNEL.__dict__, "compiled", {((1, 1, 1), (64, 1, 1), ("stream", 77)): fail})
    with pytest.raises(
        fg.DeviceError, match=r"kernel test-nothing cannot be launched: CUDA_ERROR_ILLEGAL_ADDRESS \.\.\.$"
    ):
        driver.launch(KERNEL, (1, 1, 1), (4096, 5))


def test_memory_is_asked_for_again_once_garbage_is_collected(made):
    driver, api, _ = made()
    answers = [(Status.CUDA_ERROR_OUT_OF_MEMORY, 0), (Status.CUDA_SUCCESS, 512)]
    api.__dict__["cuMemAlloc"] = lambda nbytes: answers.pop(0)
    assert driver.allocate(10) == 512


def test_without_numba_cuda_a_binding_of_the_driver_is_not_enough(made, monkeypatch):
    made()
    monkeypatch.setitem(sys.modules, "fgnumba.kernels.cuda.target", None)
    monkeypatch.delattr(sys.modules["fgnumba.kernels.cuda"], "target")
    with pytest.raises(fg.DeviceError, match=r"pip install 'fgnumba\[cuda\]'"):
        CudaDriver()


def test_a_mark_is_waited_for_once(made):
    driver, api, _ = made()
    driver.wait(driver.mark())
    assert [call[0] for call in api.calls[-4:]] == [
        "cuEventCreate",
        "cuEventRecord",
        "cuEventSynchronize",
        "cuEventDestroy",
    ]


def test_auto_takes_the_cpu_where_there_is_no_gpu(monkeypatch):
    def fail():
        raise fg.DeviceError("there is none")

    monkeypatch.setattr("fgnumba.device._driver", fail)
    monkeypatch.delenv("FGNUMBA_DEVICE", raising=False)
    model = fg.Sequential([fg.Dense(2)], input_shape=3, device="auto")
    assert model.device == "cpu"
    with pytest.raises(fg.DeviceError, match="there is none"):
        fg.Sequential([fg.Dense(2)], input_shape=3, device="cuda")


def test_the_environment_says_what_auto_is(monkeypatch):
    monkeypatch.setenv("FGNUMBA_DEVICE", "cpu")
    monkeypatch.setattr("fgnumba.device._driver", lambda: pytest.fail("a GPU was asked for"))
    assert fg.Sequential([fg.Dense(2)], input_shape=3).device == "cpu"
    monkeypatch.setenv("FGNUMBA_DEVICE", "gpu")
    with pytest.raises(fg.DeviceError, match="FGNUMBA_DEVICE: unknown device 'gpu'"):
        fg.Sequential([fg.Dense(2)], input_shape=3)
