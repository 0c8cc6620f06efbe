"""Where activities are perturbed: how kernels walk over a layer's units and draw the signs of each.

The noise u of a unit is a pure function of (seed, step, slot, parameter, example, pixel, channel): with column = 32
panel + lane, the word at row `example * pixels + pixel` of the panel, purpose ``philox.NOISE``, bit ``lane`` set
means -1. It is drawn again wherever it is needed, and never stored. A *slot* is one tangent of the pass.

The slope s = a'(z) is that of the units' activation: from z, or from the output where that says as much
(``SLOPE_FROM_OUTPUT``).
"""

from typing import Any

import numpy as np
import numpy.typing as npt
from numba import carray
from numba.extending import register_jitable

from fgnumba.kernels import images
from fgnumba.kernels.directions import cpu as directions
from fgnumba.kernels.emit import call, pointer
from fgnumba.kernels.images import Images
from fgnumba.kernels.memory import address
from fgnumba.kernels.philox import DIRECTION_SHIFT, NOISE, STREAM
from fgnumba.kernels.tiling import split
from fgnumba.kernels.vector import PANEL, InstructionSet

SLOPE_FROM_OUTPUT = ("identity", "relu", "leaky_relu")
"""Activations whose slope is the same function of their output as of what they are applied to."""

ROWS = 64
"""Rows of signs that are drawn at a time."""

FIELDS = (
    *images.fields("y"),
    *("batch", "images", "example", "height", "width", "channels", "panels", "first_panel"),
    *("slot", "slots", "parameter", "stream", "draw"),
)

_SIGN_BIT = np.uint32(0x80000000)


def fields(
    isa: InstructionSet,
    *,
    batch: int,
    images_a_part: int,
    y: Images,
    slot: int,
    slots: int,
    parameter: int,
    stream: npt.NDArray[Any],
    first_channel: int = 0,
) -> dict[str, int]:
    """Return the values of `FIELDS` but those of `y` itself.

    Parameters
    ----------
    images_a_part : 0 where the operation takes the whole batch and cuts it into parts itself.
    y : (H, W, C) images whose primal says what the slopes are.
    slot, slots : the tangents that carry the noise of these units.
    parameter : number of the layer in the counter.
    stream : (1,) ``philox.STREAM``, read when the operation runs.
    first_channel : what channel 0 of y is called in the counter, a multiple of PANEL.
    """
    height, width, channels = y.shape
    return {
        "batch": batch,
        "images": images_a_part,
        "example": 0,
        "height": height,
        "width": width,
        "channels": channels,
        "panels": -(-channels // PANEL),
        "first_panel": first_channel // PANEL,
        "slot": slot,
        "slots": slots,
        "parameter": parameter,
        "stream": address(stream),
        "draw": directions.sign_words(isa),
    }


def word_bytes(slots: int) -> int:
    """Bytes of scratch memory for the signs of `slots` slots, ``ROWS`` rows of a panel."""
    return max(1, slots) * directions.ROW_MULTIPLE * 2 * 4


@register_jitable
def examples(a: Any, part: int, parts: int, by_panels: bool) -> tuple[int, int]:
    """Return first and last (exclusive) example of a part, counted from the first of the batch or chunk."""
    if a.images > 0:
        return part * a.images, min(a.batch, (part + 1) * a.images)
    if by_panels:
        return 0, a.batch
    return split(a.batch, parts, part)


@register_jitable
def panels(a: Any, part: int, parts: int, by_panels: bool) -> tuple[int, int]:
    """Return first and last (exclusive) panel of a part."""
    if a.images == 0 and by_panels:
        return split(a.panels, parts, part)
    return 0, a.panels


@register_jitable
def origin(a: Any, at: int, part_stride: int, image_stride: int, part: int, first: int) -> int:
    """Return the address of a part's first example in images at `at`."""
    return at + 4 * (part * part_stride if a.images > 0 else first * image_stride)


@register_jitable
def draw(a: Any, slot: int, row: int, rows: int, panel: int, out: int) -> None:
    """Draw the signs of a slot: words of `rows` rows of a panel, from `row`, a multiple of 4, on."""
    stream = carray(pointer(a.stream, STREAM), 1)[0]
    c2 = ((a.slot + slot) << DIRECTION_SHIFT) + a.parameter
    call(
        a.draw,
        (row, rows, a.first_panel + panel, NOISE, c2, stream.step, stream.key_low, stream.key_high, out),
    )


@register_jitable
def place(a: Any, q: int, first: int, image: int, row: int, pixel: int) -> int:
    """Return the bytes from a part's first example to row `q` of the signs, by the strides of images."""
    pixels = a.height * a.width
    i, p = q // pixels - a.example - first, q % pixels
    return 4 * (i * image + p // a.width * row + p % a.width * pixel)


@register_jitable
def signed(value: np.float32, word: np.uint32, lane: int) -> np.float32:
    """Return `value` with its sign turned where the lane's bit is set."""
    bits = np.float32(value).view(np.uint32) ^ ((word << np.uint32(31 - lane)) & _SIGN_BIT)
    return np.uint32(bits).view(np.float32)
