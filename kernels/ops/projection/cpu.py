"""Projections on the CPU: h · v_t, where h is an array packed like a parameter, and the directions are drawn again.

One thread sums a panel, and the sums of the panels are added in order, so the result does not depend on the number of
threads.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
from numba import carray
from numba.extending import register_jitable

from fgnumba.kernels.emit import pointer
from fgnumba.kernels.emit.vector import PANEL, InstructionSet
from fgnumba.kernels.machine.arguments import filled, lay_out, record
from fgnumba.kernels.machine.compile import kernel
from fgnumba.kernels.machine.memory import address
from fgnumba.kernels.machine.program import Operation
from fgnumba.kernels.machine.work import parts_for, split
from fgnumba.kernels.rules.directions import GAUSSIAN, RANK1
from fgnumba.kernels.rules.directions.cpu import draw_bytes
from fgnumba.kernels.rules.philox import ENTRY, LEFT, RIGHT
from fgnumba.kernels.shared.drawn import cpu as drawn
from fgnumba.kernels.shared.drawn.cpu import BLOCK, Drawn
from fgnumba.kernels.shared.perturbed_units.cpu import signed
from fgnumba.validation.launcher import launcher

_ARGUMENTS = record(*drawn.FIELDS, "values", "sums", "at_left", "at_right")
_ALL = np.uint32(0xFFFFFFFF)


@launcher
def bind(
    isa: InstructionSet,
    threads: int,
    *,
    values: npt.NDArray[np.float32],
    directions: Drawn,
    sums: npt.NDArray[np.float64],
) -> Operation:
    """Bind the projections of one array.

    Parameters
    ----------
    isa : InstructionSet
        The instruction set to bind for.
    threads : int
        Number of threads that may share the work.
    values : array, packed like the directions' parameter, float32
        h.
    directions : Drawn
        The directions v_t.
    sums : array, (panels, T) float64, or (1, T) for a vector
        Written: the dot products, panel by panel.

    Notes
    -----
    Cost: for each direction, reads the values once, with one addition for each entry.
    """
    rows, panels = directions.rows, directions.panels
    places, end = lay_out(
        [
            ("drawn", draw_bytes(directions.kind, BLOCK)),
            ("at_left", draw_bytes(RANK1, -(-rows // PANEL))),
            ("at_right", draw_bytes(RANK1, panels)),
        ]
    )
    fields = {
        **directions.fields(isa),
        "values": address(values),
        "sums": address(sums),
        "at_left": places["at_left"],
        "at_right": places["at_right"],
    }
    return Operation(
        "projection",
        kernel("projection", _project, 3),
        filled(_ARGUMENTS, fields),
        parts_for(values.size * directions.count * 2, panels, threads),
        scratch_bytes=end,
        keeps=(values, directions, sums),
    )


def _project(arguments: int, part: int, parts: int) -> None:
    a = carray(pointer(arguments, _ARGUMENTS), 1)[0]
    low, high = split(a.panels, parts, part)
    sums = carray(pointer(a.sums, np.float64), (a.panels, a.count))
    for t in range(a.count):
        if a.kind == RANK1:
            drawn.draw(a, t, 0, (a.rows + PANEL - 1) // PANEL, 0, LEFT, a.scratch + a.at_left)
            drawn.draw(a, t, 0, a.panels, 0, RIGHT, a.scratch + a.at_right)
        for panel in range(low, high):
            total = np.float64(0)
            for row in range(0, a.rows, BLOCK):
                rows = min(BLOCK, a.rows - row)
                if a.kind != RANK1:
                    drawn.draw(a, t, row, rows, panel, ENTRY, a.scratch)
                for r in range(rows):
                    total += np.float64(_row(a, panel, row + r, r))
            sums[panel, t] = total


@register_jitable
def _row(a: Any, panel: int, row: int, place: int) -> np.float32:
    """Return the sum over one row of a panel."""
    lanes = drawn.lanes(a, panel, row)
    h = carray(pointer(a.values + (panel * a.rows + row) * PANEL * 4, np.float32), PANEL)
    total = np.float32(0)
    if a.kind == GAUSSIAN:
        v = carray(pointer(a.scratch + place * PANEL * 4, np.float32), PANEL)
        for lane in range(lanes):
            total += h[lane] * v[lane]
        return total
    if a.kind == RANK1:
        left = carray(pointer(a.scratch + a.at_left, np.uint32), row // PANEL + 1)[row // PANEL]
        word = carray(pointer(a.scratch + a.at_right, np.uint32), a.panels)[panel]
        if (left >> np.uint32(row % PANEL)) & np.uint32(1):
            word ^= _ALL
    else:
        word = carray(pointer(a.scratch, np.uint32), BLOCK)[place]
    for lane in range(lanes):
        total += signed(h[lane], word, lane)
    return total
