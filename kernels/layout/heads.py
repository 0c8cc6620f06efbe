"""Where the heads of attention lie in memory: addresses and strides of queries, keys and values, and of masks.

Element c of position l in head h of example i, in block t of a dual buffer (block 0 is the primal), is at

    memory + itemsize (start + t * block + i * example + h * head + l * row + c)

The elements of a position are neighbours. Queries, keys and values that one product computed side by side are ranges
of columns of one buffer: their strides are the same, and only `start` differs.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fgnumba.kernels.layout.images import Images
from fgnumba.kernels.machine.memory import address


@dataclass(frozen=True)
class Heads:
    """Queries, keys, values, or another operand of attention with the same axes.

    Parameters
    ----------
    memory : array, float32 or float64
        The array that contains all of their elements.
    start : int
        Elements from the first element of `memory` to element 0 of position 0.
    shape : (int, int, int)
        Number of heads, number of positions L, and size of a head.
    block, example, head, row : int
        Strides, in elements.
    has_tangent : bool
        False: only the primal's block exists, and the tangent is a symbolic zero.
    tangents : array, or None
        The array whose first element is element 0 of block 1, if blocks 1 to T lie apart from the primal. Their strides
        are the same. A GPU takes no such operands.
    """

    memory: npt.NDArray[Any]
    start: int
    shape: tuple[int, int, int]
    block: int
    example: int
    head: int
    row: int
    has_tangent: bool
    tangents: npt.NDArray[Any] | None = None

    @classmethod
    def of(cls, images: Images, heads: int) -> "Heads":
        """Return the heads in sequences by position: `images` of L rows of one pixel, whose channels are the heads'.

        ``images.channels_from(first, heads * size)`` selects the columns of a buffer that are, for example, the keys.
        """
        length, width, channels = images.shape
        assert width == 1
        assert channels % heads == 0
        assert not images.local
        size = channels // heads
        strides = (images.block, images.image, size, images.row)
        return cls(images.memory, images.start, (heads, length, size), *strides, images.has_tangent)

    @classmethod
    def of_array(cls, array: npt.NDArray[Any], has_tangent: bool = False) -> "Heads":
        """Return the heads of a C-contiguous array (blocks, B, heads, L, size)."""
        _, batch, heads, length, size = array.shape
        head = length * size
        strides = (batch * heads * head, heads * head, head, size)
        return cls(array, 0, (heads, length, size), *strides, has_tangent)

    def fields(self, name: str) -> dict[str, int]:
        """Return the kernel arguments that describe these heads, under the names that :func:`fields` gives."""
        at = address(self.memory) + self.memory.itemsize * self.start
        apart = at + self.memory.itemsize * self.block if self.tangents is None else address(self.tangents)
        strides = (self.block, self.example, self.head, self.row)
        return dict(zip(fields(name), (at, apart, *strides), strict=True))

    @property
    def arrays(self) -> tuple[Any, ...]:
        """The arrays that must be kept alive."""
        return self.memory, self.tangents


def fields(name: str) -> tuple[str, ...]:
    """Return the names of the kernel arguments that describe heads: ``q``, ``q_tangents``, … for `name` q."""
    return (name, *(f"{name}_{what}" for what in ("tangents", "block", "example", "head", "row")))


@dataclass(frozen=True)
class Mask:
    """Which keys a query may see, or what is added to its scores: a matrix (queries, keys) for each example and head.

    Parameters
    ----------
    memory : array, bool, uint8, float32 or float64
        Its elements. Those of one query are neighbours, one for each key.
    example, head, row : int
        Strides, in elements, from one example, head or query to the next. 0: all of them share one.
    boolean : bool
        True: a key may be seen where the element, of one byte, is not zero. False: the element is added to the score,
        and has the scores' dtype. A key whose element is -inf is not seen.
    """

    memory: npt.NDArray[Any]
    example: int
    head: int
    row: int
    boolean: bool

    @classmethod
    def of_array(cls, array: npt.NDArray[Any]) -> "Mask":
        """Return the mask in an array (B, heads, queries, keys), whose axes other than the last may be broadcast."""
        assert array.shape[-1] <= 1 or array.strides[-1] == array.itemsize
        example, head, row = (stride // array.itemsize for stride in array.strides[:3])
        return cls(array, example, head, row, array.dtype in (np.bool_, np.uint8))

    def fields(self) -> dict[str, int]:
        """Return the kernel arguments that describe the mask, whose names are ``MASK_FIELDS``."""
        values = (address(self.memory), self.example, self.head, self.row, int(self.boolean))
        return dict(zip(MASK_FIELDS, values, strict=True))


MASK_FIELDS = ("mask", "mask_example", "mask_head", "mask_row", "mask_boolean")
"""Names of the kernel arguments that describe a mask. ``mask`` is 0 if there is none."""
