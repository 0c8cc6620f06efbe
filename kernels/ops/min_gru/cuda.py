"""Scan of a minimal gated recurrent unit on a GPU; see ``cpu``.

z   = σ(pz),  h' = (1 - z) h + z h̃          h̃ and pz are the product x W + b at a position
dh' = (1 - z) dh + z dh̃ + az dpz,  az = (h̃ - h) z (1 - z)
"""

from typing import Any

import numpy as np

from fgnumba.kernels.cuda.kernel import kernel
from fgnumba.kernels.cuda.layout import DualImages, element
from fgnumba.kernels.cuda.memory import DeviceArray
from fgnumba.kernels.cuda.primitives import block_y, load_f32, store_f32
from fgnumba.kernels.cuda.program import Operation
from fgnumba.kernels.layout.images import Images
from fgnumba.kernels.rules.recurrence import min_gru
from fgnumba.kernels.shared.recurrence.cuda import Rows, Sequences, row_at, scan, unit_of
from fgnumba.validation.launcher import launcher

_ZERO, _ONE = np.float32(0), np.float32(1)


@launcher
def bind(
    isa: Any,
    threads: int,
    *,
    batch: int,
    units: int,
    count: int,
    product: DeviceArray,
    y: Images,
    state: DeviceArray | None,
) -> Operation:
    """Bind the scan to its arrays, as ``cpu.bind`` does.

    Parameters
    ----------
    isa, threads : object, int
        Not used.
    batch, units, count : int
        Numbers of examples B, of units H and of directions T.
    product : DeviceArray
        (1 + T, B L, 2 Hp) float32, x W + b = [h̃ | pz] and its tangents. z replaces the primal's pz.
    y : Images
        Output (L, 1, H), written.
    state : DeviceArray or None
        (1 or 1 + T, B, Hp) float32, h before the first position, read, and after the last one, written. None: zeros
        before, and nothing is written.

    Returns
    -------
    Operation
        The launches.

    Notes
    -----
    Cost: the tangents' launch reads four numbers and writes one for each position, unit and direction, and computes z
    again; the primal's reads two and writes two.
    """
    launches = scan(
        _primal,
        _tangents,
        batch=batch,
        units=units,
        count=count,
        product=product,
        y=y,
        state=state,
        weights={},
        directions={},
    )
    return Operation("min-gru", launches, keeps=(product, y.memory, state))


@kernel("min-gru")
def _primal(product: Rows, y: DualImages, state: Rows, sizes: Sequences) -> None:
    e = element()
    if e >= sizes.number:
        return
    b, i = unit_of(sizes, e)
    gate = 4 * sizes.padded
    at, out = row_at(product, sizes, b, 0) + 4 * i, y.address + 4 * (b * y.image + i)
    kept = state.address + 4 * (b * state.row + i)
    h = load_f32(kept) if state.address else _ZERO
    # The next position is loaded ahead: what is loaded after a write waits for it.
    new, pz = load_f32(at), load_f32(at + gate)
    for position in range(sizes.length):
        z, h, _ = min_gru(new, pz, h)
        if position + 1 < sizes.length:
            new, pz = load_f32(at + 4 * product.row), load_f32(at + 4 * product.row + gate)
        store_f32(at + gate, z)
        store_f32(out, h)
        at += 4 * product.row
        out += 4 * y.row
    if state.address:
        store_f32(kept, h)


@kernel("min-gru-tangents")
def _tangents(product: Rows, y: DualImages, state: Rows, sizes: Sequences) -> None:
    e, t = element(), block_y()
    if e >= sizes.number:
        return
    b, i = unit_of(sizes, e)
    gate, tangent = 4 * sizes.padded, 4 * (t + 1) * product.block
    at, out = row_at(product, sizes, b, 0) + 4 * i, y.address + 4 * ((t + 1) * y.block + b * y.image + i)
    kept = state.address + 4 * (b * state.row + i)
    h = load_f32(kept) if state.address else _ZERO
    dh = load_f32(kept + 4 * (t + 1) * state.block) if state.block else _ZERO
    new, pz = load_f32(at), load_f32(at + gate)
    dnew, dpz = load_f32(at + tangent), load_f32(at + tangent + gate)
    for position in range(sizes.length):
        z, h, az = min_gru(new, pz, h)
        dh = (_ONE - z) * dh + (z * dnew + az * dpz)
        at += 4 * product.row
        if position + 1 < sizes.length:
            new, pz = load_f32(at), load_f32(at + gate)
            dnew, dpz = load_f32(at + tangent), load_f32(at + tangent + gate)
        store_f32(out, dh)
        out += 4 * y.row
    if state.block:
        store_f32(kept + 4 * (t + 1) * state.block, dh)
