"""Directions of vectors on a GPU, drawn into memory before the kernels that read them.

A vector has one entry a channel or a unit, which every row of a batch reads; to draw an entry takes ten times the
instructions that a row needs to use it.
"""

from collections.abc import Sequence
from typing import Any

from fgnumba.kernels.cuda.driver import Driver
from fgnumba.kernels.cuda.kernel import kernel
from fgnumba.kernels.cuda.layout import element, elementwise
from fgnumba.kernels.cuda.memory import DeviceArray
from fgnumba.kernels.cuda.primitives import Address, Size, divide, store_f32
from fgnumba.kernels.cuda.program import Launch
from fgnumba.kernels.machine.memory import address
from fgnumba.kernels.rules.directions import GAUSSIAN, NONE
from fgnumba.kernels.rules.directions.cuda import gaussian_of_vector, sign_of_vector
from fgnumba.kernels.rules.philox import ENTRY
from fgnumba.kernels.shared.drawn.cuda import counter


def drawn_vectors(
    driver: Driver,
    padded: int,
    parameters: Sequence[int],
    *,
    kind: int,
    count: int,
    first: int,
    stream: Any,
) -> tuple[DeviceArray, tuple[Launch, ...]]:
    """Return memory for the directions of one or two vectors of the same length, and the launches that draw them.

    Parameters
    ----------
    driver : Driver
        Driver of the GPU.
    padded : int
        Number of entries of a vector, with padding.
    parameters : sequence of int
        Numbers of the vectors in the Philox counter: one or two.
    kind : int
        Kind of direction, see ``rules.directions``; not EXPLICIT. NONE: the directions are zeros, and nothing is drawn.
    count : int
        Number of directions T.
    first : int
        Number of the first direction in the Philox counter.
    stream : DeviceArray or None
        (1,) ``philox.STREAM``, read when the launches run.

    Returns
    -------
    tuple
        (vectors, T, padded) float32, and the launches.

    Notes
    -----
    Cost: a Philox block an entry.
    """
    drawn = DeviceArray.zeros(driver, (len(parameters), count, padded))
    if kind == NONE or count == 0:
        return drawn, ()
    arguments = {
        "out": drawn,
        "n": drawn.size,
        "count": count,
        "padded": padded,
        "gaussian": int(kind == GAUSSIAN),
        "stream": address(stream),
        "first": first,
        "parameter": parameters[0],
        "second_parameter": parameters[-1],
    }
    return drawn, (elementwise(_draw, drawn.size, arguments),)


@kernel("vector-directions")
def _draw(
    out: Address,
    n: Size,
    count: Size,
    padded: Size,
    gaussian: Size,
    stream: Address,
    first: Size,
    parameter: Size,
    second_parameter: Size,
) -> None:
    e = element()
    if e >= n:
        return
    rows, i = divide(e, padded)
    vector, t = divide(rows, count)
    c2 = counter(first, t, second_parameter if vector else parameter)
    if gaussian:
        store_f32(out + 4 * e, gaussian_of_vector(stream, i, ENTRY, c2))
    else:
        store_f32(out + 4 * e, sign_of_vector(stream, i, ENTRY, c2))
