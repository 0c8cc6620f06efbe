"""Sums over pixels and examples on the CPU: the gradient of y = s x̂ + b with respect to s and b.

    ∂f/∂s = Σ_ip δ_ip x̂_ip        ∂f/∂b = Σ_ip δ_ip

Here i runs over the examples, p over the pixels, and δ is the gradient with respect to y, or an estimate of it.
"""

from functools import cache

import numpy as np
import numpy.typing as npt
from numba import carray

from fgnumba.kernels.emit import pointer
from fgnumba.kernels.emit.vector import PANEL
from fgnumba.kernels.layout import images
from fgnumba.kernels.layout.images import Images, operands
from fgnumba.kernels.machine.arguments import filled, record
from fgnumba.kernels.machine.compile import kernel
from fgnumba.kernels.machine.memory import address
from fgnumba.kernels.machine.program import Operation
from fgnumba.kernels.machine.work import ELEMENT_WORK, parts_for, split
from fgnumba.validation.launcher import launcher

_ARGUMENTS = record(
    *images.fields("x"),
    *images.fields("delta"),
    "batch",
    "height",
    "width",
    "channels",
    "scale",
    "shift",
    "onto",
)


@launcher
def bind(
    threads: int,
    *,
    batch: int,
    x: Images,
    delta: Images,
    scale: npt.NDArray[np.float32],
    shift: npt.NDArray[np.float32],
    onto: bool,
) -> Operation:
    """Bind the sums to their arrays.

    Parameters
    ----------
    threads : int
        Number of threads that may share the work.
    batch : int
        Number of examples B.
    x, delta : Images
        x̂ and δ, (H, W, C) images of the whole batch.
    scale, shift : array, (at least C,) float32
        Written: the two sums.
    onto : bool
        Whether the sums are added to what the arrays hold.

    Notes
    -----
    Cost: reads x and delta once.
    """
    height, width, channels = x.shape
    values, memory = operands(x=x, delta=delta)
    fields = {
        **values,
        "batch": batch,
        "height": height,
        "width": width,
        "channels": channels,
        "scale": address(scale),
        "shift": address(shift),
        "onto": onto,
    }
    memory["keeps"] = (memory["keeps"], scale, shift)
    parts = parts_for(batch * height * width * channels * ELEMENT_WORK, -(-channels // PANEL), threads)
    return Operation(
        "channel-sums", _entry(), filled(_ARGUMENTS, fields), parts, scratch_bytes=2 * PANEL * 4, **memory
    )


@cache
def _entry() -> int:
    return kernel("channel-sums", _sums, 3)


def _sums(arguments: int, part: int, parts: int) -> None:
    a = carray(pointer(arguments, _ARGUMENTS), 1)[0]
    low, high = split((a.channels + PANEL - 1) // PANEL, parts, part)
    sums = carray(pointer(a.scratch, np.float32), (2, PANEL))
    zero = np.float32(0)
    for panel in range(low, high):
        lanes = min(PANEL, a.channels - panel * PANEL)
        for lane in range(PANEL):
            sums[0, lane] = zero
            sums[1, lane] = zero
        for i in range(a.batch):
            for p in range(a.height * a.width):
                row, column = p // a.width, p % a.width
                at = a.x + (i * a.x_image + row * a.x_row + column * a.x_pixel + panel * PANEL) * 4
                x = carray(pointer(at, np.float32), PANEL)
                at = (
                    a.delta
                    + (i * a.delta_image + row * a.delta_row + column * a.delta_pixel + panel * PANEL) * 4
                )
                delta = carray(pointer(at, np.float32), PANEL)
                for lane in range(lanes):
                    sums[0, lane] += delta[lane] * x[lane]
                    sums[1, lane] += delta[lane]
        scale = carray(pointer(a.scale + panel * PANEL * 4, np.float32), PANEL)
        shift = carray(pointer(a.shift + panel * PANEL * 4, np.float32), PANEL)
        for lane in range(lanes):
            scale[lane] = sums[0, lane] + (scale[lane] if a.onto else zero)
            shift[lane] = sums[1, lane] + (shift[lane] if a.onto else zero)
