"""Subnormal numbers count as zero on a GPU, and in the simulator, as on the CPU."""

import numpy as np
import pytest

import fgnumba as fg
from fgnumba.kernels.devices.gpu import Gpu

TINY = np.float32(1e-40)


@pytest.fixture
def model(driver):
    layers = [fg.Dense(9, activation="identity"), fg.Dense(4)]
    return fg.Sequential(layers, input_shape=7, seed=1, device=Gpu(driver))


def test_inputs(model):
    x = np.full((5, 7), TINY)
    np.testing.assert_array_equal(model(x), model(np.zeros_like(x)))


def test_parameters(model):
    zeros = {name: np.zeros_like(array) for name, array in model.parameters().items()}
    model.load_parameters({name: np.full_like(array, TINY) for name, array in zeros.items()})
    # Weights times inputs, and sums, would be ordinary numbers.
    np.testing.assert_array_equal(model(np.full((5, 7), np.float32(1e20))), 0)


def test_the_host_computes_with_subnormals_before_and_after(model):
    model(np.ones((5, 7), np.float32))
    assert (np.full(8, TINY) * np.float32(1)).all()
