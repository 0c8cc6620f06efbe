"""How GPU kernels walk over images: one thread an element, the whole batch at once.

An element's number counts examples, rows, pixels and channels, channels fastest. Images come with four strides, in
elements (``kernels.layout.images``); a kernel names them ``x_block``, ``x_image``, ``x_row`` and ``x_pixel``.
"""

import math
from collections.abc import Sequence
from typing import Any

from fgnumba.kernels.cuda.driver import Blocks
from fgnumba.kernels.cuda.kernel import Kernel, device_function
from fgnumba.kernels.cuda.primitives import block_x, divide, thread
from fgnumba.kernels.cuda.program import Launch
from fgnumba.kernels.layout.images import Images
from fgnumba.kernels.machine.memory import address

THREADS = 256
"""Threads of a block that takes one element each."""

STRIDES = ("block", "image", "row", "pixel")
"""Of images, in elements."""


def blocks_for(elements: int, threads: int = THREADS) -> int:
    """Return the blocks that have a thread for each element."""
    return -(-elements // threads)


def elementwise(kernel: Kernel, elements: int, arguments: dict[str, Any], across: int = 1) -> Launch:
    """Return the launch of a kernel with a thread for each element, `across` times along the grid's second axis."""
    blocks: Blocks = (blocks_for(elements, kernel.threads), across, 1)
    return Launch(kernel, blocks, arguments)


def images(strides: Sequence[str] = STRIDES, /, **operands: Images) -> dict[str, Any]:
    """Return the arguments of all `operands`: their addresses, and those of their strides that a kernel takes.

    Rows follow one another for a kernel that takes no stride of rows, pixels for one that takes none of pixels.
    """
    found: dict[str, Any] = {}
    for name, one in operands.items():
        height, width, channels = one.shape
        # Images on a GPU have no borders, but they may be some of the channels of others.
        assert "row" in strides or height == 1 or one.row == width * one.pixel
        assert "pixel" in strides or height * width == 1 or one.pixel == channels
        found[name] = address(one.memory) + 4 * one.start
        found |= {f"{name}_{stride}": getattr(one, stride) for stride in strides}
    return found


def elements(batch: int, one: Images) -> int:
    """Return the elements of a batch of images, one block of it."""
    return batch * math.prod(one.shape)


@device_function
def element() -> int:
    """Return the number of the thread's element; it may lie past the last."""
    return block_x() * THREADS + thread()


@device_function
def position(e: int, height: int, width: int, channels: int) -> tuple[int, int, int, int]:
    """Return (example, row, pixel, channel) of an element."""
    pixels, channel = divide(e, channels)
    rows, w = divide(pixels, width)
    i, h = divide(rows, height)
    return i, h, w, channel


@device_function
def offset(i: int, h: int, w: int, c: int, image: int, row: int, pixel: int) -> int:
    """Return the bytes from images' address to an element."""
    return 4 * (i * image + h * row + w * pixel + c)
