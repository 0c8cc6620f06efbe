"""Block feedback: gradients within blocks, how feedback learns, and what is refused."""

import numpy as np
import pytest

import fgnumba as fg
from fgnumba.estimators.blocks.layout import analyzed
from tests.references.graph_reference import evaluated
from tests.tolerances_traces import GRADIENT

LENGTH, SYMBOLS, WIDTH = 7, 5, 12
STEEP = 1e4
"""A learning rate at which the change of a parameter shows its gradient to all digits."""


def batch(seed=0, count=3):
    rng = np.random.default_rng(seed)
    text = rng.integers(0, SYMBOLS, (count, LENGTH + 1))
    return text[:, :-1], text[:, 1:]


def network(*layers, symbols=True, width=WIDTH, seed=1):
    first = (
        [fg.Embedding(SYMBOLS, width), fg.PositionalEmbedding(LENGTH + 2)] if symbols else [fg.Dense(width)]
    )
    shape = (LENGTH,) if symbols else (LENGTH, 4)
    return fg.Sequential([*first, *layers], shape, seed=seed, device="cpu")


def trainer(model, optimizer=None, **given):
    return fg.Trainer(
        model, estimator=fg.BlockFeedback(**given), optimizer=optimizer or fg.SGD(STEEP), seed=2
    )


def know(model, trained, count):
    """Make every feedback matrix equal to what it predicts: a weight."""
    trained.bind(count)
    weights = {**model.packed_parameters, **trained.state.parameters}
    for name, array in trained.state.arrays.items():
        if name.startswith("feedback."):
            array[...] = weights[name.removeprefix("feedback.")].packed


def gradients(model, x, y, **given):
    """Return the gradients of all parameters, and the parameters before, with feedback that has learned."""
    trained = trainer(model, **given)
    know(model, trained, len(x))
    before = {**model.parameters(), **own(trained)}
    trained.step(x, y)
    after = {**model.parameters(), **own(trained)}
    return {name: (before[name] - after[name]) / STEEP for name in before}, before


def own(trained):
    return {name: parameter.array() for name, parameter in trained.state.parameters.items()}


def of_block(model, block, parameters):
    """Return the model up to the end of a block, with the block's head."""
    names = [node.name for node in model.nodes]
    if block.last:
        return model
    nodes = list(model.nodes[: names.index(block.sums[-1].add.names[-1]) + 1])
    if norm := analyzed(model).norm:
        nodes.append(fg.Node("features", norm.layer))
    nodes.append(fg.Node("outputs", fg.Dense(model.outputs)))
    part = fg.Graph(nodes, model.input_shape, device="cpu")
    given = part.parameters()
    for name in given:
        if not name.startswith("features."):
            given[name] = parameters[name.replace("outputs", block.head)]
    part.load_parameters(given)
    return part


def residual(z, y):
    """Return the gradient of softmax cross-entropy in z, over all positions."""
    e = np.exp(z - z.max(-1, keepdims=True))
    e /= e.sum(-1, keepdims=True)
    np.put_along_axis(e, y[..., None], np.take_along_axis(e, y[..., None], -1) - 1, -1)
    return e / y.size


def owned(model, block):
    """Return the names of the parameters that a block's loss trains, as its part of the model has them."""
    layout = analyzed(model)
    steps = [step for each in block.sums for branch in each.branches for step in branch.steps]
    if block.head == layout.blocks[0].head:
        steps += layout.inputs
    if block.last:
        steps += [step for step in (layout.norm, layout.readout) if step]
    names = {parameter.name for step in steps for parameter in model.layer_parameters(step.index).values()}
    return names if block.last else names | {"outputs.weight", "outputs.bias"}


MODELS = {
    "sequential": [fg.TransformerBlock(2), fg.TransformerBlock(3, hidden=5), fg.LayerNorm()],
    "parallel": [
        fg.TransformerBlock(4, parallel=True, activation="relu"),
        fg.TransformerBlock(2, parallel=True),
    ],
    "rms": [
        fg.TransformerBlock(6, key_heads=2, normalization="rms_norm", activation="leaky_relu", causal=False),
        fg.TransformerBlock(1, activation="tanh", rotary=fg.RotaryEmbedding()),
        fg.RMSNorm(),
    ],
}


@pytest.mark.parametrize("symbols", [True, False], ids=["symbols", "numbers"])
@pytest.mark.parametrize("name", MODELS)
def test_gradients_are_those_of_the_blocks_losses(name, symbols):
    """Each gradient g has <g, v> equal to the derivative of its block's loss along v, in float64."""
    rng = np.random.default_rng(3)
    x, y = batch()
    if not symbols:
        x = rng.standard_normal((*x.shape, 4)).astype(np.float32)
    model = network(*MODELS[name], fg.Dense(SYMBOLS), symbols=symbols)
    blocks = analyzed(model).blocks
    found, parameters = gradients(model, x, y)
    model.load_parameters({name: parameters[name] for name in model.parameters()})
    checked = set()
    for block in blocks:
        part, names = of_block(model, block, parameters), owned(model, block)
        for name in names:
            tangents = {other: np.zeros((4, *a.shape)) for other, a in part.parameters().items()}
            tangents[name] = rng.standard_normal(tangents[name].shape)
            z, dz = evaluated(part, x, tangents)
            errors = residual(z.reshape(*y.shape, SYMBOLS), y)
            expected = dz.reshape(4, -1) @ errors.ravel()
            own_name = name.replace("outputs", block.head)
            gradient = found[own_name].astype(np.float64)
            seen = (gradient * tangents[name]).reshape(4, -1).sum(1)
            scale = np.linalg.norm(gradient) * np.linalg.norm(tangents[name].reshape(4, -1), axis=1)
            assert (np.abs(seen - expected) <= GRADIENT * scale).all(), (own_name, seen, expected)
            assert scale.min() > 0
            checked.add(own_name)
    assert checked == set(found)
