"""The reverse pass of layer and group normalisation.

    x̂  = (x - μ) r,  r = 1 / √(σ² + ε),  g = s ⊙ dy
    dx = r (g - mean(g) - x̂ mean(g x̂))          means over what was normalised together
    ds = Σ dy x̂,  db = Σ dy                      over pixels and examples

An example's share of ds and db is kept, and added up over the batch after that: the same for any number of threads.

Sources: J. L. Ba et al., arXiv 1607.06450; Y. Wu, K. He, arXiv 1803.08494.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
from numba import carray
from numba.extending import register_jitable

from fgnumba.kernels import images, moments
from fgnumba.kernels.arguments import filled, record
from fgnumba.kernels.compile import kernel
from fgnumba.kernels.emit import pointer
from fgnumba.kernels.emit.channels import FACTOR, HIGH, LOW
from fgnumba.kernels.group_norm import passes
from fgnumba.kernels.images import Images, operands
from fgnumba.kernels.memory import address, round_up
from fgnumba.kernels.numbers import launcher
from fgnumba.kernels.program import Operation
from fgnumba.kernels.tiling import split
from fgnumba.kernels.vector import PANEL, InstructionSet

_TOTAL, _DOT, _LINE, _LINE_2 = range(passes.WORK_VECTORS, passes.WORK_VECTORS + 4)
_VECTORS = _LINE_2 + 1
"""Vectors of scratch memory: the table of ``group_norm.passes``, and sums of their own for each channel."""

_ARGUMENTS = record(
    *images.fields("x"),
    *images.fields("dy"),
    *images.fields("dx"),
    *("batch", "images", "height", "width", "channels", "groups", "epsilon", "scale"),
    *("shares", "shares_image", "inner", "padded", "moments"),
)


@launcher
def bind(
    isa: InstructionSet,
    *,
    batch: int,
    images_a_part: int,
    x: Images,
    dy: Images,
    dx: Images | None,
    groups: int,
    epsilon: float,
    scale: npt.NDArray[np.float32],
    shares: npt.NDArray[np.float32],
) -> Operation:
    """Bind the cotangent dx of images x, and each example's share of ds and db.

    Parameters
    ----------
    dx : written; None where nothing needs it.
    groups : of channels that are normalised together over all pixels; 0: each pixel over its channels.
    shares : (B, 2, C), written.

    Cost: reads x four times and dy twice, writes dx once; a mean and a variance as in :mod:`fgnumba.kernels.moments`.
    """
    height, width, channels = x.shape
    values, memory = operands(**({"x": x, "dy": dy} | ({"dx": dx} if dx else {})))
    fields = {
        **values,
        **images.part_fields(batch, images_a_part),
        "height": height,
        "width": width,
        "channels": channels,
        "groups": groups,
        "epsilon": int(np.float32(epsilon).view(np.int32)),
        "scale": address(scale),
        "shares": address(shares),
        "shares_image": 2 * channels,
        "inner": dx is not None,
        "padded": round_up(channels, PANEL),
        "moments": passes.moments_entry(isa) if groups else 0,
    }
    memory["keeps"] = (memory["keeps"], scale, shares)
    name, body = ("reverse-group-norm", _group_norm) if groups else ("reverse-layer-norm", _layer_norm)
    entry = kernel(name, body, 3)
    scratch = (_VECTORS if groups else 2) * round_up(channels, PANEL) * 4
    return Operation("normalization", entry, filled(_ARGUMENTS, fields), scratch_bytes=scratch, **memory)


@register_jitable
def _row(at: int, channels: int) -> Any:
    return carray(pointer(at, np.float32), channels)


def _layer_norm(arguments: int, part: int, parts: int) -> None:
    a = carray(pointer(arguments, _ARGUMENTS), 1)[0]
    channels, one_over = a.channels, np.float32(1.0 / a.channels)
    epsilon = np.int32(a.epsilon).view(np.float32)
    scale, normal = _row(a.scale, channels), _row(a.scratch, channels)
    scaled_at = a.scratch + a.padded * 4
    scaled = _row(scaled_at, channels)
    for i in range(min(a.images, a.batch - part * a.images)):
        ds = _row(a.shares + (part * a.images + i) * a.shares_image * 4, channels)
        db = _row(a.shares + ((part * a.images + i) * a.shares_image + channels) * 4, channels)
        for c in range(channels):
            ds[c] = db[c] = np.float32(0)
        for pixel in range(a.height * a.width):
            row, column = pixel // a.width, pixel % a.width
            x_at = a.x + (part * a.x_part + i * a.x_image + row * a.x_row + column * a.x_pixel) * 4
            dy_at = a.dy + (part * a.dy_part + i * a.dy_image + row * a.dy_row + column * a.dy_pixel) * 4
            dy = _row(dy_at, channels)
            factor, left, inverse = moments.centre(x_at, channels, one_over, epsilon, a.scratch)
            offset = left * inverse
            for c in range(channels):
                normal[c] = normal[c] * inverse - offset
                ds[c] += dy[c] * normal[c]
                db[c] += dy[c]
                scaled[c] = scale[c] * dy[c]
            if a.inner:
                own, high, low, dot = moments.project(a.scratch, scaled_at, channels, one_over, factor)
                at = a.dx + (part * a.dx_part + i * a.dx_image + row * a.dx_row + column * a.dx_pixel) * 4
                dx, gain = _row(at, channels), inverse * (factor / own)
                for c in range(channels):
                    dx[c] = gain * (moments.centred(scaled[c], own, high, low) - normal[c] * dot)


def _group_norm(arguments: int, part: int, parts: int) -> None:
    a = carray(pointer(arguments, _ARGUMENTS), 1)[0]
    channels, epsilon = a.channels, np.int32(a.epsilon).view(np.float32)
    scale = _row(a.scale, channels)
    factor, high, low = passes.vector(a, FACTOR), passes.vector(a, HIGH), passes.vector(a, LOW)
    inverse = passes.vector(a, passes.INVERSE)
    total, dot = passes.vector(a, _TOTAL), passes.vector(a, _DOT)
    line, line2 = passes.vector(a, _LINE), passes.vector(a, _LINE_2)
    for i in range(min(a.images, a.batch - part * a.images)):
        x_image = a.x + (part * a.x_part + i * a.x_image) * 4
        dy_image = a.dy + (part * a.dy_part + i * a.dy_image) * 4
        ds = _row(a.shares + (part * a.images + i) * a.shares_image * 4, channels)
        db = _row(a.shares + ((part * a.images + i) * a.shares_image + channels) * 4, channels)
        _clear(ds)
        _clear(db)
        passes.centre(a, x_image, epsilon)
        # Sums are taken row by row: fewer roundings.
        for row in range(a.height):
            _clear(line)
            _clear(line2)
            for column in range(a.width):
                x = _row(x_image + (row * a.x_row + column * a.x_pixel) * 4, channels)
                dy = _row(dy_image + (row * a.dy_row + column * a.dy_pixel) * 4, channels)
                for c in range(channels):
                    line[c] += dy[c]
                    line2[c] += dy[c] * moments.centred(x[c], factor[c], high[c], low[c])
            for c in range(channels):
                db[c] += line[c]
                ds[c] += line2[c]
        for c in range(channels):
            ds[c] *= inverse[c]
            total[c], dot[c] = scale[c] * db[c], scale[c] * ds[c]
        if a.inner:
            _share(a, total)
            _share(a, dot)
            for row in range(a.height):
                for column in range(a.width):
                    x = _row(x_image + (row * a.x_row + column * a.x_pixel) * 4, channels)
                    dy = _row(dy_image + (row * a.dy_row + column * a.dy_pixel) * 4, channels)
                    at = a.dx + (part * a.dx_part + i * a.dx_image + row * a.dx_row + column * a.dx_pixel) * 4
                    dx = _row(at, channels)
                    for c in range(channels):
                        normal = moments.centred(x[c], factor[c], high[c], low[c]) * inverse[c]
                        moved = scale[c] * dy[c] - total[c] - normal * dot[c]
                        dx[c] = (inverse[c] * moved) * factor[c]


@register_jitable
def _share(a: Any, sums: Any) -> None:
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
def _clear(values: Any) -> None:
    for c in range(values.size):
        values[c] = np.float32(0)


_SUM = record("shares", "batch", "channels", "scale", "shift", "onto")


@launcher
def bind_sum(
    shares: npt.NDArray[np.float32],
    scale: npt.NDArray[np.float32],
    shift: npt.NDArray[np.float32],
    onto: bool,
) -> Operation:
    """Bind ds and db, the sums of the examples' shares (B, 2, C): written, or added to where `onto`."""
    batch, _, channels = shares.shape
    fields = {
        "shares": address(shares),
        "batch": batch,
        "channels": channels,
        "scale": address(scale),
        "shift": address(shift),
        "onto": onto,
    }
    entry = kernel("reverse-normalization-sum", _sum, 3)
    return Operation("sum", entry, filled(_SUM, fields), keeps=(shares, scale, shift))


def _sum(arguments: int, part: int, parts: int) -> None:
    a = carray(pointer(arguments, _SUM), 1)[0]
    first, last = split(a.channels, parts, part)
    shares = carray(pointer(a.shares, np.float32), (a.batch, 2, a.channels))
    scale, shift = _row(a.scale, a.channels), _row(a.shift, a.channels)
    for c in range(first, last):
        ds = db = np.float32(0)
        for i in range(a.batch):
            ds += shares[i, 0, c]
            db += shares[i, 1, c]
        scale[c] = ds + (scale[c] if a.onto else np.float32(0))
        shift[c] = db + (shift[c] if a.onto else np.float32(0))
