"""Gauss-Newton steps in the span of T directions, on the CPU; see the package.

With the square root R_i of H_i, which is a diagonal and a term of rank 1, G is the Gram matrix of the T rows R dz_t, of
B N entries. They are written once as rows and once as panels of 32 columns, so that the register tiles of dense layers
multiply them. Tiles are float32 over up to `BLOCK` entries, whose sums are added up in float64 and in order: G does not
depend on the number of threads. Only the lower triangle is computed. The system is solved in float64.
"""

from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import carray
from numba.extending import register_jitable

from fgnumba.kernels.emit import call, pointer
from fgnumba.kernels.emit.vector import PANEL, InstructionSet
from fgnumba.kernels.machine.arguments import filled, record
from fgnumba.kernels.machine.compile import kernel
from fgnumba.kernels.machine.memory import address, aligned, leading
from fgnumba.kernels.machine.program import Operation
from fgnumba.kernels.machine.work import ELEMENT_WORK, heights, parts_for, split, tile_count, tile_rows
from fgnumba.kernels.ops.gauss_newton import (
    CURVATURE,
    DEPENDENT,
    HIGHEST,
    LAMBDA,
    MEMORY,
    RATE,
    SLOPE,
    STATE,
)
from fgnumba.kernels.ops.optimizer import RATES
from fgnumba.kernels.rules.damping import adapted, mean_with
from fgnumba.kernels.shared.cholesky import cpu as cholesky
from fgnumba.kernels.shared.loss import MOST, RESULT
from fgnumba.kernels.shared.product.register_tiles import ONE_SEGMENT, SINGLE, TILE_KINDS, tile_table
from fgnumba.validation.launcher import launcher

BLOCK = 512
"""Entries of the rows that a tile adds up in float32. A block of a panel is 64 KB, which the caches hold."""

_FACTORS = record("z", "ld", "batch", "width", "count", "curvature", "coupled", "rows", "row", "panels")
_GRAM = record("rows", "row", "panels", "count", "length", "batch", "gram", "tiles", "offsets", "tallest")
_SOLVE = record("values", "gram", "count", "state", "damping", "triangle", "kept", "out")
_ADAPT = record("gram", "count", "state", "damping", "rate", "judged", "square", "rates", "result")


@launcher
def bind(
    isa: InstructionSet,
    threads: int,
    *,
    z: npt.NDArray[np.float32],
    curvature: npt.NDArray[np.float32],
    coupled: bool,
    gram: npt.NDArray[np.float64],
) -> list[Operation]:
    """Bind G.

    Parameters
    ----------
    isa : InstructionSet
        The instruction set to bind for.
    threads : int
        Number of threads that may share the work.
    z : array, (1 + T, B, ld) float32
        The outputs and their tangents, of which the first N columns are read.
    curvature : array, (B, N) float32
        h, see ``ops.output_curvature``.
    coupled : bool
        Whether H has the term of rank 1.
    gram : array, (T, T) float64
        Written: the lower triangle of G.

    Notes
    -----
    Cost: T² B N / 2 multiply-adds; reads z once, and writes and reads the rows twice.
    """
    (blocks, batch, ld), width = z.shape, curvature.shape[1]
    count, length = blocks - 1, batch * width
    across = -(-count // PANEL)
    rows = aligned((count, leading(length)))
    panels = aligned((across, length, PANEL))
    factors = {
        "z": address(z),
        "ld": ld,
        "batch": batch,
        "width": width,
        "count": count,
        "curvature": address(curvature),
        "coupled": coupled,
        "rows": address(rows),
        "row": rows.shape[1],
        "panels": address(panels),
    }
    tile_heights = set().union(*(heights(n, isa.max_rows) for n in {min(PANEL, count), count % PANEL}))
    tiles = tile_table(isa.plain, tile_heights, 1, True, None)
    products = {
        "rows": address(rows),
        "row": rows.shape[1],
        "panels": address(panels),
        "count": count,
        "length": length,
        "batch": batch,
        "gram": address(gram),
        "tiles": address(tiles),
        "offsets": address(ONE_SEGMENT),
        "tallest": isa.max_rows,
    }
    pairs = across * (across + 1) // 2
    return [
        Operation(
            "gauss-newton factors",
            kernel("gauss-newton-factors", _factors, 3),
            filled(_FACTORS, factors),
            parts_for(count * length * ELEMENT_WORK, batch, threads),
            keeps=(z, curvature, rows, panels),
        ),
        Operation(
            "gauss-newton matrix",
            kernel("gauss-newton-matrix", _gram, 3),
            filled(_GRAM, products),
            parts_for(pairs * PANEL * PANEL * length, pairs, threads),
            scratch_bytes=PANEL * PANEL * 4,
            multiply_adds=count * (count + 1) // 2 * length,
            keeps=(rows, panels, gram, tiles),
        ),
    ]


def _factors(arguments: int, part: int, parts: int) -> None:
    """Write R_i dz_ti = √h (dz - Σ h dz / Σ h), without the mean if outputs are independent of each other."""
    a = carray(pointer(arguments, _FACTORS), 1)[0]
    begin, end = split(a.batch, parts, part)
    for i in range(begin, end):
        h = carray(pointer(a.curvature + i * a.width * 4, np.float32), a.width)
        total = np.float64(0)
        for n in range(a.width):
            total += np.float64(h[n])
        share = 1.0 / total if a.coupled != 0 and total > 0 else 0.0
        for t in range(a.count):
            dz = carray(pointer(a.z + (((t + 1) * a.batch + i) * a.ld) * 4, np.float32), a.width)
            row = carray(pointer(a.rows + (t * a.row + i * a.width) * 4, np.float32), a.width)
            at = a.panels + (((t // PANEL) * a.batch + i) * a.width * PANEL + t % PANEL) * 4
            column = carray(pointer(at, np.float32), a.width * PANEL)
            mean = np.float64(0)
            for n in range(a.width):
                mean += np.float64(h[n]) * np.float64(dz[n])
            mean *= share
            for n in range(a.width):
                value = np.float32(np.sqrt(np.float64(h[n])) * (np.float64(dz[n]) - mean))
                row[n] = value
                column[n * PANEL] = value


def _gram(arguments: int, part: int, parts: int) -> None:
    a = carray(pointer(arguments, _GRAM), 1)[0]
    gram = carray(pointer(a.gram, np.float64), (a.count, a.count))
    across = (a.count + PANEL - 1) // PANEL
    begin, end = split(across * (across + 1) // 2, parts, part)
    unit, scale = 0, 1.0 / a.batch
    for p in range(across):
        for q in range(p, across):
            if unit >= begin and unit < end:
                high = min(a.count, (q + 1) * PANEL)
                for t in range(q * PANEL, high):
                    for s in range(p * PANEL, min(t + 1, (p + 1) * PANEL)):
                        gram[t, s] = 0.0
                for k in range(0, a.length, BLOCK):
                    _add_products(a, gram, p, q * PANEL, high, k, min(BLOCK, a.length - k), scale)
            unit += 1


@register_jitable
def _add_products(a: Any, gram: Any, p: int, low: int, high: int, k: int, length: int, scale: float) -> None:
    """Add the products of rows `low` to `high` with the rows of panel p, over some of their entries."""
    addresses = carray(pointer(a.tiles, np.int64), TILE_KINDS * (a.tallest + 1))
    panel = a.panels + (p * a.length + k) * PANEL * 4
    count = tile_count(high - low, a.tallest)
    row = low
    for tile in range(count):
        height = tile_rows(high - low, count, tile)
        at = a.rows + (row * a.row + k) * 4
        call(
            addresses[TILE_KINDS * height + SINGLE],
            (1, a.offsets, length, at, 0, a.row, panel, 0, 0, 0, a.scratch, 0),
        )
        sums = carray(pointer(a.scratch, np.float32), (height, PANEL))
        for r in range(height):
            t = row + r
            for s in range(p * PANEL, min(t + 1, (p + 1) * PANEL)):
                gram[t, s] += scale * np.float64(sums[r, s - p * PANEL])
        row += height


@launcher
def bind_solve(
    *,
    values: npt.NDArray[np.float64],
    gram: npt.NDArray[np.float64],
    state: npt.NDArray[Any],
    damping: float,
    out: npt.NDArray[np.float64],
) -> Operation:
    """Bind T c_t, which takes the place of d_t in ``ops.descent``; that operation divides by T.

    Parameters
    ----------
    values : array, (1 + T,) float64
        The loss, then d_t.
    gram : array, (T, T) float64
        The lower triangle of G.
    state : array, (5,) float32
        What is kept from step to step. If its λ is 0, λ is `damping` times the mean of G's diagonal.
    damping : float
        λ of the first step, over the mean of G's diagonal; 0: there is no damping.
    out : array, (1 + T,) float64
        Written: the loss, then T c_t.

    Notes
    -----
    Cost: T³ / 6 multiply-adds.
    """
    count = len(gram)
    triangle, kept = aligned((count, count), np.float64), aligned((count,), np.float64)
    fields = {
        "values": address(values),
        "gram": address(gram),
        "count": count,
        "state": address(state),
        "damping": _bits(damping),
        "triangle": address(triangle),
        "kept": address(kept),
        "out": address(out),
    }
    keeps = (values, gram, state, triangle, kept, out)
    return Operation("gauss-newton solve", _solve_entry(), filled(_SOLVE, fields), keeps=keeps)


def _bits(number: float) -> int:
    """Return a float64 as an argument of a kernel."""
    return int(np.float64(number).view(np.int64))


@cache
def _solve_entry() -> int:
    return kernel("gauss-newton-solve", _solve, 3, fastmath=cholesky.FAST)


@register_jitable
def _damping_of(state: int, gram: Any, count: int, damping: float) -> float:
    """Return λ: that of the state, or at the first step `damping` times the mean of G's diagonal."""
    found = np.float64(carray(pointer(state, np.float32), 1)[LAMBDA])
    if found > 0 or damping == 0:
        return float(found)
    trace = np.float64(0)
    for t in range(count):
        trace += gram[t, t]
    return float(damping * trace / count)


def _solve(arguments: int, part: int, parts: int) -> None:
    """Solve (G + λ I) c = d."""
    a = carray(pointer(arguments, _SOLVE), 1)[0]
    n = a.count
    values = carray(pointer(a.values, np.float64), 1 + n)
    gram = carray(pointer(a.gram, np.float64), (n, n))
    lower = carray(pointer(a.triangle, np.float64), (n, n))
    kept = carray(pointer(a.kept, np.float64), n)
    out = carray(pointer(a.out, np.float64), 1 + n)
    damping = _damping_of(a.state, gram, n, np.int64(a.damping).view(np.float64))
    for t in range(n):
        for s in range(t):
            lower[t, s] = gram[t, s]
        lower[t, t] = gram[t, t] + damping
        out[1 + t] = values[1 + t]
    out[0] = values[0]
    cholesky.factor(lower, kept, n, DEPENDENT)
    cholesky.substitute(lower, kept, out, n)
    for t in range(n):
        out[1 + t] *= n


@launcher
def bind_adapt(
    *,
    gram: npt.NDArray[np.float64],
    state: npt.NDArray[Any],
    damping: float,
    rate: float,
    judged: npt.NDArray[np.float64] | None,
    square: npt.NDArray[np.float64] | None,
    rates: npt.NDArray[Any],
    result: npt.NDArray[Any],
) -> Operation:
    """Bind the damping of the next step, by how well the last step did on this step's examples.

    The rule is ``rules.damping.adapted``, with running means of slope and curvature.

    Parameters
    ----------
    gram : array, (T, T) float64
        G of this step.
    state : array, (5,) float32
        What is kept from step to step, updated unless the step failed.
    damping : float
        As for :func:`bind_solve`.
    rate : float
        r; 0: λ stays what it was at the first step, and nothing else is read.
    judged : array, (2,) float64, or None
        The loss, and ∇f·m.
    square : array, (1, 1) float64, or None
        mᵀ G m.
    rates : array, (1,) ``optimizer.RATES``
        The learning rate of this step.
    result : array, (1,) ``loss.RESULT``
        Whether the step is finite.
    """
    fields = {
        "gram": address(gram),
        "count": len(gram),
        "state": address(state),
        "damping": _bits(damping),
        "rate": _bits(rate),
        "judged": address(judged),
        "square": address(square),
        "rates": address(rates),
        "result": address(result),
    }
    keeps = (gram, state, judged, square, rates, result)
    return Operation("gauss-newton damping", _adapt_entry(), filled(_ADAPT, fields), keeps=keeps)


@cache
def _adapt_entry() -> int:
    return kernel("gauss-newton-damping", _adapt, 3)


def _adapt(arguments: int, part: int, parts: int) -> None:
    a = carray(pointer(arguments, _ADAPT), 1)[0]
    if carray(pointer(a.result, RESULT), 1)[0].finite == 0:
        return
    gram = carray(pointer(a.gram, np.float64), (a.count, a.count))
    state = carray(pointer(a.state, np.float32), STATE)
    damping = _damping_of(a.state, gram, a.count, np.int64(a.damping).view(np.float64))
    rate = np.int64(a.rate).view(np.float64)
    if rate > 0:
        slope = carray(pointer(a.judged, np.float64), 2)[1]
        square = carray(pointer(a.square, np.float64), 1)[0]
        eta, highest = np.float64(state[RATE]), np.float64(state[HIGHEST])
        state[RATE] = carray(pointer(a.rates, RATES), 1)[0].learning_rate
        state[HIGHEST] = max(state[HIGHEST], state[RATE])
        if np.abs(slope) <= MOST and square <= MOST:
            slope = mean_with(np.float64(state[SLOPE]), -eta * slope, MEMORY)
            curvature = mean_with(np.float64(state[CURVATURE]), eta * eta * square, MEMORY)
            state[SLOPE], state[CURVATURE] = slope, curvature
            share = eta / highest if highest > 0 else np.float64(1)
            damping = adapted(damping, slope, curvature, share, rate)
    state[LAMBDA] = damping
