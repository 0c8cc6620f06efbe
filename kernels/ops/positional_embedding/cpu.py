"""Positional embedding on the CPU: a vector is added at each position, primal and tangents in one pass.

    y_l  = x_l + P[l]
    dy_l = dx_l + V_t[l]               for every direction t; of a rank-1 direction, V_t[l] = u_t[l] w_t

A part is a range of panels of columns and a range of examples. It makes the first L rows of V for a few panels at a
time, as numbers, and then adds them to all of its examples.
"""

from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import carray
from numba.extending import register_jitable

from fgnumba.kernels.emit import pointer
from fgnumba.kernels.emit.vector import PANEL, InstructionSet
from fgnumba.kernels.layout import images
from fgnumba.kernels.layout.images import Images, operands
from fgnumba.kernels.machine.arguments import filled, lay_out, record
from fgnumba.kernels.machine.compile import kernel
from fgnumba.kernels.machine.memory import address, round_up
from fgnumba.kernels.machine.program import Operation
from fgnumba.kernels.machine.work import ELEMENT_WORK, grid, parts_for, split
from fgnumba.kernels.rules.directions import EXPLICIT, GAUSSIAN, NONE, RANK1
from fgnumba.kernels.rules.directions import cpu as directions
from fgnumba.kernels.rules.philox import LEFT, RIGHT
from fgnumba.kernels.shared.product import product
from fgnumba.kernels.shared.product.product import Weights
from fgnumba.validation.launcher import launcher

ARGUMENTS = record(
    *images.fields("x"),
    *images.fields("y"),
    *("batch", "length", "channels", "weight", "inputs", "panels", "across", "down", "group"),
    *("count", "has_tangent", "first", "kind", "parameter", "stream", "v", "draw", "draw_vector"),
    *("panel_bytes", "at_left", "at_right", "at_words", "at_drawn"),
)

DRAWN = 64 * 1024
"""Bytes of panels of V that a part makes at a time, so that they stay in the cache."""

_ONE_BITS = np.uint32(0x3F800000)


@launcher
def bind(
    isa: InstructionSet,
    threads: int,
    *,
    batch: int,
    x: Images,
    y: Images,
    weights: Weights,
) -> Operation:
    """Bind the positional embedding to its arrays.

    Parameters
    ----------
    isa : InstructionSet
        The instruction set to bind for.
    threads : int
        Number of threads that may share the work.
    batch : int
        Number of examples B.
    x, y : Images
        Sequences (L, 1, C), which must not overlap. If x has no tangent, dy = V.
    weights : Weights
        The table P, packed from (rows, C) with at least L rows, and its directions. The bias is not read. Directions of
        kind NONE are zeros: dy = dx.

    Notes
    -----
    Cost: no product. Reads x once and writes y once, primal and tangents; P and V, of which each part makes the rows
    that it adds, come from the cache. The floor is the memory of x and y.
    """
    kind, count, rows, panels = weights.kind, weights.count, weights.inputs, weights.panels
    length, _, channels = x.shape
    work = (1 + count) * batch * length * channels * ELEMENT_WORK
    across, down = grid(panels, batch, parts_for(work, panels * batch, threads))
    drawn = kind not in (NONE, EXPLICIT) and count > 0
    draw = 0
    if drawn:
        draw = directions.gaussians(isa) if kind == GAUSSIAN else directions.sign_words(isa)
    panel_bytes = round_up(length, 4) * PANEL * 4 if drawn else rows * PANEL * 4
    group = max(1, min(-(-panels // across), DRAWN // panel_bytes)) if drawn else panels
    vectors = max(round_up(length, PANEL) // PANEL, panels)
    offsets, end = lay_out(
        {
            "at_left": round_up(length, PANEL) * 4 * (kind == RANK1) * drawn,
            "at_right": panels * PANEL * 4 * (kind == RANK1) * drawn,
            "at_words": directions.draw_bytes(RANK1, max(length, vectors)) * drawn,
            "at_drawn": group * panel_bytes * drawn,
        }.items()
    )
    addresses, memory = operands(x=x, y=y)
    fields = {
        **addresses,
        **offsets,
        "batch": batch,
        "length": length,
        "channels": channels,
        "weight": address(weights.weight),
        "inputs": rows,
        "panels": panels,
        "across": across,
        "down": down,
        "group": group,
        "count": count,
        "has_tangent": x.has_tangent,
        "first": weights.first,
        "kind": kind,
        "parameter": weights.parameter,
        "stream": address(weights.stream),
        "v": address(weights.v),
        "draw": draw,
        "draw_vector": directions.vector() if drawn else 0,
        "panel_bytes": panel_bytes,
    }
    return Operation(
        "positional-embedding",
        _entry(),
        filled(ARGUMENTS, fields),
        parts=across * down,
        scratch_bytes=end,
        keeps=(memory["keeps"], weights),
        external=memory["external"],
    )


@cache
def _entry() -> int:
    return kernel("positional-embedding", _positional_embedding, 3)


def _positional_embedding(arguments: int, part: int, parts: int) -> None:
    a = carray(pointer(arguments, ARGUMENTS), 1)[0]
    first, end = split(a.panels, a.across, part % a.across)
    i, i_end = split(a.batch, a.down, part // a.across)
    if first == end or i == i_end:
        return
    panel = a.inputs * PANEL * 4
    _add(a, first, end, i, i_end, a.x, a.weight + first * panel, panel, a.y)
    for t in range(a.count):
        x = a.x + (t + 1) * a.x_block * 4 if a.has_tangent else 0
        y = a.y + (t + 1) * a.y_block * 4
        if a.kind == NONE:
            _add(a, first, end, i, i_end, x, 0, 0, y)
        elif a.kind == EXPLICIT:
            _add(a, first, end, i, i_end, x, a.v + (t * a.panels + first) * panel, panel, y)
        else:
            drawn = a.scratch + a.at_drawn
            if a.kind == RANK1:
                _draw_factors(a, t)
            for p in range(first, end, a.group):
                p_end = min(end, p + a.group)
                for each in range(p, p_end):
                    _make_panel(a, t, each, drawn + (each - p) * a.panel_bytes)
                _add(a, p, p_end, i, i_end, x, drawn, a.panel_bytes, y)


@register_jitable
def _draw_factors(a: Any, t: int) -> None:
    """Draw the first L entries of u, rounded up to whole panels, and w."""
    n, words = (a.length + PANEL - 1) // PANEL * PANEL, a.scratch + a.at_words
    product.draw_vector(a, t, n, LEFT, a.parameter, words, a.scratch + a.at_left)
    product.draw_vector(a, t, a.panels * PANEL, RIGHT, a.parameter, words, a.scratch + a.at_right)


@register_jitable
def _make_panel(a: Any, t: int, p: int, out: int) -> None:
    """Write the first L rows of panel p of V."""
    if a.kind == GAUSSIAN:
        product.draw_panel(a, t, p, 0, a.length, out)
        return
    v = carray(pointer(out, np.float32), (a.length, PANEL))
    if a.kind == RANK1:
        u = carray(pointer(a.scratch + a.at_left, np.float32), a.length)
        w = carray(pointer(a.scratch + a.at_right + p * PANEL * 4, np.float32), PANEL)
        for row in range(a.length):
            for j in range(PANEL):
                v[row, j] = u[row] * w[j]
    else:
        product.draw_panel(a, t, p, 0, a.length, a.scratch + a.at_words)
        words = carray(pointer(a.scratch + a.at_words, np.uint32), a.length)
        for row in range(a.length):
            for j in range(PANEL):
                sign = np.uint32(np.uint32(words[row] >> np.uint32(j)) << np.uint32(31))
                v[row, j] = np.uint32(sign | _ONE_BITS).view(np.float32)


@register_jitable
def _add(
    a: Any, p: int, p_end: int, i: int, i_end: int, x: int, table: int, panel_bytes: int, y: int
) -> None:
    """Write y = x + table for examples i to `i_end` and panels p to `p_end`; an address of 0 stands for zeros.

    `table` is the address of panel p, and `panel_bytes` the distance of panels.
    """
    for each in range(i, i_end):
        for position in range(a.length):
            for panel in range(p, p_end):
                n, at = min(PANEL, a.channels - panel * PANEL), panel * PANEL
                row_at = table + (panel - p) * panel_bytes + position * PANEL * 4
                x_at = x + (each * a.x_image + position * a.x_row + at) * 4
                row, of_x = carray(pointer(row_at, np.float32), n), carray(pointer(x_at, np.float32), n)
                out = carray(pointer(y + (each * a.y_image + position * a.y_row + at) * 4, np.float32), n)
                if table == 0:
                    for j in range(n):
                        out[j] = of_x[j] if x else np.float32(0)
                elif x == 0:
                    for j in range(n):
                        out[j] = row[j]
                else:
                    for j in range(n):
                        out[j] = of_x[j] + row[j]


_GRADIENT = record(
    *images.fields("signal"),
    *("batch", "length", "columns", "panels", "rows", "across", "down", "out", "onto"),
)


@launcher
def bind_gradient(
    isa: InstructionSet,
    threads: int,
    *,
    batch: int,
    signal: Images,
    out: npt.NDArray[np.float32],
    onto: bool = False,
) -> Operation:
    """Bind the gradient of P from the error signals of y: G[l] = Σ_b signal_bl.

    Parameters
    ----------
    isa : InstructionSet
        Not used.
    threads : int
        Number of threads that may share the work.
    batch : int
        Number of examples B.
    signal : Images
        Error signals of y: sequences (L, 1, C).
    out : array, (panels, at least L rows, PANEL) float32
        Written: the gradient, packed like P, with zeros in rows from L on and in the padding.
    onto : bool
        Whether the gradient is added to what `out` holds, whose other entries are left alone.

    Notes
    -----
    Cost: reads the signals once, and reads and writes the gradient's rows once for each example, from the cache.
    Examples are added in their order.
    """
    length, _, columns = signal.shape
    panels, rows, _ = out.shape
    work = batch * length * columns * ELEMENT_WORK
    across, down = grid(panels, rows, parts_for(work, panels * rows, threads))
    addresses, memory = operands(signal=signal)
    fields = {
        **addresses,
        "batch": batch,
        "length": length,
        "columns": columns,
        "panels": panels,
        "rows": rows,
        "across": across,
        "down": down,
        "out": address(out),
        "onto": onto,
    }
    memory["keeps"] = (memory["keeps"], out)
    entry = kernel("positional-embedding-gradient", _gradient, 3)
    return Operation(
        "positional-embedding-gradient", entry, filled(_GRADIENT, fields), across * down, **memory
    )


def _gradient(arguments: int, part: int, parts: int) -> None:
    a = carray(pointer(arguments, _GRADIENT), 1)[0]
    p, p_end = split(a.panels, a.across, part % a.across)
    low, high = split(a.rows, a.down, part // a.across)
    if not a.onto:
        for panel in range(p, p_end):
            cleared = carray(
                pointer(a.out + (panel * a.rows + low) * PANEL * 4, np.float32), (high - low) * PANEL
            )
            for j in range((high - low) * PANEL):
                cleared[j] = np.float32(0)
    for i in range(a.batch):
        for position in range(low, min(high, a.length)):
            row = a.signal + (i * a.signal_image + position * a.signal_row) * 4
            for panel in range(p, p_end):
                n = min(PANEL, a.columns - panel * PANEL)
                source = carray(pointer(row + panel * PANEL * 4, np.float32), n)
                target = carray(pointer(a.out + (panel * a.rows + position) * PANEL * 4, np.float32), n)
                for j in range(n):
                    target[j] += source[j]
