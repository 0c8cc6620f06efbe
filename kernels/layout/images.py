"""Where images lie in memory: strides that kernels walk along, in a whole batch or in a thread's own part of it.

A dual buffer holds blocks: the primal, then T tangents. A block holds examples (H, W, C), channels last; a vector (N,)
is an image of one pixel. Kernels reach row h of example i in block t of part `part` at

    x + 4 (part * x_part + t * x_block + i * x_image + h * x_row)

where x is the address of the first pixel, the strides are in elements, `x_part` is 0 in a thread's own buffer, and
i counts from the part's first example. Around an image there may be a border, which a convolution fills with zeros.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fgnumba.kernels.machine.memory import address


class Border(NamedTuple):
    """Pixels around an image."""

    top: int = 0
    bottom: int = 0
    left: int = 0
    right: int = 0

    def union(self, other: "Border") -> "Border":
        """Return the border that holds both."""
        return Border(*map(max, zip(self, other, strict=True)))


NO_BORDER = Border()


@dataclass(frozen=True)
class Images:
    """Images of a dual buffer.

    Parameters
    ----------
    memory : float32, what the addresses lie in.
    start : elements from the memory's first to the first pixel.
    block, image, row, pixel, part : strides in elements.
    has_tangent : False: only the primal's block is there, the tangent is a symbolic zero.
    local : in a thread's own buffer, one part at a time.
    external : the model's input, whose address changes from run to run.
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
    ) -> "Images":
        """Return the images of (blocks, B, ld) float32, `images` of them a part, each `shape` without gaps."""
        _, batch, ld = array.shape
        height, width, channels = image_shape(shape)
        strides = (batch * ld, ld, width * channels, channels, images * ld)
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
        """Return `images` images in a thread's own buffer, from element `start` of its memory on."""
        height, width, channels = image_shape(shape)
        row = (width + border.left + border.right) * channels
        image = bordered_size(shape, border)
        first = start + border.top * row + border.left * channels
        strides = (images * image, image, row, channels, 0)
        return cls(memory, first, (height, width, channels), *strides, has_tangent, local=True, border=border)

    def viewed_as(self, shape: tuple[int, ...]) -> "Images":
        """Return the same elements as images of `shape`; where that is another, they lie without gaps."""
        height, width, channels = image_shape(shape)
        if (height, width, channels) == self.shape:
            return self
        return replace(self, shape=(height, width, channels), row=width * channels, pixel=channels)

    def channels_from(self, first: int, count: int) -> "Images":
        """Return `count` of the channels, from `first` on."""
        height, width, _ = self.shape
        return replace(self, start=self.start + first, shape=(height, width, count))

    def fields(self, name: str) -> dict[str, int]:
        """Return the values of :func:`fields` for these images."""
        strides = (self.block, self.image, self.row, self.pixel, self.part)
        return dict(zip(fields(name), (address(self.memory) + 4 * self.start, *strides), strict=True))


def fields(name: str) -> tuple[str, ...]:
    """Return the fields of a kernel's arguments for images called `name`."""
    return (name, *(f"{name}_{stride}" for stride in ("block", "image", "row", "pixel", "part")))


def image_shape(shape: tuple[int, ...]) -> tuple[int, int, int]:
    """Return `shape` as (H, W, C): one pixel for (N,), one row for (W, C)."""
    height, width, channels = (1, 1, *shape)[-3:]
    return int(np.prod(shape[:-3], initial=height)), width, channels


def bordered_size(shape: tuple[int, ...], border: Border) -> int:
    """Return the elements of an image with its border."""
    height, width, channels = image_shape(shape)
    return (height + border.top + border.bottom) * (width + border.left + border.right) * channels


def operands(**images: Images) -> tuple[dict[str, int], dict[str, Any]]:
    """Return the fields of all `images` by name, and what an ``Operation`` must know of them."""
    values: dict[str, int] = {}
    for name, one in images.items():
        values |= one.fields(name)
    return values, {
        "keeps": tuple(one.memory for one in images.values()),
        "local": tuple(name for name, one in images.items() if one.local),
        "external": tuple(name for name, one in images.items() if one.external),
    }


def part_fields(batch: int, images: int) -> Mapping[str, int]:
    """Return the fields ``batch`` and ``images``: how many examples there are, and how many are a part."""
    return {"batch": batch, "images": images}
