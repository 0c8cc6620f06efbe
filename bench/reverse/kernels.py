"""Kernels of reverse mode. Values and cotangents lie in *example panels*: (ceil(B / PANEL), N, PANEL) float32, element
[p, n, b] of feature n and example p * PANEL + b; what is beyond the batch is zero.

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

from fgnumba.kernels.activations.rules import RULES
from fgnumba.kernels.arguments import filled, record
from fgnumba.kernels.compile import kernel
from fgnumba.kernels.elementary import exp, log
from fgnumba.kernels.emit import call, pointer, transpose_block
from fgnumba.kernels.memory import address
from fgnumba.kernels.program import Operation
from fgnumba.kernels.tiles import SINGLE, TILE_KINDS, tile_table
from fgnumba.kernels.tiling import heights, parts_for, split, tile_count, tile_rows
from fgnumba.kernels.vector import PANEL, InstructionSet

_PRODUCT = record(
    *("a", "segments", "offsets", "rows", "panels", "w", "w_rows", "out", "out_rows"),
    *("onto", "tiles", "tallest"),
)
_ELEMENT_WORK = 4


def bind_product(
    name: str,
    isa: InstructionSet,
    threads: int,
    *,
    a: npt.NDArray[np.float32],
    w: npt.NDArray[np.float32],
    out: npt.NDArray[np.float32],
    rows: int,
    onto: bool,
    multiply_adds: int,
) -> Operation:
    """Bind ``out[q, r] = Σ_s a[s, r] · w[q, s]`` for r < R, each of the three in panels, (panels, rows, PANEL).

    Parameters
    ----------
    a : (S, at least R, PANEL). w : (Q, S * PANEL, PANEL). out : (Q, at least R, PANEL), added to where `onto`.
    rows : R.
    multiply_adds : of the product without padding.

    Cost: R S PANEL Q PANEL multiply-adds; reads a once, w once from the second-level cache a tile of rows.
    """
    segments = a.shape[0]
    parts = parts_for(rows * segments * PANEL * w.shape[0] * PANEL, -(-rows // isa.max_rows), threads)
    tile_heights = set().union(
        *(heights(hi - lo, isa.max_rows) for lo, hi in (split(rows, parts, part) for part in range(parts)))
    )
    tiles = tile_table(isa, tile_heights, 1, True, None)
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
    addresses = carray(pointer(a.tiles, np.int64), TILE_KINDS * (a.tallest + 1))
    count = tile_count(last - first, a.tallest)
    # A panel of `out` from its top to its bottom: where that is a gradient, it streams through memory in order.
    for q in range(a.panels):
        w = a.w + q * a.w_rows * PANEL * 4
        row = first
        for tile in range(count):
            height = tile_rows(last - first, count, tile)
            entry = addresses[TILE_KINDS * height + SINGLE]
            operand = a.a + row * PANEL * 4
            out = a.out + (q * a.out_rows + row) * PANEL * 4
            call(entry, (a.segments, a.offsets, PANEL, operand, 0, PANEL, w, 0, 0, 0, out, a.onto))
            row += height


_ACTIVATE = record("z", "ld", "batch", "features", "out", "out_rows", "slopes", "transpose")


def bind_activation(
    isa: InstructionSet,
    threads: int,
    *,
    z: npt.NDArray[np.float32],
    features: int,
    out: npt.NDArray[np.float32],
    activation_name: str = "identity",
    slopes: npt.NDArray[np.float32] | None = None,
) -> Operation:
    """Bind a(z), which takes the place of z and is written to example panels, and its slope a'(z) in panels.

    Parameters
    ----------
    z : (B, ld) of which N columns count. out, slopes : (ceil(B / PANEL), at least N, PANEL).

    Cost: reads and writes z once, writes out and slopes once.
    """
    batch, ld = z.shape
    fields = {
        "z": address(z),
        "ld": ld,
        "batch": batch,
        "features": features,
        "out": address(out),
        "out_rows": out.shape[1],
        "slopes": address(slopes),
        "transpose": transpose(isa),
    }
    return Operation(
        "activation",
        _activation(activation_name),
        filled(_ACTIVATE, fields),
        parts_for(batch * features * _ELEMENT_WORK, out.shape[0], threads),
        scratch_bytes=PANEL * features * 4,
        keeps=(z, out, slopes),
    )


@cache
def _activation(activation_name: str) -> int:
    rule = RULES[activation_name]
    active = activation_name != "identity"

    def activation(arguments: int, part: int, parts: int) -> None:
        a = carray(pointer(arguments, _ACTIVATE), 1)[0]
        first, last = split((a.batch + PANEL - 1) // PANEL, parts, part)
        for p in range(first, last):
            examples = min(PANEL, a.batch - p * PANEL)
            rows = a.z + p * PANEL * a.ld * 4
            if active:
                for b in range(examples):
                    row = carray(pointer(rows + b * a.ld * 4, np.float32), a.features)
                    slope = carray(pointer(a.scratch + b * a.features * 4, np.float32), a.features)
                    for n in range(a.features):
                        row[n], slope[n] = rule(row[n])
                slopes = a.slopes + p * a.out_rows * PANEL * 4
                call(a.transpose, (examples, a.features, a.scratch, a.features, slopes, PANEL))
            out = a.out + p * a.out_rows * PANEL * 4
            call(a.transpose, (examples, a.features, rows, a.ld, out, PANEL))

    return kernel(f"reverse-activation-{activation_name}", activation, 3)


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


_COTANGENT = record(
    *("by_examples", "by_features", "slopes", "bias", "rows", "features", "examples", "batch", "onto"),
    "transpose",
)


def bind_cotangent(
    isa: InstructionSet,
    threads: int,
    *,
    by_examples: npt.NDArray[np.float32],
    by_features: npt.NDArray[np.float32],
    slopes: npt.NDArray[np.float32] | None,
    bias: npt.NDArray[np.float32] | None,
    features: int,
    batch: int,
    onto: bool,
) -> Operation:
    """Bind what follows a layer's cotangent dy: dz = dy a'(z), dz in panels of features too, and its sum over examples.

    Parameters
    ----------
    by_examples : (ceil(B / PANEL), at least N, PANEL), dy; dz takes its place.
    by_features : (ceil(N / PANEL), ceil(B / PANEL) * PANEL, PANEL), written.
    slopes : like by_examples, None for the identity.
    bias : (at least N,) written, or added to where `onto`; None without a bias.

    Cost: reads by_examples and slopes once, writes both forms once.
    """
    fields = {
        "by_examples": address(by_examples),
        "by_features": address(by_features),
        "slopes": address(slopes),
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
        kernel("reverse-cotangent", _cotangent, 3),
        filled(_COTANGENT, fields),
        parts_for(batch * features * _ELEMENT_WORK, by_features.shape[0], threads),
        scratch_bytes=PANEL * 4,
        keeps=(by_examples, by_features, slopes, bias),
    )


def _cotangent(arguments: int, part: int, parts: int) -> None:
    a = carray(pointer(arguments, _COTANGENT), 1)[0]
    first, last = split((a.features + PANEL - 1) // PANEL, parts, part)
    for q in range(first, last):
        begin, end = q * PANEL, min(a.features, (q + 1) * PANEL)
        out = carray(pointer(a.by_features + q * a.examples * PANEL * 4, np.float32), (a.examples, PANEL))
        for p in range(a.examples // PANEL):
            at = p * a.rows * PANEL * 4
            dz = carray(pointer(a.by_examples + at, np.float32), (a.rows, PANEL))
            if a.slopes:
                slope = carray(pointer(a.slopes + at, np.float32), (a.rows, PANEL))
                for n in range(begin, end):
                    for b in range(PANEL):
                        dz[n, b] *= slope[n, b]
            examples = min(PANEL, a.batch - p * PANEL)
            source = a.by_examples + at + begin * PANEL * 4
            target = a.by_features + (q * a.examples + p * PANEL) * PANEL * 4
            call(a.transpose, (end - begin, examples, source, PANEL, target, PANEL))
        if a.bias:
            bias = carray(pointer(a.bias, np.float32), a.features)
            sums = carray(pointer(a.scratch, np.float32), PANEL)
            for n in range(PANEL):
                sums[n] = np.float32(0)
            for i in range(a.batch):
                for n in range(PANEL):
                    sums[n] += out[i, n]
            for n in range(begin, end):
                bias[n] = sums[n - begin] + (bias[n] if a.onto else np.float32(0))


LOSS = record("z", "ld", "batch", "width", "targets", "scale", "by_examples", "rows", "losses")
"""Arguments of a loss's reverse pass: losses of the examples (B,), and dz by examples, times the float64 at `scale`."""


def bind_loss(
    entry: int,
    *,
    z: npt.NDArray[np.float32],
    width: int,
    targets: npt.NDArray[Any],
    scale: npt.NDArray[np.float64],
    by_examples: npt.NDArray[np.float32],
    losses: npt.NDArray[np.float64],
) -> Operation:
    """Bind one of the losses below; `z` is (B, ld), `losses` (B,) float64."""
    fields = {
        "z": address(z),
        "ld": z.shape[1],
        "batch": len(z),
        "width": width,
        "targets": address(targets),
        "scale": address(scale),
        "by_examples": address(by_examples),
        "rows": by_examples.shape[1],
        "losses": address(losses),
    }
    keeps = (z, targets, scale, by_examples, losses)
    return Operation("loss", entry, filled(LOSS, fields), scratch_bytes=width * 4, keeps=keeps)


@cache
def softmax_cross_entropy() -> int:
    """Address of the reverse pass of softmax cross-entropy: dz = (softmax(z) - onehot(y)) / B, times the scale."""
    return kernel("reverse-softmax-cross-entropy", _softmax_cross_entropy, 3)


def _softmax_cross_entropy(arguments: int, part: int, parts: int) -> None:
    a = carray(pointer(arguments, LOSS), 1)[0]
    targets = carray(pointer(a.targets, np.int64), a.batch)
    losses = carray(pointer(a.losses, np.float64), a.batch)
    factor = np.float32(carray(pointer(a.scale, np.float64), 1)[0] / a.batch)
    e = carray(pointer(a.scratch, np.float32), a.width)
    for i in range(a.batch):
        z = carray(pointer(a.z + i * a.ld * 4, np.float32), a.width)
        at = a.by_examples + (i // PANEL * a.rows * PANEL + i % PANEL) * 4
        dz = carray(pointer(at, np.float32), (a.width, PANEL))
        highest = z[0]
        for n in range(1, a.width):
            highest = max(highest, z[n])
        for n in range(a.width):
            e[n] = exp(z[n] - highest)
        total = np.float32(0)
        for n in range(a.width):
            total += e[n]
        for n in range(a.width):
            dz[n, 0] = factor * (e[n] / total - np.float32(n == targets[i]))
        losses[i] = np.float64(log(total) + (highest - z[targets[i]]))


@cache
def mean_squared_error() -> int:
    """Address of the reverse pass of the mean squared error: dz = 2 (z - y) / (B N), times the scale."""
    return kernel("reverse-mean-squared-error", _mean_squared_error, 3)


def _mean_squared_error(arguments: int, part: int, parts: int) -> None:
    a = carray(pointer(arguments, LOSS), 1)[0]
    losses = carray(pointer(a.losses, np.float64), a.batch)
    factor = np.float32(2.0 * carray(pointer(a.scale, np.float64), 1)[0] / (a.batch * a.width))
    for i in range(a.batch):
        z = carray(pointer(a.z + i * a.ld * 4, np.float32), a.width)
        y = carray(pointer(a.targets + i * a.width * 4, np.float32), a.width)
        at = a.by_examples + (i // PANEL * a.rows * PANEL + i % PANEL) * 4
        dz = carray(pointer(at, np.float32), (a.width, PANEL))
        total = np.float64(0)
        for n in range(a.width):
            difference = z[n] - y[n]
            dz[n, 0] = factor * difference
            total += np.float64(difference) * np.float64(difference)
        losses[i] = total / a.width
