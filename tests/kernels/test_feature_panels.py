"""Rows that are copied to panels of their features on the CPU, and their sums against float64."""

import numpy as np
import pytest

from fgnumba.kernels.devices.device import CPU
from fgnumba.kernels.layout.images import Images
from fgnumba.kernels.layout.packing import unpack
from fgnumba.kernels.machine.memory import aligned, leading, round_up
from fgnumba.kernels.ops.example_panels import cpu as example_panels
from tests import tolerances


def copied(values, *, sums=None, onto=False, threads=1):
    """Return the panels of rows (R, N)."""
    rows, columns = values.shape
    memory = aligned((1, rows, leading(columns)))
    memory[...] = np.nan
    memory[0, :, :columns] = values
    panels = aligned((-(-columns // 32), round_up(rows, 32), 32))
    panels[...] = np.nan
    x = Images.of_batch(memory, (columns,))
    operation = example_panels.bind_rows_to_feature_panels(
        CPU.isa, threads, x=x, panels=panels, batch=rows, sums=sums, onto=onto
    )
    CPU.program([operation]).run()
    return panels


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (3, 33), (32, 64), (65, 31), (200, 97)])
@pytest.mark.parametrize("threads", [1, 3])
def test_rows_become_panels_and_are_added_up(rows, columns, threads):
    values = np.random.default_rng(rows).standard_normal((rows, columns)).astype(np.float32)
    padded = np.zeros((round_up(rows, 32), columns))
    padded[:rows] = values
    sums = np.full(columns, np.nan, np.float32)
    for panels in (copied(values, threads=threads), copied(values, sums=sums, threads=threads)):
        np.testing.assert_array_equal(unpack(panels, columns), padded)
        assert np.count_nonzero(panels) == np.count_nonzero(padded)
    total = values.astype(np.float64).sum(0)
    tolerances.sums(rows).check(sums, total)
    copied(values, sums=sums, onto=True, threads=threads)
    tolerances.sums(2 * rows).check(sums, 2 * total)


def test_positions_of_sequences_are_rows():
    values = np.random.default_rng(0).standard_normal((2, 5, 7)).astype(np.float32)
    memory, panels = aligned((1, 10, leading(7))), aligned((1, 32, 32))
    memory[0, :, :7] = values.reshape(10, 7)
    x = Images.of_batch(memory, (5, 7), by_position=True)
    CPU.program([example_panels.bind_rows_to_feature_panels(CPU.isa, 1, x=x, panels=panels, batch=10)]).run()
    np.testing.assert_array_equal(unpack(panels, 7)[:10], values.reshape(10, 7))


def test_results_do_not_depend_on_the_number_of_threads():
    values = np.random.default_rng(0).standard_normal((999, 300)).astype(np.float32)
    found = set()
    for threads in (1, 2, 5):
        sums = np.zeros(300, np.float32)
        found.add((copied(values, sums=sums, threads=threads).tobytes(), sums.tobytes()))
    assert len(found) == 1
