"""Random signs on a GPU: independent numbers ±1 in rows, in example panels, or both; the same as on the CPU.

A thread draws the words of four rows of a panel, and writes the signs of one column.
"""

from typing import Any

import numpy as np

from fgnumba.kernels.cuda.kernel import kernel
from fgnumba.kernels.cuda.layout import element, elementwise
from fgnumba.kernels.cuda.memory import DeviceArray
from fgnumba.kernels.cuda.primitives import Address, Size, divide, store_f32
from fgnumba.kernels.cuda.program import Operation
from fgnumba.kernels.emit.vector import PANEL
from fgnumba.kernels.machine.memory import address
from fgnumba.kernels.rules.directions.cuda import pick, sign_words, signed_one
from fgnumba.kernels.rules.philox import SIGN
from fgnumba.validation.launcher import launcher

_ROWS = 4  # of a word each
_ZERO = np.float32(0)


@launcher
def bind(
    isa: Any,
    threads: int,
    *,
    rows: int,
    columns: int,
    out: DeviceArray | None,
    stream: DeviceArray,
    number: int,
    panels: DeviceArray | None = None,
) -> Operation:
    """Bind the draw of a matrix of signs, as ``cpu.bind`` does.

    Parameters
    ----------
    isa, threads : object, int
        Not used.
    rows, columns : int
        Shape of the matrix (R, N).
    out : DeviceArray or None
        (at least R, at least N) float32, written: the signs. What lies beyond is left alone. None: they are not written
        in rows.
    stream : DeviceArray
        (1,) ``philox.STREAM``, seed and step, read when the operation runs.
    number : int
        Number of the matrix in the Philox counter, below 2**32. Matrices of different numbers are independent of each
        other, and of directions, noise on activities and dropout.
    panels : DeviceArray or None
        (ceil(R / 32), at least N, 32) float32, written: the same signs as example panels, with zeros beyond R.

    Returns
    -------
    Operation
        The launch.

    Notes
    -----
    Cost: writes each of `out` and `panels` once, and draws a Philox block for four signs.
    """
    quads = -(-rows // _ROWS) if panels is None else panels.shape[0] * PANEL // _ROWS
    n = quads * columns
    arguments = {
        "n": n,
        "rows": rows,
        "columns": columns,
        "number": number,
        "stream": address(stream),
        "out": address(out),
        "out_row": 0 if out is None else out.shape[1],
        "panels": address(panels),
        "panel_rows": 0 if panels is None else panels.shape[1],
    }
    return Operation("signs", (elementwise(_signs, n, arguments),), keeps=(out, stream, panels))


@kernel("signs")
def _signs(
    n: Size,
    rows: Size,
    columns: Size,
    number: Address,
    stream: Address,
    out: Address,
    out_row: Size,
    panels: Address,
    panel_rows: Size,
) -> None:
    e = element()
    if e >= n:
        return
    quad, column = divide(e, columns)
    four = sign_words(stream, quad, column >> 5, SIGN, number)
    for i in range(_ROWS):
        row, value = _ROWS * quad + i, signed_one(pick(four, i), column & 31)
        if out and row < rows:
            store_f32(out + 4 * (row * out_row + column), value)
        if panels:
            place = ((row >> 5) * panel_rows + column) * PANEL + (row & 31)
            store_f32(panels + 4 * place, value if row < rows else _ZERO)
