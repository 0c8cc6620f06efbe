"""What losses share: how a loss kernel is bound, which reduces each example to its loss and tangents, and the mean.

An example's loss may be too large for float32 although its outputs are not. So the rows of losses are float64, and so
are sums over outputs. One thread takes the mean, in float64 and in order, so that it is the same for any number of
threads.
"""

from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import carray

from fgnumba.kernels.emit import pointer
from fgnumba.kernels.machine.arguments import filled, record
from fgnumba.kernels.machine.compile import kernel
from fgnumba.kernels.machine.memory import address, aligned
from fgnumba.kernels.machine.program import Operation
from fgnumba.kernels.machine.work import parts_for
from fgnumba.kernels.shared.loss import MOST
from fgnumba.validation.launcher import launcher

_TARGETS = ("targets", "stride", "weights", "constants")
# Addresses of the first example's targets, of its weight (0 where there are none) and of the loss's own numbers. The
# targets of the examples are `stride` elements apart, and so are their weights.

ROWS = record("z", "ld", "batch", "width", "count", *_TARGETS, "rows", "reduce")
"""Arguments of a loss kernel. It writes `rows`, (1 + count, batch) float64; an impossible target gives NaN."""

RESIDUAL = record("z", "ld", "batch", "width", *_TARGETS, "residual")
"""Arguments of a kernel that writes the gradient of each example's own loss, (batch, width) float32."""


_MEAN = record("rows", "batch", "count", "weights", "stride", "result", "values")

# An exponential takes about as long as this many multiply-adds.
_EXPONENTIAL_WORK = 30


@launcher
def bind_loss(
    name: str,
    entry: int,
    threads: int,
    z: npt.NDArray[np.float32],
    width: int,
    targets: npt.NDArray[Any],
    result: npt.NDArray[Any],
    values: npt.NDArray[np.float64],
    reduce: int = 0,
    weighted: bool = False,
    constants: npt.NDArray[np.float64] | None = None,
    scratch_itemsize: int = 4,
) -> list[Operation]:
    """Bind a loss kernel and the mean over its rows.

    Parameters
    ----------
    name : str
        Name of the operation.
    entry : int
        Address of the loss kernel.
    threads : int
        Number of threads that may share the work.
    z : array, (1 + T, B, ld) float32
        A dual buffer of outputs.
    width : int
        Number of its columns that are read.
    targets : array, (B,) or (B, N)
        The targets; where `weighted`, (B, 1 + N) float32.
    result : array, (1,) ``RESULT``
        Written: whether the values are finite.
    values : array, (1 + T,) float64
        Written: the loss, then the directional derivatives.
    reduce : int
        Address of a kernel that the loss kernel calls, or 0.
    weighted : bool
        Whether each example's weight stands before its targets. The mean is then (1/B) Σ_i w_i f_i; a weight below 0
        makes it NaN.
    constants : array, float64, or None
        The loss's own numbers, if it has any.
    scratch_itemsize : int
        Bytes of scratch memory for each column.
    """
    blocks, batch, ld = z.shape
    rows = aligned((blocks, batch), np.float64)
    arguments = {
        "z": address(z),
        "ld": ld,
        "batch": batch,
        "width": width,
        "count": blocks - 1,
        **_places(targets, weighted, constants),
        "rows": address(rows),
        "reduce": reduce,
    }
    mean = {
        "rows": address(rows),
        "batch": batch,
        "count": blocks - 1,
        "weights": arguments["weights"],
        "stride": arguments["stride"],
        "result": address(result),
        "values": address(values),
    }
    parts = parts_for(blocks * batch * width * _EXPONENTIAL_WORK, batch, threads)
    return [
        Operation(
            name,
            entry,
            filled(ROWS, arguments),
            parts,
            scratch_bytes=width * scratch_itemsize,
            keeps=(z, targets, rows, constants),
        ),
        Operation("mean", _mean_entry(), filled(_MEAN, mean), keeps=(rows, targets, result, values)),
    ]


def _places(
    targets: npt.NDArray[Any], weighted: bool, constants: npt.NDArray[np.float64] | None
) -> dict[str, int]:
    """Return what a kernel reads of targets, weights and constants."""
    first = address(targets)
    return {
        "targets": first + (targets.itemsize if weighted else 0),
        "stride": targets.shape[1] if targets.ndim > 1 else 1,
        "weights": first if weighted else 0,
        "constants": 0 if constants is None else address(constants),
    }


@launcher
def bind_loss_residual(
    name: str,
    entry: int,
    threads: int,
    z: npt.NDArray[np.float32],
    targets: npt.NDArray[Any],
    residual: npt.NDArray[np.float32],
    weighted: bool = False,
    constants: npt.NDArray[np.float64] | None = None,
) -> Operation:
    """Bind a kernel that writes the gradient of each example's own loss in its outputs.

    Parameters
    ----------
    name : str
        Name of the operation.
    entry : int
        Address of the kernel.
    threads : int
        Number of threads that may share the work.
    z : array, (B, ld) float32
        The outputs.
    targets : array, (B,) or (B, N)
        The targets; where `weighted`, (B, 1 + N) float32.
    residual : array, (B, width) float32
        Written: the gradients.
    weighted : bool
        Whether each example's weight stands before its targets. The gradients are those of w_i f_i.
    constants : array, float64, or None
        The loss's own numbers, if it has any.
    """
    batch, width = residual.shape
    arguments = {
        "z": address(z),
        "ld": z.shape[1],
        "batch": batch,
        "width": width,
        **_places(targets, weighted, constants),
        "residual": address(residual),
    }
    parts = parts_for(batch * width * _EXPONENTIAL_WORK, batch, threads)
    return Operation(name, entry, filled(RESIDUAL, arguments), parts, keeps=(z, targets, residual, constants))


@cache
def _mean_entry() -> int:
    return kernel("mean-of-rows", _mean, 3)


def _mean(arguments: int, part: int, parts: int) -> None:
    a = carray(pointer(arguments, _MEAN), 1)[0]
    rows = carray(pointer(a.rows, np.float64), (1 + a.count, a.batch))
    values = carray(pointer(a.values, np.float64), 1 + a.count)
    result = carray(pointer(a.result, np.int64), 1)
    weights = carray(pointer(a.weights, np.float32), a.batch * a.stride)
    finite = 1
    for t in range(1 + a.count):
        total = np.float64(0)
        for i in range(a.batch):
            row = rows[t, i]
            if a.weights != 0:
                weight = np.float64(weights[i * a.stride])
                row = weight * row if weight >= 0 else np.nan
            total += row
        values[t] = total / np.float64(a.batch)
        if not np.abs(values[t]) <= MOST:
            finite = 0
    result[0] = finite
