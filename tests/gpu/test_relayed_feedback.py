"""Relayed feedback on a GPU trains models of vectors as it does on the CPU."""

import numpy as np
import pytest

import fgnumba as fg
from fgnumba.kernels.devices.device import CPU
from fgnumba.kernels.devices.gpu import Gpu
from tests import tolerances

RNG = np.random.default_rng(0)
X, Y = RNG.standard_normal((3, 4)).astype(np.float32), RNG.integers(0, 3, 3)
CHAIN = [
    fg.Node("a", fg.Dense(5, "relu")),
    fg.Node("drop", fg.Dropout(0.3)),
    fg.Node("b", fg.Dense(4, "tanh")),
    fg.Node("out", fg.Dense(3)),
]
RESIDUAL = [
    fg.Node("a", fg.Dense(5, "relu")),
    fg.Node("b", fg.Dense(5, bias=False), "a"),
    fg.Node("sum", fg.Add("relu"), ("a", "b")),
    fg.Node("norm", fg.LayerNorm(), "sum"),
    fg.Node("out", fg.Dense(3), "norm"),
]


def trained(nodes, device):
    """Return the loss and all parameters after a step in which matrices learn; they are not zero before it."""
    model = fg.Graph(nodes, (4,), seed=1, device=device)
    trainer = fg.Trainer(model, estimator=fg.RelayedFeedback(noise=3), optimizer=fg.SGD(1.0), seed=2)
    for number, (_, parameter) in enumerate(sorted(trainer.state.parameters.items())):
        drawn = np.random.default_rng(number).standard_normal(parameter.shape)
        parameter.assign((0.3 * drawn).astype(np.float32))
    loss = trainer.step(X, Y).loss
    kept = {name: parameter.array() for name, parameter in trainer.state.parameters.items()}
    return loss, model.parameters() | kept


@pytest.mark.parametrize("nodes", [CHAIN, RESIDUAL], ids=["chain", "residual"])
def test_parameters_and_feedback_are_those_of_the_cpu(driver, nodes):
    expected_loss, expected = trained(nodes, CPU)
    loss, found = trained(nodes, Gpu(driver))
    tolerances.GPU_TRAINING.check(loss, expected_loss)
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        tolerances.GPU_TRAINING.check(found[name], array, name)
