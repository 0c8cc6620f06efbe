"""Max-pooling on a GPU: y = x[argmax], dy_t = dx_t[argmax], the same index for both; see ``cpu``."""

from typing import Any

from fgnumba.kernels.cuda.kernel import kernel
from fgnumba.kernels.cuda.layout import element, offset, position
from fgnumba.kernels.cuda.primitives import Address, Size, load_f32, store_f32
from fgnumba.kernels.cuda.program import Operation
from fgnumba.kernels.shared.windows.cuda import bind as bind_windows
from fgnumba.kernels.shared.windows.cuda import covered
from fgnumba.validation.launcher import launcher


@launcher
def bind(**arguments: Any) -> Operation:
    """Bind max-pooling to its arrays, see :func:`fgnumba.kernels.shared.windows.cuda.bind`.

    Cost: reads x once a window that covers it, one element of dx_t a window; writes y and dy once.
    """
    return bind_windows("max-pool", _max_pool, **arguments)


@kernel("max-pool2d", resident=5)
def _max_pool(
    x: Address,
    x_block: Size,
    x_image: Size,
    x_row: Size,
    x_pixel: Size,
    y: Address,
    y_block: Size,
    y_image: Size,
    y_row: Size,
    y_pixel: Size,
    channels: Size,
    height: Size,
    width: Size,
    image_height: Size,
    image_width: Size,
    window_height: Size,
    window_width: Size,
    down: Size,
    across: Size,
    top: Size,
    left: Size,
    n: Size,
    count: Size,
) -> None:
    e = element()
    if e >= n:
        return
    i, row, column, c = position(e, height, width, channels)
    first, last = covered(row, down, top, window_height, image_height)
    begin, end = covered(column, across, left, window_width, image_width)
    at = x + offset(i, first, begin, c, x_image, x_row, x_pixel)
    best = load_f32(at)
    for h in range(first, last):
        for w in range(begin, end):
            here = x + offset(i, h, w, c, x_image, x_row, x_pixel)
            value = load_f32(here)
            # The first of equal values, and the first NaN before any number.
            if value > best or (value != value and best == best):
                best, at = value, here
    out = y + offset(i, row, column, c, y_image, y_row, y_pixel)
    store_f32(out, best)
    for t in range(1, count + 1):
        store_f32(out + 4 * t * y_block, load_f32(at + 4 * t * x_block))
