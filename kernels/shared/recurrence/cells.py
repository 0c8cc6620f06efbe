"""Cells: the gates and the new state of one position, for recurrences with a product of the states before.

Such recurrences go through the positions one by one: a dense product of the states with the recurrent weight, then a
cell. The cell reads the pre-activations of the gates as two products, that of the input, of all positions, and that of
the states before, of one. What it *carries* from one position to the next besides what is in that product is c of an
LSTM, and h of a gated recurrent unit.

A panel of units is computed in a block of rows, as in scans, and each tangent in as many rows behind them. First come
the pre-activations of the gates, which the gates replace; then the products of the states that are not to be added to
those of the input; then what is carried, the output h, and what is carried on.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from numba import carray
from numba.extending import register_jitable

from fgnumba.kernels.emit import pointer
from fgnumba.kernels.emit.vector import PANEL, InstructionSet
from fgnumba.kernels.layout import images
from fgnumba.kernels.layout.images import Images, operands
from fgnumba.kernels.machine.arguments import filled, lay_out, record
from fgnumba.kernels.machine.compile import kernel
from fgnumba.kernels.machine.memory import address
from fgnumba.kernels.machine.program import Operation
from fgnumba.kernels.machine.work import parts_for, split
from fgnumba.kernels.shared.recurrence.cpu import (
    VECTOR_FIELDS,
    Vectors,
    clear,
    copy,
    draw,
    row,
    vector_fields,
)

WORK = 120
"""How many multiply-adds take as long as a unit of one position. Three to five activations take most of it."""

ARGUMENTS = record(
    *images.fields("y"),
    *VECTOR_FIELDS,
    *("batch", "panels", "wide", "column_parts", "row_parts", "at_blocks"),
    *("product", "product_block", "product_row"),
    *("recurrent", "recurrent_block", "recurrent_row"),
    *("before", "before_block", "before_row", "before_moves"),
    *("cells", "cells_block", "cells_row"),
    *("state", "state_block", "state_row", "state_moves"),
)


@dataclass(frozen=True)
class Carried:
    """Where the rows lie that a cell carries.

    Parameters
    ----------
    memory : array, float32
        The array that contains them.
    start, block, row : int
        Elements to the first row, from the primal's to the tangent's, and from one example's to the next one's.
    moves : bool
        Whether there are tangents. If not, they are zeros.
    """

    memory: npt.NDArray[np.float32]
    start: int
    block: int
    row: int
    moves: bool


def bind(
    name: str,
    entry: int,
    isa: InstructionSet,
    threads: int,
    *,
    batch: int,
    units: int,
    position: int,
    product: npt.NDArray[np.float32],
    recurrent: npt.NDArray[np.float32],
    y: Images,
    carried: Carried | None,
    cells: npt.NDArray[np.float32] | None,
    state: npt.NDArray[np.float32] | None,
    vectors: Vectors,
    rows: int,
) -> Operation:
    """Bind a cell to its arrays.

    Parameters
    ----------
    name : str
        Name of the operation.
    entry : int
        Address of the kernel, see :func:`cell`.
    isa : InstructionSet
        The instruction set to bind for.
    threads : int
        Number of threads that may share the work.
    batch : int
        Number of examples B.
    units : int
        Number of units H.
    position : int
        Number of the position.
    product : array, (1 + T, B L, G Hp) float32
        The product of the input. The gates take the place of the primal.
    recurrent : array, (1 + T, B, G Hp) float32
        The product of the states before. It is not read at position 0 if there is no state.
    y : Images
        The states of B examples (L, 1, H), in rows of whole panels.
    carried : Carried or None
        What is carried from the position before. None: it is zero.
    cells : array, (1 + T, B, Hp) float32, or None
        Where what is carried on is written, if it is not the output.
    state : array, (1 + T, B, S) or (1, B, S) float32, or None
        The state, which is written at the last position: the output, then what is carried on if that is not the output.
    vectors : Vectors
        The parameters that are vectors, and the number of directions.
    rows : int
        Rows of a block, and of a tangent.
    """
    length, panels, count = y.shape[0], -(-units // PANEL), vectors.count
    parts = parts_for(batch * units * WORK * (2 + count) // 2, batch * panels, threads)
    row_parts = min(batch, parts)
    column_parts = min(panels, -(-parts // row_parts))
    values, regions = vector_fields(isa, vectors)
    offsets, end = lay_out({"at_blocks": 2 * rows * PANEL * 4, **regions}.items())
    addresses, memory = operands(y=y)
    last, first = position == length - 1, position == 0 and state is None
    kept = state if last else None
    fields = {
        **addresses,
        **values,
        **offsets,
        "y": addresses["y"] + position * y.row * 4,
        "batch": batch,
        "panels": panels,
        "wide": PANEL,
        "column_parts": column_parts,
        "row_parts": row_parts,
        "product": address(product) + position * product.shape[2] * 4,
        "product_block": product[0].size,
        "product_row": length * product.shape[2],
        "recurrent": 0 if first else address(recurrent),
        "recurrent_block": recurrent[0].size,
        "recurrent_row": recurrent.shape[2],
    }
    if carried is not None:
        fields |= {
            "before": address(carried.memory) + carried.start * 4,
            "before_block": carried.block,
            "before_row": carried.row,
            "before_moves": carried.moves,
        }
    if cells is not None:
        fields |= {"cells": address(cells), "cells_block": cells[0].size, "cells_row": cells.shape[2]}
    if kept is not None:
        moves = count > 0 and kept.shape[0] > 1
        fields |= {
            "state": address(kept),
            "state_block": kept[0].size,
            "state_row": kept.shape[2],
            "state_moves": moves,
        }
    return Operation(
        name,
        entry,
        filled(ARGUMENTS, fields),
        parts=column_parts * row_parts,
        scratch_bytes=end,
        keeps=(memory["keeps"], product, recurrent, carried, cells, state, vectors),
        external=memory["external"],
    )


def state_before(state: npt.NDArray[np.float32] | None, first: int, count: int) -> Carried | None:
    """Return where the columns of a state lie that are carried to position 0, from column `first` on."""
    if state is None:
        return None
    return Carried(state, first, state[0].size, state.shape[2], count > 0 and state.shape[0] > 1)


def cell(
    name: str, gates: int, joined: int, rows: int, primal: Callable[..., None], tangent: Callable[..., None]
) -> int:
    """Return the address of a kernel that computes the gates and the new state of one position.

    Parameters
    ----------
    name : str
        Name of the kernel.
    gates : int
        Number of gates G.
    joined : int
        Number of gates, from the first on, whose two products are added.
    rows : int
        Rows of a block, and of a tangent.
    primal : function
        Takes ``(a, panel, block)``: computes gates, what is carried on, the output and factors of the tangents in the
        rows of the block, from pre-activations and what is carried.
    tangent : function
        Takes ``(a, t, panel, block, own)``: computes the tangents of the same along direction t in the rows at the
        address `own`.
    """
    before = 2 * gates - joined
    output, carried = before + 1, before + 2

    def run(arguments: int, part: int, parts: int) -> None:
        a = carray(pointer(arguments, ARGUMENTS), 1)[0]
        first, end = split(a.panels, a.column_parts, part % a.column_parts)
        i_first, i_end = split(a.batch, a.row_parts, part // a.column_parts)
        if first == end or i_first == i_end:
            return
        draw(a)
        block = a.scratch + a.at_blocks
        for i in range(i_first, i_end):
            for panel in range(first, end):
                column = panel * PANEL * 4
                for t in range(1 + a.count):
                    own = block if t == 0 else block + rows * PANEL * 4
                    product = a.product + (t * a.product_block + i * a.product_row) * 4 + column
                    recurrent = a.recurrent + (t * a.recurrent_block + i * a.recurrent_row) * 4 + column
                    for gate in range(gates):
                        across = gate * a.panels * PANEL * 4
                        if gate < joined and a.recurrent != 0:
                            _add(row(own, gate), product + across, recurrent + across, a.wide)
                            continue
                        copy(row(own, gate), product + across, a.wide)
                        if gate >= joined:
                            apart = row(own, gates + gate - joined)
                            if a.recurrent != 0:
                                copy(apart, recurrent + across, a.wide)
                            else:
                                clear(apart, a.wide)
                    if a.before != 0 and (t == 0 or a.before_moves):
                        at = a.before + (t * a.before_block + i * a.before_row) * 4 + column
                        copy(row(own, before), at, a.wide)
                    else:
                        clear(row(own, before), a.wide)
                    if t == 0:
                        primal(a, panel, block)
                        for gate in range(gates):
                            copy(product + gate * a.panels * PANEL * 4, row(block, gate), a.wide)
                    else:
                        tangent(a, t - 1, panel, block, own)
                    copy(a.y + (t * a.y_block + i * a.y_image) * 4 + column, row(own, output), a.wide)
                    if a.cells != 0:
                        to = a.cells + (t * a.cells_block + i * a.cells_row) * 4 + column
                        copy(to, row(own, carried), a.wide)
                    if a.state != 0 and (t == 0 or a.state_moves):
                        to = a.state + (t * a.state_block + i * a.state_row) * 4 + column
                        copy(to, row(own, output), a.wide)
                        if a.cells != 0:
                            copy(to + a.panels * PANEL * 4, row(own, carried), a.wide)

    return kernel(name, run, 3)


@register_jitable(forceinline=True)
def _add(to: int, first: int, second: int, n: int) -> None:
    x, x2 = carray(pointer(first, np.float32), n), carray(pointer(second, np.float32), n)
    y = carray(pointer(to, np.float32), n)
    for j in range(n):
        y[j] = x[j] + x2[j]
