"""The character transformer in PyTorch, where it is installed: its loss and gradient are ours, and a step moves it."""

import numpy as np
import pytest

import fgnumba as fg
from fgnumba.bench import reverse
from fgnumba.bench.measure import transformer_peers
from tests import tolerances

HEADS = 2


@pytest.fixture
def problem():
    rng = np.random.default_rng(0)
    layers = [
        fg.Embedding(7, 12),
        fg.PositionalEmbedding(5),
        *[fg.TransformerBlock(HEADS)] * 2,
        fg.LayerNorm(),
        fg.Dense(7),
    ]
    model = fg.Sequential(layers, (5,), device="cpu")
    model.load_parameters(
        {name: array + 0.1 * rng.standard_normal(array.shape) for name, array in model.parameters().items()}
    )
    symbols = rng.integers(0, 7, (3, 6))
    return model, symbols[:, :-1], symbols[:, 1:]


def test_pytorch_agrees(problem):
    torch = pytest.importorskip("torch")
    model, x, y = problem
    parameters = transformer_peers.torch_parameters(model.parameters())
    value = transformer_peers.torch_loss(parameters, HEADS, torch.from_numpy(x), torch.from_numpy(y))
    value.backward()
    ours, gradient = reverse.value_and_grad(model, fg.SoftmaxCrossEntropy(), x, y)
    tolerances.MODEL_LOSS.check(ours, float(value.detach()))
    for name, array in gradient.items():
        found = parameters[name].grad.numpy()
        found = found if name in transformer_peers.TABLES else found.T
        error = np.linalg.norm(array - found)
        assert error <= tolerances.PEERS_GRADIENT * np.linalg.norm(found), f"{name}: {error:.3g}"


def test_a_step_moves_a_copy(problem):
    pytest.importorskip("torch")
    model, x, y = problem
    before = model.parameters()
    step = transformer_peers.torch_step(before, HEADS, x, y, 1)
    assert step is not None
    first, second = step(), step()
    assert second != first
    tolerances.MODEL_LOSS.check(first, reverse.value_and_grad(model, fg.SoftmaxCrossEntropy(), x, y)[0])
