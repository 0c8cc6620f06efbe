"""Least mean squares on a GPU: c (ȯ - p), in panels of columns; see ``cpu``."""

import numpy as np

from fgnumba.kernels.cuda.kernel import kernel
from fgnumba.kernels.cuda.layout import element, elementwise
from fgnumba.kernels.cuda.memory import DeviceArray
from fgnumba.kernels.cuda.primitives import Address, Real, Size, divide, load_f32, store_f32
from fgnumba.kernels.cuda.program import Operation
from fgnumba.kernels.emit.vector import PANEL
from fgnumba.validation.launcher import launcher


@launcher
def bind(
    threads: int,
    *,
    response: DeviceArray,
    predicted: DeviceArray,
    out: DeviceArray,
    rows: int,
    columns: int,
    gain: float,
) -> Operation:
    """Bind c (ȯ - p), as ``cpu.bind`` does.

    Parameters
    ----------
    threads : int
        Not used.
    response, predicted : DeviceArray
        (at least R, at least N) float32: ȯ and p.
    out : DeviceArray
        (ceil(N / 32), at least R, 32) float32, written: the difference times the gain, with zeros in the padding.
    rows, columns : int
        R and N.
    gain : float
        c.

    Returns
    -------
    Operation
        The launch.

    Notes
    -----
    Cost: reads both arrays once, and writes out once.
    """
    panels, out_rows, _ = out.shape
    n = panels * out_rows * PANEL
    arguments = {
        "response": response,
        "response_row": response.shape[1],
        "predicted": predicted,
        "predicted_row": predicted.shape[1],
        "rows": rows,
        "columns": columns,
        "gain": np.float32(gain),
        "out": out,
        "out_rows": out_rows,
        "n": n,
    }
    launch = elementwise(_scaled_difference, n, arguments)
    return Operation("least-mean-squares", (launch,), keeps=(response, predicted, out))


@kernel("least-mean-squares")
def _scaled_difference(
    response: Address,
    response_row: Size,
    predicted: Address,
    predicted_row: Size,
    rows: Size,
    columns: Size,
    gain: Real,
    out: Address,
    out_rows: Size,
    n: Size,
) -> None:
    e = element()
    if e >= n:
        return
    panel, row = divide(e >> 5, out_rows)
    column, value = 32 * panel + (e & 31), np.float32(0)
    if row < rows and column < columns:
        value = load_f32(response + 4 * (row * response_row + column))
        value = gain * (value - load_f32(predicted + 4 * (row * predicted_row + column)))
    store_f32(out + 4 * e, value)
