"""Losses and layers that are functions run on the CPU alone, and a GPU refuses them in one line."""

import numpy as np
import pytest

import fgnumba as fg
from fgnumba.kernels.devices.gpu import Gpu
from tests import functions_of_examples


@pytest.fixture
def device(driver):
    return Gpu(driver)


def test_a_loss_is_refused(device):
    model = fg.Sequential([fg.Dense(2)], 3, device=device)
    trainer = fg.Trainer(model, loss=functions_of_examples.cross_entropy, optimizer=fg.SGD(1e-3))
    with pytest.raises(fg.DeviceError, match=r"cross_entropy .* runs on the CPU alone") as raised:
        trainer.step(np.ones((2, 3), np.float32), np.array([0, 1]))
    assert "\n" not in str(raised.value)


def test_a_layer_is_refused(device):
    layers = [fg.layers.Function(functions_of_examples.swish, {"beta": 1.0})]
    with pytest.raises(fg.DeviceError, match=r"swish .* runs on the CPU alone") as raised:
        fg.Sequential(layers, 3, device=device)(np.ones((2, 3), np.float32))
    assert "\n" not in str(raised.value)
