"""Real-time recurrent learning on a GPU takes the steps that it takes on the CPU."""

import numpy as np
import pytest

import fgnumba as fg
from fgnumba.kernels.devices.gpu import Gpu
from tests import tolerances

LENGTH = 3


@pytest.fixture
def device(driver):
    return Gpu(driver)


def letters(device):
    layers = [fg.ElementwiseLSTM(5, symbols=4), fg.Dense(4)]
    return fg.Sequential(layers, (LENGTH,), seed=1, device=device)


def stacked(device):
    nodes = [
        fg.Node("low", fg.MinGRU(5)),
        fg.Node("high", fg.LinearRecurrentUnit(3), ("low",)),
        fg.Node("out", fg.Dense(4), ("high",)),
    ]
    return fg.Graph(nodes, (LENGTH, 2), seed=1, device=device)


def trained(network, device):
    trainer = fg.Trainer(
        network(device), estimator=fg.RealTimeRecurrentLearning(), optimizer=fg.Adam(1e-2), seed=3
    )
    rng, losses = np.random.default_rng(5), []
    for _ in range(3):
        size = (2, LENGTH)
        x = rng.integers(0, 4, size) if network is letters else rng.standard_normal((*size, 2), np.float32)
        losses.append(trainer.step(x, rng.integers(0, 4, size)).loss)
    return trainer, losses


@pytest.mark.parametrize("network", [letters, stacked])
def test_steps_are_those_of_the_cpu(device, network):
    (one, found), (other, expected) = trained(network, device), trained(network, "cpu")
    tolerances.GPU_TRAINING.check(np.array(found), np.array(expected))
    for name, array in other.model.parameters().items():
        tolerances.GPU_TRAINING.check(one.model.parameters()[name], array)
    for name, array in other.state.arrays.items():
        if name.startswith(("state.", "trace.")):
            # Units in the padding have traces of any kind, which reach no gradient.
            units = np.s_[:1, ..., :3]
            tolerances.GPU_TRAINING.check(device.values(one.state.arrays[name])[units], array[units])
