"""Winograd's filtering against direct convolutions, which other tests compare with float64."""

import numpy as np
import pytest

import fgnumba as fg
from fgnumba.kernels.emit import vector
from fgnumba.kernels.ops.conv2d import filtering
from fgnumba.kernels.rules import directions
from fgnumba.kernels.rules.philox import STREAM, set_stream
from fgnumba.layers import Perturbation
from fgnumba.model.plan import Plan
from tests import tolerances
from tests.model.test_graph_jvp import check

KINDS = {"none": directions.NONE, **{name: d.kind for name, d in fg.directions.BY_NAME.items()}}
SHAPES = [
    ((4, 4, 16), 16, "same"),
    ((5, 7, 16), 33, "same"),
    ((9, 6, 32), 64, "valid"),
    ((8, 11, 48), 70, ((2, 0), (1, 3))),
    ((28, 28, 16), 32, 1),
]


def outputs(shape, filters, padding, kind, count, batch=3):
    """Return the dual output of two convolutions in a row, so that the second has a tangent to read."""
    layers = [
        fg.Conv2d(shape[2], 1, activation="tanh"),
        fg.Conv2d(filters, 3, padding=padding, activation="silu"),
    ]
    model = fg.Sequential(layers, shape, seed=1)
    stream = np.zeros(1, STREAM)
    set_stream(stream, 11, 5)
    plan = Plan(model, batch, Perturbation(KINDS[kind], count, stream), fg.MeanSquaredError())
    x = np.random.default_rng(0).standard_normal((batch, *shape), np.float32)
    plan.run(x, np.zeros((batch, model.outputs), np.float32))
    return plan.output[:, :, : model.outputs].copy()


@pytest.mark.parametrize(("shape", "filters", "padding"), SHAPES, ids=str)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("count", [1, 2, 9])
def test_it_agrees_with_direct_convolutions(shape, filters, padding, kind, count, monkeypatch):
    count = 0 if kind == "none" else count
    filtered = outputs(shape, filters, padding, kind, count)
    monkeypatch.setattr(filtering, "fits", lambda *_: False)
    direct = outputs(shape, filters, padding, kind, count)
    weights = 16 * -(-filters // 32) * 32 * shape[2] * 4
    if kind in ("none", "rank1") or count * weights <= filtering.CACHED_DIRECTIONS:
        assert not np.array_equal(filtered, direct), "the same bits: it was not filtered"
    scale = np.abs(direct).max(axis=(1, 2), keepdims=True)
    assert (np.abs(filtered - direct) / scale).max() < tolerances.FILTERED


@pytest.mark.parametrize("kind", [*fg.directions.BY_NAME, "explicit"])
@pytest.mark.parametrize("name", vector.executable())
def test_jvp_on_every_instruction_set(name, kind, monkeypatch):
    monkeypatch.setenv(vector.OVERRIDE, name)
    layers = [
        fg.Conv2d(16, 3, padding="same", activation="tanh"),
        fg.Conv2d(48, 3, padding="same", activation="relu"),
        fg.Conv2d(17, 3),
        fg.GlobalAveragePool2d(),
        fg.Dense(5),
    ]
    check(fg.Sequential(layers, (9, 14, 3)), 5, kind, 2)
