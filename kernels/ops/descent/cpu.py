"""Descent along a forward gradient on the CPU: one pass over the parameters, in which the directions are drawn again.

    g = (1 / T) Σ_t d_t v_t
    STORE      θ = g
    SGD        θ ← θ - η g
    MOMENTUM   m ← μ m + g,  θ ← θ - η m

Nothing is written unless the pass that computed d_t ended finite and every η d_t / T is finite in float32. If an update
would not be finite, ``result.finite`` becomes 0. No direction is ever stored: blocks of 64 rows of a panel are drawn
into the first-level cache and added up there.
"""

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import carray
from numba.extending import register_jitable

from fgnumba.kernels.emit import call, pointer
from fgnumba.kernels.emit.vector import PANEL, InstructionSet
from fgnumba.kernels.machine.arguments import filled, lay_out, record
from fgnumba.kernels.machine.compile import kernel
from fgnumba.kernels.machine.memory import address
from fgnumba.kernels.machine.program import Operation
from fgnumba.kernels.machine.work import heights, parts_for, split, tile_count, tile_rows
from fgnumba.kernels.ops.descent import SGD, STORE
from fgnumba.kernels.ops.optimizer import RATES
from fgnumba.kernels.rules.directions import GAUSSIAN, RADEMACHER, RANK1
from fgnumba.kernels.rules.directions import cpu as directions
from fgnumba.kernels.rules.philox import DIRECTION_SHIFT, ENTRY, LEFT, RIGHT, STREAM
from fgnumba.kernels.shared.drawn.cpu import BLOCK
from fgnumba.kernels.shared.loss import RESULT
from fgnumba.kernels.shared.product.register_tiles import ONE_SEGMENT, SINGLE, TILE_KINDS, tile_table
from fgnumba.validation.launcher import launcher

_ARGUMENTS = record(
    *("theta", "moment", "rows", "panels", "kind", "count", "first", "parameter", "stream"),
    *("values", "result", "rates", "rule", "draw", "add", "tiles", "offsets", "tallest"),
    *("at_left", "at_right", "at_words", "at_factors", "at_drawn"),
)
_ONE_BITS = np.uint32(0x3F800000)
_SIGN_BIT = np.uint32(0x80000000)


@launcher
def bind(
    isa: InstructionSet,
    threads: int,
    *,
    theta: npt.NDArray[np.float32],
    kind: int,
    count: int,
    parameter: int,
    stream: npt.NDArray[Any],
    values: npt.NDArray[np.float64],
    result: npt.NDArray[Any],
    rates: npt.NDArray[Any] | None,
    rule: int = SGD,
    moment: npt.NDArray[np.float32] | None = None,
    first: int = 0,
) -> Operation:
    """Bind the update of one parameter.

    Parameters
    ----------
    isa : InstructionSet
        The instruction set to bind for.
    threads : int
        Number of threads that may share the work.
    theta : array, (panels, K, PANEL) or (panels * PANEL,) float32
        The packed weight or vector, updated in place.
    kind : int
        The kind of direction that the dual pass drew, see ``rules.directions``.
    count : int
        Number of directions T.
    parameter : int
        Number of the parameter in the Philox counter.
    stream : array, (1,) ``philox.STREAM``
        Seed and step, read when the operation runs.
    values : array, (1 + T,) float64
        d_t at index 1 + t, as a loss writes them.
    result : array, (1,) ``loss.RESULT``
        The update happens only if its `finite` is 1. It is set to 0 if the update would not be finite.
    rates : array, (1,) ``optimizer.cpu.RATES``, or None
        Learning rate and momentum are read from it; None for STORE.
    rule : int
        STORE, SGD or MOMENTUM.
    moment : array, shaped like theta, or None
        m, for MOMENTUM.
    first : int
        Number of the first direction in the Philox counter.

    Notes
    -----
    Cost: reads and writes theta (and moment) once; T multiply-adds an entry.
    """
    is_vector = theta.ndim == 1
    panels, rows = (1, theta.size // PANEL) if is_vector else theta.shape[:2]
    kind = RADEMACHER if is_vector and kind == RANK1 else kind
    one_vector = directions.draw_bytes(RANK1, -(-rows // PANEL))
    regions = {
        "sums": BLOCK * PANEL * 4,
        "at_left": count * one_vector * (kind == RANK1),
        "at_right": count * directions.draw_bytes(RANK1, panels) * (kind == RANK1),
        "at_words": count * (BLOCK // PANEL + 1) * 4 * (kind == RANK1),
        "at_factors": count * (BLOCK + PANEL) * 4 * (kind == RANK1),
        "at_drawn": directions.draw_bytes(kind, BLOCK),
    }
    offsets, end = lay_out(regions.items())
    rates = np.zeros(1, RATES) if rates is None else rates
    tiles = None
    if kind == RANK1:
        blocks_of_rows = {min(BLOCK, rows), rows % BLOCK}
        tile_heights = set().union(*(heights(n, isa.max_rows) for n in blocks_of_rows))
        tiles = tile_table(isa, tile_heights, 1, True, None)
    fields = {
        "theta": address(theta),
        "moment": address(moment),
        "rows": rows,
        "panels": panels,
        "kind": kind,
        "count": count,
        "first": first,
        "parameter": parameter,
        "stream": address(stream),
        "values": address(values),
        "result": address(result),
        "rates": address(rates),
        "rule": rule,
        "tiles": address(tiles),
        "offsets": address(ONE_SEGMENT),
        "tallest": isa.max_rows,
        "add": directions.add_entries(kind == GAUSSIAN),
        "draw": directions.gaussians(isa) if kind == GAUSSIAN else directions.sign_words(isa),
        **{name: offset for name, offset in offsets.items() if name != "sums"},
    }
    blocks = panels * -(-rows // BLOCK)
    work = theta.size * (count * (30 if kind == GAUSSIAN else 2) + 8)
    return Operation(
        name="descent",
        entry=_entry(),
        arguments=filled(_ARGUMENTS, fields),
        parts=parts_for(work, blocks, threads),
        scratch_bytes=end,
        keeps=(tiles, theta, moment, stream, values, result, rates),
    )


@launcher
def bind_all(
    isa: InstructionSet,
    threads: int,
    *,
    thetas: Sequence[npt.NDArray[np.float32]],
    kind: int,
    count: int,
    parameters: Sequence[int],
    stream: npt.NDArray[Any],
    values: npt.NDArray[np.float64],
    result: npt.NDArray[Any],
    rates: npt.NDArray[Any] | None,
    rule: int = SGD,
    moments: Sequence[npt.NDArray[np.float32]] | None = None,
    first: int = 0,
) -> list[Operation]:
    """Bind the updates of many parameters.

    The arguments are those of :func:`bind`, but `thetas`, `parameters` and `moments` have one item for each parameter.
    """
    return [
        bind(
            isa,
            threads,
            theta=theta,
            kind=kind,
            count=count,
            parameter=parameter,
            stream=stream,
            values=values,
            result=result,
            rates=rates,
            rule=rule,
            moment=None if moments is None else moments[k],
            first=first,
        )
        for k, (theta, parameter) in enumerate(zip(thetas, parameters, strict=True))
    ]


@cache
def _entry() -> int:
    return kernel("descent", _descend, 3)


def _descend(arguments: int, part: int, parts: int) -> None:
    a = carray(pointer(arguments, _ARGUMENTS), 1)[0]
    if carray(pointer(a.result, RESULT), 1)[0].finite == 0:
        return
    scratch = a.scratch
    blocks = (a.rows + BLOCK - 1) // BLOCK
    start, end = split(a.panels * blocks, parts, part)
    if start == end:
        return
    rates = carray(pointer(a.rates, RATES), 1)[0]
    rate, momentum = np.float32(rates.learning_rate), np.float32(rates.momentum)
    values = carray(pointer(a.values, np.float64), 1 + a.count)
    for t in range(a.count):
        if not np.isfinite(rate * np.float32(values[1 + t] / np.float64(a.count))):
            # Every part of every parameter finds the same, so that none of them is updated.
            carray(pointer(a.result, RESULT), 1)[0].finite = 0
            return
    if a.kind == RANK1:
        _draw_factors(a, scratch)
    for unit in range(start, end):
        panel, row = unit % a.panels, unit // a.panels * BLOCK
        rows = min(BLOCK, a.rows - row)
        n = rows * PANEL
        if a.kind == RANK1:
            if panel == 0 or unit == start:
                _left_factors(a, scratch, row, rows, values)
            _outer_block(a, scratch, panel, rows)
        else:
            for t in range(a.count):
                _add_drawn(a, scratch, t, panel, row, rows, values)
        at = (panel * a.rows + row) * PANEL * 4
        theta = carray(pointer(a.theta + at, np.float32), n)
        g = carray(pointer(scratch, np.float32), n)
        if a.rule == STORE:
            for i in range(n):
                theta[i] = g[i]
        elif a.rule == SGD:
            for i in range(n):
                theta[i] -= rate * g[i]
        else:
            moment = carray(pointer(a.moment + at, np.float32), n)
            for i in range(n):
                moment[i] = momentum * moment[i] + g[i]
                theta[i] -= rate * moment[i]


@register_jitable
def _draw_factors(a: Any, scratch: int) -> None:
    stream = carray(pointer(a.stream, STREAM), 1)[0]
    left_rows = (a.rows + PANEL - 1) // PANEL
    for t in range(a.count):
        c2 = ((a.first + t) << DIRECTION_SHIFT) + a.parameter
        key = (c2, stream.step, stream.key_low, stream.key_high)
        call(a.draw, (0, left_rows, 0, LEFT, *key, _left(a, scratch, t)))
        call(a.draw, (0, a.panels, 0, RIGHT, *key, _right(a, scratch, t)))


@register_jitable
def _left(a: Any, scratch: int, t: int) -> int:
    left_rows = (a.rows + PANEL - 1) // PANEL
    return scratch + a.at_left + t * ((left_rows + 63) // 64 * 256)


@register_jitable
def _right(a: Any, scratch: int, t: int) -> int:
    return scratch + a.at_right + t * ((a.panels + 63) // 64 * 256)


@register_jitable
def _left_factors(a: Any, scratch: int, row: int, rows: int, values: Any) -> None:
    """Write (1 / T) d_t u_t of a block of rows as a matrix (rows, T), which serves all panels."""
    # The words of all directions side by side, so that the loop over directions is one over vectors.
    count, words_a_block = a.count, (rows + PANEL - 1) // PANEL
    words = carray(pointer(scratch + a.at_words, np.uint32), (words_a_block, count))
    coefficients = carray(pointer(scratch + a.at_words + BLOCK // PANEL * count * 4, np.uint32), count)
    for t in range(count):
        coefficient = np.float32(values[1 + t] / np.float64(count))
        coefficients[t] = np.uint32(coefficient.view(np.uint32))
        drawn = carray(pointer(_left(a, scratch, t), np.uint32), row // PANEL + words_a_block)
        for r in range(words_a_block):
            words[r, t] = drawn[row // PANEL + r]
    left = carray(pointer(scratch + a.at_factors, np.uint32), (rows, count))
    for i in range(rows):
        shift = np.uint32(31 - i % PANEL)
        for t in range(count):
            left[i, t] = coefficients[t] ^ ((words[i // PANEL, t] << shift) & _SIGN_BIT)


@register_jitable
def _outer_block(a: Any, scratch: int, panel: int, rows: int) -> None:
    """Write (1 / T) Σ_t d_t u_t w_tᵀ over a block: a product of register tiles with T as its inner dimension."""
    factors = scratch + a.at_factors
    right = carray(pointer(factors + BLOCK * a.count * 4, np.uint32), (a.count, PANEL))
    for t in range(a.count):
        word = carray(pointer(_right(a, scratch, t), np.uint32), a.panels)[panel]
        for lane in range(PANEL):
            right[t, lane] = ((word << np.uint32(31 - lane)) & _SIGN_BIT) | _ONE_BITS
    addresses = carray(pointer(a.tiles, np.int64), TILE_KINDS * (a.tallest + 1))
    count = tile_count(rows, a.tallest)
    at = 0
    for tile in range(count):
        height = tile_rows(rows, count, tile)
        call(
            addresses[TILE_KINDS * height + SINGLE],
            (
                np.int64(1),
                a.offsets,
                a.count,
                factors + at * a.count * 4,
                np.int64(0),
                a.count,
                factors + BLOCK * a.count * 4,
                np.int64(0),
                np.int64(0),
                np.int64(0),
                scratch + at * PANEL * 4,
                np.int64(0),
            ),
        )
        at += height


@register_jitable
def _add_drawn(a: Any, scratch: int, t: int, panel: int, row: int, rows: int, values: Any) -> None:
    """Add (1 / T) d_t v_t over a block. The first direction is written instead of added."""
    coefficient = np.float32(values[1 + t] / np.float64(a.count))
    stream = carray(pointer(a.stream, STREAM), 1)[0]
    drawn = scratch + a.at_drawn
    c2 = ((a.first + t) << DIRECTION_SHIFT) + a.parameter
    call(a.draw, (row, rows, panel, ENTRY, c2, stream.step, stream.key_low, stream.key_high, drawn))
    call(a.add, (np.int64(coefficient.view(np.int32)), rows, drawn, scratch, np.int64(t > 0)))
