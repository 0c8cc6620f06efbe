"""Where activities are perturbed, on a GPU: arguments, addresses and signs of a layer's units; see ``cpu``.

The signs of a unit are those of the CPU, bit for bit. One draw of Philox holds the signs of four rows, so a thread
takes four rows of one channel; a row is a pixel of an example, example * pixels + pixel.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from fgnumba.kernels.cuda.driver import Driver
from fgnumba.kernels.cuda.kernel import device_function
from fgnumba.kernels.cuda.layout import images
from fgnumba.kernels.cuda.memory import DeviceArray
from fgnumba.kernels.cuda.primitives import divide
from fgnumba.kernels.emit.vector import PANEL
from fgnumba.kernels.rules.directions.cuda import Words, sign_words
from fgnumba.kernels.rules.philox import DIRECTION_SHIFT, NOISE
from fgnumba.kernels.shared.perturbed_units.cpu import Perturbed


def perturbed(site: Perturbed) -> dict[str, Any]:
    """Return the arguments of a layer's units and their noise."""
    height, width, channels = site.y.shape
    return {
        **images(y=site.y),
        "pixels": height * width,
        "width": width,
        "channels": channels,
        "first_panel": site.first_channel // PANEL,
        "slot": site.slot,
        "slots": site.slots,
        "parameter": site.parameter,
        "stream": site.stream,
    }


def rows_of(site: Perturbed) -> int:
    """Return the pixels of a batch."""
    height, width, _ = site.y.shape
    return site.batch * height * width


def quads(rows: int) -> int:
    """Return the threads that take so many rows of a channel, four each."""
    return -(-rows // 4)


def uploaded(values: npt.ArrayLike, driver: Driver) -> DeviceArray:
    """Return whole numbers that never change, on the device."""
    numbers = np.asarray(values, np.int64)
    found = DeviceArray.zeros(driver, numbers.shape, np.int64)
    found.upload(numbers)
    return found


@device_function
def signs(stream: int, quad: int, channel: int, first_panel: int, slot: int, parameter: int) -> Words:
    """Return the signs of four rows of a channel's panel."""
    c2 = (slot << DIRECTION_SHIFT) + parameter
    return sign_words(stream, quad, first_panel + (channel >> 5), NOISE, c2)


@device_function
def place(q: int, pixels: int, width: int) -> tuple[int, int, int, int]:
    """Return (example, pixel of the image, its row, its column) of a row of signs."""
    example, p = divide(q, pixels)
    row, column = divide(p, width)
    return example, p, row, column
