"""Embedding on the CPU: rows of a table by symbols, primal and tangents in one pass.

    y_l  = W[x_l] + b
    dy_l = V_t[x_l] + c_t              for every direction t; of a rank-1 direction, V_t[x] = u_t[x] w_t

A part is a range of panels of columns, and takes all symbols, so that each panel of V is drawn once. Rows are written
panel beside panel, since a panel of all rows would touch a page of memory for each 128 bytes. Where the batch is small
it costs more to draw V than to look rows up: V takes a word of random bits for each of its rows and panels.

The gradient of W is the sum of the rows' error signals at each symbol's places: G[s] = Σ_(l: x_l = s) signal_l.
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
from fgnumba.kernels.machine.memory import address
from fgnumba.kernels.machine.program import Operation
from fgnumba.kernels.machine.work import ELEMENT_WORK, grid, parts_for, split
from fgnumba.kernels.rules.directions import EXPLICIT, GAUSSIAN, NONE, RANK1
from fgnumba.kernels.rules.directions import cpu as directions
from fgnumba.kernels.rules.philox import ENTRY, LEFT, RIGHT
from fgnumba.kernels.shared.product import product
from fgnumba.kernels.shared.product.product import Weights
from fgnumba.validation.launcher import launcher

ARGUMENTS = record(
    *images.fields("x"),
    *images.fields("y"),
    *(
        "batch",
        "length",
        "wide",
        "weight",
        "bias",
        "inputs",
        "panels",
        "panel_bytes",
        "group",
        "count",
        "first",
        "kind",
    ),
    *("parameter", "bias_parameter", "stream", "v", "v_bias", "draw", "draw_vector"),
    *("at_left", "at_right", "at_shift", "at_drawn"),
)

DRAWN = 64 * 1024
"""Bytes of drawn panels of V that a part looks up at a time, so that they stay in the cache."""

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
    """Bind the embedding to its arrays.

    Parameters
    ----------
    isa : InstructionSet
        The instruction set to bind for.
    threads : int
        Number of threads that may share the work.
    batch : int
        Number of examples B.
    x : Images
        B examples of one pixel with L channels: symbols, whole numbers from 0 to V - 1 as float32.
    y : Images
        B L examples of one pixel, in rows of whole panels, all of which are written.
    weights : Weights
        The table W (V, N) and the bias b, and their directions.

    Notes
    -----
    Cost: no product. For each row reads N float32 of W, of the second-level cache if W fits into it, and writes N; the
    same for each tangent, of V's panel, V x 32 entries, or of w if it is of rank 1. The floor is the memory of y.
    """
    kind, count, rows, panels = weights.kind, weights.count, weights.inputs, weights.panels
    length = x.shape[2]
    parts = parts_for((1 + count) * batch * length * panels * PANEL * ELEMENT_WORK, panels, threads)
    drawn = kind not in (NONE, EXPLICIT) and count > 0
    draw, padded = 0, -(-rows // PANEL) * PANEL
    if drawn:
        draw = directions.gaussians(isa) if kind == GAUSSIAN else directions.sign_words(isa)
    panel_bytes = directions.draw_bytes(kind, rows) if drawn else 0
    group = max(1, min(-(-panels // parts), DRAWN // panel_bytes)) if drawn and kind != RANK1 else 1
    vectors = directions.draw_bytes(kind, max(panels, padded // PANEL)) * drawn
    offsets, end = lay_out(
        {
            "at_left": padded * 4 * (kind == RANK1),
            "at_right": panels * PANEL * 4 * (kind == RANK1),
            "at_shift": panels * PANEL * 4,
            "at_drawn": max(group * panel_bytes, vectors),
        }.items()
    )
    addresses, memory = operands(x=x, y=y)
    fields = {
        **addresses,
        **offsets,
        "batch": batch,
        "length": length,
        "wide": PANEL,
        "weight": address(weights.weight),
        "bias": address(weights.bias),
        "inputs": rows,
        "panels": panels,
        "panel_bytes": panel_bytes,
        "group": group,
        "count": count,
        "first": weights.first,
        "kind": kind,
        "parameter": weights.parameter,
        "bias_parameter": weights.bias_parameter,
        "stream": address(weights.stream),
        "v": address(weights.v),
        "v_bias": address(weights.v_bias),
        "draw": draw,
        "draw_vector": directions.vector() if drawn else 0,
    }
    return Operation(
        "embedding",
        _entry(),
        filled(ARGUMENTS, fields),
        parts=parts,
        scratch_bytes=end,
        keeps=(memory["keeps"], weights),
        external=memory["external"],
    )


@cache
def _entry() -> int:
    return kernel("embedding", _embedding, 3)


def _embedding(arguments: int, part: int, parts: int) -> None:
    a = carray(pointer(arguments, ARGUMENTS), 1)[0]
    first, end = split(a.panels, parts, part)
    if first == end:
        return
    panel = a.inputs * PANEL * 4
    _look_up(a, first, end, a.weight + first * panel, panel, a.bias, a.y)
    for t in range(a.count):
        shift = _shift(a, t)
        y = a.y + (t + 1) * a.y_block * 4
        if a.kind == RANK1:
            n = (a.inputs + PANEL - 1) // PANEL * PANEL
            work, left, right = a.scratch + a.at_drawn, a.scratch + a.at_left, a.scratch + a.at_right
            product.draw_vector(a, t, n, LEFT, a.parameter, work, left)
            product.draw_vector(a, t, a.panels * PANEL, RIGHT, a.parameter, work, right)
            _scale(a, first, end, left, right, shift, y)
        elif a.kind == NONE:
            _look_up(a, first, end, 0, 0, shift, y)
        elif a.kind == EXPLICIT:
            _look_up(a, first, end, a.v + (t * a.panels + first) * panel, panel, shift, y)
        else:
            drawn = a.scratch + a.at_drawn
            for p in range(first, end, a.group):
                p_end = min(end, p + a.group)
                for each in range(p, p_end):
                    product.draw_panel(a, t, each, 0, a.inputs, drawn + (each - p) * a.panel_bytes)
                if a.kind == GAUSSIAN:
                    _look_up(a, p, p_end, drawn, a.panel_bytes, shift, y)
                else:
                    _signs(a, p, p_end, drawn, a.panel_bytes, shift, y)


@register_jitable
def _shift(a: Any, t: int) -> int:
    """Return the address of the bias's tangent along direction `t`, which is drawn, given or zero."""
    if a.kind == EXPLICIT and a.bias_parameter >= 0:
        return int(a.v_bias + t * a.panels * PANEL * 4)
    shift, n = a.scratch + a.at_shift, a.panels * PANEL
    if a.bias_parameter < 0 or a.kind == NONE:
        zeros = carray(pointer(shift, np.float32), n)
        for j in range(n):
            zeros[j] = np.float32(0)
    else:
        product.draw_vector(a, t, n, ENTRY, a.bias_parameter, a.scratch + a.at_drawn, shift)
    return int(shift)


@register_jitable(forceinline=True)
def _symbol(a: Any, i: int, position: int) -> int:
    """Return a symbol, at most V - 1. Symbols are checked before a pass; this one keeps to memory whatever it reads."""
    x = carray(pointer(a.x + (i * a.x_image + position) * 4, np.float32), 1)
    return int(min(max(np.int64(x[0]), np.int64(0)), a.inputs - 1))


@register_jitable(forceinline=True)
def _row(a: Any, y: int, i: int, position: int, p: int) -> Any:
    """Return a panel of a row of y.

    Its length is not a constant: a loop over a constant number of columns would be unrolled, and then not become vector
    code, since rows might overlap.
    """
    at = y + ((i * a.length + position) * a.y_image + p * PANEL) * 4
    return carray(pointer(at, np.float32), a.wide)


@register_jitable
def _look_up(a: Any, p: int, p_end: int, table: int, panel_bytes: int, shift: int, y: int) -> None:
    """Write rows of panels p to `p_end` of `table`, or zeros if that is 0, plus the vector `shift`.

    `table` is the address of panel p, and `panel_bytes` the distance of panels.
    """
    for i in range(a.batch):
        for position in range(a.length):
            at = table + _symbol(a, i, position) * PANEL * 4
            for panel in range(p, p_end):
                out = _row(a, y, i, position, panel)
                own = carray(pointer(shift + panel * PANEL * 4, np.float32), a.wide)
                if table == 0:
                    for j in range(a.wide):
                        out[j] = own[j]
                else:
                    row = carray(pointer(at + (panel - p) * panel_bytes, np.float32), a.wide)
                    for j in range(a.wide):
                        out[j] = row[j] + own[j]


@register_jitable
def _scale(a: Any, p: int, p_end: int, left: int, right: int, shift: int, y: int) -> None:
    """Write rows of panels of u wᵀ, plus the vector `shift`."""
    u = carray(pointer(left, np.float32), a.inputs)
    for i in range(a.batch):
        for position in range(a.length):
            factor = u[_symbol(a, i, position)]
            for panel in range(p, p_end):
                out = _row(a, y, i, position, panel)
                w = carray(pointer(right + panel * PANEL * 4, np.float32), a.wide)
                own = carray(pointer(shift + panel * PANEL * 4, np.float32), a.wide)
                for j in range(a.wide):
                    out[j] = factor * w[j] + own[j]


@register_jitable
def _signs(a: Any, p: int, p_end: int, words: int, panel_bytes: int, shift: int, y: int) -> None:
    """Write rows of panels of signs, plus the vector `shift`."""
    for i in range(a.batch):
        for position in range(a.length):
            symbol = _symbol(a, i, position)
            for panel in range(p, p_end):
                out = _row(a, y, i, position, panel)
                own = carray(pointer(shift + panel * PANEL * 4, np.float32), a.wide)
                word = carray(pointer(words + (panel - p) * panel_bytes, np.uint32), a.inputs)[symbol]
                for j in range(a.wide):
                    bits = np.uint32(np.uint32(np.uint32(word >> np.uint32(j)) << np.uint32(31)) | _ONE_BITS)
                    out[j] = bits.view(np.float32) + own[j]


_GRADIENT = record(
    *images.fields("x"),
    *images.fields("signal"),
    *("batch", "length", "columns", "panels", "vocabulary", "across", "down", "out", "onto"),
)


@launcher
def bind_gradient(
    isa: InstructionSet,
    threads: int,
    *,
    batch: int,
    x: Images,
    signal: Images,
    out: npt.NDArray[np.float32],
    onto: bool = False,
) -> Operation:
    """Bind the gradient of W from the error signals of the rows: sums over the places of each symbol.

    Parameters
    ----------
    isa : InstructionSet
        Not used.
    threads : int
        Number of threads that may share the work.
    batch : int
        Number of examples B.
    x : Images
        Symbols: B examples of one pixel with L channels. What is no symbol adds nothing.
    signal : Images
        Error signals of y: B sequences (L, 1, N) by position, or B L examples (1, 1, N).
    out : array, (panels, V, PANEL) float32
        Written: the gradient, packed like W, with zeros in the padding.
    onto : bool
        Whether the gradient is added to what `out` holds, whose padding is left alone.

    Notes
    -----
    Cost: reads the signals once, and for each row reads and writes a row of the gradient, of the second-level cache if
    that fits into it; each part of a panel reads all symbols. A symbol's rows are added in the order of its places.
    """
    rows = signal.by_rows()
    panels, vocabulary, _ = out.shape
    length, columns = x.shape[2], rows.shape[2]
    work = batch * length * columns * ELEMENT_WORK
    across, down = grid(panels, vocabulary, parts_for(work, panels * vocabulary, threads))
    addresses, memory = operands(x=x, signal=rows)
    fields = {
        **addresses,
        "batch": batch,
        "length": length,
        "columns": columns,
        "panels": panels,
        "vocabulary": vocabulary,
        "across": across,
        "down": down,
        "out": address(out),
        "onto": onto,
    }
    memory["keeps"] = (memory["keeps"], out)
    entry = kernel("embedding-gradient", _gradient, 3)
    return Operation("embedding-gradient", entry, filled(_GRADIENT, fields), across * down, **memory)


def _gradient(arguments: int, part: int, parts: int) -> None:
    a = carray(pointer(arguments, _GRADIENT), 1)[0]
    p, p_end = split(a.panels, a.across, part % a.across)
    low, high = split(a.vocabulary, a.down, part // a.across)
    if not a.onto:
        for panel in range(p, p_end):
            at = a.out + (panel * a.vocabulary + low) * PANEL * 4
            cleared = carray(pointer(at, np.float32), (high - low) * PANEL)
            for j in range((high - low) * PANEL):
                cleared[j] = np.float32(0)
    for i in range(a.batch):
        symbols = carray(pointer(a.x + i * a.x_image * 4, np.float32), a.length)
        for position in range(a.length):
            # Also false for NaN.
            if not (symbols[position] >= np.float32(0) and symbols[position] < a.vocabulary):
                continue
            symbol = np.int64(symbols[position])
            if symbol < low or symbol >= high:
                continue
            row = a.signal + (i * a.length + position) * a.signal_image * 4
            for panel in range(p, p_end):
                n = min(PANEL, a.columns - panel * PANEL)
                source = carray(pointer(row + panel * PANEL * 4, np.float32), n)
                at = a.out + (panel * a.vocabulary + symbol) * PANEL * 4
                target = carray(pointer(at, np.float32), n)
                for j in range(n):
                    target[j] += source[j]
