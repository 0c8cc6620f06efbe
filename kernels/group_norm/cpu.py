"""Group normalisation on the CPU: each example over the pixels and channels of a group, G groups of C / G channels.

    x̂  = (x - μ) r,  r = 1 / √(σ² + ε)          μ, σ² mean and variance over a group
    y  = s ⊙ x̂ + b                              s, b by channel
    dy = s ⊙ r (dx - mean(dx) - x̂ mean(x̂ dx)) + ds ⊙ x̂ + db

Sums run over pixels for a vector of channels side by side, whatever the groups; a group's channels are added up after
that.

Source: Y. Wu, K. He, arXiv 1803.08494.
"""

from functools import cache
from typing import Any

import numpy as np
from numba import carray
from numba.extending import register_jitable

from fgnumba.kernels import affine
from fgnumba.kernels.arguments import filled
from fgnumba.kernels.compile import kernel
from fgnumba.kernels.emit import call, channel_affine, channel_sums, pointer
from fgnumba.kernels.images import Images
from fgnumba.kernels.numbers import launcher
from fgnumba.kernels.program import Operation
from fgnumba.kernels.vector import InstructionSet

WORK_VECTORS = 6

_ARGUMENTS = np.dtype([*affine.ARGUMENTS.descr, ("sums", np.int64), ("write", np.int64)])


@launcher
def bind(
    isa: InstructionSet,
    *,
    batch: int,
    images_a_part: int,
    x: Images,
    y: Images,
    groups: int,
    weights: affine.Affine,
    epsilon: float,
) -> Operation:
    """Bind group normalisation to its arrays.

    Parameters
    ----------
    x, y : images of one shape. Must not overlap.
    groups : G, which divides C.
    epsilon : ε, above 0.

    Cost: reads x three times, and x and dx twice a direction; writes y and dy once.
    """
    fields, scratch, memory = affine.fields(
        isa,
        batch=batch,
        images_a_part=images_a_part,
        x=x,
        y=y,
        affine=weights,
        groups=groups,
        epsilon=epsilon,
        work_vectors=WORK_VECTORS,
    )
    entries = {"sums": sums_entry(isa), "write": _write_entry(isa)}
    arguments = filled(_ARGUMENTS, fields | entries)
    return Operation("group-norm", _entry(), arguments, scratch_bytes=scratch, **memory)


@cache
def _entry() -> int:
    return kernel("group-norm", _group_norm, 3)


def _group_norm(arguments: int, part: int, parts: int) -> None:
    a = carray(pointer(arguments, _ARGUMENTS), 1)[0]
    epsilon = np.int32(a.epsilon).view(np.float32)
    scale = carray(pointer(a.scale, np.float32), a.channels)
    shift = carray(pointer(a.shift, np.float32), a.channels)
    zero, mean, inverse = _vector(a, 0), _vector(a, 1), _vector(a, 2)
    first, second, constant = _vector(a, 3), _vector(a, 4), _vector(a, 5)
    affine.draw(a)
    for c in range(a.channels):
        zero[c] = np.float32(0)
    for i in range(min(a.images, a.batch - part * a.images)):
        x = a.x + (part * a.x_part + i * a.x_image) * 4
        y = a.y + (part * a.y_part + i * a.y_image) * 4
        _sums(a, x, zero, x, mean, False)
        share(a, mean)
        _sums(a, x, mean, x, inverse, True)
        share(a, inverse)
        for c in range(a.channels):
            inverse[c] = np.float32(1) / np.sqrt(inverse[c] + epsilon)
            first[c] = scale[c] * inverse[c]
        _write(a, x, mean, first, 0, zero, shift, y)
        for t in range(a.count):
            ds_at, db_at = affine.tangents(a, t)
            ds = carray(pointer(ds_at, np.float32), a.channels)
            db = carray(pointer(db_at, np.float32), a.channels)
            dx = x + (t + 1) * a.x_block * 4
            if a.has_tangent:
                _sums(a, x, mean, dx, second, True)
                share(a, second)
                _sums(a, dx, zero, dx, constant, False)
                share(a, constant)
                for c in range(a.channels):
                    gain = scale[c] * inverse[c]
                    second[c] = inverse[c] * (ds[c] - gain * (inverse[c] * second[c]))
                    constant[c] = db[c] - gain * constant[c]
            else:
                for c in range(a.channels):
                    second[c], constant[c] = inverse[c] * ds[c], db[c]
            at = dx if a.has_tangent else 0
            _write(a, x, mean, second, at, first, constant, y + (t + 1) * a.y_block * 4)


@register_jitable
def _vector(a: Any, index: int) -> Any:
    return carray(pointer(a.scratch + index * a.padded * 4, np.float32), a.channels)


@register_jitable
def _sums(a: Any, x: int, mean: Any, other: int, out: Any, products: bool) -> None:
    """Write Σ x over the pixels for each channel, or with `products` Σ (x - mean) x'.

    x' is `other`, less the mean where that is x.
    """
    form = (SQUARES if x == other else PRODUCTS) if products else VALUES
    call(
        a.sums,
        (
            *(form, a.height, a.width, a.channels, x, other, mean.ctypes.data),
            *(a.x_row, a.x_pixel, out.ctypes.data),
        ),
    )


@register_jitable
def share(a: Any, sums: Any) -> None:
    """Replace each channel's sum by the mean over its group."""
    size = a.channels // a.groups
    for g in range(a.groups):
        total = np.float64(0)
        for c in range(g * size, (g + 1) * size):
            total += np.float64(sums[c])
        mean = np.float32(total / (size * a.height * a.width))
        for c in range(g * size, (g + 1) * size):
            sums[c] = mean


@register_jitable
def _write(a: Any, x: int, mean: Any, gain: Any, dx: int, dx_gain: Any, constant: Any, y: int) -> None:
    """Y = gain (x - mean) + dx_gain dx + constant, by channel; without dx where its address is 0."""
    call(
        a.write,
        (
            *(a.height, a.width, a.channels, x, mean.ctypes.data, gain.ctypes.data, dx, dx_gain.ctypes.data),
            *(constant.ctypes.data, a.x_row, a.x_pixel, y, a.y_row, a.y_pixel),
        ),
    )


VALUES, SQUARES, PRODUCTS = range(3)


@cache
def sums_entry(isa: InstructionSet) -> int:
    """Address of ``(form, rows, columns, channels, x, other, mean, row, column, out)``: sums over the pixels."""
    values, squares, products = (channel_sums(isa, form) for form in ("values", "squares", "products"))
    lanes = isa.lanes

    def sums(
        form: int,
        rows: int,
        columns: int,
        channels: int,
        x: int,
        other: int,
        mean: int,
        row: int,
        column: int,
        out: int,
    ) -> None:
        whole = channels // lanes
        if whole > 0:
            if form == VALUES:
                values(rows, columns, whole, x, other, mean, row, column, out)
            elif form == SQUARES:
                squares(rows, columns, whole, x, other, mean, row, column, out)
            else:
                products(rows, columns, whole, x, other, mean, row, column, out)
        means = carray(pointer(mean, np.float32), channels)
        totals = carray(pointer(out, np.float32), channels)
        for c in range(whole * lanes, channels):
            total = np.float32(0)
            for i in range(rows):
                partial = np.float32(0)
                for j in range(columns):
                    at = (i * row + j * column + c) * 4
                    value = carray(pointer(x + at, np.float32), 1)[0]
                    if form == VALUES:
                        partial += value
                    elif form == SQUARES:
                        partial += (value - means[c]) * (value - means[c])
                    else:
                        partial += (value - means[c]) * carray(pointer(other + at, np.float32), 1)[0]
                total += partial
            totals[c] = total

    return kernel(f"channel-sums-{isa.name}", sums, 10)


@cache
def _write_entry(isa: InstructionSet) -> int:
    """Address of the pass of :func:`channel_affine`, for any number of channels instead of vectors of them."""
    primal, dual = channel_affine(isa, tangent=False), channel_affine(isa, tangent=True)
    lanes = isa.lanes

    def write(
        rows: int,
        columns: int,
        channels: int,
        x: int,
        mean: int,
        gain: int,
        dx: int,
        dx_gain: int,
        constant: int,
        row: int,
        column: int,
        y: int,
        y_row: int,
        y_column: int,
    ) -> None:
        whole = channels // lanes
        by_channel = (mean, gain, dx, dx_gain, constant)
        if whole > 0:
            if dx:
                dual(rows, columns, whole, x, *by_channel, row, column, y, y_row, y_column)
            else:
                primal(rows, columns, whole, x, *by_channel, row, column, y, y_row, y_column)
        means, gains = (
            carray(pointer(mean, np.float32), channels),
            carray(pointer(gain, np.float32), channels),
        )
        dx_gains = carray(pointer(dx_gain, np.float32), channels)
        constants = carray(pointer(constant, np.float32), channels)
        for c in range(whole * lanes, channels):
            for i in range(rows):
                for j in range(columns):
                    at = (i * row + j * column + c) * 4
                    total = constants[c]
                    if dx:
                        total += dx_gains[c] * carray(pointer(dx + at, np.float32), 1)[0]
                    value = carray(pointer(x + at, np.float32), 1)[0]
                    out = carray(pointer(y + (i * y_row + j * y_column + c) * 4, np.float32), 1)
                    out[0] = gains[c] * (value - means[c]) + total

    return kernel(f"channel-affine-{isa.name}", write, 14)
