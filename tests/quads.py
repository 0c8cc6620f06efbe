"""Products of bfloat16 in quads: the arithmetic of Arm's ``bfmmla`` on integers, and operands of its tile in memory.

The arithmetic is the pseudocode of the Arm Architecture Reference Manual, DDI 0487 (BFMatMulAddH, BFDotAdd, BFMulH,
BFAdd, BFRound and BFUnpack, with FPCR.EBF = 0). Numbers are bits; finite ones are computed with as integers.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fgnumba.kernels.emit.vector import PANEL

UNIT = 300
"""Finite numbers are multiples of 2**-UNIT: so are all products of normal bfloat16."""
INFINITY, NAN, MINUS = 0x7F800000, 0x7FC00000, 0x80000000


def unpack(bits):
    """Return the kind of a float32, its sign and its value as an integer."""
    sign, exponent, fraction = bits & MINUS, (bits >> 23) & 255, bits & 0x7FFFFF
    if exponent == 0:
        return "zero", sign, 0
    if exponent == 255:
        return ("nan" if fraction else "infinity"), sign, 0
    value = (fraction | 1 << 23) << (exponent - 127 - 23 + UNIT)
    return "number", sign, -value if sign else value


def round_to_odd(value):
    """Return the float32 of an integer other than 0."""
    sign, size = (MINUS if value < 0 else 0), abs(value)
    exponent = size.bit_length() - 1 - UNIT
    if exponent < -126:
        return sign
    if exponent > 127:
        return sign | INFINITY
    drop = exponent - 23 + UNIT
    mantissa = size >> drop
    if mantissa << drop != size:
        mantissa |= 1
    return sign | (exponent + 127) << 23 | mantissa & 0x7FFFFF


def multiply(a, b):
    """Return the product of two float32."""
    (kind, sign, value), (other, other_sign, other_value) = unpack(a), unpack(b)
    kinds = {kind, other}
    if "nan" in kinds or kinds == {"infinity", "zero"}:
        return NAN
    sign ^= other_sign
    if "infinity" in kinds:
        return sign | INFINITY
    return sign if "zero" in kinds else round_to_odd((value * other_value) >> UNIT)


def add(a, b):
    """Return the sum of two float32."""
    (kind, sign, value), (other, other_sign, other_value) = unpack(a), unpack(b)
    if "nan" in (kind, other) or (kind == other == "infinity" and sign != other_sign):
        return NAN
    if kind == "infinity":
        return sign | INFINITY
    if other == "infinity":
        return other_sign | INFINITY
    if kind == other == "zero" and sign == other_sign:
        return sign
    return round_to_odd(value + other_value) if value + other_value else 0


def dot(total, a, b):
    """Return `total` plus the terms of one quad: two sums of two products."""
    for k in (0, 2):
        total = add(total, add(multiply(a[k], b[k]), multiply(a[k + 1], b[k + 1])))
    return total


def reference(a, w, terms, start):
    """Return the bits of the sums of (parts, rows, K) and (parts, K, columns) bfloat16, from those of `start`."""
    rows, columns = a.shape[1], w.shape[2]
    a, w = ((each.astype(np.uint32) << 16).tolist() for each in (a, np.swapaxes(w, 1, 2)))
    totals = start.view(np.uint32).tolist()
    for row in range(rows):
        for column in range(columns):
            total = totals[row][column]
            for k in range(0, len(a[0][0]), 4):
                for i, j in terms:
                    total = dot(total, a[i][row][k : k + 4], w[j][column][k : k + 4])
            totals[row][column] = total
    return np.array(totals, np.uint32)


def bfloat16(x):
    """Return the bits of the nearest bfloat16."""
    bits = np.asarray(x, np.float32).view(np.uint32).astype(np.uint64)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def split(x, parts):
    """Return float32 numbers as sums of bfloat16, (parts, ...)."""
    rest, found = np.asarray(x, np.float64), []
    for _ in range(parts):
        found.append(bfloat16(rest))
        rest = rest - (found[-1].astype(np.uint32) << 16).view(np.float32)
    return np.stack(found)


@dataclass
class Operands:
    """Operands of a tile in memory: runs of rows apart from each other, gaps of NaN, and the sums that there were.

    Parameters
    ----------
    a : (parts, rows, K) uint16.
    w : (parts, K, panels * PANEL) uint16.
    start : (rows, panels * PANEL) float32 to begin with, or None for zero.
    segments : number of runs of a row, a divisor of K / 4.
    allocate : makes an array of a shape and a dtype.
    """

    a: np.ndarray
    w: np.ndarray
    start: np.ndarray | None = None
    segments: int = 1
    allocate: Any = np.zeros
    kept: list = field(default_factory=list)

    def arguments(self):
        """Return what the tile takes, distances in words of two elements; the result comes to lie in `self.out`."""
        (parts, rows, K), panels = self.a.shape, self.w.shape[2] // PANEL
        length, gap = K // self.segments, 2
        run, ld = length + gap, self.segments * (length + gap) + 6
        # Runs are in memory in another order than in K.
        order = range(self.segments)[::-1]
        part = (rows - 1) * ld + self.segments * run - gap
        a = self.allocate((parts * part,), np.uint16)
        a[...] = 0xFFFF
        for i in range(parts):
            for row in range(rows):
                for s, place in enumerate(order):
                    at = i * part + row * ld + place * run
                    a[at : at + length] = self.a[i, row, s * length : (s + 1) * length]
        size = K * PANEL
        w = self.allocate((parts * (panels * (size + 8) - 8),), np.uint16)
        w[...] = 0xFFFF
        stride, w_part = size + 8, panels * (size + 8) - 8
        for i in range(parts):
            for panel in range(panels):
                quads = self.w[i, :, panel * PANEL : (panel + 1) * PANEL].reshape(K // 4, 4, PANEL)
                at = i * w_part + panel * stride
                w[at : at + size] = quads.transpose(0, 2, 1).ravel()
        offsets = self.allocate((self.segments,), np.int64)
        offsets[...] = [place * run // 2 for place in order]
        self.out = self.allocate((rows, panels * PANEL), np.float32)
        self.out[...] = np.nan if self.start is None else self.start
        self.kept = [a, w, offsets]
        at = [each.ctypes.data for each in (offsets, a, w, self.out)]
        onto = int(self.start is not None)
        words = [n // 2 for n in (length, part, ld, w_part, stride)]
        return (self.segments, at[0], words[0], at[1], *words[1:3], at[2], *words[3:], at[3], onto)
