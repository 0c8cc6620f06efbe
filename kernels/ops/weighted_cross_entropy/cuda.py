"""Softmax cross-entropy on a GPU with smoothed labels, and with weights of classes and examples; see ``cpu``.

f   = mean_i w_i (logsumexp(z_i) - q_i · z_i)
d_t = mean_i w_i ((softmax(z_i) - q_i) · dz_ti)
q_i = (1 - ε) onehot(y_i) + ε / C
w_i = c[y_i], times the example's own weight where `weighted`
"""

import numpy as np

from fgnumba.kernels.cuda.kernel import device_function, kernel
from fgnumba.kernels.cuda.memory import DeviceArray
from fgnumba.kernels.cuda.primitives import (
    WARP,
    Address,
    Size,
    block_y,
    fma_outer,
    load_f32,
    load_f64,
    load_i64,
    store_f32,
    store_f64,
    thread,
    zeros,
)
from fgnumba.kernels.cuda.program import Operation
from fgnumba.kernels.cuda.sums import warp_sum, warp_sum_f64
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

_ZERO, _ONE, _NAN = np.float32(0), np.float32(1), np.float32(np.nan)
_ZERO_64, _ONE_64, _NAN_64 = np.float64(0), np.float64(1), np.float64(np.nan)


@launcher
def bind(
    threads: int,
    *,
    z: DeviceArray,
    classes: int,
    targets: DeviceArray,
    result: DeviceArray,
    values: DeviceArray,
    constants: DeviceArray,
    weighted: bool = False,
) -> list[Operation]:
    """Bind the loss to its arrays, as ``cpu.bind`` does.

    Parameters
    ----------
    threads : int
        Not used.
    z : DeviceArray
        (1 + T, B, ld) float32, logits and their tangents.
    classes : int
        Number C of columns of z that are logits.
    targets : DeviceArray
        (B,) int64 in [0, C); where `weighted`, (B, 2) float32: an example's weight, then its class. A target that is
        no class makes the loss NaN.
    result : DeviceArray
        (1,) ``loss.RESULT``, written.
    values : DeviceArray
        (1 + T,) float64, written: the loss and the directional derivatives.
    constants : DeviceArray
        (1 + C,) float64: ε, then the weights c of the classes.
    weighted : bool
        Whether the examples have weights.

    Returns
    -------
    list of Operation
        The loss of each example, then the mean.

    Notes
    -----
    Cost: reads z twice for every four tangents, all but once from caches, and the tangents once; one exponential an
    element for every four tangents.
    """
    return bind_loss(
        "weighted cross-entropy",
        _rows,
        threads,
        z,
        classes,
        targets,
        result,
        values,
        weighted=weighted,
        constants=constants,
    )


@launcher
def bind_residual(
    threads: int,
    *,
    z: DeviceArray,
    targets: DeviceArray,
    residual: DeviceArray,
    constants: DeviceArray,
    weighted: bool = False,
) -> Operation:
    """Bind e_i = w_i (softmax(z_i) - q_i), as ``cpu.bind_residual`` does: the gradient of each example's loss in z.

    Parameters
    ----------
    threads : int
        Not used.
    z : DeviceArray
        (B, ld) float32, logits.
    targets : DeviceArray
        (B,) int64 in [0, C); where `weighted`, (B, 2) float32: an example's weight, then its class. A target that is
        no class makes e NaN.
    residual : DeviceArray
        (B, C) float32, written: e.
    constants : DeviceArray
        (1 + C,) float64: ε, then the weights c of the classes.
    weighted : bool
        Whether the examples have weights.

    Returns
    -------
    Operation
        The launch.

    Notes
    -----
    Cost: reads z three times, all but once from caches; writes e once.
    """
    return bind_loss_residual(
        "weighted residual", _residual, threads, z, targets, residual, weighted, constants
    )


@device_function
def class_of(targets: int, stride: int, weights: int, i: int, classes: int) -> int:
    """Return an example's class, or -1 if its target is none; beside weights, classes are float32."""
    if weights == 0:
        target = load_i64(targets + 8 * i * stride)
        return target if target >= 0 and target < classes else -1
    label = load_f32(targets + 4 * i * stride)
    if not (label >= _ZERO and label < np.float32(classes)):
        return -1
    target = int(label)
    return target if np.float32(target) == label else -1


@kernel("weighted-cross-entropy")
def _rows(
    z: Address,
    block: Size,
    ld: Size,
    batch: Size,
    width: Size,
    count: Size,
    targets: Address,
    stride: Size,
    weights: Address,
    constants: Address,
    rows: Address,
) -> None:
    i, lane, t = example(), thread() % WARP, TANGENTS * block_y()
    if i >= batch:
        return
    left, at, out = count - t, z + 4 * i * ld, rows + 8 * i
    dz = at + 4 * (t + 1) * block
    target = class_of(targets, stride, weights, i, width)
    if target < 0:
        if lane == 0:
            if t == 0:
                store_f64(out, _NAN_64)
            store_tangents(out + 8 * (t + 1) * batch, batch, left, (_NAN_64, _NAN_64, _NAN_64, _NAN_64))
        return
    highest = highest_of(at, width)
    # Relative to the target's tangent, so that the terms do not cancel where the example is well classified.
    own = tangents_at(dz + 4 * target, block, left)
    total, dots, sums, low = _ZERO, zeros(4), zeros(4), _ZERO_64
    for n in range(lane, width, WARP):
        logit = load_f32(at + 4 * n)
        e = exp(logit - highest)
        d = tangents_at(dz + 4 * n, block, left)
        away = d[0] - own[0], d[1] - own[1], d[2] - own[2], d[3] - own[3]
        total = total + e
        low = low + (np.float64(highest) - np.float64(logit))
        dots = fma_outer(dots, (e,), away)
        sums = fma_outer(sums, (_ONE,), away)
    total, low = warp_sum(total), warp_sum_f64(low)
    smoothing, weight = load_f64(constants), load_f64(constants + 8 * (1 + target))
    share = smoothing / np.float64(width)
    first = np.float64(warp_sum(dots[0]) / total) - share * np.float64(warp_sum(sums[0]))
    second = np.float64(warp_sum(dots[1]) / total) - share * np.float64(warp_sum(sums[1]))
    third = np.float64(warp_sum(dots[2]) / total) - share * np.float64(warp_sum(sums[2]))
    fourth = np.float64(warp_sum(dots[3]) / total) - share * np.float64(warp_sum(sums[3]))
    if lane == 0:
        if t == 0:
            apart = (_ONE_64 - smoothing) * (np.float64(highest) - np.float64(load_f32(at + 4 * target)))
            # Without smoothing, a logit of minus infinity is no matter.
            apart = apart + share * low if smoothing > _ZERO_64 else apart
            store_f64(out, weight * (np.float64(log(total)) + apart))
        derivatives = weight * first, weight * second, weight * third, weight * fourth
        store_tangents(out + 8 * (t + 1) * batch, batch, left, derivatives)


@kernel("weighted-softmax-residual")
def _residual(
    z: Address,
    ld: Size,
    batch: Size,
    width: Size,
    targets: Address,
    stride: Size,
    weights: Address,
    constants: Address,
    residual: Address,
) -> None:
    i, lane = example(), thread() % WARP
    if i >= batch:
        return
    at, out = z + 4 * i * ld, residual + 4 * i * width
    target = class_of(targets, stride, weights, i, width)
    if target < 0:
        for n in range(lane, width, WARP):
            store_f32(out + 4 * n, _NAN)
        return
    factor, share = load_f64(constants + 8 * (1 + target)), load_f64(constants) / np.float64(width)
    if weights != 0:
        factor = factor * np.float64(load_f32(weights + 4 * i * stride))
    highest = highest_of(at, width)
    total = _ZERO
    for n in range(lane, width, WARP):
        total = total + exp(load_f32(at + 4 * n) - highest)
    total = warp_sum(total)
    others = _ZERO
    for n in range(lane, width, WARP):
        if n != target:
            p = np.float64(exp(load_f32(at + 4 * n) - highest) / total)
            e = np.float32(factor * (p - share))
            store_f32(out + 4 * n, e)
            others = others + e
    others = warp_sum(others)
    # The target's entry is minus the sum of the others: exact where an example is well classified.
    if lane == 0:
        store_f32(out + 4 * target, -others if total > _ZERO else _NAN)
