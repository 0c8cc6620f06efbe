"""Where images lie in memory: addresses and strides by which kernels find every pixel.

A *dual buffer* consists of blocks: first the primal, then T tangents. A block holds examples (H, W, C), channels
last. A vector (N,) is an image of one pixel with N channels, and a sequence (L, C) one of L rows with a pixel each, its
positions. A batch may be divided into *parts*, ranges of examples
that are computed one after the other. Row h of example i in block t of part `part` is at the address

    x + 4 (part * x_part + t * x_block + i * x_image + h * x_row)

where x is the address of the first pixel, the strides are in elements, and i counts from the part's first example. A
thread's own buffer holds one part at a time, so its `x_part` is 0. An image may have a border, which a convolution
fills with zeros.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fgnumba.kernels.machine.memory import address


class Border(NamedTuple):
    """Numbers of pixels on the four sides around an image."""

    top: int = 0
    bottom: int = 0
    left: int = 0
    right: int = 0

    def union(self, other: "Border") -> "Border":
        """Return the smallest border that is at least as wide as both on every side."""
        return Border(*map(max, zip(self, other, strict=True)))


NO_BORDER = Border()


@dataclass(frozen=True)
class Images:
    """The images of one dual buffer.

    Parameters
    ----------
    memory : array, float32
        The array that contains all of their addresses.
    start : int
        Elements from the first element of `memory` to the first pixel.
    shape : (int, int, int)
        Height, width and channels of an image.
    block, image, row, pixel, part : int
        Strides, in elements.
    has_tangent : bool
        False: only the primal's block exists, and the tangent is a symbolic zero.
    local : bool
        Whether the images lie in a thread's own buffer, one part at a time.
    external : bool
        Whether they are the model's input, whose address changes from run to run.
    border : Border
        Pixels around each image.
    """

    memory: npt.NDArray[np.float32]
    start: int
    shape: tuple[int, int, int]
    block: int
    image: int
    row: int
    pixel: int
    part: int
    has_tangent: bool
    local: bool = False
    external: bool = False
    border: Border = NO_BORDER

    @classmethod
    def of_batch(
        cls,
        array: npt.NDArray[np.float32],
        shape: tuple[int, ...],
        has_tangent: bool = False,
        images: int = 0,
        external: bool = False,
        by_position: bool = False,
    ) -> "Images":
        """Return the images in a whole batch's buffer, which have no border.

        Parameters
        ----------
        array : array, (blocks, B, ld) or (blocks, B L, ld) float32
            The buffer, whose rows are the images without gaps, or the positions of sequences (L, C).
        shape : tuple of int
            Shape of an image.
        has_tangent : bool
            Whether the buffer has tangents.
        images : int
            Examples in a part; 0: the batch is not divided into parts.
        external : bool
            Whether they are the model's input.
        by_position : bool
            Whether each position of a sequence is a row of the array.
        """
        _, rows, ld = array.shape
        height, width, channels = image_shape(shape)
        if by_position:
            strides = (rows * ld, height * ld, ld, ld, images * height * ld)
        else:
            strides = (rows * ld, ld, width * channels, channels, images * ld)
        return cls(array, 0, (height, width, channels), *strides, has_tangent, external=external)

    @classmethod
    def of_part(
        cls,
        memory: npt.NDArray[np.float32],
        start: int,
        shape: tuple[int, ...],
        images: int,
        has_tangent: bool,
        border: Border,
    ) -> "Images":
        """Return the images of one part in a thread's own buffer.

        Parameters
        ----------
        memory : array, float32
            The buffers of all threads.
        start : int
            Elements from the first element of `memory` to the first image's border.
        shape : tuple of int
            Shape of an image.
        images : int
            Number of examples in a part.
        has_tangent : bool
            Whether the buffer has tangents.
        border : Border
            Pixels around each image.
        """
        height, width, channels = image_shape(shape)
        row = (width + border.left + border.right) * channels
        image = bordered_size(shape, border)
        first = start + border.top * row + border.left * channels
        strides = (images * image, image, row, channels, 0)
        return cls(memory, first, (height, width, channels), *strides, has_tangent, local=True, border=border)

    def viewed_as(self, shape: tuple[int, ...]) -> "Images":
        """Return the same elements as images of `shape`. If it is another shape, they must lie without gaps."""
        height, width, channels = image_shape(shape)
        if (height, width, channels) == self.shape:
            return self
        return replace(self, shape=(height, width, channels), row=width * channels, pixel=channels)

    def by_rows(self) -> "Images":
        """Return the positions of sequences as images of one pixel each: B L examples instead of B."""
        height, width, channels = self.shape
        if (height, width) == (1, 1):
            return replace(self, row=channels, pixel=channels)
        assert width == 1
        assert self.image == height * self.row
        return replace(self, shape=(1, 1, channels), image=self.row, row=channels, pixel=channels)

    def channels_from(self, first: int, count: int) -> "Images":
        """Return only `count` of the channels, from channel `first` on."""
        height, width, _ = self.shape
        return replace(self, start=self.start + first, shape=(height, width, count))

    def fields(self, name: str) -> dict[str, int]:
        """Return the kernel arguments that describe these images, under the names that :func:`fields` gives."""
        strides = (self.block, self.image, self.row, self.pixel, self.part)
        return dict(zip(fields(name), (address(self.memory) + 4 * self.start, *strides), strict=True))


def fields(name: str) -> tuple[str, ...]:
    """Return the names of the kernel arguments that describe images: for `name` x, they are ``x``, ``x_block``, …."""
    return (name, *(f"{name}_{stride}" for stride in ("block", "image", "row", "pixel", "part")))


def image_shape(shape: tuple[int, ...]) -> tuple[int, int, int]:
    """Return `shape` as (H, W, C): (N,) becomes one pixel, and a sequence (L, C) becomes L rows of one pixel."""
    if len(shape) == 2:
        return shape[0], 1, shape[1]
    height, width, channels = (1, 1, *shape)[-3:]
    return int(np.prod(shape[:-3], initial=height)), width, channels


def bordered_size(shape: tuple[int, ...], border: Border) -> int:
    """Return how many elements an image of `shape` takes together with its border."""
    height, width, channels = image_shape(shape)
    return (height + border.top + border.bottom) * (width + border.left + border.right) * channels


def operands(**images: Images) -> tuple[dict[str, int], dict[str, Any]]:
    """Return the kernel arguments that describe `images`, and ``Operation``'s keyword arguments about their memory."""
    values: dict[str, int] = {}
    for name, operand in images.items():
        values |= operand.fields(name)
    return values, {
        "keeps": tuple(operand.memory for operand in images.values()),
        "local": tuple(name for name, operand in images.items() if operand.local),
        "external": tuple(name for name, operand in images.items() if operand.external),
    }


def part_fields(batch: int, images: int) -> Mapping[str, int]:
    """Return the kernel arguments ``batch`` and ``images``: the number of examples in all, and in a part."""
    return {"batch": batch, "images": images}
