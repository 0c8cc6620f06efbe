"""Gated recurrent unit on the CPU: the gates and the state of one position, primal and tangents in one pass.

    r = σ(pr),  z = σ(pz),  n = tanh(pn + r q)              p: the products of the input and, for r and z, of the states
    h' = (1 - z) n + z h                                    before, and bias; q = h Rn + cn
    dh' = z dh + ar dpr + az dpz + an (dpn + r dq)
    an = (1 - z) (1 - n²),  ar = an q r (1 - r),  az = (h - n) z (1 - z)

Source: K. Cho et al., arXiv 1406.1078, version 1, as in PyTorch.
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
from fgnumba.kernels.shared.recurrence.cpu import Vectors, tangent_of
from fgnumba.validation.launcher import launcher

R, Z, N, Q, BEFORE, OUTPUT, AR, AZ, AN, ROWS = range(10)
"""Rows of a panel's block: gates, q, h before and after, factors of the tangents; and how many there are."""


@launcher
def bind(
    isa: InstructionSet,
    threads: int,
    *,
    batch: int,
    units: int,
    position: int,
    product: npt.NDArray[np.float32],
    recurrent: npt.NDArray[np.float32],
    y: Images,
    state: npt.NDArray[np.float32] | None,
    vectors: Vectors,
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
    position : int
        Number of the position.
    product : array, (1 + T, B L, 3 Hp) float32
        x W + b of each position, the columns of r, z and n, and the tangents. Gates take the place of the primal.
    recurrent : array, (1 + T, B, 3 Hp) float32
        h R of the position, and its tangents. It is not read at position 0 without a state, where h is zero.
    y : Images
        The states h' of B examples (L, 1, H), in rows of whole panels.
    state : array, (1 + T, B, Hp) or (1, B, Hp) float32, or None
        h before position 0, which that of the last position replaces, perhaps with tangents. None: zero.
    vectors : Vectors
        cn (Hp,) and its directions.

    Notes
    -----
    Cost of a unit: three activations and 8 products, and 6 products a tangent. Reads 8 float32 and writes 4; of each
    tangent, reads 8 and writes 1.
    """
    at = y.start + (position - 1) * y.row
    carried: Carried | None = Carried(y.memory, at, y.block, y.image, vectors.count > 0)
    if position == 0:
        carried = shared.state_before(state, 0, vectors.count)
    return shared.bind(
        "gru",
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
        cells=None,
        state=state,
        vectors=vectors,
        rows=ROWS,
    )


@cache
def _entry() -> int:
    return shared.cell("gru", 3, 2, ROWS, _primal, _tangent)


@register_jitable
def _primal(a: Any, panel: int, block: int) -> None:
    own = carray(pointer(block, np.float32), (ROWS, PANEL))
    bias = carray(pointer(a.vector + panel * PANEL * 4, np.float32), PANEL)
    for j in range(PANEL):
        q = own[Q, j] + bias[j]
        r, z, n, h, ar, az, an = rules.gru(own[R, j], own[Z, j], own[N, j], q, own[BEFORE, j])
        own[R, j], own[Z, j], own[N, j] = r, z, n
        own[OUTPUT, j], own[AR, j], own[AZ, j], own[AN, j] = h, ar, az, an


@register_jitable
def _tangent(a: Any, t: int, panel: int, block: int, own: int) -> None:
    rows = carray(pointer(block, np.float32), (2 * ROWS, PANEL))
    shift = carray(pointer(tangent_of(a, 0, t) + panel * PANEL * 4, np.float32), PANEL)
    for j in range(PANEL):
        moving = rows[ROWS + N, j] + rows[R, j] * (rows[ROWS + Q, j] + shift[j])
        fed = rows[AR, j] * rows[ROWS + R, j] + rows[AZ, j] * rows[ROWS + Z, j]
        rows[ROWS + OUTPUT, j] = rows[Z, j] * rows[ROWS + BEFORE, j] + (fed + rows[AN, j] * moving)
