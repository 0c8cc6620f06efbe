"""Average pooling on the CPU: y = mean of x over a window, dy_t = mean of dx_t; padding does not count.

Up to ``RUN`` numbers of a row are summed in float32, each times 1 / ``RUN``, so that the sum is no larger than the
largest of them. Sums of these sums are float64.
"""

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
from numba import carray
from numba.extending import register_jitable

from fgnumba.kernels.emit import pointer
from fgnumba.kernels.emit.vector import PANEL
from fgnumba.kernels.machine.compile import kernel
from fgnumba.kernels.machine.memory import round_up
from fgnumba.kernels.machine.program import Operation
from fgnumba.kernels.ops.avg_pool2d import RUN
from fgnumba.kernels.shared.windows.cpu import ARGUMENTS, columns_of, rows_of
from fgnumba.kernels.shared.windows.cpu import bind as bind_windows
from fgnumba.validation.launcher import launcher


@launcher
def bind(**arguments: Any) -> Operation:
    """Bind average pooling to its arrays.

    The arguments are those of :func:`fgnumba.kernels.shared.windows.cpu.bind`, except for name and entry.

    Notes
    -----
    Cost: reads each pixel of x and dx once for every window that covers it; writes y and dy once.
    """
    # One float32 and one float64 for each channel.
    scratch = round_up(arguments["y"].shape[2], PANEL) * 12
    return replace(bind_windows("average-pool", _entry(), **arguments), scratch_bytes=scratch)


_SHARE = np.float32(1 / RUN)


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
                for column in range(a.width):
                    y = y_image + (row * a.y_row + column * a.y_pixel) * 4
                    _mean(a, x_image, rows_of(a, row), columns_of(a, column), y)


@register_jitable
def _mean(a: Any, x_image: int, rows: tuple[int, int], columns: tuple[int, int], y_at: int) -> None:
    """Write the mean of a window to the pixel at the address `y_at`."""
    pixels = (rows[1] - rows[0]) * (columns[1] - columns[0])
    y = carray(pointer(y_at, np.float32), a.channels)
    if pixels <= RUN:
        _clear(y)
        for h in range(rows[0], rows[1]):
            _add(a, x_image + h * a.x_row * 4, columns, y)
        scale = np.float32(RUN / pixels)
        for c in range(a.channels):
            y[c] *= scale
        return
    totals = carray(pointer(a.scratch, np.float64), a.channels)
    line = carray(pointer(a.scratch + a.channels * 8, np.float32), a.channels)
    for c in range(a.channels):
        totals[c] = np.float64(0)
    for h in range(rows[0], rows[1]):
        for left in range(columns[0], columns[1], RUN):
            _clear(line)
            _add(a, x_image + h * a.x_row * 4, (left, min(left + RUN, columns[1])), line)
            for c in range(a.channels):
                totals[c] += np.float64(line[c])
    for c in range(a.channels):
        y[c] = np.float32(totals[c] * (RUN / pixels))


@register_jitable
def _clear(values: Any) -> None:
    for c in range(values.size):
        values[c] = np.float32(0)


@register_jitable
def _add(a: Any, x_row: int, columns: tuple[int, int], sums: Any) -> None:
    """Add 1 / RUN of each of some pixels of a row to the sums."""
    for w in range(columns[0], columns[1]):
        x = carray(pointer(x_row + w * a.x_pixel * 4, np.float32), a.channels)
        for c in range(a.channels):
            sums[c] += _SHARE * x[c]
