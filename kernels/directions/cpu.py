"""Signs and Gaussians of one weight panel, drawn from Philox counters (layout: ``kernels.philox``)."""

import math

import numpy as np
from numba import carray

from fgnumba.kernels.compile import kernel
from fgnumba.kernels.directions import GAUSSIAN
from fgnumba.kernels.elementary import log, sincospi
from fgnumba.kernels.emit import call, philox_words, pointer
from fgnumba.kernels.memory import round_up
from fgnumba.kernels.philox import GAUSSIAN_PANEL_SHIFT, PURPOSE_SHIFT
from fgnumba.kernels.vector import PANEL, InstructionSet

ROW_MULTIPLE = 64
"""Kernels write whole vectors: an output has room for its rows rounded up to this."""

# A float32 holds 24 bits: a word's upper 24 become (n + 1/2) / 2**24 in (0, 1], or n / 2**24 in [0, 1).
_DROP = np.uint32(8)
_UNIT = np.float32(2.0**-24)
_HALF = np.float32(0.5)
_MINUS_TWO = np.float32(-2.0)
_ONE_BITS = np.uint32(0x3F800000)
_SIGN_BIT = np.uint32(0x80000000)


def sign_words(isa: InstructionSet) -> int:
    """Address of ``(first, rows, panel, purpose, c2, step, k0, k1, out)``: `out` (rows,) uint32, one word a
    row.

    `first`, a multiple of 4, is the row that `out` begins with.
    """
    words, lanes = philox_words(isa, along_row=False), isa.lanes

    def draw_signs(
        first: int, rows: int, panel: int, purpose: int, c2: int, step: int, k0: int, k1: int, out: int
    ) -> None:
        c0, c1 = first // 4, (purpose << PURPOSE_SHIFT) + panel
        for counter in range(0, (rows + 3) // 4, lanes):
            words(c0 + counter, c1, c2, step, k0, k1, out + counter * 16)

    return kernel(f"draw-signs-{isa.name}", draw_signs, 9)


def gaussians(isa: InstructionSet) -> int:
    """Address of ``(first, rows, panel, purpose, c2, step, k0, k1, out)``: `out` (rows, PANEL) float32.

    `first`, a multiple of 2, is the row that `out` begins with. Drawn in place: words first, their Box-Muller
    transform over them, a pair of rows at a time.
    """
    words, lanes = philox_words(isa, along_row=True), isa.lanes
    half = PANEL // 2

    def draw_gaussians(
        first: int, rows: int, panel: int, purpose: int, c2: int, step: int, k0: int, k1: int, out: int
    ) -> None:
        c1 = (purpose << PURPOSE_SHIFT) + (panel << GAUSSIAN_PANEL_SHIFT)
        bits = carray(pointer(out, np.uint32), (rows + 1, PANEL))
        values = carray(pointer(out, np.float32), (rows + 1, PANEL))
        for pair in range((rows + 1) // 2):
            for lane in range(0, half, lanes):
                words(first // 2 + pair, c1 + lane, c2, step, k0, k1, out + pair * 8 * PANEL + lane * 4)
            for row in range(2 * pair, 2 * pair + 2):
                for lane in range(half):
                    uniform = np.float32(np.int32(bits[row, lane] >> _DROP)) + _HALF
                    turn = np.float32(np.int32(bits[row, lane + half] >> _DROP)) * _UNIT
                    radius = np.float32(math.sqrt(_MINUS_TWO * log(uniform * _UNIT)))
                    cosine, sine = sincospi(turn)
                    values[row, lane] = radius * cosine
                    values[row, lane + half] = radius * sine

    return kernel(f"draw-gaussians-{isa.name}", draw_gaussians, 9)


def vector() -> int:
    """Address of ``(draw, gaussian, n, purpose, c2, step, k0, k1, work, out)``: a vector's entries, n
    float32.

    `draw` is the address of one of the kernels above, `gaussian` says which; n is a multiple of PANEL.
    `work` has room for what `draw` writes: n float32 and a row, or n / PANEL words rounded up to
    ``ROW_MULTIPLE``.
    """
    return kernel("draw-vector", _draw_vector, 10)


def _draw_vector(
    draw: int, gaussian: int, n: int, purpose: int, c2: int, step: int, k0: int, k1: int, work: int, out: int
) -> None:
    rows = n // PANEL
    call(draw, (0, rows, 0, purpose, c2, step, k0, k1, work))
    drawn = carray(pointer(work, np.uint32), n)
    bits = carray(pointer(out, np.uint32), n)
    if gaussian:
        for i in range(n):
            bits[i] = drawn[i]
    else:
        for row in range(rows):
            for lane in range(PANEL):
                sign = (drawn[row] << np.uint32(31 - lane)) & _SIGN_BIT
                bits[row * PANEL + lane] = sign | _ONE_BITS


def draw_bytes(kind: int, rows: int) -> int:
    """Bytes that drawing `rows` rows of one panel writes."""
    if kind == GAUSSIAN:
        return round_up(rows, 2) * PANEL * 4
    return round_up(rows, ROW_MULTIPLE) * 4
