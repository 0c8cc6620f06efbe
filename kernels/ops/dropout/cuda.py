"""Dropout on a GPU: y = m x / (1 - p), dy_t = m dx_t / (1 - p), with the same masks m as on the CPU; see ``cpu``."""

from typing import Any

import numpy as np
import numpy.typing as npt

from fgnumba.kernels.cuda.kernel import kernel
from fgnumba.kernels.cuda.layout import DualImages, element, elementwise, images
from fgnumba.kernels.cuda.primitives import (
    Address,
    Real,
    Size,
    divide,
    load_f32,
    load_f32x4,
    store_f32,
    store_f32x4,
)
from fgnumba.kernels.cuda.program import Operation
from fgnumba.kernels.layout.images import Images
from fgnumba.kernels.machine.memory import address, round_up
from fgnumba.kernels.ops.dropout import ROW_MULTIPLE
from fgnumba.kernels.rules.directions.cuda import pick, words
from fgnumba.kernels.rules.philox import DROPPED, PURPOSE_SHIFT
from fgnumba.validation.launcher import launcher

_WORDS = 4
"""Words that one counter gives: elements side by side that one thread takes."""


@launcher
def bind(
    isa: Any,
    *,
    batch: int,
    images_a_part: int,
    count: int,
    x: Images,
    y: Images,
    layer: int,
    rate: float,
    stream: npt.NDArray[Any],
) -> Operation:
    """Bind dropout to its arrays, as ``cpu.bind`` does.

    Parameters
    ----------
    isa : Any
        Not used.
    batch : int
        Number of examples B.
    images_a_part : int
        Not used: a GPU takes the whole batch at once.
    count : int
        Number of tangents T.
    x : Images
        Input.
    y : Images
        Output, written. It is `x` itself, or does not overlap it.
    layer : int
        Number of the layer in the counter.
    rate : float
        p, at least 0 and below 1.
    stream : DeviceArray
        (1,) ``philox.STREAM``, read when the operation runs.

    Returns
    -------
    Operation
        The launch.

    Notes
    -----
    Cost: reads x once, writes y once. A thread draws a Philox block for four elements of the primal and all tangents.
    """
    height, width, channels = x.shape
    row = width * channels
    quads = -(-row // _WORDS)
    n = batch * height * quads
    source, target = images(DualImages, x), images(DualImages, y)
    # The pixels of a row follow one another; positions of a sequence are rows of one pixel, at a distance of their own.
    assert width == 1 or x.pixel == y.pixel == channels
    wide = row % _WORDS == 0 and all(
        one.address % (4 * _WORDS) == one.block % _WORDS == one.image % _WORDS == one.row % _WORDS == 0
        for one in (source, target)
    )
    arguments = {
        "x": source,
        "y": target,
        "n": n,
        "count": count if x.has_tangent else 0,
        "height": height,
        "row": row,
        "quads": quads,
        "counters": round_up(row, ROW_MULTIPLE) // _WORDS,
        "wide": int(wide),
        "layer": layer,
        "stream": address(stream),
        "threshold": round(rate * 2**32),
        "scale": np.float32(1 / (1 - rate)),
    }
    launch = elementwise(_dropout, n, arguments)
    return Operation("dropout", (launch,), keeps=(x.memory, y.memory, stream))


@kernel("dropout")
def _dropout(
    x: DualImages,
    y: DualImages,
    n: Size,
    count: Size,
    height: Size,
    row: Size,
    quads: Size,
    counters: Size,
    wide: Size,
    layer: Size,
    stream: Address,
    threshold: Address,
    scale: Real,
) -> None:
    e = element()
    if e >= n:
        return
    rows, quad = divide(e, quads)
    i, h = divide(rows, height)
    four = words(stream, h * counters + quad, (DROPPED << PURPOSE_SHIFT) + i, layer)
    zero = np.float32(0)
    source = x.address + 4 * (i * x.image + h * x.row + _WORDS * quad)
    out = y.address + 4 * (i * y.image + h * y.row + _WORDS * quad)
    if wide:
        first = scale if np.int64(four[0]) >= threshold else zero
        second = scale if np.int64(four[1]) >= threshold else zero
        third = scale if np.int64(four[2]) >= threshold else zero
        fourth = scale if np.int64(four[3]) >= threshold else zero
        for t in range(count + 1):
            a, b, c, d = load_f32x4(source + 4 * t * x.block)
            store_f32x4(out + 4 * t * y.block, (a * first, b * second, c * third, d * fourth))
    else:
        for j in range(min(_WORDS, row - _WORDS * quad)):
            factor = scale if np.int64(pick(four, j)) >= threshold else zero
            for t in range(count + 1):
                value = load_f32(source + 4 * (t * x.block + j))
                store_f32(out + 4 * (t * y.block + j), factor * value)
