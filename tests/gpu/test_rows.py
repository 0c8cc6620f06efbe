"""Signs, least mean squares and feature panels on a GPU: layouts, and sums against float64."""

import numpy as np
import pytest

from fgnumba.kernels.layout.images import Images
from fgnumba.kernels.layout.packing import unpack
from fgnumba.kernels.machine.memory import leading, round_up
from fgnumba.kernels.ops.example_panels import cuda as example_panels
from fgnumba.kernels.ops.least_mean_squares import cuda as least_mean_squares
from fgnumba.kernels.ops.signs import cuda as signs
from tests import tolerances
from tests.references.reference import sign_matrix

SEED, STEP, SIGN = 0x123456789ABCDEF0, 77, 7
SIZES = [(1, 1), (3, 33), (32, 32), (65, 31)]


@pytest.mark.parametrize(("rows", "columns"), SIZES)
@pytest.mark.parametrize("layouts", ["rows", "panels", "both"])
def test_signs_are_those_of_the_counters(gpu, rows, columns, layouts):
    out = None if layouts == "panels" else gpu.nans(rows + 1, columns + 3)
    panels = None if layouts == "rows" else gpu.nans(-(-rows // 32), columns + 2, 32)
    stream, number = gpu.stream(SEED, STEP), 3 << 12 | 5
    bound = {"rows": rows, "columns": columns, "stream": stream, "number": number}
    gpu.run(signs.bind(None, 1, out=out, panels=panels, **bound))
    expected = sign_matrix(rows, columns, SIGN, 3, 5, STEP, SEED)
    if out is not None:
        found = out.download()
        np.testing.assert_array_equal(found[:rows, :columns], expected)
        assert np.isnan(found[rows:]).all()
        assert np.isnan(found[:, columns:]).all()
    if panels is not None:
        found = panels.download()
        transposed = np.zeros((len(found) * 32, columns))
        transposed[:rows] = expected
        np.testing.assert_array_equal(found[:, :columns], transposed.reshape(-1, 32, columns).swapaxes(1, 2))
        assert np.isnan(found[:, columns:]).all()


@pytest.mark.parametrize(("rows", "columns"), SIZES)
def test_what_is_not_predicted_is_weighed(gpu, rows, columns):
    response, predicted = np.random.default_rng(rows).standard_normal((2, rows, columns)).astype(np.float32)
    wide = np.full((2, rows, leading(columns)), np.nan)
    wide[:, :, :columns] = response, predicted
    given = [gpu.array(one, np.float32) for one in wide]
    out = gpu.nans(-(-columns // 32), round_up(rows, 32), 32)
    bound = {"response": given[0], "predicted": given[1], "rows": rows, "columns": columns, "gain": 0.125}
    gpu.run(least_mean_squares.bind(1, out=out, **bound))
    found = unpack(out.download(), columns)
    tolerances.CARRIED.check(found[:rows], 0.125 * (response.astype(np.float64) - predicted))
    assert not found[rows:].any()
    assert np.count_nonzero(out.download()) == np.count_nonzero(found)


@pytest.mark.parametrize(("rows", "columns"), [*SIZES, (200, 5)])
def test_rows_become_panels_and_are_added_up(gpu, rows, columns):
    values = np.random.default_rng(rows).standard_normal((1, rows, columns)).astype(np.float32)
    padded = np.zeros((round_up(rows, 32), columns))
    padded[:rows] = values[0]
    x, sums = gpu.images(values[..., None, None, :]), gpu.nans(columns)
    for more in ({}, {"sums": sums}, {"sums": sums, "onto": True}):
        panels = gpu.nans(-(-columns // 32), len(padded), 32)
        operation = example_panels.bind_rows_to_feature_panels(
            None, 1, x=x, panels=panels, batch=rows, **more
        )
        gpu.run(operation)
        found = panels.download()
        np.testing.assert_array_equal(unpack(found, columns), padded)
        assert np.count_nonzero(found) == np.count_nonzero(padded)
    tolerances.sums(2 * rows).check(sums.download(), 2 * padded.sum(0))


def test_positions_of_sequences_are_rows(gpu):
    values = np.random.default_rng(0).standard_normal((10, 7)).astype(np.float32)
    memory, panels = np.zeros((1, 10, leading(7)), np.float32), gpu.nans(1, 32, 32)
    memory[0, :, :7] = values
    x = Images.of_batch(gpu.array(memory), (5, 7), by_position=True)
    gpu.run(example_panels.bind_rows_to_feature_panels(None, 1, x=x, panels=panels, batch=10))
    np.testing.assert_array_equal(unpack(panels.download(), 7)[:10], values)
