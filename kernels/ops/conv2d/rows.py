"""Where the rows of a direct convolution's product lie: the runs of a row in an image, and the dots of rows with u."""

from typing import Any

import numpy as np
from numba.extending import register_jitable

from fgnumba.kernels.layout.geometry import Geometry
from fgnumba.kernels.layout.images import Images
from fgnumba.kernels.machine.memory import address
from fgnumba.kernels.shared.product import dots, product

WALK_FIELDS = (
    *("batch", "images", "height", "origin", "step_row", "step_pixel"),
    *("segments", "offsets", "length", "groups", "group_inputs"),
)
"""Arguments of a kernel that walks over the rows, besides those of its images and products."""


def walk(geometry: Geometry, x: Images, y: Images, groups: int, channels: int) -> tuple[dict[str, int], Any]:
    """Return the values of `WALK_FIELDS`, except for ``batch`` and ``images``, and an object that must be kept alive.

    Parameters
    ----------
    geometry : Geometry
        Sizes of the convolution.
    x, y : Images
        Its input and output.
    groups : int
        Number of groups that rows are divided into.
    channels : int
        Number of channels that a row has of a pixel.
    """
    starts, length = segments(geometry, x, channels)
    return {
        "height": y.shape[0],
        "origin": -(geometry.padding.top * x.row + geometry.padding.left * x.pixel),
        "step_row": geometry.stride[0] * x.row,
        "step_pixel": geometry.stride[1] * x.pixel,
        "segments": len(starts),
        "offsets": address(starts),
        "length": length,
        "groups": groups,
        "group_inputs": x.shape[2] // groups,
    }, starts


def segments(geometry: Geometry, x: Images, channels: int) -> tuple[Any, int]:
    """Return where the runs of a row begin, in elements from the row's first, and how long each run is."""
    (kernel_rows, kernel_columns), (down, across) = geometry.kernel_size, geometry.dilation
    if channels == x.pixel and (across == 1 or kernel_columns == 1):
        starts, length = [row * down * x.row for row in range(kernel_rows)], kernel_columns * channels
    else:
        starts, length = (
            [
                row * down * x.row + column * across * x.pixel
                for row in range(kernel_rows)
                for column in range(kernel_columns)
            ],
            channels,
        )
    return np.array(starts, np.int64), length


@register_jitable
def row_address(a: Any, part: int, unit: int) -> int:
    """Return the address of the first element under the kernel for row `unit` of the part's output."""
    i, row = unit // a.height, unit % a.height
    return a.x + (part * a.x_part + i * a.x_image + row * a.step_row + a.origin) * 4


@register_jitable
def write_dots(a: Any, part: int, n: int) -> None:
    """Write x * u for every direction, output pixel and group."""
    for block in range(dots.blocks(a)):
        u = dots.draw(a, block, product.draw_vector)
        for g in range(a.groups):
            for unit in range(n * a.height):
                x = row_address(a, part, unit) + g * a.group_inputs * 4
                row = (a.segments, a.offsets, a.length, x, a.step_pixel)
                dots.write(a, block, u, a.width, *row, pixel_number(a, g, unit))


@register_jitable
def pixel_number(a: Any, g: int, unit: int) -> int:
    """Return the number that a row's first pixel has among the pixels whose dots with u are computed."""
    return (g * a.images * a.height + unit) * a.width
