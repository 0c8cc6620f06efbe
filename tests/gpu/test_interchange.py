"""Arrays of other libraries on a GPU: taken and given without a copy."""

import gc

import numpy as np
import pytest

import fgnumba as fg
from fgnumba.kernels.cuda import interchange
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


def test_what_a_capsule_lends_lives_until_it_is_given_back(gpu):
    taken = adopt(ByDlpack(gpu.array(VALUES)), gpu.driver)
    assert taken is not None
    gc.collect()
    assert len(interchange._lent) == 1
    np.testing.assert_array_equal(taken.download(), VALUES)
    del taken
    gc.collect()
    assert not interchange._lent


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
