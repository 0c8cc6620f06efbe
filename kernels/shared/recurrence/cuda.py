"""What recurrences share on a GPU: operands, the launches of a scan, and the directions of vectors; see ``cpu``.

A thread takes a unit of an example, and goes through the positions. Neighbouring threads take neighbouring units, so
that their accesses are to neighbouring addresses. A scan is two launches. The first computes the tangents, with a
thread for each direction, too, which goes through the primal's states again; the second computes the primal. In this
order each reads the primal's product before it is replaced by the gates, and the state before it is carried on.
"""

from typing import Any, NamedTuple

import numpy as np

from fgnumba.kernels.cuda.kernel import Kernel, device_function
from fgnumba.kernels.cuda.layout import DualImages, elementwise, images
from fgnumba.kernels.cuda.memory import DeviceArray
from fgnumba.kernels.cuda.primitives import Address, Size, divide, load_f32
from fgnumba.kernels.cuda.program import Launch
from fgnumba.kernels.layout.images import Images
from fgnumba.kernels.machine.memory import address
from fgnumba.kernels.rules.directions import EXPLICIT, GAUSSIAN, NONE
from fgnumba.kernels.rules.directions.cuda import gaussian_of_vector, sign_of_vector
from fgnumba.kernels.rules.philox import ENTRY
from fgnumba.kernels.shared.drawn.cuda import counter
from fgnumba.kernels.shared.recurrence.cpu import Vectors

_ZERO = np.float32(0)


class Rows(NamedTuple):
    """A dual array (blocks, rows, columns) of whole panels, in which each gate has columns of its own.

    Parameters
    ----------
    address : Address
        Address of the first element; 0: there is no array.
    block : Size
        Elements from the primal's rows to the first tangent's; 0: there are no tangents.
    row : Size
        Elements from one row to the next.
    """

    address: Address
    block: Size
    row: Size


class Sequences(NamedTuple):
    """How many sequences there are, and their sizes.

    Parameters
    ----------
    number : Size
        Units of all examples together, B H.
    units : Size
        Number of units H.
    padded : Size
        Elements from one gate to the next in a row, Hp: H rounded up to whole panels.
    length : Size
        Number of positions L.
    """

    number: Size
    units: Size
    padded: Size
    length: Size


class VectorDirections(NamedTuple):
    """Directions of one or two parameters that are vectors: either given, or drawn from a counter.

    Parameters
    ----------
    kind : Size
        Kind of direction, one of the numbers of ``kernels.rules.directions``.
    stream : Address
        Address of the ``philox.STREAM`` from which directions are drawn.
    parameter, second_parameter : Size
        Numbers of the parameters in the counter.
    v, second_v : Address
        Addresses of their first directions, where these are given.
    block : Size
        Elements from one direction to the next.
    """

    kind: Size
    stream: Address
    parameter: Size
    second_parameter: Size
    v: Address
    second_v: Address
    block: Size


def rows(array: Any) -> Rows:
    """Return an array (blocks, rows, columns), or None, as a kernel takes it."""
    if array is None:
        return Rows(0, 0, 0)
    blocks, number, columns = array.shape
    return Rows(address(array), number * columns if blocks > 1 else 0, columns)


def sequences(batch: int, units: int, y: Images) -> Sequences:
    """Return the sizes of a batch of sequences.

    Parameters
    ----------
    batch : int
        Number of examples B.
    units : int
        Number of units H.
    y : Images
        Output, (L, 1, columns).

    Returns
    -------
    Sequences
        The sizes.
    """
    return Sequences(batch * units, units, -(-units // 32) * 32, y.shape[0])


def scan(
    primal: Kernel,
    tangents: Kernel,
    *,
    batch: int,
    units: int,
    count: int,
    product: DeviceArray,
    y: Images,
    state: DeviceArray | None,
    weights: dict[str, Any],
    directions: dict[str, Any],
) -> tuple[Launch, ...]:
    """Return the launches of a scan: the tangents' where there are directions, then the primal's.

    Parameters
    ----------
    primal, tangents : Kernel
        The kernels, which take ``product``, ``y``, ``state``, ``sizes`` and `weights`; that of tangents takes
        `directions`, too.
    batch, units, count : int
        Numbers of examples B, of units H and of directions T.
    product : DeviceArray
        (1 + T, B L, G Hp) float32.
    y : Images
        Output, (L, 1, columns).
    state : DeviceArray or None
        (1 or 1 + T, B, columns) float32, or None.
    weights, directions : dict
        The kernels' arguments that say where parameters and their directions lie.

    Returns
    -------
    tuple of Launch
        The launches.
    """
    common = {
        "product": rows(product),
        "y": images(DualImages, y),
        "state": rows(state),
        "sizes": sequences(batch, units, y),
        **weights,
    }
    number = batch * units
    last = elementwise(primal, number, common)
    return (elementwise(tangents, number, common | directions, across=count), last) if count else (last,)


def vector_directions(vectors: Vectors) -> VectorDirections:
    """Return the directions of one or two parameters that are vectors of the same length, as kernels take them."""
    value: Any = vectors.values[0]
    v = vectors.v if vectors.kind == EXPLICIT and vectors.count else (None,)
    return VectorDirections(
        kind=vectors.kind,
        stream=address(vectors.stream),
        parameter=vectors.parameters[0],
        second_parameter=vectors.parameters[-1],
        v=address(v[0]),
        second_v=address(v[-1]),
        block=value.size,
    )


@device_function
def unit_of(sizes: Sequences, e: int) -> tuple[int, int]:
    """Return the example and the unit of a thread's element."""
    return divide(e, sizes.units)


@device_function
def row_at(product: Rows, sizes: Sequences, b: int, position: int) -> int:
    """Return the address of the primal's row of a product at a position of an example."""
    return product.address + 4 * (b * sizes.length + position) * product.row


@device_function
def summed(first: int, second: int, both: int) -> np.float32:
    """Return the number at one address, plus that at another where `both` is not 0."""
    value = load_f32(first)
    if both:
        value = value + load_f32(second)
    return value


@device_function
def entry(directions: VectorDirections, c2: int, t: int, v: int, i: int) -> np.float32:
    """Return an entry of a direction of a vector: given at the address `v`, or drawn from the counter `c2`."""
    if directions.kind == EXPLICIT:
        return load_f32(v + 4 * (t * directions.block + i))
    if directions.kind == GAUSSIAN:
        return gaussian_of_vector(directions.stream, i, ENTRY, c2)
    if directions.kind == NONE:
        return _ZERO
    return sign_of_vector(directions.stream, i, ENTRY, c2)


@device_function
def first_entry(directions: VectorDirections, first: int, t: int, i: int) -> np.float32:
    """Return entry `i` of direction `t` of the first vector; `first` is the number of the first direction."""
    return entry(directions, counter(first, t, directions.parameter), t, directions.v, i)


@device_function
def second_entry(directions: VectorDirections, first: int, t: int, i: int) -> np.float32:
    """Return entry `i` of direction `t` of the second vector."""
    return entry(directions, counter(first, t, directions.second_parameter), t, directions.second_v, i)
