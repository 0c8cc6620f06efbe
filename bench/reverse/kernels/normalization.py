"""The reverse pass of layer and group normalisation.

    x̂  = (x - μ) r,  r = 1 / √(σ² + ε),  g = s ⊙ dy
    dx = r (g - mean(g) - x̂ mean(g x̂)) + base   means over the numbers that are normalised together
    ds = Σ dy x̂,  db = Σ dy                      over pixels and examples

Each example's share of ds and db is stored, and the shares are summed over the batch afterwards, so that the result is
the same for any number of threads.

Sources: J. L. Ba et al., arXiv 1607.06450; Y. Wu, K. He, arXiv 1803.08494.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
from numba import carray
from numba.extending import register_jitable

from fgnumba.kernels.emit import pointer
from fgnumba.kernels.emit.channels import FACTOR, HIGH, LOW
from fgnumba.kernels.emit.vector import PANEL, InstructionSet
from fgnumba.kernels.layout import images
from fgnumba.kernels.layout.images import Images, operands
from fgnumba.kernels.machine.arguments import filled, record
from fgnumba.kernels.machine.compile import kernel
from fgnumba.kernels.machine.memory import address, round_up
from fgnumba.kernels.machine.program import Operation
from fgnumba.kernels.machine.work import split
from fgnumba.kernels.rules import moments
from fgnumba.kernels.shared.normalization import cpu as passes
from fgnumba.validation.launcher import launcher

_PIVOT, _MEAN, _MEAN_LOW, _DOT, _LINE, _LINE_2 = range(passes.WORK_VECTORS, passes.WORK_VECTORS + 6)
_VECTORS = _LINE_2 + 1
"""Vectors of scratch memory: the table of ``shared.normalization``, and further numbers for each channel."""

_ARGUMENTS = record(
    *images.fields("x"),
    *images.fields("dy"),
    *images.fields("dx"),
    *images.fields("base"),
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
    base: Images | None = None,
    groups: int,
    epsilon: float,
    scale: npt.NDArray[np.float32],
    shares: npt.NDArray[np.float32],
) -> Operation:
    """Bind the cotangent dx of the images x, and each example's share of ds and db.

    Parameters
    ----------
    isa : InstructionSet
        The instruction set to bind for.
    batch : int
        Number of examples B.
    images_a_part : int
        Number of examples in a part.
    x, dy : Images
        The input, and the cotangent of the output.
    dx : Images or None
        Written: the cotangent of x. None: nothing needs it.
    base : Images or None
        What dx is added to, another cotangent of x. None: zeros.
    groups : int
        Number of groups of channels, each normalised over all pixels. 0: each pixel is normalised over its channels.
    epsilon : float
        ε, above 0.
    scale : array, (at least C,) float32
        s.
    shares : array, (B, 2, C) float32
        Written: the shares of ds and db.

    Notes
    -----
    Cost: reads x four times and dy twice, and writes dx once. For mean and variance see
    :mod:`fgnumba.kernels.rules.moments`.
    """
    height, width, channels = x.shape
    values, memory = operands(
        **({"x": x, "dy": dy} | ({"dx": dx} if dx else {}) | ({"base": base} if base else {}))
    )
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
            offset, own_factor = left * inverse, moments.tangent_factor(inverse, factor)
            for c in range(channels):
                normal[c] = normal[c] * inverse - offset
                ds[c] += dy[c] * normal[c]
                db[c] += dy[c]
                scaled[c] = scale[c] * dy[c]
            if a.inner:
                own, high, low, dot = moments.project(a.scratch, scaled_at, channels, one_over, own_factor)
                at = a.dx + (part * a.dx_part + i * a.dx_image + row * a.dx_row + column * a.dx_pixel) * 4
                dx, gain = _row(at, channels), inverse * (factor / own)
                for c in range(channels):
                    scaled[c] = gain * (moments.centred(scaled[c], own, high, low) - normal[c] * dot)
                if a.base != 0:
                    base = _row(_base_at(a, part, i, row, column), channels)
                    for c in range(channels):
                        dx[c] = base[c] + scaled[c]
                else:
                    for c in range(channels):
                        dx[c] = scaled[c]


@register_jitable
def _base_at(a: Any, part: int, i: int, row: int, column: int) -> int:
    return a.base + (part * a.base_part + i * a.base_image + row * a.base_row + column * a.base_pixel) * 4


def _group_norm(arguments: int, part: int, parts: int) -> None:
    a = carray(pointer(arguments, _ARGUMENTS), 1)[0]
    channels, epsilon = a.channels, np.int32(a.epsilon).view(np.float32)
    scale = _row(a.scale, channels)
    factor, high, low = passes.vector(a, FACTOR), passes.vector(a, HIGH), passes.vector(a, LOW)
    inverse = passes.vector(a, passes.INVERSE)
    pivot, dot = passes.vector(a, _PIVOT), passes.vector(a, _DOT)
    mean, mean_low = passes.vector(a, _MEAN), passes.vector(a, _MEAN_LOW)
    line, line2 = passes.vector(a, _LINE), passes.vector(a, _LINE_2)
    for i in range(min(a.images, a.batch - part * a.images)):
        x_image = a.x + (part * a.x_part + i * a.x_image) * 4
        dy_image = a.dy + (part * a.dy_part + i * a.dy_image) * 4
        ds = _row(a.shares + (part * a.images + i) * a.shares_image * 4, channels)
        db = _row(a.shares + ((part * a.images + i) * a.shares_image + channels) * 4, channels)
        _clear(ds)
        _clear(db)
        passes.centre(a, x_image, epsilon)
        # Each row is summed by itself first, which makes fewer rounding errors. And the cotangents are summed relative
        # to each channel's first, because their mean may be large.
        pivot[:] = _row(dy_image, channels)
        for row in range(a.height):
            _clear(line)
            _clear(line2)
            for column in range(a.width):
                x = _row(x_image + (row * a.x_row + column * a.x_pixel) * 4, channels)
                dy = _row(dy_image + (row * a.dy_row + column * a.dy_pixel) * 4, channels)
                for c in range(channels):
                    difference = dy[c] - pivot[c]
                    line[c] += difference
                    line2[c] += difference * moments.centred(x[c], factor[c], high[c], low[c])
            for c in range(channels):
                db[c] += line[c]
                ds[c] += line2[c]
        _project(a, ds, db)
        if a.inner:
            for row in range(a.height):
                for column in range(a.width):
                    x = _row(x_image + (row * a.x_row + column * a.x_pixel) * 4, channels)
                    dy = _row(dy_image + (row * a.dy_row + column * a.dy_pixel) * 4, channels)
                    at = a.dx + (part * a.dx_part + i * a.dx_image + row * a.dx_row + column * a.dx_pixel) * 4
                    dx = _row(at, channels)
                    for c in range(channels):
                        normal = moments.centred(x[c], factor[c], high[c], low[c]) * inverse[c]
                        own = moments.centred(dy[c], scale[c], mean[c], mean_low[c])
                        moved = own - normal * dot[c]
                        dx[c] = (inverse[c] * moved) * factor[c]
                    if a.base != 0:
                        base = _row(_base_at(a, part, i, row, column), channels)
                        for c in range(channels):
                            dx[c] += base[c]


@register_jitable
def _project(a: Any, ds: Any, db: Any) -> None:
    """Write _MEAN + _MEAN_LOW, the mean of g over each channel's group, and _DOT, mean(g x̂); complete ds and db.

    On entry, ds and db hold Σ (dy - p) d and Σ (dy - p), with p = _PIVOT. The sum Σ d is 0 over a group but not over
    a channel. So mean(g x̂) also has a term for each channel: Σ d, times the difference between s p of this channel
    and s p of the group's first channel.
    """
    size, pixels, scale = a.channels // a.groups, a.height * a.width, _row(a.scale, a.channels)
    pivot, dot, inverse = passes.vector(a, _PIVOT), passes.vector(a, _DOT), passes.vector(a, passes.INVERSE)
    mean, mean_low = passes.vector(a, _MEAN), passes.vector(a, _MEAN_LOW)
    sums = passes.sums_of_centred(a)
    for first in range(0, a.channels, size):
        total = products = np.float64(0)
        common = np.float64(scale[first]) * np.float64(pivot[first])
        for c in range(first, first + size):
            s, p = np.float64(scale[c]), np.float64(pivot[c])
            total += s * np.float64(db[c]) + (s * p - common) * pixels
            products += s * np.float64(ds[c]) + (s * p - common) * sums[c]
            ds[c] = np.float32(np.float64(inverse[c]) * (np.float64(ds[c]) + p * sums[c]))
            db[c] = np.float32(np.float64(db[c]) + p * pixels)
        centre, share = common + total / (size * pixels), np.float64(inverse[first]) / (size * pixels)
        for c in range(first, first + size):
            mean[c], dot[c] = np.float32(centre), np.float32(products * share)
            mean_low[c] = np.float32(centre - np.float64(mean[c]))


@register_jitable
def _clear(values: Any) -> None:
    for c in range(values.size):
        values[c] = np.float32(0)


_SUM = record("shares", "batch", "channels", "scale", "shift", "onto")


@launcher
def bind_sum(
    shares: npt.NDArray[np.float32],
    scale: npt.NDArray[np.float32],
    shift: npt.NDArray[np.float32] | None,
    onto: bool,
) -> Operation:
    """Bind ds and db, the sums of the examples' shares (B, 2, C). Without a shift there is no db.

    Parameters
    ----------
    shares : array, (B, 2, C) float32
        The shares of ds and db.
    scale, shift : array, (at least C,) float32; `shift` may be None
        Written: ds and db.
    onto : bool
        Whether the sums are added to what the arrays hold.
    """
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
        if a.shift:
            shift[c] = db + (shift[c] if a.onto else np.float32(0))
