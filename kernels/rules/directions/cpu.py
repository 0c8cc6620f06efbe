"""Draws the signs, or the normal numbers, of one weight panel from Philox counters (see ``kernels.rules.philox``).

A direction kernel writes the rows of one panel of V. Its arguments are ``(first, rows, panel, purpose, c2, step, k0,
k1, out)``: the first row, a multiple of 4; the number of rows; the panel; the purpose; the counter's words 2 and 3; the
two halves of the key; and the address of the result.
"""

from functools import cache

import numpy as np
from numba import carray
from numba.extending import register_jitable

from fgnumba.kernels.emit import call, philox_words, pointer
from fgnumba.kernels.emit.vector import PANEL, InstructionSet
from fgnumba.kernels.machine.compile import kernel
from fgnumba.kernels.machine.memory import round_up
from fgnumba.kernels.rules.directions import GAUSSIAN
from fgnumba.kernels.rules.directions.normal import normal_pair
from fgnumba.kernels.rules.philox import (
    DIRECTION_SHIFT,
    FAMILY,
    GAUSSIAN_PANEL_SHIFT,
    ORTHOGONAL,
    PURPOSE_SHIFT,
)

HALF_BLOCK = 2 * PANEL  # words, or pairs of normal numbers, in four rows of a panel
ROW_MULTIPLE = 64
"""Kernels write whole vectors, so an output must have room for its number of rows rounded up to a multiple of this."""

_ONE_BITS = np.uint32(0x3F800000)
_LAST_BIT = np.uint32(1)
_ZERO_WORD = np.uint32(0)
_SIGN_BIT = np.uint32(0x80000000)


@register_jitable
def walsh(member: int) -> np.uint32:
    """Return the word in which bit ``lane`` is set if member & lane has an odd number of ones."""
    word = _ZERO_WORD
    if member & 1:
        word ^= np.uint32(0xAAAAAAAA)
    if member & 2:
        word ^= np.uint32(0xCCCCCCCC)
    if member & 4:
        word ^= np.uint32(0xF0F0F0F0)
    if member & 8:
        word ^= np.uint32(0xFF00FF00)
    if member & 16:
        word ^= np.uint32(0xFFFF0000)
    return word


def sign_words(isa: InstructionSet) -> int:
    """Return the address of a direction kernel that draws signs: `out` is (rows,) uint32, one word for each row.

    The kernel takes ``(first, rows, panel, purpose, c2, step, k0, k1, out)``. Bit ``lane`` of a word is set if the
    entry in that column is -1.
    """
    words, lanes = philox_words(isa, along_row=False), isa.lanes

    def draw_signs(
        first: int, rows: int, panel: int, purpose: int, c2: int, step: int, k0: int, k1: int, out: int
    ) -> None:
        c0, c1 = first // 4, (purpose << PURPOSE_SHIFT) + panel
        member = (c2 >> DIRECTION_SHIFT) % FAMILY if c2 >> DIRECTION_SHIFT >= ORTHOGONAL else 0
        c2 -= member << DIRECTION_SHIFT
        for counter in range(0, (rows + 3) // 4, lanes):
            words(c0 + counter, c1, c2, step, k0, k1, out + counter * 16)
        if member:
            turned = walsh(member)
            drawn = carray(pointer(out, np.uint32), rows)
            for row in range(rows):
                drawn[row] ^= turned

    return kernel(f"draw-signs-{isa.vectors}", draw_signs, 9)


def gaussians(isa: InstructionSet) -> int:
    """Return the address of a direction kernel that draws normal numbers: `out` is (rows, PANEL) float32.

    The kernel takes ``(first, rows, panel, purpose, c2, step, k0, k1, out)``. It writes whole blocks of four rows:
    first the random words into the block's second half, then the normal numbers over the whole block.
    """
    words, lanes = philox_words(isa, along_row=True), isa.lanes

    def draw_gaussians(
        first: int, rows: int, panel: int, purpose: int, c2: int, step: int, k0: int, k1: int, out: int
    ) -> None:
        c1 = (purpose << PURPOSE_SHIFT) + (panel << GAUSSIAN_PANEL_SHIFT)
        for block in range((rows + 3) // 4):
            at = out + block * 2 * HALF_BLOCK * 4
            for lane in range(0, 16, lanes):
                words(first // 4 + block, c1 + lane, c2, step, k0, k1, at + (HALF_BLOCK + lane) * 4)
            bits = carray(pointer(at, np.uint32), 2 * HALF_BLOCK)
            for i in range(HALF_BLOCK):
                bits[i], bits[HALF_BLOCK + i] = normal_pair(bits[HALF_BLOCK + i])

    return kernel(f"draw-gaussians-{isa.vectors}", draw_gaussians, 9)


def vector() -> int:
    """Return the address of a kernel that draws a vector of n entries, float32.

    The kernel takes ``(draw, gaussian, n, purpose, c2, step, k0, k1, work, out)``. `draw` is the address of one of
    the two direction kernels, and `gaussian` says which of them; n is a multiple of PANEL. `work` must have room for
    what `draw` writes: n float32 rounded up to four rows, or n / PANEL words rounded up to ``ROW_MULTIPLE``.
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


@cache
def add_entries(gaussian: bool) -> int:
    """Return the address of a kernel that computes out = coefficient v, or out + coefficient v if `onto` is not 0.

    The kernel takes ``(coefficient, rows, drawn, out, onto)``. `coefficient` holds the bits of a float32, `drawn` is
    the address of what a direction kernel wrote, and `out` that of (rows, PANEL) float32.

    Parameters
    ----------
    gaussian : bool
        Whether `drawn` holds normal numbers; else it holds words of signs.
    """
    return kernel(
        f"add-{'gaussians' if gaussian else 'signs'}", _add_gaussians if gaussian else _add_signs, 5
    )


def _add_gaussians(coefficient: int, rows: int, drawn: int, out: int, onto: int) -> None:
    scale = np.int32(coefficient).view(np.float32)
    v = carray(pointer(drawn, np.float32), rows * PANEL)
    total = carray(pointer(out, np.float32), rows * PANEL)
    if onto:
        for i in range(rows * PANEL):
            total[i] += scale * v[i]
    else:
        for i in range(rows * PANEL):
            total[i] = scale * v[i]


def _add_signs(coefficient: int, rows: int, drawn: int, out: int, onto: int) -> None:
    plus = np.int32(coefficient).view(np.float32)
    words = carray(pointer(drawn, np.uint32), rows)
    total = carray(pointer(out, np.float32), (rows, PANEL))
    if not onto:
        for row in range(rows):
            for lane in range(PANEL):
                total[row, lane] = np.float32(0)
    for row in range(rows):
        for lane in range(PANEL):
            negative = (words[row] >> np.uint32(lane)) & _LAST_BIT
            total[row, lane] += -plus if negative else plus


def draw_bytes(kind: int, rows: int) -> int:
    """Return how many bytes a direction kernel writes for `rows` rows of a panel."""
    if kind == GAUSSIAN:
        return round_up(rows, 4) * PANEL * 4
    return round_up(rows, ROW_MULTIPLE) * 4
