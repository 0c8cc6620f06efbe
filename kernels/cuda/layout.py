"""How GPU kernels walk over images: one thread for each element, the whole batch at once.

Elements are numbered by example, row, pixel and channel; the channel changes fastest. Images come with strides, counted
in elements (``kernels.layout.images``). A kernel takes an image operand as one parameter, a bundle of its address and
the strides that the kernel needs: :class:`DualImages` has all of them, the other bundles leave some out.
"""

import math
from typing import Any, NamedTuple

from fgnumba.kernels.cuda.driver import Blocks
from fgnumba.kernels.cuda.kernel import Kernel, device_function, fields
from fgnumba.kernels.cuda.primitives import Address, Size, block_x, divide, thread
from fgnumba.kernels.cuda.program import Launch
from fgnumba.kernels.layout.images import Images
from fgnumba.kernels.machine.memory import address

THREADS = 256
"""Number of threads in a block whose threads take one element each."""


class DualImages(NamedTuple):
    """Images of a dual buffer: the primal's, then those of T tangents.

    Parameters
    ----------
    address : Address
        Address of the first pixel.
    block : Size
        Elements from the primal's images to the first tangent's, and from one tangent's to the next's.
    image : Size
        Elements from one example's image to the next.
    row : Size
        Elements from one row of an image to the next.
    pixel : Size
        Elements from one pixel of a row to the next.
    """

    address: Address
    block: Size
    image: Size
    row: Size
    pixel: Size


class BlockImages(NamedTuple):
    """Images of one block of a dual buffer, or of an array: a primal, or a single tangent.

    Parameters
    ----------
    address : Address
        Address of the first pixel.
    image : Size
        Elements from one example's image to the next.
    row : Size
        Elements from one row of an image to the next.
    pixel : Size
        Elements from one pixel of a row to the next.
    """

    address: Address
    image: Size
    row: Size
    pixel: Size


class DualPixels(NamedTuple):
    """Images of a dual buffer whose rows follow one another without gaps, so that pixels have one stride.

    Parameters
    ----------
    address : Address
        Address of the first pixel.
    block : Size
        Elements from the primal's images to the first tangent's, and from one tangent's to the next's.
    image : Size
        Elements from one example's image to the next.
    pixel : Size
        Elements from one pixel of an image to the next.
    """

    address: Address
    block: Size
    image: Size
    pixel: Size


class BlockPixels(NamedTuple):
    """Images of one block of a dual buffer whose rows follow one another without gaps.

    Parameters
    ----------
    address : Address
        Address of the first pixel.
    image : Size
        Elements from one example's image to the next.
    pixel : Size
        Elements from one pixel of an image to the next.
    """

    address: Address
    image: Size
    pixel: Size


class DualVectors(NamedTuple):
    """Images of a dual buffer in which an example's elements follow one another without gaps.

    Parameters
    ----------
    address : Address
        Address of the first element.
    block : Size
        Elements from the primal's images to the first tangent's, and from one tangent's to the next's.
    image : Size
        Elements from one example to the next.
    """

    address: Address
    block: Size
    image: Size


def blocks_for(elements: int, threads: int = THREADS) -> int:
    """Return the number of blocks that have a thread for each element.

    Parameters
    ----------
    elements : int
        Number of elements.
    threads : int
        Number of threads in a block.

    Returns
    -------
    int
        Number of blocks.
    """
    return -(-elements // threads)


def elementwise(kernel: Kernel, elements: int, arguments: dict[str, Any], across: int = 1) -> Launch:
    """Return the launch of a kernel with a thread for each element.

    Parameters
    ----------
    kernel : Kernel
        The kernel.
    elements : int
        Number of elements.
    arguments : dict
        The kernel's arguments by name.
    across : int
        Extent of the grid along its second axis: so many threads for each element.

    Returns
    -------
    Launch
        The launch.
    """
    blocks: Blocks = (blocks_for(elements, kernel.threads), across, 1)
    return Launch(kernel, blocks, arguments)


def images(kind: Any, one: Images) -> Any:
    """Return images as a kernel takes them.

    Parameters
    ----------
    kind : type
        One of the bundles above. Where it has no stride of rows, or of pixels, the images must have no gaps there.
    one : Images
        Images on the GPU.

    Returns
    -------
    DualImages, BlockImages, DualPixels, BlockPixels or DualVectors
        A bundle of that type.
    """
    _, *strides = fields(kind)
    height, width, channels = one.shape
    # Images on a GPU have no borders, but they may be some of the channels of others.
    assert "row" in strides or height == 1 or one.row == width * one.pixel
    assert "pixel" in strides or height * width == 1 or one.pixel == channels
    return kind(first_pixel(one), *(getattr(one, stride) for stride in strides))


def first_pixel(one: Images) -> int:
    """Return the address of the first pixel of images on the GPU."""
    return address(one.memory) + 4 * one.start


def elements(batch: int, one: Images) -> int:
    """Return the number of elements of a batch of images in one block of a dual buffer.

    Parameters
    ----------
    batch : int
        Number of examples B.
    one : Images
        The images.

    Returns
    -------
    int
        B H W C.
    """
    return batch * math.prod(one.shape)


@device_function
def element() -> int:
    """Return the number of the thread's element; it may lie past the last one."""
    return block_x() * THREADS + thread()


@device_function
def position(e: int, height: int, width: int, channels: int) -> tuple[int, int, int, int]:
    """Return where an element lies.

    Parameters
    ----------
    e : int
        Number of the element.
    height, width, channels : int
        Shape of an image.

    Returns
    -------
    tuple of int
        Example, row, pixel of the row, and channel.
    """
    pixels, channel = divide(e, channels)
    rows, w = divide(pixels, width)
    i, h = divide(rows, height)
    return i, h, w, channel


@device_function
def place(x: Any, i: int, h: int, w: int, c: int) -> int:
    """Return the address of an element of images, in the first of their blocks.

    Parameters
    ----------
    x : DualImages or BlockImages
        The images.
    i, h, w, c : int
        Example, row, pixel of the row, and channel.

    Returns
    -------
    int
        Address of a float32.
    """
    return x.address + 4 * (i * x.image + h * x.row + w * x.pixel + c)
