"""Projections on the CPU: h · v_t of an array packed like a parameter, the directions drawn again.

Sums of a panel are added up by one thread, and panels in order: the result does not depend on the number of threads.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
from numba import carray
from numba.extending import register_jitable

from fgnumba.kernels.arguments import filled, lay_out, record
from fgnumba.kernels.compile import kernel
from fgnumba.kernels.directions import GAUSSIAN, RADEMACHER, RANK1
from fgnumba.kernels.directions import cpu as directions
from fgnumba.kernels.emit import call, pointer
from fgnumba.kernels.memory import address
from fgnumba.kernels.philox import DIRECTION_SHIFT, ENTRY, LEFT, RIGHT, STREAM
from fgnumba.kernels.program import Operation
from fgnumba.kernels.sites import signed
from fgnumba.kernels.tiling import parts_for, split
from fgnumba.kernels.vector import PANEL, InstructionSet

BLOCK = 64
_ARGUMENTS = record(
    *(
        "values",
        "rows",
        "panels",
        "columns",
        "group_panels",
        "vector",
        "kind",
        "count",
        "first",
        "parameter",
        "stream",
    ),
    *("draw", "sums", "at_left", "at_right"),
)
_ALL = np.uint32(0xFFFFFFFF)


def bind(
    isa: InstructionSet,
    threads: int,
    *,
    values: npt.NDArray[np.float32],
    columns: int,
    groups: int,
    kind: int,
    count: int,
    first: int,
    parameter: int,
    stream: npt.NDArray[Any],
    sums: npt.NDArray[np.float64],
) -> Operation:
    """Bind the projection of one array.

    Parameters
    ----------
    values : packed, (panels, K, PANEL) or (panels * PANEL,).
    columns, groups : of the canonical array, N in so many groups: padding does not count.
    kind, count, first, parameter, stream : the directions, as a dual pass drew them.
    sums : (panels, count) float64, written: for a vector, (1, count).

    Cost: reads the values once a direction, an addition an entry.
    """
    is_vector = values.ndim == 1
    kind = RADEMACHER if is_vector and kind == RANK1 else kind
    panels, rows = (1, values.size // PANEL) if is_vector else values.shape[:2]
    places, end = lay_out(
        [
            ("drawn", directions.draw_bytes(kind, BLOCK)),
            ("at_left", directions.draw_bytes(RANK1, -(-rows // PANEL))),
            ("at_right", directions.draw_bytes(RANK1, panels)),
        ]
    )
    fields = {
        "values": address(values),
        "rows": rows,
        "panels": panels,
        "columns": columns // groups,
        "group_panels": (rows if is_vector else panels) // groups,
        "vector": is_vector,
        "kind": kind,
        "count": count,
        "first": first,
        "parameter": parameter,
        "stream": address(stream),
        "draw": directions.gaussians(isa) if kind == GAUSSIAN else directions.sign_words(isa),
        "sums": address(sums),
        "at_left": places["at_left"],
        "at_right": places["at_right"],
    }
    return Operation(
        "projection",
        kernel("projection", _project, 3),
        filled(_ARGUMENTS, fields),
        parts_for(values.size * count * 2, panels, threads),
        scratch_bytes=end,
        keeps=(values, stream, sums),
    )


def _project(arguments: int, part: int, parts: int) -> None:
    a = carray(pointer(arguments, _ARGUMENTS), 1)[0]
    low, high = split(a.panels, parts, part)
    stream = carray(pointer(a.stream, STREAM), 1)[0]
    sums = carray(pointer(a.sums, np.float64), (a.panels, a.count))
    for t in range(a.count):
        c2 = ((a.first + t) << DIRECTION_SHIFT) + a.parameter
        key = (c2, stream.step, stream.key_low, stream.key_high)
        if a.kind == RANK1:
            call(a.draw, (0, (a.rows + PANEL - 1) // PANEL, 0, LEFT, *key, a.scratch + a.at_left))
            call(a.draw, (0, a.panels, 0, RIGHT, *key, a.scratch + a.at_right))
        for panel in range(low, high):
            total = np.float64(0)
            for row in range(0, a.rows, BLOCK):
                rows = min(BLOCK, a.rows - row)
                if a.kind != RANK1:
                    call(a.draw, (row, rows, panel, ENTRY, *key, a.scratch))
                for r in range(rows):
                    total += np.float64(_row(a, panel, row + r, r))
            sums[panel, t] = total


@register_jitable
def _row(a: Any, panel: int, row: int, drawn: int) -> np.float32:
    """Return the sum over one row of a panel."""
    # The rows of a vector are panels.
    lanes = min(PANEL, a.columns - (row if a.vector else panel) % a.group_panels * PANEL)
    h = carray(pointer(a.values + (panel * a.rows + row) * PANEL * 4, np.float32), PANEL)
    total = np.float32(0)
    if a.kind == GAUSSIAN:
        v = carray(pointer(a.scratch + drawn * PANEL * 4, np.float32), PANEL)
        for lane in range(lanes):
            total += h[lane] * v[lane]
        return total
    if a.kind == RANK1:
        left = carray(pointer(a.scratch + a.at_left, np.uint32), row // PANEL + 1)[row // PANEL]
        word = carray(pointer(a.scratch + a.at_right, np.uint32), a.panels)[panel]
        if (left >> np.uint32(row % PANEL)) & np.uint32(1):
            word ^= _ALL
    else:
        word = carray(pointer(a.scratch, np.uint32), BLOCK)[drawn]
    for lane in range(lanes):
        total += signed(h[lane], word, lane)
    return total
