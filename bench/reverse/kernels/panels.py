"""The reverse pass of dense layers. Values and cotangents lie in *example panels*: (ceil(B / PANEL), N, PANEL) float32,
element [p, n, b] of feature n and example p * PANEL + b; what is beyond the batch is zero.

With x and dz in example panels and W packed as ever, both products of a dense layer's reverse pass are rows by panels
on the forward pass's register tile, with nothing transposed but dz, once:

    dWᵀ-panels [q, k, n] = Σ_b x[b, k] dz[b, n]      rows of x, panels of dz by features
    dx-panels  [p, k, b] = Σ_n W[k, n] dz[b, n]      rows of W, panels of dz by examples
"""

from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import carray
from numba.extending import register_jitable

from fgnumba.kernels import images
from fgnumba.kernels.activations.rules import RULES
from fgnumba.kernels.arguments import filled, record
from fgnumba.kernels.compile import kernel
from fgnumba.kernels.emit import call, pointer, transpose_block
from fgnumba.kernels.images import Images, operands
from fgnumba.kernels.memory import address
from fgnumba.kernels.program import Operation
from fgnumba.kernels.tiles import LAST, TILE_KINDS, tile_table
from fgnumba.kernels.tiling import heights, parts_for, split, tile_count, tile_rows
from fgnumba.kernels.vector import PANEL, InstructionSet

_PRODUCT = record(
    *("a", "segments", "offsets", "rows", "panels", "w", "w_rows", "out", "out_rows"),
    *("onto", "streams", "rest", "tiles", "tallest"),
)
_ELEMENT_WORK = 4
STREAMS = 2
"""Panels of a that are read at a time where a comes from memory."""


def bind_product(
    name: str,
    isa: InstructionSet,
    threads: int,
    *,
    a: npt.NDArray[np.float32],
    w: npt.NDArray[np.float32],
    out: npt.NDArray[np.float32],
    rows: int,
    terms: int,
    columns: int,
    onto: bool,
    multiply_adds: int,
    from_memory: bool = False,
) -> Operation:
    """Bind ``out[q, r] = Σ_s a[s, r] · w[q, s]`` for r < R, each of the three in panels, (panels, rows, PANEL).

    Parameters
    ----------
    a : (S, at least R, PANEL). w : (Q, S * PANEL, PANEL). out : (Q, at least R, PANEL), added to where `onto`.
    rows, terms, columns : R, and how many terms of the sum and columns of out count.
    multiply_adds : of the product without padding.
    from_memory : a is in no cache: it is read once, in few streams, and what is written stays in a cache.

    Cost: R multiply-adds a term and column, these rounded up to PANEL, or to a vector where there is one panel; reads a
    once a panel of w, or once.
    """
    segments = -(-terms // PANEL)
    parts = parts_for(rows * terms * w.shape[0] * PANEL, -(-rows // isa.max_rows), threads)
    tile_heights = set().union(
        *(heights(hi - lo, isa.max_rows) for lo, hi in (split(rows, parts, part) for part in range(parts)))
    )
    tiles = tile_table(isa, tile_heights, 1, True, None, columns if w.shape[0] == 1 else PANEL)
    offsets = np.arange(segments, dtype=np.int64) * a.shape[1] * PANEL
    fields = {
        "a": address(a),
        "segments": segments,
        "offsets": address(offsets),
        "rows": rows,
        "panels": w.shape[0],
        "w": address(w),
        "w_rows": w.shape[1],
        "out": address(out),
        "out_rows": out.shape[1],
        "onto": onto,
        "streams": from_memory,
        "rest": terms % PANEL,
        "tiles": address(tiles),
        "tallest": isa.max_rows,
    }
    return Operation(
        name,
        kernel("panel-product", _product, 3),
        filled(_PRODUCT, fields),
        parts,
        multiply_adds=multiply_adds,
        keeps=(a, w, out, tiles, offsets),
    )


def _product(arguments: int, part: int, parts: int) -> None:
    a = carray(pointer(arguments, _PRODUCT), 1)[0]
    first, last = split(a.rows, parts, part)
    count = tile_count(last - first, a.tallest)
    # Each panel of a is a stream through memory, and a processor foresees but a few: with all 32 panels of 12 MB of
    # weights at once, the product took three times as long.
    block = STREAMS if a.streams else a.segments
    for s in range(0, a.segments, block):
        segments = min(block, a.segments - s)
        if a.streams:
            row = first
            for tile in range(count):
                height = tile_rows(last - first, count, tile)
                for q in range(a.panels):
                    _tile(a, q, row, height, s, segments)
                row += height
        else:
            for q in range(a.panels):
                row = first
                for tile in range(count):
                    height = tile_rows(last - first, count, tile)
                    _tile(a, q, row, height, s, segments)
                    row += height


@register_jitable
def _tile(a: Any, q: int, row: int, height: int, s: int, segments: int) -> None:
    """Add `segments` panels of a, from panel s on, to a tile of out; of the very last, the terms that count."""
    addresses = carray(pointer(a.tiles, np.int64), TILE_KINDS * (a.tallest + 1))
    entry = addresses[TILE_KINDS * height + LAST]
    operand = a.a + row * PANEL * 4
    out = a.out + (q * a.out_rows + row) * PANEL * 4
    w = a.w + (q * a.w_rows + s * PANEL) * PANEL * 4
    onto = 1 if s > 0 else a.onto
    whole = segments - (a.rest > 0 and s + segments == a.segments)
    if whole > 0:
        call(entry, (whole, a.offsets + 8 * s, PANEL, operand, 0, PANEL, w, 0, 0, 0, out, onto))
        onto = 1
    if whole < segments:
        w += whole * PANEL * PANEL * 4
        call(entry, (1, a.offsets + 8 * (s + whole), a.rest, operand, 0, PANEL, w, 0, 0, 0, out, onto))


@cache
def transpose(isa: InstructionSet) -> int:
    """Address of ``(rows, columns, x, x_ld, y, y_ld)``: y[j, i] = x[i, j]."""
    block, lanes = transpose_block(isa), isa.lanes

    def transpose(rows: int, columns: int, x: int, x_ld: int, y: int, y_ld: int) -> None:
        whole_rows, whole_columns = rows // lanes * lanes, columns // lanes * lanes
        for j in range(0, whole_columns, lanes):
            for i in range(0, whole_rows, lanes):
                block(x + (i * x_ld + j) * 4, x_ld, y + (j * y_ld + i) * 4, y_ld)
        xs = carray(pointer(x, np.float32), (rows, x_ld))
        ys = carray(pointer(y, np.float32), (columns, y_ld))
        for i in range(rows):
            for j in range(whole_columns if i < whole_rows else 0, columns):
                ys[j, i] = xs[i, j]

    return kernel(f"transpose-{isa.name}", transpose, 6)


_MOVE = record(*images.fields("x"), "batch", "features", "panels", "panel_rows", "transpose")


def bind_to_panels(
    isa: InstructionSet, threads: int, *, x: Images, panels: npt.NDArray[np.float32], batch: int
) -> Operation:
    """Bind the copy of examples (B, N), rows of `x`, to example panels, with zeros beyond the batch.

    Cost: reads x once, writes the panels once.
    """
    return _bind_move("to-panels", _to_panels, isa, threads, x, panels, batch)


def bind_from_panels(
    isa: InstructionSet, threads: int, *, x: Images, panels: npt.NDArray[np.float32], batch: int
) -> Operation:
    """Bind the copy of example panels to examples (B, N), rows of `x`.

    Cost: reads the panels once, writes x once.
    """
    return _bind_move("from-panels", _from_panels, isa, threads, x, panels, batch)


def _bind_move(
    name: str,
    body: Any,
    isa: InstructionSet,
    threads: int,
    x: Images,
    panels: npt.NDArray[np.float32],
    batch: int,
) -> Operation:
    features = x.shape[0] * x.shape[1] * x.shape[2]
    values, memory = operands(x=x)
    fields = {
        **values,
        "batch": batch,
        "features": features,
        "panels": address(panels),
        "panel_rows": panels.shape[1],
        "transpose": transpose(isa),
    }
    memory["keeps"] = (memory["keeps"], panels)
    parts = parts_for(batch * features * _ELEMENT_WORK, panels.shape[0], threads)
    return Operation(name, kernel(name, body, 3), filled(_MOVE, fields), parts, **memory)


def _to_panels(arguments: int, part: int, parts: int) -> None:
    a = carray(pointer(arguments, _MOVE), 1)[0]
    first, last = split((a.batch + PANEL - 1) // PANEL, parts, part)
    for p in range(first, last):
        examples = min(PANEL, a.batch - p * PANEL)
        out = a.panels + p * a.panel_rows * PANEL * 4
        call(a.transpose, (examples, a.features, a.x + p * PANEL * a.x_image * 4, a.x_image, out, PANEL))
        if examples < PANEL:
            panel = carray(pointer(out, np.float32), (a.features, PANEL))
            for n in range(a.features):
                for b in range(examples, PANEL):
                    panel[n, b] = np.float32(0)


def _from_panels(arguments: int, part: int, parts: int) -> None:
    a = carray(pointer(arguments, _MOVE), 1)[0]
    first, last = split((a.batch + PANEL - 1) // PANEL, parts, part)
    for p in range(first, last):
        examples = min(PANEL, a.batch - p * PANEL)
        out = a.x + p * PANEL * a.x_image * 4
        source = a.panels + p * a.panel_rows * PANEL * 4
        call(a.transpose, (a.features, examples, source, PANEL, out, a.x_image))


_COTANGENT = record(
    *("by_examples", "by_features", "source", "source_rows", "bias", "rows", "features", "examples", "batch"),
    *("onto", "transpose"),
)


def bind_cotangent(
    isa: InstructionSet,
    threads: int,
    *,
    by_examples: npt.NDArray[np.float32],
    by_features: npt.NDArray[np.float32],
    source: npt.NDArray[np.float32] | None,
    activation_name: str,
    bias: npt.NDArray[np.float32] | None,
    features: int,
    batch: int,
    onto: bool,
) -> Operation:
    """Bind what follows a layer's cotangent dy: dz = dy a'(z), dz in panels of features too, and its sum over examples.

    Parameters
    ----------
    by_examples : (ceil(B / PANEL), N rounded up, PANEL), dy; dz takes its place, with zeros in the padding.
    by_features : (ceil(N / PANEL), ceil(B / PANEL) * PANEL, PANEL), written, with zeros in the padding.
    source : example panels of what the slope is a function of: z, or for a rectifier y; None for the identity.
    bias : (at least N,) written, or added to where `onto`; None without a bias.

    Cost: reads by_examples and source once, writes both forms once.
    """
    fields = {
        "by_examples": address(by_examples),
        "by_features": address(by_features),
        "source": address(source),
        "source_rows": 0 if source is None else source.shape[1],
        "bias": address(bias),
        "rows": by_examples.shape[1],
        "features": features,
        "examples": by_features.shape[1],
        "batch": batch,
        "onto": onto,
        "transpose": transpose(isa),
    }
    return Operation(
        "cotangent",
        _cotangent_entry("identity" if source is None else activation_name),
        filled(_COTANGENT, fields),
        parts_for(batch * features * _ELEMENT_WORK, by_features.shape[0], threads),
        scratch_bytes=PANEL * 4,
        keeps=(by_examples, by_features, source, bias),
    )


@cache
def _cotangent_entry(activation_name: str) -> int:
    rule, identity = RULES[activation_name], activation_name == "identity"

    def cotangent(arguments: int, part: int, parts: int) -> None:
        a = carray(pointer(arguments, _COTANGENT), 1)[0]
        first, last = split((a.features + PANEL - 1) // PANEL, parts, part)
        zero = np.float32(0)
        for q in range(first, last):
            begin, end = q * PANEL, min(a.features, (q + 1) * PANEL)
            out = carray(pointer(a.by_features + q * a.examples * PANEL * 4, np.float32), (a.examples, PANEL))
            if end - begin < PANEL or a.batch < a.examples:
                for b in range(a.examples):
                    for n in range(PANEL):
                        out[b, n] = zero
            for p in range(a.examples // PANEL):
                at = p * a.rows * PANEL * 4
                dz = carray(pointer(a.by_examples + at, np.float32), (a.rows, PANEL))
                if not identity:
                    source_at = a.source + p * a.source_rows * PANEL * 4
                    source = carray(pointer(source_at, np.float32), (a.features, PANEL))
                    for n in range(begin, end):
                        for b in range(PANEL):
                            dz[n, b] *= rule(source[n, b])[1]
                for n in range(end, begin + PANEL):
                    for b in range(PANEL):
                        dz[n, b] = zero
                examples = min(PANEL, a.batch - p * PANEL)
                target = a.by_features + (q * a.examples + p * PANEL) * PANEL * 4
                top = a.by_examples + at + begin * PANEL * 4
                call(a.transpose, (end - begin, examples, top, PANEL, target, PANEL))
            if a.bias:
                bias = carray(pointer(a.bias, np.float32), a.features)
                sums = carray(pointer(a.scratch, np.float32), PANEL)
                for n in range(PANEL):
                    sums[n] = zero
                for i in range(a.batch):
                    for n in range(PANEL):
                        sums[n] += out[i, n]
                for n in range(begin, end):
                    bias[n] = sums[n - begin] + (bias[n] if a.onto else zero)

    return kernel(f"reverse-cotangent-{activation_name}", cotangent, 3)
