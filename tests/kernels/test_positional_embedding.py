"""The positional embedding on the CPU against float64."""

import numpy as np
import pytest

from fgnumba.kernels.emit import vector
from fgnumba.kernels.layout.images import Images
from fgnumba.kernels.layout.packing import pack
from fgnumba.kernels.machine.memory import aligned, leading
from fgnumba.kernels.machine.program import Program
from fgnumba.kernels.ops.positional_embedding import cpu as positional_embedding
from fgnumba.kernels.rules.directions import EXPLICIT, GAUSSIAN, NONE, RADEMACHER, RANK1
from fgnumba.kernels.rules.philox import STREAM, set_stream
from fgnumba.kernels.shared.product.product import Weights
from tests import tolerances_positions as tolerances
from tests.references import reference

SEED, STEP, FIRST, NUMBER = 0x123456789ABCDEF0, 77, 3, 4
KINDS = {RANK1: "rank1", RADEMACHER: "rademacher", GAUSSIAN: "gaussian"}
SHAPES = [(1, 1, 1, 1), (3, 5, 7, 37), (2, 33, 67, 131), (4, 3, 3, 64)]
"""Batch, length, rows of the table, channels."""


def run(dual, weight, kind, count, v=None, threads=1, isa=None):
    """Return the sequences (1 + T, B, L, C) that the operation writes to memory of NaN."""
    blocks, batch, length, channels = dual.shape
    x, y = (aligned((n, batch * length, leading(channels))) for n in (blocks, 1 + count))
    x[..., :channels], y[...] = dual.reshape(blocks, -1, channels), np.nan
    stream = np.zeros(1, STREAM)
    set_stream(stream, SEED, STEP)
    weights = Weights(
        pack(weight),
        np.zeros(1, np.float32),
        kind=kind,
        count=count,
        first=FIRST,
        parameter=NUMBER,
        stream=stream,
        v=None if v is None else np.stack([pack(each) for each in v]),
    )
    placed = {
        name: Images.of_batch(array, (length, channels), len(array) > 1, by_position=True)
        for name, array in (("x", x), ("y", y))
    }
    isa = isa or vector.instruction_set()
    operation = positional_embedding.bind(isa, threads, batch=batch, weights=weights, **placed)
    Program([operation]).run()
    assert np.isnan(y[..., channels:]).all()
    return y[..., :channels].reshape(1 + count, batch, length, channels)


def case(batch, length, rows, channels, blocks=1):
    rng = np.random.default_rng(channels)
    dual = rng.standard_normal((blocks, batch, length, channels)).astype(np.float32)
    return rng, dual, rng.standard_normal((rows, channels)).astype(np.float32)


@pytest.mark.parametrize("has_tangent", [False, True])
@pytest.mark.parametrize(("batch", "length", "rows", "channels"), SHAPES)
def test_explicit_directions(batch, length, rows, channels, has_tangent):
    rng, dual, weight = case(batch, length, rows, channels, 1 + 2 * has_tangent)
    v = rng.standard_normal((2, rows, channels)).astype(np.float32)
    found = run(dual, weight, EXPLICIT, 2, v)
    moved = np.broadcast_to(v[:, None, :length], (2, batch, length, channels)).astype(np.float64)
    expected = [dual[0] + weight[:length].astype(np.float64), *(moved + dual[1:] if has_tangent else moved)]
    tolerances.ADDED.check(found, np.array(expected))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", SHAPES)
def test_directions_that_are_drawn(kind, shape):
    batch, length, rows, channels = shape
    _, dual, weight = case(batch, length, rows, channels, blocks=3)
    found = run(dual, weight, kind, 2)
    for t in range(2):
        v = reference.direction(KINDS[kind], weight.shape, FIRST + t, NUMBER, STEP, SEED)
        within = tolerances.ADDED_GAUSSIAN if kind == GAUSSIAN else tolerances.ADDED
        within.check(found[1 + t], dual[1 + t] + v[None, :length])


def test_without_directions_the_tangent_passes():
    _, dual, weight = case(2, 3, 5, 7, 2)
    found = run(dual, weight, NONE, 1)
    np.testing.assert_array_equal(found[0], dual[0] + weight[:3])
    np.testing.assert_array_equal(found[1], dual[1])


@pytest.mark.parametrize("kind", KINDS)
def test_parts_and_instruction_sets_change_no_bit(kind):
    _, dual, weight = case(40, 97, 97, 100, 2)
    one = run(dual, weight, kind, 1)
    for threads in (2, 5):
        np.testing.assert_array_equal(run(dual, weight, kind, 1, threads=threads), one)
    for name in vector.executable():
        np.testing.assert_array_equal(run(dual, weight, kind, 1, isa=vector.INSTRUCTION_SETS[name]), one)
