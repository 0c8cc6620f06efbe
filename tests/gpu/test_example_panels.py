"""Sums over examples on a GPU against float64: matrices stored in panels, and their products."""

import numpy as np
import pytest

from fgnumba.kernels.layout.images import Images
from fgnumba.kernels.layout.packing import unpack
from fgnumba.kernels.machine.memory import leading
from fgnumba.kernels.ops.example_panels import cuda as panels
from tests import tolerances


def in_panels(matrix, rows, padding):
    """Return (R, N) as (ceil(N / 32), `rows`, 32), `padding` beyond."""
    count, columns = matrix.shape
    across = -(-columns // 32)
    wide = np.full((rows, 32 * across), padding, np.float32)
    wide[:count, :columns] = matrix
    return np.ascontiguousarray(wide.reshape(rows, across, 32).swapaxes(0, 1))


SIZES = [(1, 1, 1), (43, 3, 10), (64, 64, 32), (65, 31, 37), (3, 97, 5)]


@pytest.mark.parametrize(("rows", "terms", "columns"), SIZES)
@pytest.mark.parametrize("onto", [True, False])
def test_a_product_of_panels(gpu, rows, terms, columns, onto):
    rng = np.random.default_rng(rows)
    x, delta = rng.standard_normal((terms, rows)), rng.standard_normal((terms, columns))
    # What lies beyond the terms and the rows of a is never read; columns of w beyond have zeros.
    a = in_panels(x.T, rows + 3, np.nan)
    w = in_panels(delta, -(-terms // 32) * 32, 0)
    w[:, terms:] = np.nan
    before = rng.standard_normal((-(-columns // 32), rows + 2, 32)).astype(np.float32)
    out = gpu.array(before)
    operation = panels.bind_product(
        "product",
        None,
        1,
        a=gpu.array(a),
        w=gpu.array(w),
        out=out,
        rows=rows,
        terms=terms,
        columns=columns,
        onto=onto,
        multiply_adds=rows * terms * columns,
    )
    gpu.run(operation)
    assert (operation.name, operation.multiply_adds) == ("product", rows * terms * columns)
    found = out.download()
    expected = x.astype(np.float32).T.astype(np.float64) @ delta.astype(np.float32)
    if onto:
        expected += unpack(before, columns)[:rows]
    tolerances.sums(terms).check(unpack(found, columns)[:rows], expected)
    np.testing.assert_array_equal(found[:, rows:], before[:, rows:])


@pytest.mark.parametrize(("batch", "features"), [(1, 1), (31, 5), (33, 70), (64, 32)])
def test_examples_become_panels_and_come_back(gpu, batch, features):
    x = np.random.default_rng(batch).standard_normal((batch, features)).astype(np.float32)
    # Rows without gaps, as a model's input has them: nothing lies after the last.
    images = Images.of_batch(gpu.array(x[None]), (features,))
    found = gpu.nans(-(-batch // 32), features + 2, 32)
    gpu.run(panels.bind_to_panels(None, 1, x=images, panels=found, batch=batch))
    expected = np.full((-(-batch // 32), features + 2, 32), np.nan, np.float32)
    expected[:, :features] = in_panels(x.T, features, 0)
    np.testing.assert_array_equal(found.download(), expected)
    again = gpu.images(shape=(features,), batch=batch)
    back = Images.of_batch(again.memory, (features,))
    gpu.run(panels.bind_from_panels(None, 1, x=back, panels=found, batch=batch))
    held = again.memory.download()[0]
    np.testing.assert_array_equal(held[:, :features], x)
    assert np.isnan(held[:, features:]).all()
    assert held.shape[1] == leading(features)
