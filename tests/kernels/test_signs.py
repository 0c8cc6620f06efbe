"""Random signs on the CPU: those of Philox's definition, in rows and in example panels."""

import numpy as np
import pytest

from fgnumba.kernels.devices.device import CPU
from fgnumba.kernels.emit.vector import executable, instruction_set
from fgnumba.kernels.machine.memory import aligned
from fgnumba.kernels.ops.signs import cpu as signs
from fgnumba.kernels.rules.philox import STREAM, set_stream
from tests.references.reference import sign_matrix
from tests.tolerances import DEVIATIONS

SEED, STEP, SIGN = 0x123456789ABCDEF0, 77, 7


def drawn(rows, columns, number=5, *, isa=None, threads=1, step=STEP):
    """Return signs in rows, and in example panels; NaN is where nothing is written."""
    out, panels = aligned((rows + 1, columns + 3)), aligned((-(-rows // 32), columns + 2, 32))
    out[...] = panels[...] = np.nan
    stream = np.zeros(1, STREAM)
    set_stream(stream, SEED, step)
    bound = {"rows": rows, "columns": columns, "stream": stream, "number": number}
    CPU.program([signs.bind(isa or CPU.isa, threads, out=out, panels=panels, **bound)]).run()
    return out, panels


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (3, 33), (32, 32), (65, 31), (130, 97)])
@pytest.mark.parametrize("name", executable())
def test_signs_are_those_of_the_counters(rows, columns, name):
    number = 3 << 12 | 5
    out, panels = drawn(rows, columns, number, isa=instruction_set(name))
    expected = sign_matrix(rows, columns, SIGN, 3, 5, STEP, SEED)
    np.testing.assert_array_equal(out[:rows, :columns], expected)
    assert np.isnan(out[rows:]).all()
    assert np.isnan(out[:, columns:]).all()
    transposed = np.zeros((panels.shape[0] * 32, columns))
    transposed[:rows] = expected
    np.testing.assert_array_equal(panels[:, :columns], transposed.reshape(-1, 32, columns).swapaxes(1, 2))
    assert np.isnan(panels[:, columns:]).all()


def test_either_layout_alone():
    both, stream = drawn(7, 40), np.zeros(1, STREAM)
    set_stream(stream, SEED, STEP)
    alone = [np.full_like(array, np.nan) for array in both]
    for arrays in ({"out": alone[0]}, {"out": None, "panels": alone[1]}):
        operation = signs.bind(CPU.isa, 1, rows=7, columns=40, stream=stream, number=5, **arrays)
        CPU.program([operation]).run()
    for found, expected in zip(alone, both, strict=True):
        np.testing.assert_array_equal(found, expected)


def test_signs_do_not_depend_on_the_number_of_threads():
    bits = {tuple(array.tobytes() for array in drawn(999, 300, threads=threads)) for threads in (1, 2, 5)}
    assert len(bits) == 1


def test_numbers_and_steps_have_signs_of_their_own():
    found = [drawn(64, 64, number, step=step)[0][:64, :64] for number in (0, 1, 4096) for step in (0, 1)]
    assert len({array.tobytes() for array in found}) == len(found)
    for i in range(len(found)):
        for other in found[:i]:
            # The products of 64 x 64 independent signs are a random walk.
            assert abs(np.sum(found[i] * other)) < DEVIATIONS * 64
