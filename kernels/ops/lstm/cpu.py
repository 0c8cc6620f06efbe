"""LSTM on the CPU: the gates and the state of one position, primal and tangents in one pass.

    i = σ(pi),  f = σ(pf),  g = tanh(pg),  o = σ(po)       p: products of the input and of the states before, and bias
    c' = f c + i g,  h' = o tanh(c')
    dc' = f dc + ai dpi + af dpf + ag dpg,  dh' = ao dpo + ac dc'
    ai = i (1 - i) g,  af = f (1 - f) c,  ag = i (1 - g²),  ao = o (1 - o) tanh(c'),  ac = o (1 - tanh(c')²)

Source: S. Hochreiter, J. Schmidhuber, Neural Computation 9 (8), 1997.
"""

from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import carray
from numba.extending import register_jitable

from fgnumba.kernels.emit import pointer
from fgnumba.kernels.emit.vector import PANEL, InstructionSet
from fgnumba.kernels.layout.images import Images
from fgnumba.kernels.machine.program import Operation
from fgnumba.kernels.rules import recurrence as rules
from fgnumba.kernels.shared.recurrence import cells as shared
from fgnumba.kernels.shared.recurrence.cells import Carried
from fgnumba.kernels.shared.recurrence.cpu import Vectors
from fgnumba.validation.launcher import launcher

GATE_I, GATE_F, GATE_G, GATE_O, BEFORE, OUTPUT, CARRIED, AI, AF, AG, AO, AC, ROWS = range(13)
"""Rows of a panel's block: gates, c before, h, c after, factors of the tangents; and how many there are."""


@launcher
def bind(
    isa: InstructionSet,
    threads: int,
    *,
    batch: int,
    units: int,
    count: int,
    position: int,
    product: npt.NDArray[np.float32],
    recurrent: npt.NDArray[np.float32],
    y: Images,
    cells: npt.NDArray[np.float32],
    state: npt.NDArray[np.float32] | None,
) -> Operation:
    """Bind the cell to its arrays.

    Parameters
    ----------
    isa : InstructionSet
        The instruction set to bind for.
    threads : int
        Number of threads that may share the work.
    batch : int
        Number of examples B.
    units : int
        Number of units H; Hp is that rounded up to whole panels.
    count : int
        Number of directions T.
    position : int
        Number of the position.
    product : array, (1 + T, B L, 4 Hp) float32
        x W + b of each position, the columns of i, f, g and o, and the tangents. Gates take the place of the primal.
    recurrent : array, (1 + T, B, 4 Hp) float32
        h R of the position, and its tangents. It is not read at position 0 without a state, where h is zero.
    y : Images
        The outputs h' of B examples (L, 1, H), in rows of whole panels.
    cells : array, (1 + T, B, Hp) float32
        c and its tangents, read but at position 0, and written.
    state : array, (1 + T, B, 2 Hp) or (1, B, 2 Hp) float32, or None
        h and c before position 0, which those of the last position replace, perhaps with tangents. None: zero.

    Notes
    -----
    Cost of a unit: five activations and 8 products, and 5 products a tangent. Reads 9 float32 and writes 6; of each
    tangent, reads 9 and writes 2.
    """
    carried: Carried | None = Carried(cells, 0, cells[0].size, cells.shape[2], count > 0)
    if position == 0:
        carried = shared.state_before(state, 0 if state is None else state.shape[2] // 2, count)
    return shared.bind(
        "lstm",
        _entry(),
        isa,
        threads,
        batch=batch,
        units=units,
        position=position,
        product=product,
        recurrent=recurrent,
        y=y,
        carried=carried,
        cells=cells,
        state=state,
        vectors=Vectors(count=count),
        rows=ROWS,
    )


@cache
def _entry() -> int:
    return shared.cell("lstm", 4, 4, ROWS, _primal, _tangent)


@register_jitable
def _primal(a: Any, panel: int, block: int) -> None:
    own = carray(pointer(block, np.float32), (ROWS, PANEL))
    for j in range(PANEL):
        i, f, g, o, c, h, ai, af, ag, ao, ac = rules.lstm(
            own[GATE_I, j], own[GATE_F, j], own[GATE_G, j], own[GATE_O, j], own[BEFORE, j]
        )
        own[GATE_I, j], own[GATE_F, j], own[GATE_G, j], own[GATE_O, j] = i, f, g, o
        own[CARRIED, j], own[OUTPUT, j] = c, h
        own[AI, j], own[AF, j], own[AG, j], own[AO, j], own[AC, j] = ai, af, ag, ao, ac


@register_jitable
def _tangent(a: Any, t: int, panel: int, block: int, own: int) -> None:
    rows = carray(pointer(block, np.float32), (2 * ROWS, PANEL))
    for j in range(PANEL):
        fed = rows[AI, j] * rows[ROWS + GATE_I, j] + rows[AF, j] * rows[ROWS + GATE_F, j]
        fed += rows[AG, j] * rows[ROWS + GATE_G, j]
        dc = rows[GATE_F, j] * rows[ROWS + BEFORE, j] + fed
        rows[ROWS + CARRIED, j] = dc
        rows[ROWS + OUTPUT, j] = rows[AO, j] * rows[ROWS + GATE_O, j] + rows[AC, j] * dc
