"""Block feedback on a GPU trains a transformer as it does on the CPU."""

import numpy as np
import pytest

import fgnumba as fg
from fgnumba.kernels.devices.device import CPU
from fgnumba.kernels.devices.gpu import Gpu
from tests import tolerances

LENGTH, SYMBOLS, WIDTH = 3, 5, 6
RNG = np.random.default_rng(0)
X, Y = RNG.integers(0, SYMBOLS, (2, 2, LENGTH))


def trained(device, attention, learned):
    """Return the loss, and parameters and what the estimator keeps after a step; feedback is not zero before it."""
    layers = [
        fg.Embedding(SYMBOLS, WIDTH),
        fg.PositionalEmbedding(LENGTH + 1),
        fg.TransformerBlock(2, hidden=5, key_heads=1),
        fg.LayerNorm(),
        fg.Dense(SYMBOLS),
    ]
    model = fg.Sequential(layers, (LENGTH,), seed=1, device=device)
    trainer = fg.Trainer(
        model, estimator=fg.BlockFeedback(attention=attention), optimizer=fg.SGD(1.0), seed=2
    )
    trainer.bind(len(X))
    for name, array in trainer.state.arrays.items():
        if name.startswith("feedback."):
            # What lies in the padding of a packed matrix is zero.
            there = np.array(model.packed_parameters[name.removeprefix("feedback.")].packed) != 0
            drawn = 0.3 * there * np.random.default_rng(len(learned)).standard_normal(there.shape)
            device.assign(array, learned.setdefault(name, drawn.astype(np.float32)))
    loss = trainer.step(X, Y).loss
    kept = {name: np.array(array) for name, array in trainer.state.arrays.items()}
    return loss, model.parameters() | kept


@pytest.mark.parametrize("attention", ["closed-form", "noise"])
def test_parameters_and_feedback_are_those_of_the_cpu(driver, attention):
    learned = {}
    expected_loss, expected = trained(CPU, attention, learned)
    assert learned
    loss, found = trained(Gpu(driver), attention, learned)
    tolerances.GPU_TRAINING.check(loss, expected_loss)
    for name, array in expected.items():
        tolerances.GPU_TRAINING.check(found[name], array, name)
