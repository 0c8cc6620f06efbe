"""Gradients that block feedback leaves, and those of the blocks' own losses in float64."""

from typing import Any

import numpy as np

import fgnumba as fg
from fgnumba.estimators.blocks.layout import analyzed
from tests.references.graph_reference import evaluated

SEED = 2
TANGENTS = 3


def trainer_of(model, optimizer=None, loss=None, **given):
    estimator = fg.BlockFeedback(**given)
    return fg.Trainer(model, loss=loss, estimator=estimator, optimizer=optimizer or fg.SGD(1e-30), seed=SEED)


def packed(array):
    return fg.layers.parameters.Parameter.create("", 0, array.astype(np.float32)).packed


def parameters_of(one):
    """Return all parameters by name: the model's, and those of the blocks' heads."""
    own = {name: parameter.array() for name, parameter in one.state.parameters.items()}
    return {**one.model.parameters(), **own}


def know(one, count):
    """Make every feedback matrix equal to what it predicts: a weight, or the product of both of a branch."""
    one.bind(count)
    parameters = parameters_of(one)
    for name, array in one.state.arrays.items():
        if name.startswith("feedback."):
            array[...] = packed(predicted(one.model, parameters, name.removeprefix("feedback.")))


def predicted(model, parameters, name):
    """Return the response that the matrix of a weight, or of a branch whose hidden units are linear, predicts."""
    if name in parameters:
        return parameters[name]
    first = name.removesuffix(".branch")
    project = next(node.name for node in model.nodes if first in node.inputs)
    return parameters[f"{first}.weight"].astype(np.float64) @ parameters[f"{project}.weight"]


def gradients_of(one):
    """Return the gradients of the last step by the parameters' names."""
    found = {**one.model.packed_parameters, **one.state.parameters}
    return {name: p.array(one.state.arrays[f"gradient.{name}"]) for name, p in found.items()}


def moved(model, rng):
    """Give vectors of the model numbers that they do not begin with."""
    model.load_parameters(
        {
            name: array
            if array.ndim > 1
            else (array + 0.3 * rng.standard_normal(array.shape)).astype(np.float32)
            for name, array in model.parameters().items()
        }
    )


def of_block(model, block, parameters):
    """Return the model up to the end of a block, with the block's head, whose names are features and outputs."""
    if block.last:
        return model
    names = [node.name for node in model.nodes]
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


def cross_entropy_slope(z, y):
    """Return ∂f/∂z of the mean cross entropy of all rows of z (n, N)."""
    e = np.exp(z - z.max(-1, keepdims=True))
    e /= e.sum(-1, keepdims=True)
    e[np.arange(len(y)), y] -= 1
    return e / len(y)


def square_slope(z, y):
    return 2 * (z - y) / y.size


def check(model, x, y, bound, loss=None, slope: Any = cross_entropy_slope, weights=None, share=1.0, **given):
    """Compare each gradient g with its block's loss in float64: <g, v> is the loss's derivative along v.

    The error is at most `bound` times ‖v‖ times a norm: that of g, or in part, as `share` says, that of all gradients
    of the block together, for gradients of which most terms cancel. Return the norms of the gradients by name.
    """
    rng = np.random.default_rng(7)
    if weights is not None:
        loss = (loss or fg.SoftmaxCrossEntropy()).with_example_weights()
    one = trainer_of(model, loss=loss, **given)
    know(one, len(x))
    one.step(x, y if weights is None else loss.pack(y, weights))
    found, parameters = gradients_of(one), parameters_of(one)
    norms = {}
    for block in analyzed(model).blocks:
        part, names = of_block(model, block, parameters), sorted(owned(model, block))
        shapes = {name: array.shape for name, array in part.parameters().items()}
        tangents = {
            name: np.zeros((TANGENTS * len(names), *shape), np.float32) for name, shape in shapes.items()
        }
        for at, name in enumerate(names):
            drawn = rng.standard_normal((TANGENTS, *shapes[name]))
            tangents[name][at * TANGENTS : (at + 1) * TANGENTS] = drawn
        z, dz = evaluated(part, x, tangents, stream=(SEED, 0))
        z = z.reshape(-1, model.outputs)
        targets = y.ravel() if y.dtype.kind == "i" else y.reshape(z.shape)
        errors = slope(z, targets) * (1.0 if weights is None else np.reshape(weights, (-1, 1)))
        expected = dz.reshape(len(dz), -1) @ errors.ravel()
        own = {name: found[name.replace("outputs", block.head)].astype(np.float64) for name in names}
        whole = np.sqrt(sum(float((g**2).sum()) for g in own.values()))
        for at, name in enumerate(names):
            these = slice(at * TANGENTS, (at + 1) * TANGENTS)
            v = tangents[name][these].astype(np.float64).reshape(TANGENTS, -1)
            seen = v @ own[name].ravel()
            norm = np.linalg.norm(own[name])
            allowed = bound * np.linalg.norm(v, axis=1) * (norm + share * whole)
            assert (np.abs(seen - expected[these]) <= allowed).all(), (
                name,
                seen,
                expected[these],
                norm,
                whole,
            )
            norms[name.replace("outputs", block.head)] = norm
    assert set(norms) == set(found)
    return norms
