"""Losses on a GPU: launchers that they share, and the mean over the batch; see ``cpu``.

A warp reduces an example to its loss and tangents. These are float64, for they may be beyond float32. So is their mean,
whose terms are added in an order that depends on the batch size alone.
"""

from typing import Any

import numpy as np

from fgnumba.kernels.cuda.kernel import Kernel, device_function, kernel
from fgnumba.kernels.cuda.layout import THREADS, blocks_for
from fgnumba.kernels.cuda.memory import DeviceArray
from fgnumba.kernels.cuda.primitives import (
    WARP,
    Address,
    Floats,
    Size,
    block_x,
    load_f32,
    load_f64,
    shared,
    store_f64,
    store_i64,
    thread,
)
from fgnumba.kernels.cuda.program import Launch, Operation
from fgnumba.kernels.cuda.sums import SLOT, WARPS, block_sum, warp_max
from fgnumba.kernels.shared.loss import MOST, RESULT
from fgnumba.validation.launcher import launcher

TANGENTS = 4
"""Number of tangents that a warp reduces at once: all of them use what it computes of the primal."""

FINITE: int = RESULT.fields["finite"][1]  # type: ignore[index]
"""Bytes from the beginning of a ``loss.RESULT`` to its flag ``finite``."""

_ZERO, _LOWEST, _NAN_64 = np.float32(0), np.float32(-np.inf), np.float64(np.nan)

Doubles = tuple[np.float64, np.float64, np.float64, np.float64]


@launcher
def bind_loss(
    name: str,
    entry: Kernel,
    threads: int,
    z: DeviceArray,
    width: int,
    targets: DeviceArray,
    result: DeviceArray,
    values: DeviceArray,
    reduce: int = 0,
    weighted: bool = False,
    constants: DeviceArray | None = None,
    scratch_itemsize: int = 4,
) -> list[Operation]:
    """Bind a loss, and its mean over the batch.

    Parameters
    ----------
    name : str
        Name of the operation.
    entry : Kernel
        Kernel in which a warp takes an example and four tangents.
    threads : int
        Not used.
    z : DeviceArray
        (1 + T, B, ld) float32, outputs and their tangents.
    width : int
        Number of columns of z that are outputs.
    targets : DeviceArray
        (B,) or (B, N), the loss's targets; where `weighted`, (B, 1 + N) float32.
    result : DeviceArray
        (1,) ``loss.RESULT``, written.
    values : DeviceArray
        (1 + T,) float64, written: the loss and the directional derivatives.
    reduce : int
        Not used.
    weighted : bool
        Whether each example's weight stands before its targets. The mean is then (1/B) Σ_i w_i f_i; a weight below 0
        makes it NaN.
    constants : DeviceArray or None
        The loss's own numbers, float64, if it has any.
    scratch_itemsize : int
        Not used.

    Returns
    -------
    list of Operation
        The loss of each example, then the mean.
    """
    blocks, batch, ld = z.shape
    count = blocks - 1
    rows = DeviceArray.zeros(z.driver, (blocks, batch), np.float64)
    arguments = {
        "z": z,
        "block": batch * ld,
        "ld": ld,
        "batch": batch,
        "width": width,
        "count": count,
        **_places(targets, weighted, constants),
        "rows": rows,
    }
    teams = max(1, -(-count // TANGENTS))
    mean = {
        "rows": rows,
        "batch": batch,
        "weights": arguments["weights"],
        "stride": arguments["stride"],
        "values": values,
    }
    check = {"values": values, "count": blocks, "result": result}
    return [
        Operation(
            name,
            (Launch(entry, (_blocks(batch), teams, 1), _taken(entry, arguments)),),
            keeps=(z, targets, rows, values, constants),
        ),
        Operation(
            "mean",
            (Launch(_mean, (blocks, 1, 1), mean), Launch(_all_finite, (1, 1, 1), check)),
            keeps=(rows, targets, result, values),
        ),
    ]


def _places(targets: DeviceArray, weighted: bool, constants: DeviceArray | None) -> dict[str, Any]:
    """Return what kernels read of targets (`ahead` numbers stand before an example's), weights and constants."""
    return {
        "targets": targets.address + 4 if weighted else targets,
        "stride": targets.shape[1] if len(targets.shape) > 1 else 1,
        "ahead": int(weighted),
        "weights": targets if weighted else 0,
        "constants": 0 if constants is None else constants,
    }


def _taken(entry: Kernel, arguments: dict[str, Any]) -> dict[str, Any]:
    """Return those of the arguments that a loss's kernel takes."""
    return {name: value for name, value in arguments.items() if name in entry.parameters}


@launcher
def bind_loss_residual(
    name: str,
    entry: Kernel,
    threads: int,
    z: DeviceArray,
    targets: DeviceArray,
    residual: DeviceArray,
    weighted: bool = False,
    constants: DeviceArray | None = None,
) -> Operation:
    """Bind the gradient of each example's loss in its outputs.

    Parameters
    ----------
    name : str
        Name of the operation.
    entry : Kernel
        Kernel in which a warp takes an example.
    threads : int
        Not used.
    z : DeviceArray
        (B, ld) float32, outputs.
    targets : DeviceArray
        (B,) or (B, N), the loss's targets; where `weighted`, (B, 1 + N) float32.
    residual : DeviceArray
        (B, C) float32, written: the gradient.
    weighted : bool
        Whether each example's weight stands before its targets. The gradient is that of w_i f_i.
    constants : DeviceArray or None
        The loss's own numbers, float64, if it has any.

    Returns
    -------
    Operation
        The launch.
    """
    batch, width = residual.shape
    arguments = {
        "z": z,
        "ld": z.shape[1],
        "batch": batch,
        "width": width,
        **_places(targets, weighted, constants),
        "residual": residual,
    }
    launch = Launch(entry, (_blocks(batch), 1, 1), _taken(entry, arguments))
    return Operation(name, (launch,), keeps=(z, targets, residual, constants))


def _blocks(batch: int) -> int:
    """Return the number of blocks that have a warp for each example."""
    return blocks_for(batch, WARPS)


@device_function
def example() -> int:
    """Return the number of the warp's example; it may lie past the last one."""
    return block_x() * WARPS + thread() // WARP


@device_function
def highest_of(z: int, width: int) -> np.float32:
    """Return the largest logit of the warp's example. A NaN is left out here; the exponentials bring it back.

    Parameters
    ----------
    z : int
        Address of the example's first logit.
    width : int
        Number of logits.

    Returns
    -------
    float32
        The largest.
    """
    highest = _LOWEST
    for n in range(thread() % WARP, width, WARP):
        logit = load_f32(z + 4 * n)
        highest = logit if logit > highest else highest
    return warp_max(highest)


@device_function
def tangents_at(at: int, block: int, left: int) -> Floats:
    """Return an entry of four tangents.

    Parameters
    ----------
    at : int
        Address of the first tangent's entry.
    block : int
        Elements from one tangent to the next.
    left : int
        Number of tangents from the first to the last; of those beyond, the entry is 0.

    Returns
    -------
    tuple of float32
        Four entries.
    """
    first = load_f32(at) if left > 0 else _ZERO
    second = load_f32(at + 4 * block) if left > 1 else _ZERO
    third = load_f32(at + 8 * block) if left > 2 else _ZERO
    fourth = load_f32(at + 12 * block) if left > 3 else _ZERO
    return first, second, third, fourth


@device_function
def store_tangents(at: int, block: int, left: int, values: Doubles) -> None:
    """Write a float64 for each of four tangents.

    Parameters
    ----------
    at : int
        Address for the first tangent.
    block : int
        Elements from one tangent to the next.
    left : int
        Number of tangents from the first to the last; nothing is written for those beyond.
    values : tuple of float64
        Four numbers.
    """
    if left > 0:
        store_f64(at, values[0])
    if left > 1:
        store_f64(at + 8 * block, values[1])
    if left > 2:
        store_f64(at + 16 * block, values[2])
    if left > 3:
        store_f64(at + 24 * block, values[3])


@kernel("mean-of-rows")
def _mean(rows: Address, batch: Size, weights: Address, stride: Size, values: Address) -> None:
    slot = shared(SLOT)
    total = np.float64(0)
    for i in range(thread(), batch, THREADS):
        row = load_f64(rows + 8 * (block_x() * batch + i))
        if weights != 0:
            weight = np.float64(load_f32(weights + 4 * i * stride))
            row = weight * row if weight >= np.float64(0) else _NAN_64
        total = total + row
    total = block_sum(total, slot)
    if thread() == 0:
        store_f64(values + 8 * block_x(), total / np.float64(batch))


@kernel("all-finite")
def _all_finite(values: Address, count: Size, result: Address) -> None:
    slot = shared(SLOT)
    bad = np.float64(0)
    for t in range(thread(), count, THREADS):
        if not abs(load_f64(values + 8 * t)) <= MOST:
            bad = np.float64(1)
    bad = block_sum(bad, slot)
    if thread() == 0:
        store_i64(result + FINITE, 1 if bad == np.float64(0) else 0)
