"""Gates and state of a gated recurrent unit at one position on a GPU; see ``cpu``.

p  = x W + b,  q = h R          a column for each gate; a is the bias of q_n
r  = σ(p_r + q_r),  z = σ(p_z + q_z),  n = tanh(p_n + r (q_n + a))
h' = (1 - z) n + z h
dh' = z dh + ar (dp_r + dq_r) + az (dp_z + dq_z) + an (dp_n + r (dq_n + da))          factors: ``rules.recurrence``
"""

from typing import Any

import numpy as np

from fgnumba.kernels.cuda.kernel import kernel
from fgnumba.kernels.cuda.layout import DualImages, element, elementwise, images
from fgnumba.kernels.cuda.memory import DeviceArray
from fgnumba.kernels.cuda.primitives import Address, Size, load_f32, store_f32
from fgnumba.kernels.cuda.program import Operation
from fgnumba.kernels.layout.images import Images
from fgnumba.kernels.machine.memory import address
from fgnumba.kernels.rules.recurrence import gru
from fgnumba.kernels.shared.recurrence.cpu import Vectors
from fgnumba.kernels.shared.recurrence.cuda import (
    Rows,
    Sequences,
    VectorDirections,
    first_entry,
    row_at,
    rows,
    sequences,
    summed,
    unit_of,
    vector_directions,
)
from fgnumba.validation.launcher import launcher

_ZERO = np.float32(0)


@launcher
def bind(
    isa: Any,
    threads: int,
    *,
    batch: int,
    units: int,
    position: int,
    product: DeviceArray,
    recurrent: DeviceArray,
    y: Images,
    state: DeviceArray | None,
    vectors: Vectors,
) -> Operation:
    """Bind the operation to its arrays, as ``cpu.bind`` does.

    Parameters
    ----------
    isa, threads : object, int
        Not used.
    batch, units : int
        Numbers of examples B and of units H.
    position : int
        Number of the position, from 0 to L - 1.
    product : DeviceArray
        (1 + T, B L, 3 Hp) float32, x W + b and its tangents. The gates r, z and n replace the primal's row.
    recurrent : DeviceArray
        (1 + T, B, 3 Hp) float32, h R and its tangents. Not read at position 0 without a state.
    y : Images
        Output (L, 1, H). The row of the position before is read, and that of the position is written.
    state : DeviceArray or None
        (1 or 1 + T, B, Hp) float32, h before the first position, read there, and after the last one, written there.
        None: zeros before, and nothing is written.
    vectors : Vectors
        The recurrent bias a of n, and the directions along which it moves.

    Returns
    -------
    Operation
        The launch.

    Notes
    -----
    Cost: reads eight numbers and writes four a unit; for each direction, reads seven, draws one and writes one.
    """
    arguments = {
        "product": rows(product),
        "recurrent": rows(recurrent if position or state is not None else None),
        "y": images(DualImages, y),
        "state": rows(state),
        "sizes": sequences(batch, units, y),
        "position": position,
        "count": vectors.count,
        "bias": address(vectors.values[0]),
        "directions": vector_directions(vectors),
        "first": vectors.first,
    }
    launch = elementwise(_cell, batch * units, arguments)
    return Operation("gru", (launch,), keeps=(product, recurrent, y.memory, state, vectors))


@kernel("gru")
def _cell(
    product: Rows,
    recurrent: Rows,
    y: DualImages,
    state: Rows,
    sizes: Sequences,
    position: Size,
    count: Size,
    bias: Address,
    directions: VectorDirections,
    first: Size,
) -> None:
    e = element()
    if e >= sizes.number:
        return
    b, j = unit_of(sizes, e)
    gate = 4 * sizes.padded
    at, other = row_at(product, sizes, b, position) + 4 * j, recurrent.address + 4 * (b * recurrent.row + j)
    out = y.address + 4 * (b * y.image + position * y.row + j)
    kept = state.address + 4 * (b * state.row + j)
    has, last = recurrent.address, position + 1 == sizes.length

    before = _ZERO
    if position:
        before = load_f32(out - 4 * y.row)
    elif state.address:
        before = load_f32(kept)
    inner = load_f32(bias + 4 * j)
    if has:
        inner = load_f32(other + 2 * gate) + inner
    r, z, n, h, ar, az, an = gru(
        summed(at, other, has),
        summed(at + gate, other + gate, has),
        load_f32(at + 2 * gate),
        inner,
        before,
    )
    store_f32(at, r)
    store_f32(at + gate, z)
    store_f32(at + 2 * gate, n)
    store_f32(out, h)
    if last and state.address:
        store_f32(kept, h)

    for t in range(count):
        at += 4 * product.block
        other += 4 * recurrent.block
        kept += 4 * state.block
        out += 4 * y.block
        dbefore = _ZERO
        if position:
            dbefore = load_f32(out - 4 * y.row)
        elif state.block:
            dbefore = load_f32(kept)
        dinner = first_entry(directions, first, t, j)
        if has:
            dinner = load_f32(other + 2 * gate) + dinner
        dh = z * dbefore + ar * summed(at, other, has) + az * summed(at + gate, other + gate, has)
        dh = dh + an * (load_f32(at + 2 * gate) + r * dinner)
        store_f32(out, dh)
        if last and state.block:
            store_f32(kept, dh)
