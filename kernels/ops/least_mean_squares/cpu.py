"""Least mean squares on the CPU: c (ȯ - ε F), in panels of columns.

A matrix F that predicts the responses ȯ (R, N) to noise ε (R, K) is learned by F ← F + c εᵀ (ȯ - ε F). The products are
those of ``kernels.ops.dense`` and ``kernels.ops.example_panels``; the difference is laid out as the second operand of
the latter. Where the gain changes while a model learns, it is ``kernels.ops.feedback`` that reads it.

Source: B. Widrow, M. E. Hoff, Adaptive switching circuits, 1960.
"""

import numpy as np
import numpy.typing as npt
from numba import carray

from fgnumba.kernels.emit import pointer
from fgnumba.kernels.emit.vector import PANEL
from fgnumba.kernels.machine.arguments import filled, record
from fgnumba.kernels.machine.compile import kernel
from fgnumba.kernels.machine.memory import address
from fgnumba.kernels.machine.program import Operation
from fgnumba.kernels.machine.work import ELEMENT_WORK, grid, parts_for, split
from fgnumba.validation.launcher import launcher

_ARGUMENTS = record(
    *("response", "response_row", "predicted", "predicted_row", "rows", "columns", "gain"),
    *("out", "out_rows", "across", "down"),
)


@launcher
def bind(
    threads: int,
    *,
    response: npt.NDArray[np.float32],
    predicted: npt.NDArray[np.float32],
    out: npt.NDArray[np.float32],
    rows: int,
    columns: int,
    gain: float,
) -> Operation:
    """Bind c (ȯ - p).

    Parameters
    ----------
    threads : int
        Number of threads that may share the work.
    response, predicted : array, (at least R, at least N) float32
        ȯ and p.
    out : array, (ceil(N / PANEL), at least R, PANEL) float32
        Written: the difference times the gain, with zeros in the padding.
    rows, columns : int
        R and N.
    gain : float
        c.

    Notes
    -----
    Cost: reads both arrays once, and writes out once.
    """
    panels, out_rows, _ = out.shape
    parts = parts_for(rows * columns * ELEMENT_WORK, panels * out_rows, threads)
    across, down = grid(panels, out_rows, parts)
    fields = {
        "response": address(response),
        "response_row": response.shape[1],
        "predicted": address(predicted),
        "predicted_row": predicted.shape[1],
        "rows": rows,
        "columns": columns,
        "gain": int(np.float32(gain).view(np.int32)),
        "out": address(out),
        "out_rows": out_rows,
        "across": across,
        "down": down,
    }
    entry = kernel("least-mean-squares", _scaled_difference, 3)
    keeps = (response, predicted, out)
    return Operation("least-mean-squares", entry, filled(_ARGUMENTS, fields), across * down, keeps=keeps)


def _scaled_difference(arguments: int, part: int, parts: int) -> None:
    a = carray(pointer(arguments, _ARGUMENTS), 1)[0]
    low, high = split((a.columns + PANEL - 1) // PANEL, a.across, part % a.across)
    first, last = split(a.out_rows, a.down, part // a.across)
    gain, zero = np.int32(a.gain).view(np.float32), np.float32(0)
    for panel in range(low, high):
        columns = min(PANEL, a.columns - panel * PANEL)
        for row in range(first, last):
            out = carray(pointer(a.out + (panel * a.out_rows + row) * PANEL * 4, np.float32), PANEL)
            n = columns if row < a.rows else 0
            response = carray(pointer(a.response + (row * a.response_row + panel * PANEL) * 4, np.float32), n)
            predicted = carray(
                pointer(a.predicted + (row * a.predicted_row + panel * PANEL) * 4, np.float32), n
            )
            for j in range(n):
                out[j] = gain * (response[j] - predicted[j])
            for j in range(n, PANEL):
                out[j] = zero
