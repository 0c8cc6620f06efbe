"""Max-pooling on a GPU: y = x[argmax], dy_t = dx_t[argmax], the same index for both; see ``cpu``."""

from typing import Any

from fgnumba.kernels.cuda.kernel import kernel
from fgnumba.kernels.cuda.layout import DualImages, element, place, position
from fgnumba.kernels.cuda.primitives import Size, load_f32, store_f32
from fgnumba.kernels.cuda.program import Operation
from fgnumba.kernels.shared.windows.cuda import Windows, covered_columns, covered_rows
from fgnumba.kernels.shared.windows.cuda import bind as bind_windows
from fgnumba.validation.launcher import launcher


@launcher
def bind(**arguments: Any) -> Operation:
    """Bind max-pooling to its arrays.

    Parameters
    ----------
    **arguments : Any
        The arguments of :func:`fgnumba.kernels.shared.windows.cuda.bind` after its second.

    Returns
    -------
    Operation
        The launch.

    Notes
    -----
    Cost: reads an element of x once for each window that covers it, and one element of dx_t for each window; writes y
    and dy once.
    """
    return bind_windows("max-pool", _max_pool, **arguments)


@kernel("max-pool2d", resident=5)
def _max_pool(
    x: DualImages,
    y: DualImages,
    windows: Windows,
    n: Size,
    count: Size,
) -> None:
    e = element()
    if e >= n:
        return
    i, row, column, c = position(e, windows.height, windows.width, windows.channels)
    first, last = covered_rows(windows, row)
    begin, end = covered_columns(windows, column)
    at = place(x, i, first, begin, c)
    best = load_f32(at)
    for h in range(first, last):
        for w in range(begin, end):
            here = place(x, i, h, w, c)
            value = load_f32(here)
            # The first of equal values, and the first NaN before any number.
            if value > best or (value != value and best == best):
                best, at = value, here
    out = place(y, i, row, column, c)
    store_f32(out, best)
    for t in range(1, count + 1):
        store_f32(out + 4 * t * y.block, load_f32(at + 4 * t * x.block))
