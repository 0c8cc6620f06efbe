"""Where an element of the matrix of patches lies: in an image, and in a tile of shared memory.

The matrix of patches has a row for each output pixel: the input pixels under the taps of a convolution's kernel. It
exists in no memory.
"""

from typing import NamedTuple

from fgnumba.kernels.cuda.kernel import device_function
from fgnumba.kernels.cuda.primitives import Size, divide, narrow
from fgnumba.kernels.layout.geometry import Geometry
from fgnumba.kernels.layout.images import Images


class Taps(NamedTuple):
    """The taps of a convolution's kernel, and how they move over an image, as GPU kernels take them.

    Parameters
    ----------
    across : Size
        Taps in a row of the kernel.
    height, width : Size
        Pixels of an input image.
    out_high, out_wide : Size
        Pixels of an output image.
    stride_high, stride_wide : Size
        Input pixels from one output pixel's taps to the next's.
    dilation_high, dilation_wide : Size
        Input pixels from one tap to the next.
    top, left : Size
        Pixels of padding above an input image and to its left.
    """

    across: Size
    height: Size
    width: Size
    out_high: Size
    out_wide: Size
    stride_high: Size
    stride_wide: Size
    dilation_high: Size
    dilation_wide: Size
    top: Size
    left: Size


def taps_of(geometry: Geometry, x: Images, y: Images) -> Taps:
    """Return the taps of a convolution.

    Parameters
    ----------
    geometry : Geometry
        How the convolution's kernel moves.
    x, y : Images
        Input and output of the convolution.

    Returns
    -------
    Taps
        The taps as kernels take them.
    """
    return Taps(
        across=geometry.kernel_size[1],
        height=x.shape[0],
        width=x.shape[1],
        out_high=y.shape[0],
        out_wide=y.shape[1],
        stride_high=geometry.stride[0],
        stride_wide=geometry.stride[1],
        dilation_high=geometry.dilation[0],
        dilation_wide=geometry.dilation[1],
        top=geometry.padding.top,
        left=geometry.padding.left,
    )


@device_function
def swizzled(row: int, chunk: int, chunks: int, rows: int) -> int:
    """Return the place of a chunk of 16 bytes in a tile of X, such that a warp reads from different banks.

    Parameters
    ----------
    row : int
        Row of the tile.
    chunk : int
        Chunk of the row.
    chunks : int
        Number of chunks of a row, a power of 2.
    rows : int
        Number of neighbouring rows whose chunks are permuted alike.

    Returns
    -------
    int
        Bytes from the beginning of the tile.
    """
    return 16 * (row * chunks + (chunk ^ (row // rows & (chunks - 1))))


@device_function
def origin(m: int, taps: Taps, image: int) -> tuple[int, int, int]:
    """Return where the taps of an output pixel begin.

    Parameters
    ----------
    m : int
        Row of the matrix of patches: a pixel of an example's output.
    taps : Taps
        The taps.
    image : int
        Elements from one example's input image to the next.

    Returns
    -------
    tuple of int
        Bytes from the first image to the example's, then row and column of the pixel under the first tap.
    """
    i, pixel = divide(m, taps.out_high * taps.out_wide)
    h, w = divide(pixel, taps.out_wide)
    at_row, at_column = h * taps.stride_high - taps.top, w * taps.stride_wide - taps.left
    return 4 * i * image, narrow(at_row), narrow(at_column)


@device_function
def within(h: int, w: int, taps: Taps) -> bool:
    """Whether an input image has a pixel (h, w)."""
    return 0 <= h < taps.height and 0 <= w < taps.width


@device_function
def next_taps(channel: int, column: int, row: int, channels: int, columns: int) -> tuple[int, int, int]:
    """Return the tap that an element of K belongs to, from one whose channel may lie past the last.

    Parameters
    ----------
    channel : int
        Channel, counted from the first channel of the tap.
    column, row : int
        Column and row of the tap.
    channels : int
        Number of channels.
    columns : int
        Number of taps in a row of the kernel.

    Returns
    -------
    tuple of int
        Channel, column and row.
    """
    while channel >= channels:
        channel = narrow(channel - channels)
        column = narrow(column + 1)
        if column == columns:
            column = narrow(0)
            row = narrow(row + 1)
    return channel, column, row
