"""Where an element of an implicit matrix of patches lies: in an image, and in a tile of shared memory."""

from fgnumba.kernels.cuda.kernel import device_function
from fgnumba.kernels.cuda.primitives import divide, narrow


@device_function
def swizzled(row: int, chunk: int, chunks: int, rows: int) -> int:
    """Return the place of 16 bytes of a row of X: those of `rows` rows at a time are moved to other banks."""
    return 16 * (row * chunks + (chunk ^ (row // rows & (chunks - 1))))


@device_function
def origin(
    m: int,
    out_high: int,
    out_wide: int,
    stride_high: int,
    stride_wide: int,
    top: int,
    left: int,
    image: int,
) -> tuple[int, int, int]:
    """Return the bytes to the image of row m, and the pixel of that under the kernel's first tap."""
    i, pixel = divide(m, out_high * out_wide)
    h, w = divide(pixel, out_wide)
    return 4 * i * image, narrow(h * stride_high - top), narrow(w * stride_wide - left)


@device_function
def within(h: int, w: int, height: int, width: int) -> bool:
    """Whether an image has a pixel (h, w)."""
    return 0 <= h < height and 0 <= w < width


@device_function
def next_taps(channel: int, column: int, row: int, channels: int, columns: int) -> tuple[int, int, int]:
    """Return (channel, column, row) of an element of K whose channel lies past the last of `channels`."""
    while channel >= channels:
        channel = narrow(channel - channels)
        column = narrow(column + 1)
        if column == columns:
            column = narrow(0)
            row = narrow(row + 1)
    return channel, column, row
