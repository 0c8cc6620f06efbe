"""The sizes that say how a convolution moves over an image, and the border of zeros that it reads around the image."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import carray
from numba.extending import register_jitable

from fgnumba.kernels.emit import pointer
from fgnumba.kernels.layout.images import NO_BORDER, Border, Images


@dataclass(frozen=True)
class Geometry:
    """Sizes of a convolution, each along (height, width).

    Parameters
    ----------
    kernel_size : (int, int)
        Size of the kernel in pixels.
    stride : (int, int)
        Pixels from one position of the kernel to the next.
    dilation : (int, int)
        Pixels from one element of the kernel to the next.
    padding : Border
        Pixels of zeros around the image.
    groups : int
        Number of groups that the channels are divided into. Each group of outputs reads only its own group of inputs.
    """

    kernel_size: tuple[int, int]
    stride: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)
    padding: Border = NO_BORDER
    groups: int = 1


def is_channelwise(geometry: Geometry, inputs: int, outputs: int) -> bool:
    """Whether every input channel forms a group with exactly one output channel.

    Parameters
    ----------
    geometry : Geometry
        Sizes of the convolution.
    inputs, outputs : int
        Numbers of input and output channels.
    """
    return geometry.groups == inputs == outputs and inputs > 1


BORDER_FIELDS = ("clear", "top", "bottom", "left", "right", "image_height", "image_width")
"""Arguments of a kernel that fills the border of its input with zeros."""


def border_fields(x: Images, needed: Border) -> dict[str, int]:
    """Return the values of `BORDER_FIELDS` for the images x.

    Parameters
    ----------
    x : Images
        The input of the convolution.
    needed : Border
        Pixels of zeros that the convolution reads. If there are none, the kernel leaves the border alone.
    """
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
    """Fill the border around each of n images with zeros, in the primal and in every tangent."""
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
    """Fill n float32, from the address `at` on, with zeros."""
    values = carray(pointer(at, np.float32), n)
    for i in range(n):
        values[i] = np.float32(0)
