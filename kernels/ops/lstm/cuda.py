"""Gates and state of an LSTM at one position on a GPU; see ``cpu``.

p  = x W + b + h R          a column for each gate
i  = σ(p_i),  f = σ(p_f),  g = tanh(p_g),  o = σ(p_o)
c' = f c + i g,  h' = o tanh(c')
dc' = f dc + ai dp_i + af dp_f + ag dp_g,  dh' = ao dp_o + ac dc'          with the factors of ``rules.recurrence``
"""

from typing import Any

import numpy as np

from fgnumba.kernels.cuda.kernel import kernel
from fgnumba.kernels.cuda.layout import DualImages, element, elementwise, images
from fgnumba.kernels.cuda.memory import DeviceArray
from fgnumba.kernels.cuda.primitives import Size, load_f32, store_f32
from fgnumba.kernels.cuda.program import Operation
from fgnumba.kernels.layout.images import Images
from fgnumba.kernels.rules.recurrence import lstm
from fgnumba.kernels.shared.recurrence.cuda import Rows, Sequences, row_at, rows, sequences, summed, unit_of
from fgnumba.validation.launcher import launcher

_ZERO = np.float32(0)


@launcher
def bind(
    isa: Any,
    threads: int,
    *,
    batch: int,
    units: int,
    count: int,
    position: int,
    product: DeviceArray,
    recurrent: DeviceArray,
    y: Images,
    cells: DeviceArray,
    state: DeviceArray | None,
) -> Operation:
    """Bind the operation to its arrays, as ``cpu.bind`` does.

    Parameters
    ----------
    isa, threads : object, int
        Not used.
    batch, units, count : int
        Numbers of examples B, of units H and of directions T.
    position : int
        Number of the position, from 0 to L - 1.
    product : DeviceArray
        (1 + T, B L, 4 Hp) float32, x W + b and its tangents. The gates i, f, g and o replace the primal's row.
    recurrent : DeviceArray
        (1 + T, B, 4 Hp) float32, h R and its tangents. Not read at position 0 without a state.
    y : Images
        Output (L, 1, H), of which the position's row is written.
    cells : DeviceArray
        (1 + T, B, Hp) float32: c, read, but for position 0, and written.
    state : DeviceArray or None
        (1 or 1 + T, B, 2 Hp) float32, [h | c] before the first position, of which c is read there, and after the last
        one, written there. None: zeros before, and nothing is written.

    Returns
    -------
    Operation
        The launch.

    Notes
    -----
    Cost: reads nine numbers and writes six a unit; for each direction, reads nine and writes two.
    """
    arguments = {
        "product": rows(product),
        "recurrent": rows(recurrent if position or state is not None else None),
        "y": images(DualImages, y),
        "cells": rows(cells),
        "state": rows(state),
        "sizes": sequences(batch, units, y),
        "position": position,
        "count": count,
    }
    launch = elementwise(_cell, batch * units, arguments)
    return Operation("lstm", (launch,), keeps=(product, recurrent, y.memory, cells, state))


@kernel("lstm")
def _cell(
    product: Rows,
    recurrent: Rows,
    y: DualImages,
    cells: Rows,
    state: Rows,
    sizes: Sequences,
    position: Size,
    count: Size,
) -> None:
    e = element()
    if e >= sizes.number:
        return
    b, j = unit_of(sizes, e)
    gate = 4 * sizes.padded
    at, other = row_at(product, sizes, b, position) + 4 * j, recurrent.address + 4 * (b * recurrent.row + j)
    out = y.address + 4 * (b * y.image + position * y.row + j)
    cell, kept = cells.address + 4 * (b * cells.row + j), state.address + 4 * (b * state.row + j)
    has, last = recurrent.address, position + 1 == sizes.length

    before = _ZERO
    if position:
        before = load_f32(cell)
    elif state.address:
        before = load_f32(kept + gate)
    i, f, g, o, c, h, ai, af, ag, ao, ac = lstm(
        summed(at, other, has),
        summed(at + gate, other + gate, has),
        summed(at + 2 * gate, other + 2 * gate, has),
        summed(at + 3 * gate, other + 3 * gate, has),
        before,
    )
    store_f32(at, i)
    store_f32(at + gate, f)
    store_f32(at + 2 * gate, g)
    store_f32(at + 3 * gate, o)
    store_f32(cell, c)
    store_f32(out, h)
    if last and state.address:
        store_f32(kept, h)
        store_f32(kept + gate, c)

    for _t in range(count):
        at += 4 * product.block
        other += 4 * recurrent.block
        cell += 4 * cells.block
        kept += 4 * state.block
        out += 4 * y.block
        dbefore = _ZERO
        if position:
            dbefore = load_f32(cell)
        elif state.block:
            dbefore = load_f32(kept + gate)
        dc = f * dbefore + ai * summed(at, other, has) + af * summed(at + gate, other + gate, has)
        dc = dc + ag * summed(at + 2 * gate, other + 2 * gate, has)
        dh = ao * summed(at + 3 * gate, other + 3 * gate, has) + ac * dc
        store_f32(cell, dc)
        store_f32(out, dh)
        if last and state.block:
            store_f32(kept, dh)
            store_f32(kept + gate, dc)
