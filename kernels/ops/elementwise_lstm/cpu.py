"""Element-wise LSTM on the CPU: a scan over the positions of sequences, primal and tangents in one pass.

    z  = tanh(pz + wz c),  f = σ(pf + wf c)                 pz, pf: the product of the input with the weight, and bias
    c' = f c + (1 - f) z
    dc' = d dc + az (dpz + c dwz) + af (dpf + c dwf)
    az = (1 - f) (1 - z²),  af = (c - z) f (1 - f),  d = f + az wz + af wf

Source: K. Irie et al., arXiv 2305.19044.
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
from fgnumba.kernels.shared.recurrence import cpu as recurrence
from fgnumba.kernels.shared.recurrence.cpu import Rows, Vectors, copy, row, tangent_of
from fgnumba.validation.launcher import launcher

WZ, WF, STATE, AZ, AF, D, BEFORE, PRIMAL_ROWS = range(8)
"""Rows of a panel's block: weights, the state c, factors of the tangents, the c before; and how many there are."""

DWZ, DWF, DC, TANGENT_ROWS = range(4)
"""Rows of a tangent."""

ROWS = Rows(PRIMAL_ROWS, TANGENT_ROWS, STATE, DC, 1)

WORK = 60
"""How many multiply-adds take as long as a unit of one position. Two activations take most of it."""


@launcher
def bind(
    isa: InstructionSet,
    threads: int,
    *,
    batch: int,
    units: int,
    product: npt.NDArray[np.float32],
    y: Images,
    state: npt.NDArray[np.float32] | None,
    vectors: Vectors,
) -> Operation:
    """Bind the scan to its arrays.

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
    product : array, (1 + T, B L, 2 Hp) float32
        x W + b of each position, the columns of z and then those of f, and the tangents. z and f take the primal's
        place.
    y : Images
        The states c' of B examples (L, 1, H), in rows of whole panels, all of which are written.
    state : array, (1 + T, B, Hp) or (1, B, Hp) float32, or None
        The state before the first position, which the last one replaces, perhaps with tangents. None: it is zero.
    vectors : Vectors
        The weights [wz | wf], (2 Hp,), and their directions.

    Notes
    -----
    Cost of a unit and position: a tanh, a sigmoid and 12 products, and 7 products a tangent. Reads 2 float32 of the
    product and writes 3; of each tangent, reads 2 and writes 1. The floor is the two activations: measured alone, on
    numbers in the first-level cache, they take 0.7 of the time of the primal.
    """
    return recurrence.bind(
        "elementwise-lstm",
        _entry(),
        isa,
        threads,
        batch=batch,
        units=units,
        product=product,
        y=y,
        state=state,
        vectors=vectors,
        rows=ROWS,
        work=WORK,
    )


@cache
def _entry() -> int:
    return recurrence.scan("elementwise-lstm", ROWS, _prepare, _prepare_tangent, _primal, _tangent)


@register_jitable
def _prepare(a: Any, panel: int, block: int) -> None:
    at, across = a.vector + panel * PANEL * 4, a.panels * PANEL * 4
    copy(row(block, WZ), at, PANEL)
    copy(row(block, WF), at + across, PANEL)


@register_jitable
def _prepare_tangent(a: Any, t: int, panel: int, block: int, own: int) -> None:
    at, across = tangent_of(a, 0, t) + panel * PANEL * 4, a.panels * PANEL * 4
    copy(row(own, DWZ), at, PANEL)
    copy(row(own, DWF), at + across, PANEL)


@register_jitable
def _primal(a: Any, block: int, product: int, y: int, lanes: int) -> None:
    pz = carray(pointer(product, np.float32), PANEL)
    pf = carray(pointer(product + a.panels * PANEL * 4, np.float32), PANEL)
    after = carray(pointer(y, np.float32), PANEL)
    own = carray(pointer(block, np.float32), (PRIMAL_ROWS, PANEL))
    for j in range(PANEL):
        c = own[STATE, j]
        z, f, c_next, az, af, d = rules.elementwise_lstm(pz[j], pf[j], own[WZ, j], own[WF, j], c)
        own[BEFORE, j] = c
        own[AZ, j], own[AF, j], own[D, j] = az, af, d
        own[STATE, j] = c_next
        pz[j], pf[j], after[j] = z, f, c_next


@register_jitable
def _tangent(a: Any, block: int, own: int, product: int, y: int, lanes: int) -> None:
    dpz = carray(pointer(product, np.float32), PANEL)
    dpf = carray(pointer(product + a.panels * PANEL * 4, np.float32), PANEL)
    after = carray(pointer(y, np.float32), PANEL)
    rows = carray(pointer(block, np.float32), (PRIMAL_ROWS, PANEL))
    moved = carray(pointer(own, np.float32), (TANGENT_ROWS, PANEL))
    for j in range(PANEL):
        c = rows[BEFORE, j]
        fed = rows[AZ, j] * (dpz[j] + c * moved[DWZ, j]) + rows[AF, j] * (dpf[j] + c * moved[DWF, j])
        dc_next = rows[D, j] * moved[DC, j] + fed
        moved[DC, j] = dc_next
        after[j] = dc_next
