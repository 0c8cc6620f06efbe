"""Models on a GPU are saved, described and exchanged as those on the CPU are."""

import numpy as np
import pytest

import fgnumba as fg
from fgnumba.kernels.devices.gpu import Gpu
from tests.interchange.networks import batch, first, relative_difference
from tests.tolerances_interchange import SAME_NETWORK


@pytest.fixture
def model(driver):
    layers = [fg.Conv2d(3, 2, activation="tanh"), fg.Flatten(), fg.Dense(2)]
    return fg.Sequential(layers, input_shape=(3, 3, 2), seed=1, device=Gpu(driver))


def test_a_model_is_saved_from_a_gpu_and_loaded_onto_it(tmp_path, model):
    model.save(tmp_path / "model")
    for device in (model.processor, "cpu"):
        loaded = fg.load(tmp_path / "model", device)
        assert loaded.device == ("cuda" if device is model.processor else "cpu")
        for name, array in loaded.parameters().items():
            assert np.array_equal(array, model.parameters()[name])
    assert model.summary() == fg.load(tmp_path / "model", "cpu").summary()


def test_a_model_goes_from_a_gpu_to_pytorch_and_back(model):
    torch = pytest.importorskip("torch")
    module = fg.to_torch(model)
    back = fg.from_torch(module, model.input_shape, model.processor)
    assert back.processor is model.processor
    x = batch(model.input_shape)
    with torch.no_grad():
        expected = module(torch.from_numpy(first(x))).numpy()
    for one in (model, back):
        assert relative_difference(one(x), expected) < SAME_NETWORK


def test_a_model_goes_from_a_gpu_to_onnx_and_back(tmp_path, model):
    pytest.importorskip("onnx")
    fg.to_onnx(model, tmp_path / "model.onnx")
    back = fg.from_onnx(tmp_path / "model.onnx", model.processor)
    assert back.processor is model.processor
    for name, array in fg.from_onnx(tmp_path / "model.onnx", "cpu").parameters().items():
        assert np.array_equal(array, back.parameters()[name])
