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

from fgnumba.kernels import images
from fgnumba.kernels.arguments import filled, record
from fgnumba.kernels.compile import kernel
from fgnumba.kernels.emit import pointer
from fgnumba.kernels.group_norm.cpu import share
from fgnumba.kernels.images import Images, operands
from fgnumba.kernels.memory import address
from fgnumba.kernels.numbers import launcher
from fgnumba.kernels.program import Operation
from fgnumba.kernels.tiling import split

_VECTORS = 6
_ARGUMENTS = record(
    *images.fields("x"),
    *images.fields("dy"),
    *images.fields("dx"),
    *("batch", "images", "height", "width", "channels", "groups", "epsilon", "scale"),
    *("shares", "shares_image", "inner"),
)


@launcher
def bind(
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

    Cost: reads x four times and dy twice, writes dx once.
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
    }
    memory["keeps"] = (memory["keeps"], scale, shares)
    # Sums over channels may be reassociated, so that they vectorise: a pixel's result depends on nothing else.
    entry = (
        kernel("reverse-group-norm", _group_norm, 3)
        if groups
        else kernel("reverse-layer-norm", _layer_norm, 3, fastmath={"contract", "nsz", "reassoc"})
    )
    scratch = _VECTORS * channels * 4
    return Operation("normalization", entry, filled(_ARGUMENTS, fields), scratch_bytes=scratch, **memory)


@register_jitable
def _row(at: int, channels: int) -> Any:
    return carray(pointer(at, np.float32), channels)


def _layer_norm(arguments: int, part: int, parts: int) -> None:
    a = carray(pointer(arguments, _ARGUMENTS), 1)[0]
    channels, one_over = a.channels, np.float32(1.0 / a.channels)
    epsilon = np.int32(a.epsilon).view(np.float32)
    scale, normal = _row(a.scale, channels), _row(a.scratch, channels)
    for i in range(min(a.images, a.batch - part * a.images)):
        ds = _row(a.shares + (part * a.images + i) * a.shares_image * 4, channels)
        db = _row(a.shares + ((part * a.images + i) * a.shares_image + channels) * 4, channels)
        for c in range(channels):
            ds[c] = db[c] = np.float32(0)
        for pixel in range(a.height * a.width):
            row, column = pixel // a.width, pixel % a.width
            x = _row(
                a.x + (part * a.x_part + i * a.x_image + row * a.x_row + column * a.x_pixel) * 4, channels
            )
            dy_at = a.dy + (part * a.dy_part + i * a.dy_image + row * a.dy_row + column * a.dy_pixel) * 4
            dy = _row(dy_at, channels)
            total = np.float32(0)
            for c in range(channels):
                total += x[c]
            mean, square = total * one_over, np.float32(0)
            for c in range(channels):
                normal[c] = x[c] - mean
                square += normal[c] * normal[c]
            inverse = np.float32(1) / np.sqrt(square * one_over + epsilon)
            total, dot = np.float32(0), np.float32(0)
            for c in range(channels):
                normal[c] *= inverse
                ds[c] += dy[c] * normal[c]
                db[c] += dy[c]
                total += scale[c] * dy[c]
                dot += scale[c] * dy[c] * normal[c]
            if a.inner:
                total, dot = total * one_over, dot * one_over
                at = a.dx + (part * a.dx_part + i * a.dx_image + row * a.dx_row + column * a.dx_pixel) * 4
                dx = _row(at, channels)
                for c in range(channels):
                    dx[c] = inverse * (scale[c] * dy[c] - total - normal[c] * dot)


def _group_norm(arguments: int, part: int, parts: int) -> None:
    a = carray(pointer(arguments, _ARGUMENTS), 1)[0]
    channels, epsilon = a.channels, np.int32(a.epsilon).view(np.float32)
    scale = _row(a.scale, channels)
    mean, inverse = _row(a.scratch, channels), _row(a.scratch + channels * 4, channels)
    total, dot = _row(a.scratch + 2 * channels * 4, channels), _row(a.scratch + 3 * channels * 4, channels)
    line, line2 = _row(a.scratch + 4 * channels * 4, channels), _row(a.scratch + 5 * channels * 4, channels)
    for i in range(min(a.images, a.batch - part * a.images)):
        x_image = a.x + (part * a.x_part + i * a.x_image) * 4
        dy_image = a.dy + (part * a.dy_part + i * a.dy_image) * 4
        ds = _row(a.shares + (part * a.images + i) * a.shares_image * 4, channels)
        db = _row(a.shares + ((part * a.images + i) * a.shares_image + channels) * 4, channels)
        for c in range(channels):
            mean[c] = inverse[c] = ds[c] = db[c] = np.float32(0)
        # Sums are taken row by row: fewer roundings.
        for row in range(a.height):
            _clear(line)
            for column in range(a.width):
                x = _row(x_image + (row * a.x_row + column * a.x_pixel) * 4, channels)
                for c in range(channels):
                    line[c] += x[c]
            for c in range(channels):
                mean[c] += line[c]
        share(a, mean)
        for row in range(a.height):
            _clear(line)
            for column in range(a.width):
                x = _row(x_image + (row * a.x_row + column * a.x_pixel) * 4, channels)
                for c in range(channels):
                    line[c] += (x[c] - mean[c]) * (x[c] - mean[c])
            for c in range(channels):
                inverse[c] += line[c]
        share(a, inverse)
        for c in range(channels):
            inverse[c] = np.float32(1) / np.sqrt(inverse[c] + epsilon)
        for row in range(a.height):
            _clear(line)
            _clear(line2)
            for column in range(a.width):
                x = _row(x_image + (row * a.x_row + column * a.x_pixel) * 4, channels)
                dy = _row(dy_image + (row * a.dy_row + column * a.dy_pixel) * 4, channels)
                for c in range(channels):
                    line[c] += dy[c]
                    line2[c] += dy[c] * (x[c] - mean[c])
            for c in range(channels):
                db[c] += line[c]
                ds[c] += line2[c]
        for c in range(channels):
            ds[c] *= inverse[c]
            total[c], dot[c] = scale[c] * db[c], scale[c] * ds[c]
        if a.inner:
            share(a, total)
            share(a, dot)
            for row in range(a.height):
                for column in range(a.width):
                    x = _row(x_image + (row * a.x_row + column * a.x_pixel) * 4, channels)
                    dy = _row(dy_image + (row * a.dy_row + column * a.dy_pixel) * 4, channels)
                    at = a.dx + (part * a.dx_part + i * a.dx_image + row * a.dx_row + column * a.dx_pixel) * 4
                    dx = _row(at, channels)
                    for c in range(channels):
                        normal = (x[c] - mean[c]) * inverse[c]
                        dx[c] = inverse[c] * (scale[c] * dy[c] - total[c] - normal * dot[c])


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
