"""Derivatives of a model's outputs in its input on a GPU, against float64 and with arrays that lie there."""

from typing import Any

import numpy as np
import pytest

import fgnumba as fg
from fgnumba.kernels.devices.gpu import Gpu
from tests import tolerances
from tests.model.test_graph_jvp import off_kinks, randomized
from tests.references.graph_reference import evaluated

NETWORKS: dict[str, Any] = {
    "perceptron": ([fg.Dense(7, "gelu"), fg.Dense(5, "relu"), fg.Dense(3)], (9,)),
    "convolutions": (
        [
            fg.Conv2d(4, 3, padding="same", activation="tanh"),
            fg.Conv2d(6, 2, groups=2),
            fg.Flatten(),
            fg.Dense(2),
        ],
        (4, 3, 2),
    ),
    "pools": ([fg.MaxPool2d(2, 1), fg.AvgPool2d(2, 1, "same"), fg.GlobalAveragePool2d()], (3, 4, 2)),
    "norms": ([fg.GroupNorm(2), fg.Flatten(), fg.LayerNorm(), fg.Dropout(0.5), fg.Dense(3)], (2, 3, 4)),
}


def compare(model, batch=3):
    rng = np.random.default_rng(5)
    if model.parameters():
        randomized(model, rng)
    x = (
        off_kinks(model, batch, rng)
        if model.parameters()
        else rng.standard_normal((batch, *model.input_shape))
    )
    x = x.astype(np.float32)
    dx = rng.standard_normal(x.shape).astype(np.float32)
    y, dy = fg.jvp(model, (x,), (dx,))
    still = {name: np.zeros((1, *array.shape)) for name, array in model.parameters().items()}
    still = still or {"none": np.zeros((1, 1))}
    expected, (derivative,) = evaluated(model, x, still, dx=dx[None])
    for found, wanted in ((y, expected), (dy, derivative)):
        error = np.abs(found.reshape(batch, -1) - wanted).max()
        assert error <= tolerances.CHECKED_LAYER * np.abs(wanted).max(), error


@pytest.mark.parametrize("name", NETWORKS)
def test_against_float64(driver, name):
    layers, shape = NETWORKS[name]
    compare(fg.Sequential(layers, input_shape=shape, device=Gpu(driver)))


def test_a_graph_that_joins(driver):
    nodes = [
        fg.Node("a", fg.Dense(4, "silu")),
        fg.Node("s", fg.Add("tanh"), ("a", "input")),
        fg.Node("c", fg.Concatenate(), ("s", "a", "input")),
        fg.Node("h", fg.Dense(2)),
    ]
    compare(fg.Graph(nodes, input_shape=4, device=Gpu(driver)))


def test_arrays_on_the_gpu_give_arrays_there(gpu):
    model = fg.Sequential([fg.Dense(3, "tanh")], input_shape=4, device=Gpu(gpu.driver))
    x = np.arange(8, dtype=np.float32).reshape(2, 4) / 8
    expected = fg.jvp(model, (x,), (x + 1,))
    found = fg.jvp(model, (gpu.array(x),), (gpu.array(x + 1),))
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one.download(), other)


def test_one_array_on_the_gpu_is_refused(gpu):
    model = fg.Sequential([fg.Dense(3)], input_shape=4, device=Gpu(gpu.driver))
    x = np.ones((2, 4), np.float32)
    with pytest.raises(fg.DtypeError, match="lie on different devices"):
        fg.jvp(model, (gpu.array(x),), (x,))


@pytest.mark.parametrize(
    "take", [fg.laplacian, lambda model: fg.PhysicsLoss(model, lambda x, u, du, lap: lap)]
)
def test_second_derivatives_are_refused_in_one_line(driver, take):
    model = fg.Sequential([fg.Dense(3, "tanh"), fg.Dense(1)], input_shape=2, device=Gpu(driver))
    with pytest.raises(fg.DeviceError, match="computed on the CPU; the model is on 'cuda'") as caught:
        take(model)
    assert "\n" not in str(caught.value)
