"""Activations of one's own on a GPU: the same rules as on the CPU, in elementwise operations and after products."""

import numpy as np
import pytest

import fgnumba as fg
from fgnumba.functions.scalar_source import with_bounds
from fgnumba.kernels.devices.gpu import Gpu
from fgnumba.kernels.ops.elementwise import cuda as elementwise
from tests import own_functions, tolerances_own_activations


@pytest.mark.parametrize("name", own_functions.FUNCTIONS)
def test_an_elementwise_operation_is_within_the_bound_of_its_roundings(gpu, name):
    activation = fg.activation(own_functions.FUNCTIONS[name])
    z = np.concatenate([np.linspace(-9, 9, 31), [-100, -1e-3, 0.0, 1e-3, 80]]).astype(np.float32)
    x = np.stack([z, np.ones_like(z)]).reshape(2, 2, 1, 1, 18)
    y = gpu.images(shape=(1, 1, 18), blocks=2, batch=2)
    gpu.run(
        elementwise.bind(
            batch=2, images_a_part=0, count=1, x=gpu.images(x), y=y, activation_name=str(activation)
        )
    )
    bounds = with_bounds(activation.outputs, z.astype(np.float64))
    for found, (right, allowed) in zip(gpu.values(y).reshape(2, 36), bounds, strict=True):
        assert np.all(np.abs(found - right) <= allowed), name


def test_a_network_trains_as_on_the_cpu(driver):
    x = np.random.default_rng(0).standard_normal((6, 5)).astype(np.float32)
    y = np.arange(6) % 3
    losses = []
    for device in ("cpu", Gpu(driver)):
        layers = [fg.Dense(4, activation=fg.activation(own_functions.swish)), fg.Dense(3)]
        model = fg.Sequential(layers, 5, seed=1, device=device)
        trainer = fg.Trainer(model, estimator="feedback", optimizer=fg.SGD(0.05), seed=2)
        losses.append([trainer.step(x, y).loss for _ in range(3)])
    tolerances_own_activations.TRAINED.check(losses[1], losses[0])
