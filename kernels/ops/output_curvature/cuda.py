"""Second derivatives of each example's loss in the outputs, on a GPU; see the package and ``cpu``."""

import numpy as np

from fgnumba.kernels.cuda.kernel import kernel
from fgnumba.kernels.cuda.memory import DeviceArray
from fgnumba.kernels.cuda.primitives import WARP, Address, Size, load_f32, load_f64, store_f32, thread
from fgnumba.kernels.cuda.program import Operation
from fgnumba.kernels.cuda.sums import warp_sum
from fgnumba.kernels.ops.weighted_cross_entropy.cuda import class_of
from fgnumba.kernels.rules.elementary import exp
from fgnumba.kernels.rules.losses import SLOPES
from fgnumba.kernels.shared.loss.cuda import bind_loss_residual, example, highest_of
from fgnumba.kernels.shared.pointwise_loss.cuda import residual_kernel
from fgnumba.validation.launcher import launcher

_ZERO_32 = np.float32(0)
_ONE, _NAN = np.float64(1), np.float64(np.nan)


@launcher
def bind(
    threads: int,
    *,
    loss: str,
    z: DeviceArray,
    targets: DeviceArray,
    curvature: DeviceArray,
    constants: DeviceArray | None = None,
    weighted: bool = False,
) -> Operation:
    """Bind h_i of every example, as ``cpu.bind`` does.

    Parameters
    ----------
    threads : int
        Not used.
    loss : str
        ``softmax``, ``binary``, ``squared`` or ``huber``.
    z : DeviceArray
        (B, ld) float32, outputs.
    targets : DeviceArray
        (B,) int64 or (B, N) float32; where `weighted`, (B, 1 + N) float32.
    curvature : DeviceArray
        (B, N) float32, written: h. A target that is no class makes it NaN, if classes have weights.
    constants : DeviceArray or None
        The loss's own numbers, float64: of ``softmax``, label smoothing and the weights of classes, or None; of
        ``huber``, δ.
    weighted : bool
        Whether the examples have weights.

    Returns
    -------
    Operation
        The launch.

    Notes
    -----
    Cost: reads z three times for ``softmax``, all but once from caches, else once; writes h once.
    """
    return bind_loss_residual(
        "output curvature", _KERNELS[loss], threads, z, targets, curvature, weighted, constants
    )


@kernel("softmax-curvature")
def _softmax(
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
    factor = _ONE
    if constants != 0:
        target = class_of(targets, stride, weights, i, width)
        factor = load_f64(constants + 8 * (1 + target)) if target >= 0 else _NAN
    if weights != 0:
        factor = factor * np.float64(load_f32(weights + 4 * i * stride))
    at, out = z + 4 * i * ld, residual + 4 * i * width
    highest = highest_of(at, width)
    total = _ZERO_32
    for n in range(lane, width, WARP):
        total = total + exp(load_f32(at + 4 * n) - highest)
    total = warp_sum(total)
    for n in range(lane, width, WARP):
        share = np.float64(exp(load_f32(at + 4 * n) - highest)) / np.float64(total)
        store_f32(out + 4 * n, np.float32(factor * share))


_KERNELS = {
    "softmax": _softmax,
    **{name: residual_kernel(f"{name}-curvature", slope) for name, slope in SLOPES.items()},
}
