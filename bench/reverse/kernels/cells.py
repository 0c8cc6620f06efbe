"""The reverse pass of LSTM and GRU: one position of all examples.

The product with the recurrent matrix comes between two positions: its transpose, packed like a weight, lets the dense
layer's own kernel take it.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
from numba import carray
from numba.extending import register_jitable

from fgnumba.bench.reverse.kernels.recurrences import RECURRENCES
from fgnumba.bench.reverse.kernels.scan_code import FRAME, reverse_scan
from fgnumba.bench.reverse.kernels.scans import clear
from fgnumba.kernels.emit import pointer
from fgnumba.kernels.emit.vector import PANEL, InstructionSet
from fgnumba.kernels.layout import images
from fgnumba.kernels.layout.images import Images, operands
from fgnumba.kernels.machine.arguments import filled, lay_out, record
from fgnumba.kernels.machine.compile import kernel
from fgnumba.kernels.machine.memory import address
from fgnumba.kernels.machine.program import Operation
from fgnumba.kernels.machine.work import ELEMENT_WORK, parts_for, split
from fgnumba.kernels.rules.elementary import tanh
from fgnumba.validation.launcher import launcher

_FRAME = np.dtype([(name, np.int64) for name in FRAME])

_CELL = record(
    *images.fields("dy"),
    *(
        "batch",
        "length",
        "position",
        "units",
        "before",
        "before_row",
        "carry",
        "state",
        "state_part",
        "fed",
        "fed_row",
    ),
    *("gates", "gates_row", "extra", "extra_row", "rows", "rows_row", "sheets", "sheet", "at_zeros"),
)


@launcher
def bind_cell(
    isa: InstructionSet,
    threads: int,
    recurrence: str,
    *,
    batch: int,
    units: int,
    position: int,
    dy: Images,
    before: tuple[int, int],
    carry: npt.NDArray[np.float32],
    fed: npt.NDArray[np.float32] | None,
    gates: npt.NDArray[np.float32],
    extra: npt.NDArray[np.float32],
    rows: npt.NDArray[np.float32],
    sheets: npt.NDArray[np.float32],
    keeps: tuple[Any, ...] = (),
) -> Operation:
    """Bind one position of an LSTM or a GRU of N units, backwards.

    Parameters
    ----------
    isa : InstructionSet
        The instruction set to bind for.
    threads : int
        Number of threads that may share the work.
    recurrence : str
        ``"lstm"`` or ``"gru"``.
    batch, units, position : int
        Number of examples B, N, and the position.
    dy : Images
        The cotangents of the outputs (L, N).
    before : (int, int)
        Address of the first example's state before the position, and elements from one example's to the next's. 0:
        zeros. Of an LSTM only c is read, M = N rounded up to whole panels elements after that address.
    carry : array, (B, S * M) float32
        The cotangent of the state, replaced by that of the state before, without the share that the product adds.
    fed : array, (B, at least M) float32, or None
        The share of the product, from the position after. None: zeros.
    gates, extra : array, (B L, at least G * M) and (B L, at least M) float32
        The gates, and the vector that follows them (see :class:`Recurrence`).
    rows : array, (B L, at least 4 M) float32
        Written: the cotangents of the gates' sums.
    sheets : array, (4 M / PANEL, B L rounded up, PANEL) float32
        Written: the same in panels.
    keeps : tuple
        Arrays that `before` points to.

    Notes
    -----
    Cost: reads a row of each array, and writes a row of each form of the cotangents, for every example.
    """
    step, length, across = RECURRENCES[recurrence], dy.shape[0], -(-units // PANEL)
    state = across * PANEL
    offsets, end = lay_out((("frame", _FRAME.itemsize), ("zeros", step.states * state * 4)))
    values, memory = operands(dy=dy)
    fields = {
        **values,
        "batch": batch,
        "length": length,
        "position": position,
        "units": units,
        "before": before[0],
        "before_row": before[1],
        "carry": address(carry),
        "state": step.states * state,
        "state_part": state,
        "fed": address(fed),
        "fed_row": 0 if fed is None else fed.shape[-1],
        "gates": address(gates),
        "gates_row": gates.shape[-1],
        "extra": address(extra),
        "extra_row": extra.shape[-1],
        "rows": address(rows),
        "rows_row": rows.shape[-1],
        "sheets": address(sheets),
        "sheet": sheets.shape[1] * PANEL,
        "at_zeros": offsets["zeros"],
    }
    memory["keeps"] = (memory["keeps"], carry, fed, gates, extra, rows, sheets, keeps)
    parts = parts_for(batch * units * step.gates * 2 * ELEMENT_WORK, across, threads)
    entry = _cell_entry(isa, recurrence)
    return Operation("cell", entry, filled(_CELL, fields), parts, scratch_bytes=end, **memory)


def _cell_entry(isa: InstructionSet, recurrence: str) -> int:
    scan, states = reverse_scan(isa, recurrence, False), RECURRENCES[recurrence].states

    def cell(arguments: int, part: int, parts: int) -> None:
        a = carray(pointer(arguments, _CELL), 1)[0]
        q, q_end = split((a.units + PANEL - 1) // PANEL, parts, part)
        clear(a.scratch + a.at_zeros, states * a.state_part)
        frame = carray(pointer(a.scratch, _FRAME), 1)[0]
        unit = q * PANEL * 4
        zeros = a.scratch + a.at_zeros + unit
        frame.length, frame.panels, frame.units = 1, q_end - q, a.units - q * PANEL
        frame.state_part, frame.gates_part, frame.rows_part = a.state_part, a.state_part, a.state_part
        frame.sheet, frame.sheets_part = a.sheet, a.state_part // PANEL * a.sheet
        for b in range(a.batch):
            row = b * a.length + a.position
            frame.dy = a.dy + (b * a.dy_image + a.position * a.dy_row) * 4 + unit
            frame.before = a.before + b * a.before_row * 4 + unit if a.before else zeros
            frame.carry = a.carry + b * a.state * 4 + unit
            frame.fed = a.fed + b * a.fed_row * 4 + unit if a.fed else zeros
            frame.gates = a.gates + row * a.gates_row * 4 + unit
            frame.extra = a.extra + row * a.extra_row * 4 + unit
            frame.rows = a.rows + row * a.rows_row * 4 + unit
            frame.sheets = a.sheets + q * a.sheet * 4 + row * PANEL * 4
            scan(a.scratch)

    return kernel(f"reverse-cell-{recurrence}-{isa.vectors}", cell, 3)


_CELLS = record(
    "batch",
    "length",
    "gates",
    "gates_row",
    "padded",
    "cells",
    "cells_row",
    "squashed",
    "before",
    "before_row",
)


@launcher
def bind_cells(
    threads: int,
    *,
    batch: int,
    length: int,
    padded: int,
    gates: npt.NDArray[np.float32],
    cells: npt.NDArray[np.float32],
    squashed: npt.NDArray[np.float32],
    before: tuple[int, int],
    keeps: tuple[Any, ...] = (),
) -> Operation:
    """Bind the cells of an LSTM again, c' = f c + i n, and tanh c', from its gates.

    Parameters
    ----------
    threads : int
        Number of threads that may share the work.
    batch, length, padded : int
        Numbers of examples B, of positions L, and of units, rounded up to whole panels, M.
    gates : array, (B L, at least 4 M) float32
        The gates i, f, n and o.
    cells, squashed : array, (B L, at least M) float32, of one distance between rows
        Written: c' and tanh c' after each position.
    before : (int, int)
        Address of the first example's c before the first position, and elements to the next one's. 0: zeros.
    keeps : tuple
        Arrays that `before` points to.

    Notes
    -----
    Cost: reads three gates once, and writes two vectors a position.
    """
    fields = {
        "batch": batch,
        "length": length,
        "gates": address(gates),
        "gates_row": gates.shape[-1],
        "padded": padded,
        "cells": address(cells),
        "cells_row": cells.shape[-1],
        "squashed": address(squashed),
        "before": before[0],
        "before_row": before[1],
    }
    parts = parts_for(cells.size * 8 * ELEMENT_WORK, batch, threads)
    kept = (gates, cells, squashed, keeps)
    return Operation(
        "cells", kernel("reverse-lstm-cells", _cells, 3), filled(_CELLS, fields), parts, keeps=kept
    )


def _cells(arguments: int, part: int, parts: int) -> None:
    a = carray(pointer(arguments, _CELLS), 1)[0]
    first, last = split(a.batch, parts, part)
    for b in range(first, last):
        for position in range(a.length):
            row = b * a.length + position
            at = a.gates + row * a.gates_row * 4
            c_at = a.cells + row * a.cells_row * 4
            if position > 0:
                _advance(at, a.padded, c_at - a.cells_row * 4, c_at)
            elif a.before:
                _advance(at, a.padded, a.before + b * a.before_row * 4, c_at)
            else:
                clear(c_at, a.padded)
                _advance(at, a.padded, c_at, c_at)
            c = carray(pointer(c_at, np.float32), a.padded)
            squashed = carray(pointer(a.squashed + row * a.cells_row * 4, np.float32), a.padded)
            for j in range(a.padded):
                squashed[j] = tanh(c[j])


@register_jitable
def _advance(gates: int, padded: int, before: int, after: int) -> None:
    i = carray(pointer(gates, np.float32), padded)
    f = carray(pointer(gates + padded * 4, np.float32), padded)
    n = carray(pointer(gates + 2 * padded * 4, np.float32), padded)
    c, new = carray(pointer(before, np.float32), padded), carray(pointer(after, np.float32), padded)
    for j in range(padded):
        new[j] = f[j] * c[j] + i[j] * n[j]
