"""Windows that move over an image: what the pooling operations share."""

from typing import Any

from numba.extending import register_jitable

from fgnumba.kernels.layout import images
from fgnumba.kernels.layout.images import Images, operands
from fgnumba.kernels.machine.arguments import filled, record
from fgnumba.kernels.machine.program import Operation
from fgnumba.kernels.shared.windows import FIELDS, window_fields
from fgnumba.validation.launcher import launcher

ARGUMENTS = record(*images.fields("x"), *images.fields("y"), "batch", "images", "count", *FIELDS)


@launcher
def bind(
    name: str,
    entry: int,
    *,
    batch: int,
    images_a_part: int,
    count: int,
    x: Images,
    y: Images,
    window: tuple[int, int],
    stride: tuple[int, int],
    padding: images.Border,
) -> Operation:
    """Bind a pooling kernel to its arrays.

    Parameters
    ----------
    name : str
        Name of the operation.
    entry : int
        Address of the kernel.
    batch : int
        Number of examples B.
    images_a_part : int
        Number of examples in a part.
    count : int
        Number of directions T.
    x, y : Images
        (H, W, C) and (H', W', C) images. They must not overlap.
    window, stride : (int, int)
        Size of the window, and the distance from one window to the next, in pixels.
    padding : Border
        Pixels around the image. A window ignores the pixels of padding that it covers, and always covers some of the
        image.
    """
    values, memory = operands(x=x, y=y)
    fields = {
        **values,
        **images.part_fields(batch, images_a_part),
        "count": count if x.has_tangent else 0,
        **window_fields(x, y, window, stride, padding),
    }
    return Operation(name, entry, filled(ARGUMENTS, fields), **memory)


@register_jitable
def rows_of(a: Any, row: int) -> tuple[int, int]:
    """Return the first and last (exclusive) row of the image that the windows of output row `row` cover."""
    first = row * a.down - a.top
    return max(first, 0), min(first + a.window_height, a.image_height)


@register_jitable
def columns_of(a: Any, column: int) -> tuple[int, int]:
    """Return the first and last (exclusive) column of the image that the windows of output column `column` cover."""
    first = column * a.across - a.left
    return max(first, 0), min(first + a.window_width, a.image_width)
