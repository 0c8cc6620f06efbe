"""Dropout: its masks are the generator's, drop the given share, and are off in evaluation."""

import numpy as np

import fgnumba as fg
from fgnumba.kernels.rules import directions
from fgnumba.kernels.rules.philox import STREAM, set_stream
from fgnumba.layers import Perturbation
from fgnumba.model.plan import Plan
from tests import tolerances
from tests.model.test_graph import LOSS, examples
from tests.references.reference import words


def masks(rate, seed, step, batch=4, shape=(3, 5, 7)):
    """Return what a graph of dropout after a dense layer's worth of ones lets through."""
    model = fg.Graph([fg.Node("scale", fg.LayerNorm()), fg.Node("drop", fg.Dropout(rate))], shape)
    ones = {"scale.scale": np.zeros(7, np.float32), "scale.shift": np.ones(7, np.float32)}
    model.load_parameters(ones)
    stream = np.zeros(1, STREAM)
    set_stream(stream, seed, step)
    plan = Plan(model, batch, Perturbation(directions.RANK1, 1, stream), fg.MeanSquaredError(), True)
    plan.run(np.ones((batch, *shape), np.float32), np.zeros((batch, np.prod(shape)), np.float32))
    return plan.output[:, :, : int(np.prod(shape))].reshape(2, batch, *shape).copy()


def test_masks_are_the_generators():
    rate, seed, step = 0.3, 9, 4
    primal, tangent = masks(rate, seed, step)
    row = 5 * 7
    for i in range(4):
        for h in range(3):
            for j in range(row):
                element = h * 64 + j
                word = words(element >> 2, i, 4, 0, 1, step, seed)[element & 3]
                kept = word >= rate * 2**32
                value = primal[i, h].ravel()[j]
                assert value == (np.float32(1 / (1 - rate)) if kept else 0)
                # The tangent of a shift is ±1.
                assert abs(tangent[i, h].ravel()[j]) == value


def test_masks_drop_their_share_and_change_with_the_step():
    shape = (20, 20, 7)
    first = masks(0.4, 1, 0, batch=8, shape=shape)[0] == 0
    n = first.size
    assert abs(first.mean() - 0.4) < tolerances.DEVIATIONS * np.sqrt(0.24 / n)
    for other in (masks(0.4, 1, 1, 8, shape)[0] == 0, masks(0.4, 2, 0, 8, shape)[0] == 0):
        assert abs((first == other).mean() - (0.16 + 0.36)) < tolerances.DEVIATIONS * np.sqrt(0.25 / n)


def test_dropout_is_off_in_evaluation():
    model = fg.Sequential([fg.Flatten(), fg.Dropout(0.9), fg.Dense(3)], (4, 4, 1))
    bare = fg.Sequential([fg.Flatten(), fg.Dense(3)], (4, 4, 1))
    bare.load_parameters({f"1.{n[2:]}": a for n, a in model.parameters().items()})
    x, y = examples(5, (4, 4, 1), 3)
    np.testing.assert_array_equal(model(x), bare(x))
    v = {name: np.ones_like(a) for name, a in model.parameters().items()}
    evaluated = fg.jvp(model, LOSS, x, y, v)[0]
    tolerances.SAME_LOSS.check(evaluated, LOSS.value(bare(x), y))
    assert fg.jvp(model, LOSS, x, y, v, training=True)[0] != evaluated
