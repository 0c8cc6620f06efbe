"""Arrays of other libraries on a GPU: taken and given without a copy."""

import gc
import sys
import weakref

import numpy as np
import pytest

import fgnumba as fg
from fgnumba.errors import DeviceError, DtypeError
from fgnumba.kernels.cuda import interchange
from fgnumba.kernels.cuda.cuda_driver import view_of
from fgnumba.kernels.cuda.driver import SimulatedDriver
from fgnumba.kernels.cuda.interchange import adopt
from fgnumba.kernels.cuda.memory import DeviceArray
from fgnumba.kernels.devices.gpu import Gpu

VALUES = np.arange(12, dtype=np.float32).reshape(3, 4)


class ByInterface:
    """An array that offers the CUDA array interface alone."""

    def __init__(self, array, **changes):
        self.array, self.changes = array, changes

    @property
    def __cuda_array_interface__(self):
        return self.array.__cuda_array_interface__ | self.changes


class ByDlpack:
    """An array that offers DLPack alone."""

    def __init__(self, array, number=None):
        self.array, self.number = array, number

    def __dlpack__(self, stream=None):
        return self.array.__dlpack__()

    def __dlpack_device__(self):
        kind, number = self.array.__dlpack_device__()
        return kind, number if self.number is None else self.number


@pytest.mark.parametrize("wrap", [ByInterface, ByDlpack])
def test_memory_is_shared(gpu, wrap):
    array = gpu.array(VALUES)
    taken = adopt(wrap(array), gpu.driver)
    assert taken is not None
    assert taken.address == array.address
    assert (taken.shape, taken.dtype) == (array.shape, array.dtype)
    array.upload(VALUES + 1)
    np.testing.assert_array_equal(taken.download(), VALUES + 1)


def memory_of(array):
    """Return a reference to what holds an array's memory: dead, once that is given back."""
    return weakref.ref(array._owner)


def test_what_a_capsule_lends_lives_until_it_is_given_back(gpu):
    array = gpu.array(VALUES)
    memory = memory_of(array)
    taken = adopt(ByDlpack(array), gpu.driver)
    assert taken is not None
    del array
    gc.collect()
    np.testing.assert_array_equal(taken.download(), VALUES)
    del taken
    gc.collect()
    assert memory() is None


def test_a_capsule_that_nobody_takes_gives_back(gpu):
    array = gpu.array(VALUES)
    memory, capsule = memory_of(array), array.__dlpack__()
    del array
    gc.collect()
    assert memory() is not None
    del capsule
    gc.collect()
    assert memory() is None

    def refuse(capsule):
        raise RuntimeError("not taken")

    # The capsule goes while an exception is raised, which stays what it is.
    array = gpu.array(VALUES)
    memory = memory_of(array)
    with pytest.raises(RuntimeError, match="not taken"):
        refuse(array.__dlpack__())
    del array
    gc.collect()
    assert memory() is None


def test_a_capsule_says_where_the_array_is(gpu):
    """A taker that looks at the capsule alone, as PyTorch does, finds the device and the address."""
    array = gpu.array(VALUES)
    for part in (array, array[1:], array[:0]):
        capsule = part.__dlpack__()
        head = interchange._Head.from_address(interchange._pointer(capsule, b"dltensor"))
        assert (head.device_type, head.device_id) == part.__dlpack_device__()
        assert head.data == part.address


class OfCuda:
    """An array of the host that says it were on a GPU, and notes what it is asked with."""

    def __init__(self, array):
        self.array, self.asked = array, []

    def __dlpack__(self, **asked):
        self.asked.append(asked)
        return self.array.__dlpack__()

    def __dlpack_device__(self):
        return 2, 0


def test_cuda_core_takes_arrays_without_a_driver():
    pytest.importorskip("cuda.core")
    values = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    array = OfCuda(values[:, ::2])
    before = sys.getrefcount(values)
    found = view_of(array, 7)
    assert array.asked[0]["stream"] == 7
    assert (found.address, found.shape, found.dtype) == (values.ctypes.data, (2, 2, 4), np.float32)
    assert found.strides == (12, 8, 1)
    del found
    assert sys.getrefcount(values) == before
    with pytest.raises(fg.DtypeError, match="dtype complex64; real numbers are required"):
        adopt(OfCuda(values.astype(np.complex64)), Cuda())
    taken = adopt(OfCuda(values), Cuda())
    assert taken is not None
    assert taken.address == values.ctypes.data
    with pytest.raises(fg.DeviceError, match=r"a OfCuda of shape \(2, 2, 4\) is not C-contiguous"):
        adopt(array, Cuda())


class Cuda(SimulatedDriver):
    """The simulated GPU, except that it takes arrays as a real one does."""

    dlpack_device, stream = 2, 7

    def view(self, x):
        return view_of(x, self.stream)


def test_numpy_reads_what_the_simulator_gives(gpu):
    array = gpu.array(VALUES)
    if array.__dlpack_device__()[0] != 1:
        pytest.skip("NumPy reads no memory of a GPU")
    np.testing.assert_array_equal(np.from_dlpack(array), VALUES)


def test_arrays_of_the_host_are_not_taken(gpu):
    assert adopt(VALUES, gpu.driver) is None
    assert adopt([1.0, 2.0], gpu.driver) is None


def test_what_cannot_be_taken_is_named(gpu):
    array = gpu.array(VALUES)
    with pytest.raises(fg.DeviceError, match=r"a ByInterface of shape \(3, 4\) is not C-contiguous"):
        adopt(ByInterface(array, strides=(4, 12)), gpu.driver)
    with pytest.raises(fg.DtypeError, match="dtype complex64; real numbers are required"):
        adopt(ByInterface(array, typestr="<c8", shape=(3, 2)), gpu.driver)
    with pytest.raises(fg.DeviceError, match="an array lies on GPU 7; GPU 0 is required"):
        adopt(ByDlpack(array, number=7), gpu.driver)


@pytest.mark.parametrize("wrap", [ByInterface, ByDlpack, lambda array: array])
def test_a_model_takes_and_gives_arrays_of_the_device(gpu, wrap):
    model = fg.Sequential([fg.Dense(3)], input_shape=4, device=Gpu(gpu.driver))
    outputs = model(wrap(gpu.array(VALUES)))
    assert isinstance(outputs, DeviceArray)
    np.testing.assert_array_equal(outputs.download(), model(VALUES))


def test_a_trainer_takes_arrays_of_the_device(gpu):
    labels = np.array([0, 2, 1])
    results = []
    for x, y in ((VALUES, labels), (gpu.array(VALUES), ByDlpack(gpu.array(labels)))):
        model = fg.Sequential([fg.Dense(3)], input_shape=4, device=Gpu(gpu.driver))
        results.append(fg.Trainer(model, optimizer=fg.SGD(1e-3)).step(x, y))
    assert results[0] == results[1]


def test_other_dtypes_of_the_device_are_refused(gpu):
    model = fg.Sequential([fg.Dense(3)], input_shape=4, device=Gpu(gpu.driver))
    with pytest.raises(fg.DtypeError, match="float64 on the GPU; float32 is required there"):
        model(gpu.array(VALUES.astype(np.float64)))
    with pytest.raises(fg.DtypeError, match="int32 on the GPU; int64 is required there"):
        fg.jvp(
            model,
            fg.SoftmaxCrossEntropy(),
            gpu.array(VALUES),
            gpu.array(np.zeros(3, np.int32)),
            fg.directions.RankOne(0),
        )


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"shape": (4,), "strides": (6,)}, DeviceError, "is not C-contiguous"),
        (
            {"typestr": ">f4"},
            DtypeError,
            "dtype >f4; real numbers are required, in this machine's byte order",
        ),
        ({"mask": "anything"}, DtypeError, "a ByInterface on the GPU has a mask"),
    ],
)
def test_an_interface_whose_elements_lie_otherwise_is_refused(gpu, changes, error, message):
    with pytest.raises(error, match=message):
        adopt(ByInterface(gpu.array(VALUES), **changes), gpu.driver)
