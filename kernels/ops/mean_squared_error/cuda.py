"""Mean squared error on a GPU, value and directional derivatives in one pass over the outputs; see ``cpu``.

f   = mean_ic (z_ic - y_ic)²
d_t = mean_ic 2 (z_ic - y_ic) dz_tic
"""

import numpy as np

from fgnumba.kernels.cuda.kernel import kernel
from fgnumba.kernels.cuda.memory import DeviceArray
from fgnumba.kernels.cuda.primitives import (
    WARP,
    Address,
    Size,
    block_y,
    load_f32,
    store_f32,
    store_f64,
    thread,
)
from fgnumba.kernels.cuda.program import Operation
from fgnumba.kernels.cuda.sums import warp_sum_f64
from fgnumba.kernels.shared.loss.cuda import (
    TANGENTS,
    bind_loss,
    bind_loss_residual,
    example,
    store_tangents,
    tangents_at,
)
from fgnumba.validation.launcher import launcher

_ZERO, _ONE, _TWO = np.float64(0), np.float64(1), np.float64(2)


@launcher
def bind(
    threads: int,
    *,
    z: DeviceArray,
    width: int,
    targets: DeviceArray,
    result: DeviceArray,
    values: DeviceArray,
    weighted: bool = False,
) -> list[Operation]:
    """Bind the loss to its arrays, as ``cpu.bind`` does.

    Parameters
    ----------
    threads : int
        Not used.
    z : DeviceArray
        (1 + T, B, ld) float32, outputs and their tangents.
    width : int
        Number of columns of z that are outputs.
    targets : DeviceArray
        (B, width) float32; where `weighted`, (B, 1 + width), each example's weight before its targets.
    result : DeviceArray
        (1,) ``loss.RESULT``, written.
    values : DeviceArray
        (1 + T,) float64, written: the loss and the directional derivatives.
    weighted : bool
        Whether the examples have weights w_i: the mean is then (1/B) Σ_i w_i f_i.

    Returns
    -------
    list of Operation
        The loss of each example, then the mean.

    Notes
    -----
    Cost: reads z and the targets once for every four tangents, all but once from caches, and the tangents once.
    """
    return bind_loss(
        "mean squared error", _rows, threads, z, width, targets, result, values, weighted=weighted
    )


@launcher
def bind_residual(
    threads: int,
    *,
    z: DeviceArray,
    targets: DeviceArray,
    residual: DeviceArray,
    weighted: bool = False,
) -> Operation:
    """Bind e_i = 2 (z_i - y_i) / N, the gradient of each example's loss in its outputs, as ``cpu.bind_residual`` does.

    Parameters
    ----------
    threads : int
        Not used.
    z : DeviceArray
        (B, ld) float32, outputs.
    targets : DeviceArray
        (B, N) float32; where `weighted`, (B, 1 + N), each example's weight before its targets.
    residual : DeviceArray
        (B, N) float32, written: e.
    weighted : bool
        Whether the examples have weights w_i, with which e_i is multiplied.

    Returns
    -------
    Operation
        The launch.

    Notes
    -----
    Cost: reads z and the targets once, writes e once.
    """
    return bind_loss_residual("squared residual", _residual, threads, z, targets, residual, weighted)


@kernel("mean-squared-error", resident=5)
def _rows(
    z: Address,
    block: Size,
    ld: Size,
    batch: Size,
    width: Size,
    count: Size,
    targets: Address,
    ahead: Size,
    rows: Address,
) -> None:
    i, lane, t = example(), thread() % WARP, TANGENTS * block_y()
    if i >= batch:
        return
    left, at, out = count - t, z + 4 * i * ld, rows + 8 * i
    # From the width, which is in a register anyway: with the stride as one more number, the kernel spills on sm_90.
    dz, y = at + 4 * (t + 1) * block, targets + 4 * i * (width + ahead)
    # In float64: where an output is far from its target, by 1e20, the square is beyond float32.
    total, first, second, third, fourth = _ZERO, _ZERO, _ZERO, _ZERO, _ZERO
    for n in range(lane, width, WARP):
        difference = np.float64(load_f32(at + 4 * n)) - np.float64(load_f32(y + 4 * n))
        d = tangents_at(dz + 4 * n, block, left)
        total += difference * difference
        first, second = first + difference * np.float64(d[0]), second + difference * np.float64(d[1])
        third, fourth = third + difference * np.float64(d[2]), fourth + difference * np.float64(d[3])
    total = warp_sum_f64(total)
    first, second = warp_sum_f64(first), warp_sum_f64(second)
    third, fourth = warp_sum_f64(third), warp_sum_f64(fourth)
    if lane == 0:
        scale = _ONE / np.float64(width)
        twice = _TWO * scale
        if t == 0:
            store_f64(out, total * scale)
        derivatives = (twice * first, twice * second, twice * third, twice * fourth)
        store_tangents(out + 8 * (t + 1) * batch, batch, left, derivatives)


@kernel("squared-residual")
def _residual(
    z: Address,
    ld: Size,
    batch: Size,
    width: Size,
    targets: Address,
    stride: Size,
    weights: Address,
    residual: Address,
) -> None:
    i = example()
    if i >= batch:
        return
    factor = _TWO / np.float64(width)
    if weights != 0:
        factor = factor * np.float64(load_f32(weights + 4 * i * stride))
    for n in range(thread() % WARP, width, WARP):
        difference = np.float64(load_f32(z + 4 * (i * ld + n))) - np.float64(
            load_f32(targets + 4 * (i * stride + n))
        )
        store_f32(residual + 4 * (i * width + n), np.float32(factor * difference))
