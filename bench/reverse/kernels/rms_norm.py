"""The reverse pass of root mean square normalisation.

    x̂  = r x,  r = 1 / √(mean(x²) + ε),  g = s ⊙ dy
    dx = r (g - x̂ mean(g x̂)) + base,  ds = Σ dy x̂    means over a pixel's channels, the sum over pixels and examples

Each example's share of ds is stored, and the shares are summed over the batch afterwards.

Source: B. Zhang, R. Sennrich, arXiv 1910.07467.
"""

import math
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import carray
from numba.extending import register_jitable

from fgnumba.kernels.emit import pointer
from fgnumba.kernels.layout import images
from fgnumba.kernels.layout.images import Images, operands
from fgnumba.kernels.machine.arguments import filled, record
from fgnumba.kernels.machine.compile import kernel
from fgnumba.kernels.machine.memory import address
from fgnumba.kernels.machine.program import Operation
from fgnumba.validation.launcher import launcher

_ARGUMENTS = record(
    *images.fields("x"),
    *images.fields("dy"),
    *images.fields("dx"),
    *images.fields("base"),
    *(
        "batch",
        "images",
        "height",
        "width",
        "channels",
        "epsilon",
        "scale",
        "shares",
        "shares_image",
        "inner",
    ),
)


@launcher
def bind(
    *,
    batch: int,
    images_a_part: int,
    x: Images,
    dy: Images,
    dx: Images | None,
    base: Images | None = None,
    epsilon: float,
    scale: npt.NDArray[np.float32],
    shares: npt.NDArray[np.float32],
) -> Operation:
    """Bind the cotangent dx of the images x, and each example's share of ds.

    Parameters
    ----------
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
    epsilon : float
        ε, above 0.
    scale : array, (at least C,) float32
        s.
    shares : array, (B, 2, C) float32
        Written: the shares of ds, in [:, 0].

    Notes
    -----
    Cost: reads x and dy three times each, after the first time from the first-level cache, and writes dx once. Means
    are computed in float64.
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
        "epsilon": int(np.float32(epsilon).view(np.int32)),
        "scale": address(scale),
        "shares": address(shares),
        "shares_image": 2 * channels,
        "inner": dx is not None,
    }
    memory["keeps"] = (memory["keeps"], scale, shares)
    # The sums over channels may be reassociated, so that they are vectorised.
    entry = kernel("reverse-rms-norm", _rms_norm, 3, fastmath={"contract", "nsz", "reassoc"})
    return Operation("normalization", entry, filled(_ARGUMENTS, fields), **memory)


@register_jitable
def _row(at: int, channels: int) -> Any:
    return carray(pointer(at, np.float32), channels)


def _rms_norm(arguments: int, part: int, parts: int) -> None:
    a = carray(pointer(arguments, _ARGUMENTS), 1)[0]
    channels, one_over = a.channels, 1.0 / a.channels
    epsilon = np.float64(np.int32(a.epsilon).view(np.float32))
    scale = _row(a.scale, channels)
    for i in range(min(a.images, a.batch - part * a.images)):
        ds = _row(a.shares + (part * a.images + i) * a.shares_image * 4, channels)
        for c in range(channels):
            ds[c] = np.float32(0)
        for pixel in range(a.height * a.width):
            row, column = pixel // a.width, pixel % a.width
            x_at = a.x + (part * a.x_part + i * a.x_image + row * a.x_row + column * a.x_pixel) * 4
            dy_at = a.dy + (part * a.dy_part + i * a.dy_image + row * a.dy_row + column * a.dy_pixel) * 4
            x, dy = _row(x_at, channels), _row(dy_at, channels)
            square, dot = 0.0, 0.0
            for c in range(channels):
                square += np.float64(x[c]) * np.float64(x[c])
                dot += np.float64(scale[c]) * np.float64(dy[c]) * np.float64(x[c])
            inverse = 1.0 / math.sqrt(square * one_over + epsilon)
            for c in range(channels):
                ds[c] += np.float32(np.float64(x[c]) * inverse * np.float64(dy[c]))
            if a.inner:
                along = dot * one_over * inverse * inverse
                dx_at = a.dx + (part * a.dx_part + i * a.dx_image + row * a.dx_row + column * a.dx_pixel) * 4
                dx = _row(dx_at, channels)
                for c in range(channels):
                    g = np.float64(scale[c]) * np.float64(dy[c])
                    dx[c] = np.float32(inverse * (g - np.float64(x[c]) * along))
                if a.base != 0:
                    before = part * a.base_part + i * a.base_image + row * a.base_row + column * a.base_pixel
                    base = _row(a.base + before * 4, channels)
                    for c in range(channels):
                        dx[c] += base[c]
