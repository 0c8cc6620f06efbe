"""Softmax cross-entropy on a GPU, value and directional derivatives in one pass over the logits; see ``cpu``.

f   = mean_i (logsumexp(z_i) - z_i[y_i])
d_t = mean_i ((softmax(z_i) - onehot(y_i)) · dz_ti)
"""

import numpy as np

from fgnumba.kernels.cuda.kernel import kernel
from fgnumba.kernels.cuda.memory import DeviceArray
from fgnumba.kernels.cuda.primitives import (
    WARP,
    Address,
    Size,
    block_y,
    fma_outer,
    load_f32,
    load_i64,
    store_f32,
    store_f64,
    thread,
    zeros,
)
from fgnumba.kernels.cuda.program import Operation
from fgnumba.kernels.cuda.sums import warp_sum
from fgnumba.kernels.rules.elementary import exp, log
from fgnumba.kernels.shared.loss.cuda import (
    TANGENTS,
    bind_loss,
    bind_loss_residual,
    example,
    highest_of,
    store_tangents,
    tangents_at,
)
from fgnumba.validation.launcher import launcher

_ZERO, _NAN = np.float32(0), np.float32(np.nan)
_NAN_64 = np.float64(np.nan)


@launcher
def bind(
    threads: int,
    *,
    z: DeviceArray,
    classes: int,
    targets: DeviceArray,
    result: DeviceArray,
    values: DeviceArray,
) -> list[Operation]:
    """Bind the loss to its arrays, as ``cpu.bind`` does.

    Parameters
    ----------
    threads : int
        Not used.
    z : DeviceArray
        (1 + T, B, ld) float32, logits and their tangents.
    classes : int
        Number of columns of z that are logits.
    targets : DeviceArray
        (B,) int64 in [0, classes). A target out of range makes the loss NaN.
    result : DeviceArray
        (1,) ``loss.RESULT``, written.
    values : DeviceArray
        (1 + T,) float64, written: the loss and the directional derivatives.

    Returns
    -------
    list of Operation
        The loss of each example, then the mean.

    Notes
    -----
    Cost: reads z twice for every four tangents, all but once from caches, and the tangents once; one exponential an
    element for every four tangents.
    """
    return bind_loss("softmax cross-entropy", _rows, threads, z, classes, targets, result, values)


@launcher
def bind_residual(
    threads: int,
    *,
    z: DeviceArray,
    targets: DeviceArray,
    residual: DeviceArray,
) -> Operation:
    """Bind e_i = softmax(z_i) - onehot(y_i), as ``cpu.bind_residual`` does: the gradient of each example's loss in z.

    Parameters
    ----------
    threads : int
        Not used.
    z : DeviceArray
        (B, ld) float32, logits.
    targets : DeviceArray
        (B,) int64 in [0, C). A target out of range makes e NaN.
    residual : DeviceArray
        (B, C) float32, written: e.

    Returns
    -------
    Operation
        The launch.

    Notes
    -----
    Cost: reads z three times, all but once from caches; writes e once.
    """
    return bind_loss_residual("softmax residual", _residual, threads, z, targets, residual)


@kernel("softmax-cross-entropy")
def _rows(
    z: Address,
    block: Size,
    ld: Size,
    batch: Size,
    width: Size,
    count: Size,
    targets: Address,
    rows: Address,
) -> None:
    i, lane, t = example(), thread() % WARP, TANGENTS * block_y()
    if i >= batch:
        return
    left, at, out = count - t, z + 4 * i * ld, rows + 8 * i
    dz = at + 4 * (t + 1) * block
    target = load_i64(targets + 8 * i)
    if target < 0 or target >= width:
        if lane == 0:
            if t == 0:
                store_f64(out, _NAN_64)
            store_tangents(out + 8 * (t + 1) * batch, batch, left, (_NAN_64, _NAN_64, _NAN_64, _NAN_64))
        return
    highest = highest_of(at, width)
    # Relative to the target's tangent, so that the terms do not cancel where the example is well classified.
    own = tangents_at(dz + 4 * target, block, left)
    total, dots = _ZERO, zeros(4)
    for n in range(lane, width, WARP):
        e = exp(load_f32(at + 4 * n) - highest)
        d = tangents_at(dz + 4 * n, block, left)
        total = total + e
        dots = fma_outer(dots, (e,), (d[0] - own[0], d[1] - own[1], d[2] - own[2], d[3] - own[3]))
    total = warp_sum(total)
    first, second = warp_sum(dots[0]) / total, warp_sum(dots[1]) / total
    third, fourth = warp_sum(dots[2]) / total, warp_sum(dots[3]) / total
    if lane == 0:
        if t == 0:
            apart = np.float64(highest) - np.float64(load_f32(at + 4 * target))
            store_f64(out, np.float64(log(total)) + apart)
        derivatives = np.float64(first), np.float64(second), np.float64(third), np.float64(fourth)
        store_tangents(out + 8 * (t + 1) * batch, batch, left, derivatives)


@kernel("softmax-residual")
def _residual(z: Address, ld: Size, batch: Size, width: Size, targets: Address, residual: Address) -> None:
    i, lane = example(), thread() % WARP
    if i >= batch:
        return
    at, out = z + 4 * i * ld, residual + 4 * i * width
    target = load_i64(targets + 8 * i)
    if target < 0 or target >= width:
        for n in range(lane, width, WARP):
            store_f32(out + 4 * n, _NAN)
        return
    highest = highest_of(at, width)
    total = _ZERO
    for n in range(lane, width, WARP):
        total = total + exp(load_f32(at + 4 * n) - highest)
    total = warp_sum(total)
    others = _ZERO
    for n in range(lane, width, WARP):
        if n != target:
            e = exp(load_f32(at + 4 * n) - highest) / total
            store_f32(out + 4 * n, e)
            others = others + e
    others = warp_sum(others)
    # The target's entry is minus the sum of the others: exact where an example is well classified.
    if lane == 0:
        store_f32(out + 4 * target, -others)
