"""Average pooling on the CPU: y = mean of x over a window, dy_t = mean of dx_t; padding does not count."""

from functools import cache
from typing import Any

import numpy as np
from numba import carray

from fgnumba.kernels.compile import kernel
from fgnumba.kernels.emit import pointer
from fgnumba.kernels.numbers import launcher
from fgnumba.kernels.program import Operation
from fgnumba.kernels.windows import ARGUMENTS, columns_of, rows_of
from fgnumba.kernels.windows import bind as bind_windows


@launcher
def bind(**arguments: Any) -> Operation:
    """Bind average pooling to its arrays, see :func:`fgnumba.kernels.windows.bind`.

    Cost: reads x and dx once a window that covers them, writes y and dy once.
    """
    return bind_windows("average-pool", _entry(), **arguments)


@cache
def _entry() -> int:
    return kernel("avg-pool2d", _avg_pool, 3)


def _avg_pool(arguments: int, part: int, parts: int) -> None:
    a = carray(pointer(arguments, ARGUMENTS), 1)[0]
    n = min(a.images, a.batch - part * a.images)
    for t in range(1 + a.count):
        for i in range(n):
            x_image = a.x + (part * a.x_part + t * a.x_block + i * a.x_image) * 4
            y_image = a.y + (part * a.y_part + t * a.y_block + i * a.y_image) * 4
            for row in range(a.height):
                top, bottom = rows_of(a, row)
                for column in range(a.width):
                    left, right = columns_of(a, column)
                    at = y_image + (row * a.y_row + column * a.y_pixel) * 4
                    y = carray(pointer(at, np.float32), a.channels)
                    for c in range(a.channels):
                        y[c] = np.float32(0)
                    for h in range(top, bottom):
                        for w in range(left, right):
                            x = carray(
                                pointer(x_image + (h * a.x_row + w * a.x_pixel) * 4, np.float32), a.channels
                            )
                            for c in range(a.channels):
                                y[c] += x[c]
                    scale = np.float32(1.0 / ((bottom - top) * (right - left)))
                    for c in range(a.channels):
                        y[c] *= scale
