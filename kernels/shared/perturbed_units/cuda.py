"""Perturbed units of a layer on a GPU: what kernels take of them, where they lie, and the signs of their noise.

See ``cpu``. The signs of a unit are those of the CPU, bit for bit. A row of signs is a pixel of an example, with the
number example * pixels + pixel. One draw of Philox has the signs of four rows, so that a thread takes four rows of one
channel.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from fgnumba.kernels.cuda.driver import Driver
from fgnumba.kernels.cuda.kernel import device_function
from fgnumba.kernels.cuda.layout import DualImages, images
from fgnumba.kernels.cuda.memory import DeviceArray
from fgnumba.kernels.cuda.primitives import Address, Size, divide
from fgnumba.kernels.emit.vector import PANEL
from fgnumba.kernels.machine.memory import address
from fgnumba.kernels.rules.directions.cuda import Words, sign_words
from fgnumba.kernels.rules.philox import DIRECTION_SHIFT, NOISE
from fgnumba.kernels.shared.perturbed_units.cpu import Perturbed


class Units(NamedTuple):
    """The perturbed units of a layer, and the draw of their noise, as kernels take them.

    Parameters
    ----------
    y : DualImages
        Output of the layer.
    pixels : Size
        Pixels of an image.
    width : Size
        Pixels of a row.
    channels : Size
        Channels C.
    first_panel : Size
        Number of the layer's first panel of 32 channels, among those of all layers whose noise has one counter.
    slot : Size
        First direction of the noise.
    slots : Size
        Number of directions of the noise.
    parameter : Size
        Index of the layer's noise in the counter.
    stream : Address
        Address of the ``philox.STREAM`` from which signs are drawn.
    """

    y: DualImages
    pixels: Size
    width: Size
    channels: Size
    first_panel: Size
    slot: Size
    slots: Size
    parameter: Size
    stream: Address


def perturbed(site: Perturbed) -> Units:
    """Return a layer's units and their noise as kernels take them."""
    height, width, channels = site.y.shape
    return Units(
        y=images(DualImages, site.y),
        pixels=height * width,
        width=width,
        channels=channels,
        first_panel=site.first_channel // PANEL,
        slot=site.slot,
        slots=site.slots,
        parameter=site.parameter,
        stream=address(site.stream),
    )


def rows_of(site: Perturbed) -> int:
    """Return the number of rows of signs: the pixels of a batch."""
    height, width, _ = site.y.shape
    return site.batch * height * width


def quads(rows: int) -> int:
    """Return the number of threads for `rows` rows of a channel; a thread takes four."""
    return -(-rows // 4)


def uploaded(values: npt.ArrayLike, driver: Driver) -> DeviceArray:
    """Return a copy on the GPU of whole numbers, as int64."""
    numbers = np.asarray(values, np.int64)
    found = DeviceArray.zeros(driver, numbers.shape, np.int64)
    found.upload(numbers)
    return found


@device_function
def signs(units: Units, quad: int, channel: int, slot: int) -> Words:
    """Return the signs of four rows of a channel's panel.

    Parameters
    ----------
    units : Units
        The layer's units.
    quad : int
        Number of the four rows: ``4 * quad`` is the first of them.
    channel : int
        The channel.
    slot : int
        The direction.

    Returns
    -------
    tuple of uint32
        A word for each row; bit ``channel % 32`` is set where the sign is -1.
    """
    c2 = (slot << DIRECTION_SHIFT) + units.parameter
    return sign_words(units.stream, quad, units.first_panel + (channel >> 5), NOISE, c2)


@device_function
def row_place(q: int, pixels: int, width: int) -> tuple[int, int, int, int]:
    """Return where a row of signs lies.

    Parameters
    ----------
    q : int
        Number of the row: example * pixels + pixel.
    pixels : int
        Pixels of an image.
    width : int
        Pixels of a row of an image.

    Returns
    -------
    tuple of int
        Example, pixel of the image, and the row and the column of that pixel.
    """
    example, p = divide(q, pixels)
    row, column = divide(p, width)
    return example, p, row, column
