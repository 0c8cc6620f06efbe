"""The reverse pass of pooling: a window's cotangent goes to the window's maximum, or in equal shares to all its pixels.

Among equal maxima, the first one gets it.
"""

from typing import Any

import numpy as np
from numba import carray
from numba.extending import register_jitable

from fgnumba.kernels.emit import pointer
from fgnumba.kernels.layout import images
from fgnumba.kernels.layout.images import Border, Images, operands
from fgnumba.kernels.machine.arguments import filled, record
from fgnumba.kernels.machine.compile import kernel
from fgnumba.kernels.machine.memory import round_up
from fgnumba.kernels.machine.program import Operation
from fgnumba.kernels.shared.windows import FIELDS, window_fields
from fgnumba.kernels.shared.windows.cpu import columns_of, rows_of
from fgnumba.validation.launcher import launcher

_ARGUMENTS = record(
    *images.fields("x"),
    *images.fields("y"),
    *images.fields("dy"),
    *images.fields("dx"),
    *("batch", "images"),
    *FIELDS,
)


@launcher
def bind(
    maximum: bool,
    *,
    batch: int,
    images_a_part: int,
    x: Images,
    y: Images,
    dy: Images,
    dx: Images,
    window: tuple[int, int],
    stride: tuple[int, int],
    padding: Border,
) -> Operation:
    """Bind the cotangent dx of the images x, which were pooled to y.

    Parameters
    ----------
    maximum : bool
        True: max-pooling. False: the mean over the pixels of the image that a window covers.
    batch : int
        Number of examples B.
    images_a_part : int
        Number of examples in a part.
    x, y, dy : Images
        Input, output, and the cotangent of the output.
    dx : Images
        Written: the cotangent of x. It must not overlap the others.
    window, stride : (int, int)
        Size of the window, and the distance from one window to the next, in pixels.
    padding : Border
        Pixels around the image.

    Notes
    -----
    Cost: reads dy once, and each pixel of x and y once for every window that covers it; reads and writes dx as often.
    """
    values, memory = operands(x=x, y=y, dy=dy, dx=dx)
    fields = {
        **values,
        **images.part_fields(batch, images_a_part),
        **window_fields(x, y, window, stride, padding),
    }
    name, body = ("max-pool", _max_pool) if maximum else ("average-pool", _avg_pool)
    entry = kernel(f"reverse-{name}", body, 3)
    scratch = round_up(y.shape[2], 16) * 4
    return Operation(name, entry, filled(_ARGUMENTS, fields), scratch_bytes=scratch, **memory)


@register_jitable
def _clear(a: Any, dx_image: int) -> None:
    for row in range(a.image_height):
        for column in range(a.image_width):
            dx = carray(
                pointer(dx_image + (row * a.dx_row + column * a.dx_pixel) * 4, np.float32), a.channels
            )
            for c in range(a.channels):
                dx[c] = np.float32(0)


def _max_pool(arguments: int, part: int, parts: int) -> None:
    a = carray(pointer(arguments, _ARGUMENTS), 1)[0]
    left_over = carray(pointer(a.scratch, np.float32), a.channels)
    for i in range(min(a.images, a.batch - part * a.images)):
        x_image = a.x + (part * a.x_part + i * a.x_image) * 4
        y_image = a.y + (part * a.y_part + i * a.y_image) * 4
        dy_image = a.dy + (part * a.dy_part + i * a.dy_image) * 4
        dx_image = a.dx + (part * a.dx_part + i * a.dx_image) * 4
        _clear(a, dx_image)
        for row in range(a.height):
            top, bottom = rows_of(a, row)
            for column in range(a.width):
                left, right = columns_of(a, column)
                y = carray(
                    pointer(y_image + (row * a.y_row + column * a.y_pixel) * 4, np.float32), a.channels
                )
                dy = carray(
                    pointer(dy_image + (row * a.dy_row + column * a.dy_pixel) * 4, np.float32), a.channels
                )
                for c in range(a.channels):
                    left_over[c] = dy[c]
                for h in range(top, bottom):
                    for w in range(left, right):
                        _give(
                            x_image + (h * a.x_row + w * a.x_pixel) * 4,
                            dx_image + (h * a.dx_row + w * a.dx_pixel) * 4,
                            y,
                            left_over,
                            a.channels,
                        )


@register_jitable
def _give(x_at: int, dx_at: int, y: Any, left_over: Any, channels: int) -> None:
    """Add what is left of a window's cotangent to a pixel, if the pixel is the maximum."""
    x, dx = carray(pointer(x_at, np.float32), channels), carray(pointer(dx_at, np.float32), channels)
    for c in range(channels):
        taken = (x[c] == y[c]) | (x[c] != x[c])
        amount = left_over[c]
        dx[c] += amount if taken else np.float32(0)
        left_over[c] = np.float32(0) if taken else amount


def _avg_pool(arguments: int, part: int, parts: int) -> None:
    a = carray(pointer(arguments, _ARGUMENTS), 1)[0]
    for i in range(min(a.images, a.batch - part * a.images)):
        dy_image = a.dy + (part * a.dy_part + i * a.dy_image) * 4
        dx_image = a.dx + (part * a.dx_part + i * a.dx_image) * 4
        _clear(a, dx_image)
        for row in range(a.height):
            top, bottom = rows_of(a, row)
            for column in range(a.width):
                left, right = columns_of(a, column)
                scale = np.float32(1.0 / ((bottom - top) * (right - left)))
                dy = carray(
                    pointer(dy_image + (row * a.dy_row + column * a.dy_pixel) * 4, np.float32), a.channels
                )
                for h in range(top, bottom):
                    for w in range(left, right):
                        at = dx_image + (h * a.dx_row + w * a.dx_pixel) * 4
                        dx = carray(pointer(at, np.float32), a.channels)
                        for c in range(a.channels):
                            dx[c] += scale * dy[c]
