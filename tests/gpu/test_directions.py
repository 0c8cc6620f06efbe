"""Directions that GPU kernels draw, against plain Python."""

import numpy as np
import pytest

from fgnumba.kernels.cuda.kernel import Kernel
from fgnumba.kernels.cuda.layout import element, elementwise
from fgnumba.kernels.cuda.primitives import Address, Size, store_f32
from fgnumba.kernels.cuda.program import Operation
from fgnumba.kernels.rules.directions.cuda import gaussian, sign_of_vector, sign_words, signed_one
from fgnumba.kernels.rules.philox import DIRECTION_SHIFT, ENTRY, LEFT, ORTHOGONAL
from tests import tolerances
from tests.references import reference

SEED, STEP, PARAMETER = 0xFEDCBA9876543210, 123456, 7


def _draw(
    stream: Address, out: Address, rows: Size, columns: Size, purpose: Size, c2: Address, kind: Size
) -> None:
    e = element()
    if e >= rows * columns:
        return
    row, column = e // columns, e % columns
    panel, lane = column >> 5, column & 31
    if kind == 0:
        four = sign_words(stream, row >> 2, panel, purpose, c2)
        for i in range(4):
            if row & 3 == i:
                store_f32(out + 4 * e, signed_one(four[i], lane))
    elif kind == 1:
        store_f32(out + 4 * e, gaussian(stream, row, panel, lane, purpose, c2))
    else:
        store_f32(out + 4 * e, sign_of_vector(stream, e, purpose, c2))


DRAW = Kernel("test-draw", _draw, 256)


def drawn(gpu, rows, columns, purpose, direction, kind):
    out = gpu.nans(rows, columns)
    arguments = {
        "stream": gpu.stream(SEED, STEP),
        "out": out,
        "rows": rows,
        "columns": columns,
        "purpose": purpose,
        "c2": (direction << DIRECTION_SHIFT) + PARAMETER,
        "kind": kind,
    }
    gpu.run(Operation("draw", (elementwise(DRAW, rows * columns, arguments),)))
    return out.download()


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (5, 37), (9, 64)])
def test_signs_are_those_of_philox(gpu, rows, columns):
    expected = reference.sign_matrix(rows, columns, ENTRY, 3, PARAMETER, STEP, SEED)
    np.testing.assert_array_equal(drawn(gpu, rows, columns, ENTRY, 3, 0), expected)


def test_a_vector_of_signs_is_one_panel(gpu):
    expected = reference.vector(reference.sign_matrix, 150, LEFT, 3, PARAMETER, STEP, SEED)
    np.testing.assert_array_equal(drawn(gpu, 1, 150, LEFT, 3, 2)[0], expected)


def test_gaussians_are_those_of_box_and_muller(gpu):
    expected = reference.normal_matrix(6, 40, ENTRY, 3, PARAMETER, STEP, SEED)
    tolerances.GAUSSIAN_ON_A_GPU.check(drawn(gpu, 6, 40, ENTRY, 3, 1), expected)


@pytest.mark.parametrize("member", [1, 6, 31])
def test_a_family_of_orthogonal_directions_turns_the_lanes_of_its_first(gpu, member):
    first = drawn(gpu, 5, 64, ENTRY, ORTHOGONAL + 32, 0)
    lanes = np.arange(64) % 32
    walsh = np.array([-1.0 if (int(lane) & member).bit_count() % 2 else 1.0 for lane in lanes])
    np.testing.assert_array_equal(drawn(gpu, 5, 64, ENTRY, ORTHOGONAL + 32 + member, 0), first * walsh)
