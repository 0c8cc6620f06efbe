"""Least mean squares on the CPU against float64."""

import numpy as np
import pytest

from fgnumba.kernels.devices.device import CPU
from fgnumba.kernels.layout.packing import unpack
from fgnumba.kernels.machine.memory import aligned, leading, round_up
from fgnumba.kernels.ops.least_mean_squares import cpu as least_mean_squares
from tests import tolerances


def bound(response, predicted, gain, threads=1):
    """Return the panels that are written."""
    rows, columns = response.shape
    given = []
    for values in (response, predicted):
        array = np.full((rows, leading(columns)), np.nan, np.float32)
        array[:, :columns] = values
        given.append(array)
    out = aligned((-(-columns // 32), round_up(rows, 32), 32))
    out[...] = np.nan
    operation = least_mean_squares.bind(
        threads, response=given[0], predicted=given[1], out=out, rows=rows, columns=columns, gain=gain
    )
    CPU.program([operation]).run()
    return out


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (3, 33), (32, 64), (65, 31)])
def test_what_is_not_predicted_is_weighed(rows, columns):
    response, predicted = np.random.default_rng(rows).standard_normal((2, rows, columns)).astype(np.float32)
    out = bound(response, predicted, 0.125)
    found = unpack(out, columns)
    tolerances.CARRIED.check(found[:rows], 0.125 * (response.astype(np.float64) - predicted), "difference")
    assert not found[rows:].any()
    assert np.count_nonzero(out) == np.count_nonzero(found)


def test_results_do_not_depend_on_the_number_of_threads():
    response, predicted = np.random.default_rng(0).standard_normal((2, 999, 300)).astype(np.float32)
    bits = {bound(response, predicted, 0.3, threads).tobytes() for threads in (1, 2, 5)}
    assert len(bits) == 1
