"""Gram matrices G = VᵀV of directions that are drawn again, on the CPU, and the coefficients c of g = Σ_t c_t v_t.

    gram       G_ts += Σ over a parameter of v_t v_s; of signs, by counting bits; of rank 1, (u_t · u_s)(w_t · w_s)
    combine    x_t = clip(d_t - h · v_t),  c = x / T;  or G c = x (P / rank G), by Cholesky

A direction that depends linearly on those before it is left out.

Source: the projection of ∇f on the span of V is V G⁻¹ Vᵀ ∇f; it is multiplied by P over the span's dimension.
"""

import math
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import carray
from numba.extending import register_jitable

from fgnumba.kernels.emit import pointer
from fgnumba.kernels.emit.vector import PANEL, InstructionSet
from fgnumba.kernels.machine.arguments import filled, lay_out, record
from fgnumba.kernels.machine.compile import kernel
from fgnumba.kernels.machine.memory import address
from fgnumba.kernels.machine.program import Operation
from fgnumba.kernels.machine.work import parts_for, split
from fgnumba.kernels.ops.gram import DEPENDENT
from fgnumba.kernels.rules.directions import GAUSSIAN, RANK1
from fgnumba.kernels.rules.directions.cpu import draw_bytes
from fgnumba.kernels.rules.philox import ENTRY, LEFT, RIGHT
from fgnumba.kernels.shared.cholesky import cpu as cholesky
from fgnumba.kernels.shared.drawn import cpu as drawn
from fgnumba.kernels.shared.drawn.cpu import BLOCK, Drawn
from fgnumba.validation.launcher import launcher

_GRAM = record(*drawn.FIELDS, "gram", "drawn_bytes")
_COMBINE = record(
    *(
        "values",
        "count",
        "clip",
        "projections",
        "projected",
        "grams",
        "gram_number",
        "work",
        "parameters",
        "out",
    ),
)


@launcher
def bind(
    isa: InstructionSet,
    threads: int,
    *,
    directions: Drawn,
    gram: npt.NDArray[np.float64],
) -> Operation:
    """Bind one parameter's share of G.

    Parameters
    ----------
    isa : InstructionSet
        The instruction set to bind for.
    threads : int
        Number of threads that may share the work.
    directions : Drawn
        The directions of the parameter.
    gram : array, (``shares(directions)``, T, T) float64
        Written: matrices, of which only the lower triangles are used. ``combine`` adds them up.

    Notes
    -----
    Cost: of rank 1, T² (K + N) / 32 words. Otherwise, for each entry, T² / 2 words of 32 signs, or T² / 2
    multiply-adds.
    """
    kind, count = directions.kind, directions.count
    longest = max(-(-directions.rows // PANEL), directions.panels) if kind == RANK1 else BLOCK
    drawn_bytes = draw_bytes(kind, longest)
    _, end = lay_out([("drawn", count * drawn_bytes)])
    fields = {**directions.fields(isa), "gram": address(gram), "drawn_bytes": drawn_bytes}
    work = math.prod(directions.shape) * count * count // (2 if kind == GAUSSIAN else 32)
    return Operation(
        "gram",
        kernel("gram", _gram, 3),
        filled(_GRAM, fields),
        1 if kind == RANK1 else parts_for(work, len(gram), threads),
        scratch_bytes=end,
        keeps=(directions, gram),
    )


def shares(directions: Drawn) -> int:
    """Return how many matrices a parameter adds to G."""
    return 1 if directions.kind == RANK1 else directions.panels


def _gram(arguments: int, part: int, parts: int) -> None:
    a = carray(pointer(arguments, _GRAM), 1)[0]
    if a.kind == RANK1:
        _rank_one(a)
        return
    low, high = split(a.panels, parts, part)
    for panel in range(low, high):
        gram = carray(pointer(a.gram + panel * a.count * a.count * 8, np.float64), (a.count, a.count))
        for t in range(a.count):
            for s in range(t + 1):
                gram[t, s] = 0.0
        for row in range(0, a.rows, BLOCK):
            rows = min(BLOCK, a.rows - row)
            for t in range(a.count):
                _draw(a, t, row, rows, panel, ENTRY)
            for t in range(a.count):
                for s in range(t + 1):
                    gram[t, s] += _products(a, t, s, row, rows, panel)


@register_jitable
def _draw(a: Any, t: int, row: int, rows: int, panel: int, purpose: int) -> None:
    drawn.draw(a, t, row, rows, panel, purpose, a.scratch + t * a.drawn_bytes)


@register_jitable
def _products(a: Any, t: int, s: int, row: int, rows: int, panel: int) -> float:
    """Return v_t · v_s over some rows of a panel."""
    total = np.float64(0)
    if a.kind == GAUSSIAN:
        first = carray(pointer(a.scratch + t * a.drawn_bytes, np.float32), (BLOCK, PANEL))
        second = carray(pointer(a.scratch + s * a.drawn_bytes, np.float32), (BLOCK, PANEL))
        for r in range(rows):
            lanes = drawn.lanes(a, panel, row + r)
            dot = np.float32(0)
            for lane in range(lanes):
                dot += first[r, lane] * second[r, lane]
            total += np.float64(dot)
        return float(total)
    ours = carray(pointer(a.scratch + t * a.drawn_bytes, np.uint32), BLOCK)
    theirs = carray(pointer(a.scratch + s * a.drawn_bytes, np.uint32), BLOCK)
    agreed = 0
    for r in range(rows):
        agreed += _agreement(ours[r] ^ theirs[r], drawn.lanes(a, panel, row + r))
    return float(agreed)


@register_jitable
def _agreement(differences: np.uint32, lanes: int) -> int:
    """Return the sum of the products of `lanes` pairs of signs, given a word whose bits are set where they differ."""
    word = np.uint32(differences)
    if lanes < PANEL:
        word &= np.uint32((np.uint64(1) << np.uint64(lanes)) - np.uint64(1))
    word = np.uint32(word - ((word >> np.uint32(1)) & np.uint32(0x55555555)))
    word = np.uint32((word & np.uint32(0x33333333)) + ((word >> np.uint32(2)) & np.uint32(0x33333333)))
    word = np.uint32((word + (word >> np.uint32(4))) & np.uint32(0x0F0F0F0F))
    ones = np.uint32(word * np.uint32(0x01010101)) >> np.uint32(24)
    return int(lanes - 2 * np.int64(ones))


@register_jitable
def _rank_one(a: Any) -> None:
    """Write (u_t · u_s)(w_t · w_s)."""
    gram = carray(pointer(a.gram, np.float64), (a.count, a.count))
    words = (a.rows + PANEL - 1) // PANEL
    for which in range(2):
        n = a.panels if which else words
        for t in range(a.count):
            _draw(a, t, 0, n, 0, RIGHT if which else LEFT)
        for t in range(a.count):
            ours = carray(pointer(a.scratch + t * a.drawn_bytes, np.uint32), n)
            for s in range(t + 1):
                theirs = carray(pointer(a.scratch + s * a.drawn_bytes, np.uint32), n)
                agreed = 0
                for r in range(n):
                    lanes = drawn.lanes(a, r, 0) if which else min(PANEL, a.rows - r * PANEL)
                    agreed += _agreement(ours[r] ^ theirs[r], lanes)
                if which:
                    gram[t, s] *= np.float64(agreed)
                else:
                    gram[t, s] = np.float64(agreed)


@launcher
def bind_combine(
    *,
    values: npt.NDArray[np.float64],
    clip: float,
    out: npt.NDArray[np.float64],
    projections: npt.NDArray[np.float64] | None = None,
    grams: npt.NDArray[np.float64] | None = None,
    parameters: int = 0,
) -> Operation:
    """Bind T c_t, which takes the place of d_t in ``kernels.ops.descent``; that operation divides by T.

    Parameters
    ----------
    values : array, (1 + T,) float64
        The loss, then d_t.
    clip : float
        The largest allowed |x_t|.
    out : array, (1 + T,) float64
        Written: the loss, then T c_t.
    projections : array, (n, T) float64, or None
        Its rows add up to h · v_t. None: h is zero.
    grams : array, (m, T, T) float64, or None
        Matrices that add up to G. None: c = x / T.
    parameters : int
        P.

    Notes
    -----
    Cost: T³ / 6 multiply-adds with `grams`.
    """
    count = len(values) - 1
    work = np.zeros((count + 1, max(1, count)))
    fields = {
        "values": address(values),
        "count": count,
        "clip": int(np.float64(clip).view(np.int64)),
        "projections": address(projections),
        "projected": 0 if projections is None else len(projections),
        "grams": address(grams),
        "gram_number": 0 if grams is None else len(grams),
        "work": address(work),
        "parameters": parameters,
        "out": address(out),
    }
    keeps = (values, projections, grams, work, out)
    return Operation("combine", _combine_entry(), filled(_COMBINE, fields), keeps=keeps)


@cache
def _combine_entry() -> int:
    return kernel("combine-directions", _combine, 3, fastmath=cholesky.FAST)


def _combine(arguments: int, part: int, parts: int) -> None:
    a = carray(pointer(arguments, _COMBINE), 1)[0]
    n = a.count
    values = carray(pointer(a.values, np.float64), 1 + n)
    out = carray(pointer(a.out, np.float64), 1 + n)
    clip = np.int64(a.clip).view(np.float64)
    out[0] = values[0]
    projections = carray(pointer(a.projections, np.float64), (a.projected, n))
    for t in range(n):
        x = values[1 + t]
        for k in range(a.projected):
            x -= projections[k, t]
        # Both comparisons are false for NaN, which stays NaN.
        if x > clip:
            x = clip
        elif x < -clip:
            x = -clip
        out[1 + t] = x
    if a.gram_number > 0:
        lower = carray(pointer(a.work, np.float64), (n, n))
        kept = carray(pointer(a.work + n * n * 8, np.float64), n)
        grams = carray(pointer(a.grams, np.float64), (a.gram_number, n, n))
        for t in range(n):
            for s in range(t + 1):
                lower[t, s] = 0.0
                for k in range(a.gram_number):
                    lower[t, s] += grams[k, t, s]
        rank = cholesky.factor(lower, kept, n, DEPENDENT)
        cholesky.substitute(lower, kept, out, n)
        for t in range(n):
            out[1 + t] *= np.float64(a.parameters) * np.float64(n) / max(1.0, rank)
