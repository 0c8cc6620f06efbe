"""Directions of the scale and the shift of each channel on a GPU, for normalisations; see ``cpu``.

They are drawn into memory before the layer, C entries each. Every pixel reads them, and to draw an entry takes ten
times the instructions that a pixel needs to use it.
"""

from typing import Any

from fgnumba.kernels.cuda.kernel import kernel
from fgnumba.kernels.cuda.layout import element, elementwise
from fgnumba.kernels.cuda.memory import DeviceArray
from fgnumba.kernels.cuda.primitives import Address, Size, divide, store_f32
from fgnumba.kernels.cuda.program import Launch
from fgnumba.kernels.machine.memory import address
from fgnumba.kernels.rules.directions import EXPLICIT, GAUSSIAN, NONE
from fgnumba.kernels.rules.directions.cuda import gaussian_of_vector, sign_of_vector
from fgnumba.kernels.rules.philox import DIRECTION_SHIFT, ENTRY
from fgnumba.kernels.shared.affine.cpu import Affine


def tangents(affine: Affine) -> tuple[Any, Any, tuple[Launch, ...]]:
    """Return the directions of a layer's scale and shift, and the launches that draw them.

    Parameters
    ----------
    affine : Affine
        Scale and shift, and the directions along which they move.

    Returns
    -------
    tuple
        The directions of the scale and those of the shift, (T, C rounded up) each, or None where there are none; then
        the launches.

    Notes
    -----
    Cost: a Philox block an entry.
    """
    scale: Any = affine.scale
    count, padded = affine.count, scale.size
    if affine.kind == EXPLICIT or count == 0:
        return affine.v_scale, affine.v_shift, ()
    drawn = DeviceArray.zeros(scale.driver, (2, count, padded))
    if affine.kind == NONE:
        return drawn[0], drawn[1], ()
    arguments = {
        "out": drawn,
        "n": drawn.size,
        "count": count,
        "padded": padded,
        "gaussian": int(affine.kind == GAUSSIAN),
        "stream": address(affine.stream),
        "first": affine.first,
        "scale_parameter": affine.scale_parameter,
        "shift_parameter": affine.shift_parameter,
    }
    return drawn[0], drawn[1], (elementwise(_draw, drawn.size, arguments),)


@kernel("affine-directions")
def _draw(
    out: Address,
    n: Size,
    count: Size,
    padded: Size,
    gaussian: Size,
    stream: Address,
    first: Size,
    scale_parameter: Size,
    shift_parameter: Size,
) -> None:
    e = element()
    if e >= n:
        return
    rows, channel = divide(e, padded)
    which, t = divide(rows, count)
    c2 = ((first + t) << DIRECTION_SHIFT) + (shift_parameter if which else scale_parameter)
    if gaussian:
        store_f32(out + 4 * e, gaussian_of_vector(stream, channel, ENTRY, c2))
    else:
        store_f32(out + 4 * e, sign_of_vector(stream, channel, ENTRY, c2))
