"""Scan of an element-wise LSTM on a GPU; see ``cpu``.

z  = tanh(pz + wz c),  f = σ(pf + wf c)          p = x W + b, the product at a position
c' = f c + (1 - f) z
dc' = d dc + az (dpz + c dwz) + af (dpf + c dwf)
az = (1 - f) (1 - z²),  af = (c - z) f (1 - f),  d = f + az wz + af wf
"""

from typing import Any

import numpy as np

from fgnumba.kernels.cuda.kernel import kernel
from fgnumba.kernels.cuda.layout import DualImages, element
from fgnumba.kernels.cuda.memory import DeviceArray
from fgnumba.kernels.cuda.primitives import Address, Size, block_y, load_f32, store_f32
from fgnumba.kernels.cuda.program import Operation
from fgnumba.kernels.layout.images import Images
from fgnumba.kernels.machine.memory import address
from fgnumba.kernels.rules.recurrence import elementwise_lstm
from fgnumba.kernels.shared.recurrence.cpu import Vectors
from fgnumba.kernels.shared.recurrence.cuda import (
    Rows,
    Sequences,
    VectorDirections,
    first_entry,
    row_at,
    scan,
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
    product: DeviceArray,
    y: Images,
    state: DeviceArray | None,
    vectors: Vectors,
) -> Operation:
    """Bind the scan to its arrays, as ``cpu.bind`` does.

    Parameters
    ----------
    isa, threads : object, int
        Not used.
    batch, units : int
        Numbers of examples B and of units H.
    product : DeviceArray
        (1 + T, B L, 2 Hp) float32, x W + b and its tangents. z and f replace the primal's.
    y : Images
        Output (L, 1, H), written.
    state : DeviceArray or None
        (1 or 1 + T, B, Hp) float32, c before the first position, read, and after the last one, written. None: zeros
        before, and nothing is written.
    vectors : Vectors
        The recurrent weight [wz | wf] and the directions along which it moves.

    Returns
    -------
    Operation
        The launches.

    Notes
    -----
    Cost: the tangents' launch reads four numbers and writes one for each position, unit and direction, and computes the
    gates again; the primal's reads two and writes three.
    """
    launches = scan(
        _primal,
        _tangents,
        batch=batch,
        units=units,
        count=vectors.count,
        product=product,
        y=y,
        state=state,
        weights={"recurrent": address(vectors.values[0])},
        directions={"directions": vector_directions(vectors), "first": vectors.first},
    )
    return Operation("elementwise-lstm", launches, keeps=(product, y.memory, state, vectors))


@kernel("elementwise-lstm")
def _primal(product: Rows, y: DualImages, state: Rows, sizes: Sequences, recurrent: Address) -> None:
    e = element()
    if e >= sizes.number:
        return
    b, h = unit_of(sizes, e)
    gate = 4 * sizes.padded
    at, out = row_at(product, sizes, b, 0) + 4 * h, y.address + 4 * (b * y.image + h)
    kept = state.address + 4 * (b * state.row + h)
    wz, wf = load_f32(recurrent + 4 * h), load_f32(recurrent + gate + 4 * h)
    c = load_f32(kept) if state.address else _ZERO
    # The next position is loaded ahead: what is loaded after a write waits for it.
    pz, pf = load_f32(at), load_f32(at + gate)
    for position in range(sizes.length):
        z, f, c, _, _, _ = elementwise_lstm(pz, pf, wz, wf, c)
        if position + 1 < sizes.length:
            pz, pf = load_f32(at + 4 * product.row), load_f32(at + 4 * product.row + gate)
        store_f32(at, z)
        store_f32(at + gate, f)
        store_f32(out, c)
        at += 4 * product.row
        out += 4 * y.row
    if state.address:
        store_f32(kept, c)


@kernel("elementwise-lstm-tangents")
def _tangents(
    product: Rows,
    y: DualImages,
    state: Rows,
    sizes: Sequences,
    recurrent: Address,
    directions: VectorDirections,
    first: Size,
) -> None:
    e, t = element(), block_y()
    if e >= sizes.number:
        return
    b, h = unit_of(sizes, e)
    gate, tangent = 4 * sizes.padded, 4 * (t + 1) * product.block
    at, out = row_at(product, sizes, b, 0) + 4 * h, y.address + 4 * ((t + 1) * y.block + b * y.image + h)
    kept = state.address + 4 * (b * state.row + h)
    wz, wf = load_f32(recurrent + 4 * h), load_f32(recurrent + gate + 4 * h)
    vz = first_entry(directions, first, t, h)
    vf = first_entry(directions, first, t, sizes.padded + h)
    c = load_f32(kept) if state.address else _ZERO
    dc = load_f32(kept + 4 * (t + 1) * state.block) if state.block else _ZERO
    pz, pf = load_f32(at), load_f32(at + gate)
    dpz, dpf = load_f32(at + tangent), load_f32(at + tangent + gate)
    for position in range(sizes.length):
        _, _, after, az, af, d = elementwise_lstm(pz, pf, wz, wf, c)
        dc = d * dc + (az * (dpz + vz * c) + af * (dpf + vf * c))
        c = after
        at += 4 * product.row
        if position + 1 < sizes.length:
            pz, pf = load_f32(at), load_f32(at + gate)
            dpz, dpf = load_f32(at + tangent), load_f32(at + tangent + gate)
        store_f32(out, dc)
        out += 4 * y.row
    if state.block:
        store_f32(kept + 4 * (t + 1) * state.block, dc)
