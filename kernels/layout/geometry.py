"""How a convolution's kernel moves over an image, and the zeros around the image that it reads."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import carray
from numba.extending import register_jitable

from fgnumba.kernels.emit import pointer
from fgnumba.kernels.layout.images import NO_BORDER, Border, Images


@dataclass(frozen=True)
class Geometry:
    """Sizes along (height, width)."""

    kernel_size: tuple[int, int]
    stride: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)
    padding: Border = NO_BORDER
    groups: int = 1


def is_channelwise(geometry: Geometry, inputs: int, outputs: int) -> bool:
    """Whether every channel is a group of its own, with one output."""
    return geometry.groups == inputs == outputs and inputs > 1


BORDER_FIELDS = ("clear", "top", "bottom", "left", "right", "image_height", "image_width")


def border_fields(x: Images, needed: Border) -> dict[str, int]:
    """Return the values of `BORDER_FIELDS`: the border is filled with zeros where any of it is `needed`."""
    height, width, _ = x.shape
    return {
        "clear": needed != NO_BORDER,
        "top": x.border.top,
        "bottom": x.border.bottom,
        "left": x.border.left * x.pixel,
        "right": x.border.right * x.pixel,
        "image_height": height,
        "image_width": width * x.pixel,
    }


@register_jitable
def clear_border(a: Any, part: int, n: int) -> None:
    """Fill the border of n images, primal and tangents, with zeros."""
    whole = a.left + a.image_width + a.right
    for t in range(1 + a.count * a.has_tangent):
        for i in range(n):
            image = a.x + (part * a.x_part + t * a.x_block + i * a.x_image - a.left) * 4
            clear(image - a.top * a.x_row * 4, a.top * whole)
            clear(image + a.image_height * a.x_row * 4, a.bottom * whole)
            for row in range(a.image_height):
                at = image + row * a.x_row * 4
                clear(at, a.left)
                clear(at + (a.left + a.image_width) * 4, a.right)


@register_jitable
def clear(at: int, n: int) -> None:
    """Fill n float32 with zeros."""
    values = carray(pointer(at, np.float32), n)
    for i in range(n):
        values[i] = np.float32(0)
