"""Max-pooling on the CPU: y = x[argmax] and dy_t = dx_t[argmax], with the same index in both.

Among equal values the first in row-major order is taken, and a NaN before any number. The index is never stored,
because it is found again as the place where x equals the maximum.
"""

from functools import cache
from typing import Any

import numpy as np
from numba import carray
from numba.extending import register_jitable

from fgnumba.kernels.emit import pointer
from fgnumba.kernels.machine.compile import kernel
from fgnumba.kernels.machine.program import Operation
from fgnumba.kernels.shared.windows.cpu import ARGUMENTS, columns_of, rows_of
from fgnumba.kernels.shared.windows.cpu import bind as bind_windows
from fgnumba.validation.launcher import launcher


@launcher
def bind(**arguments: Any) -> Operation:
    """Bind max-pooling to its arrays.

    The arguments are those of :func:`fgnumba.kernels.shared.windows.cpu.bind`, except for name and entry.

    Notes
    -----
    Cost: reads each pixel of x once for every window that covers it, and x and dx once more for each direction;
    writes y and dy once.
    """
    return bind_windows("max-pool", _entry(), **arguments)


@cache
def _entry() -> int:
    return kernel("max-pool2d", _max_pool, 3)


def _max_pool(arguments: int, part: int, parts: int) -> None:
    a = carray(pointer(arguments, ARGUMENTS), 1)[0]
    n = min(a.images, a.batch - part * a.images)
    for unit in range(n * a.height * a.width):
        i, row, column = unit // (a.height * a.width), unit // a.width % a.height, unit % a.width
        top, bottom = rows_of(a, row)
        left, right = columns_of(a, column)
        x = a.x + (part * a.x_part + i * a.x_image + top * a.x_row + left * a.x_pixel) * 4
        at = a.y + (part * a.y_part + i * a.y_image + row * a.y_row + column * a.y_pixel) * 4
        y = carray(pointer(at, np.float32), a.channels)
        first = carray(pointer(x, np.float32), a.channels)
        for c in range(a.channels):
            y[c] = first[c]
        for h in range(bottom - top):
            for w in range(right - left):
                _maximum(y, x + (h * a.x_row + w * a.x_pixel) * 4, a.channels)
        for t in range(1, 1 + a.count):
            dy = carray(pointer(at + t * a.y_block * 4, np.float32), a.channels)
            # Backwards, so that among equal elements the first one remains.
            for h in range(bottom - top - 1, -1, -1):
                for w in range(right - left - 1, -1, -1):
                    pixel = x + (h * a.x_row + w * a.x_pixel) * 4
                    _tangent(dy, y, pixel, pixel + t * a.x_block * 4, a.channels)


@register_jitable
def _maximum(y: Any, pixel: int, channels: int) -> None:
    x = carray(pointer(pixel, np.float32), channels)
    for c in range(channels):
        y[c] = x[c] if (x[c] > y[c]) | (x[c] != x[c]) else y[c]


@register_jitable
def _tangent(dy: Any, y: Any, pixel: int, tangent: int, channels: int) -> None:
    x = carray(pointer(pixel, np.float32), channels)
    dx = carray(pointer(tangent, np.float32), channels)
    for c in range(channels):
        # Both are read whatever the comparison yields. Otherwise the loop would not be vectorised.
        taken, before = dx[c], dy[c]
        dy[c] = taken if (x[c] == y[c]) | (x[c] != x[c]) else before
