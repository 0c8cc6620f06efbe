"""Dropout on the CPU: y = m x / (1 - p), dy_t = m dx_t / (1 - p), where m is 0 for a share p of the elements, else 1.

The mask m is a pure function of (seed, step, layer, example, element). It is made of the Philox words at counter

    (element >> 2, DROPPED << 24 | example, layer, step)

where the elements of each row are counted from a multiple of 64. An element is kept if its word is at least p 2**32.

Source: N. Srivastava et al., Dropout, Journal of Machine Learning Research 15 (2014).
"""

from typing import Any

import numpy as np
import numpy.typing as npt
from numba import carray

from fgnumba.kernels.emit import philox_words, pointer
from fgnumba.kernels.emit.vector import InstructionSet
from fgnumba.kernels.layout import images
from fgnumba.kernels.layout.images import Images, operands
from fgnumba.kernels.machine.arguments import filled, record
from fgnumba.kernels.machine.compile import kernel
from fgnumba.kernels.machine.memory import address, round_up
from fgnumba.kernels.machine.program import Operation
from fgnumba.kernels.ops.dropout import ROW_MULTIPLE
from fgnumba.kernels.rules.philox import DROPPED, PURPOSE_SHIFT, STREAM
from fgnumba.validation.launcher import launcher

_ARGUMENTS = record(
    *images.fields("x"),
    *images.fields("y"),
    *("batch", "images", "count", "height", "row", "layer", "stream", "threshold", "scale"),
)


@launcher
def bind(
    isa: InstructionSet,
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
    """Bind dropout to its arrays.

    Parameters
    ----------
    isa : InstructionSet
        The instruction set to bind for.
    batch : int
        Number of examples B.
    images_a_part : int
        Number of examples in a part.
    count : int
        Number of directions T.
    x, y : Images
        Images of the same shape. y may be x; otherwise they must not overlap.
    layer : int
        Number of the layer in the Philox counter.
    rate : float
        p, at least 0 and below 1.
    stream : array, (1,) ``philox.STREAM``
        Seed and step, read when the operation runs.

    Notes
    -----
    Cost: reads x once, writes y once, and computes one Philox block of four words for four elements.
    """
    values, memory = operands(x=x, y=y)
    height, width, channels = x.shape
    fields = {
        **values,
        **images.part_fields(batch, images_a_part),
        "count": count if x.has_tangent else 0,
        "height": height,
        "row": width * channels,
        "layer": layer,
        "stream": address(stream),
        "threshold": round(rate * 2**32),
        "scale": int(np.float32(1 / (1 - rate)).view(np.int32)),
    }
    memory["keeps"] = (memory["keeps"], stream)
    scratch = round_up(width * channels, ROW_MULTIPLE) * 4
    return Operation("dropout", _entry(isa), filled(_ARGUMENTS, fields), scratch_bytes=scratch, **memory)


def _entry(isa: InstructionSet) -> int:
    words, lanes = philox_words(isa, along_row=False), isa.lanes

    def dropout(arguments: int, part: int, parts: int) -> None:
        a = carray(pointer(arguments, _ARGUMENTS), 1)[0]
        stream = carray(pointer(a.stream, STREAM), 1)[0]
        n = min(a.images, a.batch - part * a.images)
        blocks = (a.row + ROW_MULTIPLE - 1) // ROW_MULTIPLE * (ROW_MULTIPLE // 4)
        drawn = carray(pointer(a.scratch, np.uint32), a.row)
        factors = carray(pointer(a.scratch, np.float32), a.row)
        threshold, scale = np.uint64(a.threshold), np.int32(a.scale).view(np.float32)
        for i in range(n):
            c1 = (DROPPED << PURPOSE_SHIFT) + part * a.images + i
            for row in range(a.height):
                for block in range(0, blocks, lanes):
                    words(
                        row * blocks + block,
                        c1,
                        a.layer,
                        stream.step,
                        stream.key_low,
                        stream.key_high,
                        a.scratch + block * 16,
                    )
                for j in range(a.row):
                    factors[j] = scale if np.uint64(drawn[j]) >= threshold else np.float32(0)
                for t in range(1 + a.count):
                    x_at = a.x + (part * a.x_part + t * a.x_block + i * a.x_image + row * a.x_row) * 4
                    y_at = a.y + (part * a.y_part + t * a.y_block + i * a.y_image + row * a.y_row) * 4
                    x, y = carray(pointer(x_at, np.float32), a.row), carray(pointer(y_at, np.float32), a.row)
                    for j in range(a.row):
                        y[j] = x[j] * factors[j]

    return kernel(f"dropout-{isa.vectors}", dropout, 3)
