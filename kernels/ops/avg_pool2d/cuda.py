"""Average pooling on a GPU: y = mean of x over a window, dy_t = mean of dx_t; padding does not count; see ``cpu``."""

from typing import Any

import numpy as np

from fgnumba.kernels.cuda.kernel import kernel
from fgnumba.kernels.cuda.layout import DualImages, element, place, position
from fgnumba.kernels.cuda.primitives import Size, block_y, load_f32, store_f32
from fgnumba.kernels.cuda.program import Operation
from fgnumba.kernels.ops.avg_pool2d import RUN
from fgnumba.kernels.shared.windows.cuda import Windows, covered_columns, covered_rows
from fgnumba.kernels.shared.windows.cuda import bind as bind_windows
from fgnumba.validation.launcher import launcher

_SHARE = np.float32(1 / RUN)


@launcher
def bind(**arguments: Any) -> Operation:
    """Bind average pooling to its arrays.

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
    Cost: reads an element of x and dx once for each window that covers it; writes y and dy once. The primal and the
    tangents have threads of their own, for where one window is the whole image there are few elements.
    """
    return bind_windows("average-pool", _avg_pool, **arguments)


@kernel("avg-pool2d")
def _avg_pool(
    x: DualImages,
    y: DualImages,
    windows: Windows,
    n: Size,
    count: Size,
    slices: Size,
) -> None:
    e = element()
    if e >= n:
        return
    i, row, column, c = position(e, windows.height, windows.width, windows.channels)
    first, last = covered_rows(windows, row)
    begin, end = covered_columns(windows, column)
    source = place(x, i, 0, 0, c)
    out = place(y, i, row, column, c)
    scale = np.float64(RUN) / np.float64((last - first) * (end - begin))
    t = block_y()
    while t <= count:
        total = np.float64(0)
        for h in range(first, last):
            for run in range(begin, end, RUN):
                line = np.float32(0)
                for w in range(run, min(run + RUN, end)):
                    line += _SHARE * load_f32(source + 4 * (t * x.block + h * x.row + w * x.pixel))
                total += np.float64(line)
        store_f32(out + 4 * t * y.block, np.float32(scale * total))
        t += slices
