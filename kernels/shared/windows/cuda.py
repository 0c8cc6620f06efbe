"""Windows that move over an image, on a GPU: the launcher that pooling operations share, and where windows lie."""

from typing import NamedTuple

from fgnumba.kernels.cuda.kernel import Kernel, device_function
from fgnumba.kernels.cuda.layout import DualImages, elements, elementwise, images
from fgnumba.kernels.cuda.primitives import Size
from fgnumba.kernels.cuda.program import MAX_BLOCKS_YZ, Operation
from fgnumba.kernels.layout.images import Border, Images
from fgnumba.kernels.shared.windows import window_fields
from fgnumba.validation.launcher import launcher


class Windows(NamedTuple):
    """Windows of a pooling operation, as its kernel takes them; there is one for each pixel of the output.

    Parameters
    ----------
    channels : Size
        Channels C.
    height, width : Size
        Pixels of an output image.
    image_height, image_width : Size
        Pixels of an input image.
    window_height, window_width : Size
        Pixels of a window.
    down, across : Size
        Pixels from one window to the next, along the height and along the width.
    top, left : Size
        Pixels of padding above an input image and to its left.
    """

    channels: Size
    height: Size
    width: Size
    image_height: Size
    image_width: Size
    window_height: Size
    window_width: Size
    down: Size
    across: Size
    top: Size
    left: Size


@launcher
def bind(
    name: str,
    entry: Kernel,
    *,
    batch: int,
    images_a_part: int,
    count: int,
    x: Images,
    y: Images,
    window: tuple[int, int],
    stride: tuple[int, int],
    padding: Border,
) -> Operation:
    """Bind a pooling kernel to its arrays, as ``kernels.shared.windows.cpu.bind`` does.

    A thread takes an element of y. Where the kernel has a parameter ``slices``, several threads share the primal and
    the tangents of an element.

    Parameters
    ----------
    name : str
        Name of the operation.
    entry : Kernel
        The pooling kernel.
    batch : int
        Number of examples B.
    images_a_part : int
        Not used: a GPU takes the whole batch at once.
    count : int
        Number of tangents T.
    x : Images
        Input.
    y : Images
        Output, written. It must not overlap `x`.
    window : tuple of int
        Height and width of a window in pixels.
    stride : tuple of int
        Pixels from one window to the next, along the height and along the width.
    padding : Border
        Pixels around the image, which count for nothing. Every window covers some pixels of the image.

    Returns
    -------
    Operation
        The launch.
    """
    n, tangents = elements(batch, y), count if x.has_tangent else 0
    slices = min(1 + tangents, MAX_BLOCKS_YZ) if "slices" in entry.parameters else 1
    arguments = {
        "x": images(DualImages, x),
        "y": images(DualImages, y),
        "windows": Windows(**window_fields(x, y, window, stride, padding)),
        "n": n,
        "count": tangents,
    }
    if "slices" in entry.parameters:
        arguments["slices"] = slices
    return Operation(name, (elementwise(entry, n, arguments, slices),), keeps=(x.memory, y.memory))


@device_function
def covered_rows(windows: Windows, row: int) -> tuple[int, int]:
    """Return the first and the last (exclusive) row of an input image under the windows of an output row."""
    first = row * windows.down - windows.top
    return max(first, 0), min(first + windows.window_height, windows.image_height)


@device_function
def covered_columns(windows: Windows, column: int) -> tuple[int, int]:
    """Return the first and the last (exclusive) column of an input image under the windows of an output column."""
    first = column * windows.across - windows.left
    return max(first, 0), min(first + windows.window_width, windows.image_width)
