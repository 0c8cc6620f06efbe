"""Random signs on the CPU: independent numbers ±1 in rows, in example panels, or both.

The sign at a row and a column is a pure function of (seed, step, number, row, column). With column = 32 panel + lane,
it is bit ``lane`` of word ``row & 3`` of the Philox counter

    (row >> 2, SIGN << 24 | panel, number, step)

A bit that is set means -1.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
from numba import carray
from numba.extending import register_jitable

from fgnumba.kernels.emit import call, pointer
from fgnumba.kernels.emit.vector import PANEL, InstructionSet
from fgnumba.kernels.machine.arguments import filled, record
from fgnumba.kernels.machine.compile import kernel
from fgnumba.kernels.machine.memory import address
from fgnumba.kernels.machine.program import Operation
from fgnumba.kernels.machine.work import ELEMENT_WORK, grid, parts_for, split
from fgnumba.kernels.rules.directions import RADEMACHER
from fgnumba.kernels.rules.directions import cpu as directions
from fgnumba.kernels.rules.philox import SIGN, STREAM
from fgnumba.kernels.shared.drawn.cpu import BLOCK
from fgnumba.validation.launcher import launcher

_ARGUMENTS = record(
    *("rows", "columns", "number", "stream", "draw", "across", "down"),
    *("out", "out_row", "panels", "panel_rows"),
)

_ONE_BITS, _SIGN_BIT = np.uint32(0x3F800000), np.uint32(0x80000000)


@launcher
def bind(
    isa: InstructionSet,
    threads: int,
    *,
    rows: int,
    columns: int,
    out: npt.NDArray[np.float32] | None,
    stream: npt.NDArray[Any],
    number: int,
    panels: npt.NDArray[np.float32] | None = None,
) -> Operation:
    """Bind the draw of a matrix of signs.

    Parameters
    ----------
    isa : InstructionSet
        The instruction set to bind for.
    threads : int
        Number of threads that may share the work.
    rows, columns : int
        Shape of the matrix (R, N).
    out : array, (at least R, at least N) float32, or None
        Written: the signs. What lies beyond is left alone. None: they are not written in rows.
    stream : array, (1,) ``philox.STREAM``
        Seed and step, read when the operation runs.
    number : int
        Number of the matrix in the Philox counter, below 2**32. Matrices of different numbers are independent of each
        other, and of directions, noise on activities and dropout.
    panels : array, (ceil(R / PANEL), at least N, PANEL) float32, or None
        Written: the same signs as example panels, with zeros beyond R.

    Notes
    -----
    Cost: writes each of `out` and `panels` once, and draws a word for 32 signs.
    """
    blocks, across_panels = -(-rows // BLOCK), -(-columns // PANEL)
    written = (out is not None) + (panels is not None)
    parts = parts_for(rows * columns * written * ELEMENT_WORK, blocks * across_panels, threads)
    across, down = grid(across_panels, blocks, parts)
    fields = {
        "rows": rows,
        "columns": columns,
        "number": number,
        "stream": address(stream),
        "draw": directions.sign_words(isa),
        "across": across,
        "down": down,
        "out": address(out),
        "out_row": 0 if out is None else out.shape[1],
        "panels": address(panels),
        "panel_rows": 0 if panels is None else panels.shape[1],
    }
    return Operation(
        "signs",
        kernel("signs", _signs, 3),
        filled(_ARGUMENTS, fields),
        across * down,
        scratch_bytes=directions.draw_bytes(RADEMACHER, BLOCK),
        keeps=(out, stream, panels),
    )


def _signs(arguments: int, part: int, parts: int) -> None:
    a = carray(pointer(arguments, _ARGUMENTS), 1)[0]
    stream = carray(pointer(a.stream, STREAM), 1)[0]
    low, high = split((a.columns + PANEL - 1) // PANEL, a.across, part % a.across)
    first, last = split((a.rows + BLOCK - 1) // BLOCK, a.down, part // a.across)
    for block in range(first * BLOCK, last * BLOCK, BLOCK):
        rows = min(BLOCK, a.rows - block)
        for panel in range(low, high):
            columns = min(PANEL, a.columns - panel * PANEL)
            call(
                a.draw,
                (block, rows, panel, SIGN, a.number, stream.step, stream.key_low, stream.key_high, a.scratch),
            )
            if a.out:
                _rows(a.scratch, rows, columns, a.out + (block * a.out_row + panel * PANEL) * 4, a.out_row)
            if a.panels:
                for i in range(0, rows, PANEL):
                    at = a.panels + ((block + i) // PANEL * a.panel_rows + panel * PANEL) * PANEL * 4
                    _panel(a.scratch + 4 * i, min(PANEL, rows - i), columns, at)


@register_jitable
def _rows(words: int, rows: int, columns: int, out: int, out_row: int) -> None:
    """Write signs row by row."""
    drawn = carray(pointer(words, np.uint32), rows)
    for i in range(rows):
        bits, word = carray(pointer(out + i * out_row * 4, np.uint32), columns), drawn[i]
        for lane in range(columns):
            bits[lane] = np.uint32((word << np.uint32(31 - lane)) & _SIGN_BIT) | _ONE_BITS


@register_jitable
def _panel(words: int, rows: int, columns: int, out: int) -> None:
    """Write signs column by column, with zeros beyond `rows`."""
    drawn, bits = carray(pointer(words, np.uint32), rows), carray(pointer(out, np.uint32), (columns, PANEL))
    for lane in range(columns):
        for i in range(rows):
            bits[lane, i] = np.uint32((drawn[i] << np.uint32(31 - lane)) & _SIGN_BIT) | _ONE_BITS
        for i in range(rows, PANEL):
            bits[lane, i] = np.uint32(0)
