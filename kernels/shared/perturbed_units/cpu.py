"""The units that activity perturbation adds noise to: how kernels walk over a layer's units and draw their signs.

A *unit* is one pre-activation z of one example. A *slot* is one tangent of the pass, which carries the noise of some
layers. The noise u of a unit is a pure function of (seed, step, slot, parameter, example, pixel, channel): with
channel = 32 panel + lane, it is bit ``lane`` of the word at row `example * pixels + pixel` of the panel, for the
purpose ``philox.NOISE``. A bit that is set means -1. The noise is drawn again wherever it is needed, and never
stored.

The slope s = a'(z) of a unit is computed from z, or from the unit's output if that determines the slope too
(``SLOPE_FROM_OUTPUT``).
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import carray
from numba.extending import register_jitable

from fgnumba.kernels.emit import call, pointer
from fgnumba.kernels.emit.vector import PANEL, InstructionSet
from fgnumba.kernels.layout import images
from fgnumba.kernels.layout.images import Images
from fgnumba.kernels.machine.memory import address
from fgnumba.kernels.machine.work import split
from fgnumba.kernels.rules.directions import RADEMACHER
from fgnumba.kernels.rules.directions import cpu as directions
from fgnumba.kernels.rules.philox import DIRECTION_SHIFT, NOISE, STREAM
from fgnumba.kernels.shared.drawn.cpu import BLOCK

FIELDS = (
    *images.fields("y"),
    *("batch", "images", "example", "height", "width", "channels", "panels", "first_panel"),
    *("slot", "slots", "parameter", "stream", "draw"),
)

_SIGN_BIT = np.uint32(0x80000000)


@dataclass(frozen=True)
class Perturbed:
    """The units of a layer that get noise, and where their noise comes from.

    Parameters
    ----------
    batch : int
        Number of examples B.
    images_a_part : int
        Number of examples in a part. 0: an operation takes the whole batch, and divides it itself.
    y : Images
        (H, W, C) images whose primal determines the slopes: outputs or pre-activations.
    activation_name : str
        The activation whose slopes are taken.
    parameter : int
        Number of the layer in the Philox counter.
    stream : array, (1,) ``philox.STREAM``
        Seed and step, read when an operation runs.
    slot, slots : int
        The first slot that carries this layer's noise, and the number of such slots.
    first_channel : int
        Number of y's channel 0 in the Philox counter, a multiple of PANEL.
    """

    batch: int
    images_a_part: int
    y: Images
    activation_name: str
    parameter: int
    stream: npt.NDArray[Any]
    slot: int = 0
    slots: int = 0
    first_channel: int = 0

    @property
    def panels(self) -> int:
        """Number of panels of channels."""
        return -(-self.y.shape[2] // PANEL)

    @property
    def elements(self) -> int:
        """Number of units in the batch."""
        return self.batch * math.prod(self.y.shape)

    def fields(self, isa: InstructionSet) -> dict[str, int]:
        """Return the values of `FIELDS`, except those of `y` itself."""
        height, width, channels = self.y.shape
        return {
            "batch": self.batch,
            "images": self.images_a_part,
            "example": 0,
            "height": height,
            "width": width,
            "channels": channels,
            "panels": self.panels,
            "first_panel": self.first_channel // PANEL,
            "slot": self.slot,
            "slots": self.slots,
            "parameter": self.parameter,
            "stream": address(self.stream),
            "draw": directions.sign_words(isa),
        }


WORD_BYTES = directions.draw_bytes(RADEMACHER, BLOCK)
"""Bytes of scratch memory for the signs of ``BLOCK`` rows of a panel."""


@register_jitable
def examples(a: Any, part: int, parts: int, by_panels: bool) -> tuple[int, int]:
    """Return the first and last (exclusive) example of a part, counted from the first of the batch or chunk.

    Parameters
    ----------
    a : record
        The kernel's arguments, with `FIELDS`.
    part, parts : int
        Number of the part, and how many parts there are.
    by_panels : bool
        Whether an operation that takes the whole batch divides it by panels of channels; else it divides by examples.
    """
    if a.images > 0:
        return part * a.images, min(a.batch, (part + 1) * a.images)
    if by_panels:
        return 0, a.batch
    return split(a.batch, parts, part)


@register_jitable
def panels(a: Any, part: int, parts: int, by_panels: bool) -> tuple[int, int]:
    """Return the first and last (exclusive) panel of a part. The parameters are those of :func:`examples`."""
    if a.images == 0 and by_panels:
        return split(a.panels, parts, part)
    return 0, a.panels


@register_jitable
def origin(a: Any, at: int, part_stride: int, image_stride: int, part: int, first: int) -> int:
    """Return the address of a part's first example.

    Parameters
    ----------
    a : record
        The kernel's arguments, with `FIELDS`.
    at : int
        Address of the images.
    part_stride, image_stride : int
        Their strides, in elements.
    part : int
        Number of the part.
    first : int
        The part's first example, see :func:`examples`.
    """
    return at + 4 * (part * part_stride if a.images > 0 else first * image_stride)


@register_jitable
def draw(a: Any, slot: int, row: int, rows: int, panel: int, out: int) -> None:
    """Draw the signs of some rows of a panel, for one slot.

    Parameters
    ----------
    a : record
        The kernel's arguments, with `FIELDS`.
    slot : int
        The slot, counted from the layer's first.
    row, rows : int
        The first row, a multiple of 4, and the number of rows.
    panel : int
        The panel.
    out : int
        Address of the words of signs.
    """
    stream = carray(pointer(a.stream, STREAM), 1)[0]
    c2 = ((a.slot + slot) << DIRECTION_SHIFT) + a.parameter
    call(
        a.draw,
        (row, rows, a.first_panel + panel, NOISE, c2, stream.step, stream.key_low, stream.key_high, out),
    )


@register_jitable
def place(a: Any, q: int, first: int, image: int, row: int, pixel: int) -> int:
    """Return the bytes from a part's first example to the pixel of row `q` of the signs.

    Parameters
    ----------
    a : record
        The kernel's arguments, with `FIELDS`.
    q : int
        The row of the signs, one for each example and pixel.
    first : int
        The part's first example, see :func:`examples`.
    image, row, pixel : int
        Strides of the images, in elements.
    """
    pixels = a.height * a.width
    i, p = q // pixels - a.example - first, q % pixels
    return 4 * (i * image + p // a.width * row + p % a.width * pixel)


@register_jitable
def unit(a: Any, origin: int, q: int, first: int, panel: int) -> int:
    """Return the address in y of a panel's units at row `q` of the signs."""
    return origin + place(a, q, first, a.y_image, a.y_row, a.y_pixel) + panel * PANEL * 4


@register_jitable
def signed(value: np.float32, word: np.uint32, lane: int) -> np.float32:
    """Return `value`, negated if the bit `lane` of the word is set."""
    bits = np.float32(value).view(np.uint32) ^ ((word << np.uint32(31 - lane)) & _SIGN_BIT)
    return np.uint32(bits).view(np.float32)
