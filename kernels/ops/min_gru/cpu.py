"""Minimal gated recurrent unit on the CPU: a scan over the positions of sequences, primal and tangents in one pass.

    z   = σ(pz),  h' = (1 - z) h + z ph                     ph, pz: the product of the input with the weight, and bias
    dh' = (1 - z) dh + z dph + (ph - h) z (1 - z) dpz

Source: L. Feng et al., arXiv 2410.01201.
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
from fgnumba.kernels.shared.recurrence.cpu import Rows, Vectors
from fgnumba.validation.launcher import launcher

STATE, Z, AZ, PRIMAL_ROWS = range(4)
"""Rows of a panel's block: the state h, the gate z and a factor of the tangents; and how many there are."""

ROWS = Rows(PRIMAL_ROWS, 1, STATE, 0, 1)

WORK = 30
"""How many multiply-adds take as long as a unit of one position. The activation takes most of it."""

_ONE = np.float32(1)


@launcher
def bind(
    isa: InstructionSet,
    threads: int,
    *,
    batch: int,
    units: int,
    count: int,
    product: npt.NDArray[np.float32],
    y: Images,
    state: npt.NDArray[np.float32] | None,
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
    count : int
        Number of directions T.
    product : array, (1 + T, B L, 2 Hp) float32
        x W + b of each position, the columns of the candidate and then those of z, and the tangents. z takes its place
        in the primal.
    y : Images
        The states h' of B examples (L, 1, H), in rows of whole panels, all of which are written.
    state : array, (1 + T, B, Hp) or (1, B, Hp) float32, or None
        The state before the first position, which the last one replaces, perhaps with tangents. None: it is zero.

    Notes
    -----
    Cost of a unit and position: a sigmoid and 3 products, and 3 products a tangent. Reads 2 float32 of the product and
    writes 2; of each tangent, reads 2 and writes 1.
    """
    return recurrence.bind(
        "min-gru",
        _entry(),
        isa,
        threads,
        batch=batch,
        units=units,
        product=product,
        y=y,
        state=state,
        vectors=Vectors(count=count),
        rows=ROWS,
        work=WORK,
    )


@cache
def _entry() -> int:
    return recurrence.scan("min-gru", ROWS, _prepare, _prepare_tangent, _primal, _tangent)


@register_jitable
def _prepare(a: Any, panel: int, block: int) -> None:
    pass


@register_jitable
def _prepare_tangent(a: Any, t: int, panel: int, block: int, own: int) -> None:
    pass


@register_jitable
def _primal(a: Any, block: int, product: int, y: int, lanes: int) -> None:
    candidate = carray(pointer(product, np.float32), PANEL)
    pz = carray(pointer(product + a.panels * PANEL * 4, np.float32), PANEL)
    after = carray(pointer(y, np.float32), PANEL)
    own = carray(pointer(block, np.float32), (PRIMAL_ROWS, PANEL))
    for j in range(PANEL):
        z, h_next, az = rules.min_gru(candidate[j], pz[j], own[STATE, j])
        own[STATE, j], own[Z, j], own[AZ, j] = h_next, z, az
        pz[j], after[j] = z, h_next


@register_jitable
def _tangent(a: Any, block: int, own: int, product: int, y: int, lanes: int) -> None:
    moving = carray(pointer(product, np.float32), PANEL)
    dpz = carray(pointer(product + a.panels * PANEL * 4, np.float32), PANEL)
    after = carray(pointer(y, np.float32), PANEL)
    rows = carray(pointer(block, np.float32), (PRIMAL_ROWS, PANEL))
    dh = carray(pointer(own, np.float32), PANEL)
    for j in range(PANEL):
        z = rows[Z, j]
        dh_next = (_ONE - z) * dh[j] + (z * moving[j] + rows[AZ, j] * dpz[j])
        dh[j] = dh_next
        after[j] = dh_next
