"""Block feedback on a GPU trains streams as it does on the CPU."""

import numpy as np
import pytest

import fgnumba as fg
from fgnumba.kernels.devices.device import CPU
from fgnumba.kernels.devices.gpu import Gpu
from tests import tolerances
from tests.estimators.block_gradients import packed

LENGTH, SYMBOLS, WIDTH = 2, 3, 4
RNG = np.random.default_rng(0)
X, Y = RNG.integers(0, SYMBOLS, (2, 2, LENGTH))
NUMBERS = RNG.standard_normal((2, LENGTH, 4)).astype(np.float32)


def letters(device):
    layers = [
        fg.Embedding(SYMBOLS, WIDTH),
        fg.PositionalEmbedding(LENGTH + 1),
        fg.TransformerBlock(2, hidden=5, key_heads=1),
        fg.LayerNorm(),
        fg.Dense(SYMBOLS),
    ]
    return fg.Sequential(layers, (LENGTH,), seed=1, device=device)


def numbers(device):
    """Return a stream of two blocks, of which the first has a head of its own."""
    nodes = [
        fg.Node("first", fg.Dense(WIDTH)),
        fg.Node(
            "block", fg.TransformerBlock(2, hidden=5, parallel=True, normalization="rms_norm", affine=False)
        ),
        fg.Node("hidden", fg.Dense(4, "relu", bias=False)),
        fg.Node("project", fg.Dense(WIDTH)),
        fg.Node("end", fg.Add(), ("block", "project")),
        fg.Node("out", fg.Dense(SYMBOLS)),
    ]
    return fg.Graph(nodes, (LENGTH, 4), seed=1, device=device)


def trained(network, settings, device):
    """Return the loss, and parameters and what the estimator keeps after a step; feedback is not zero before it."""
    model = network(device)
    trainer = fg.Trainer(model, estimator=fg.BlockFeedback(**settings), optimizer=fg.SGD(1.0), seed=2)
    trainer.bind(len(X))
    parameters = {**model.packed_parameters, **trainer.state.parameters}
    for number, (name, array) in enumerate(sorted(trainer.state.arrays.items())):
        if name.startswith("feedback."):
            weight = parameters.get(name.removeprefix("feedback."))
            drawn = np.random.default_rng(number).standard_normal(weight.shape if weight else (WIDTH, WIDTH))
            device.assign(array, packed(0.3 * drawn))
    loss = trainer.step(X if network is letters else NUMBERS, Y).loss
    kept = {name: np.array(array) for name, array in trainer.state.arrays.items()}
    kept |= {name: parameter.array() for name, parameter in trainer.state.parameters.items()}
    return loss, model.parameters() | kept


@pytest.mark.parametrize(
    ("network", "settings"), [(letters, {}), (numbers, {"attention": "noise", "relayed": False})]
)
def test_parameters_and_feedback_are_those_of_the_cpu(driver, network, settings):
    expected_loss, expected = trained(network, settings, CPU)
    loss, found = trained(network, settings, Gpu(driver))
    tolerances.GPU_TRAINING.check(loss, expected_loss)
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        tolerances.GPU_TRAINING.check(found[name], array, name)
