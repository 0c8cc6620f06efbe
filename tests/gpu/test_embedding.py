"""Rows of a table on a GPU against float64."""

import numpy as np
import pytest

from fgnumba.kernels.layout.images import Images
from fgnumba.kernels.machine.memory import leading
from fgnumba.kernels.ops.embedding import cuda as embedding
from fgnumba.kernels.rules.directions import EXPLICIT, GAUSSIAN, NONE, RADEMACHER, RANK1
from fgnumba.kernels.shared.product.product import Weights
from tests import tolerances_recurrences as tolerances
from tests.references import reference

SEED, STEP, FIRST = 0x123456789ABCDEF0, 77, 3
WEIGHT, BIAS = 4, 9
KINDS = {RANK1: "rank1", RADEMACHER: "rademacher", GAUSSIAN: "gaussian"}


def looked_up(gpu, x, weight, bias, kind, count, v=None, v_bias=None):
    """Return the rows (1 + T, B L, N) that the operation writes."""
    batch, length = x.shape
    columns = weight.shape[1]
    given = {}
    if v is not None:
        given = {"v": gpu.stacked(v), "v_bias": gpu.stacked(v_bias)}
    weights = Weights(
        gpu.packed(weight),
        gpu.packed(bias),
        kind=kind,
        count=count,
        first=FIRST,
        parameter=WEIGHT,
        bias_parameter=BIAS if kind != NONE else -1,
        stream=gpu.stream(SEED, STEP),
        **given,
    )
    memory = gpu.nans(1 + count, batch * length, leading(columns))
    y = Images.of_batch(memory, (columns,), count > 0)
    gpu.run(embedding.bind(None, 1, batch=batch, x=gpu.images(x[None, :, None, None]), y=y, weights=weights))
    return memory.download()[..., :columns]


def drawn(shape, parameter, kind, count):
    return np.array(
        [reference.direction(KINDS[kind], shape, FIRST + t, parameter, STEP, SEED) for t in range(count)]
    )


def case(batch, length, symbols, columns):
    rng = np.random.default_rng(batch + columns)
    x = rng.integers(0, symbols, (batch, length)).astype(np.float32)
    x.flat[-1] = symbols - 1
    weight, bias = rng.standard_normal((symbols, columns)), rng.standard_normal(columns)
    return rng, x, weight.astype(np.float32), bias.astype(np.float32)


@pytest.mark.parametrize(
    ("batch", "length", "symbols", "columns"), [(1, 1, 1, 1), (3, 5, 7, 37), (2, 3, 131, 67)]
)
def test_explicit_directions(gpu, batch, length, symbols, columns):
    rng, x, weight, bias = case(batch, length, symbols, columns)
    v, v_bias = rng.standard_normal((2, symbols, columns)), rng.standard_normal((2, columns))
    found = looked_up(gpu, x, weight, bias, EXPLICIT, 2, v, v_bias)
    rows = x.astype(int).ravel()
    expected = [weight[rows] + bias.astype(np.float64), *(v[:, rows] + v_bias[:, None])]
    tolerances.EMBEDDED.check(found, np.array(expected))


@pytest.mark.parametrize("kind", KINDS)
def test_directions_that_are_drawn(gpu, kind):
    _, x, weight, bias = case(2, 3, 131, 67)
    found = looked_up(gpu, x, weight, bias, kind, 2)
    v, v_bias = drawn(weight.shape, WEIGHT, kind, 2), drawn(bias.shape, BIAS, kind, 2)
    within = tolerances.EMBEDDED_GAUSSIAN if kind == GAUSSIAN else tolerances.EMBEDDED
    within.check(found[1:], v[:, x.astype(int).ravel()] + v_bias[:, None])


def test_no_directions(gpu):
    _, x, weight, bias = case(2, 3, 5, 4)
    found = looked_up(gpu, x, weight, bias, NONE, 1)
    np.testing.assert_array_equal(found[0], weight[x.astype(int).ravel()] + bias)
    np.testing.assert_array_equal(found[1], 0)


def test_what_is_no_symbol_has_a_row_of_nan(gpu):
    _, x, weight, bias = case(1, 5, 3, 4)
    x[0, :4] = [-1, 3, np.nan, np.inf]
    found = looked_up(gpu, x, weight, bias, RADEMACHER, 1)
    assert np.isnan(found[:, :4]).all()
    assert np.isfinite(found[:, 4]).all()
