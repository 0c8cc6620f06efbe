"""Second derivatives of each example's loss in the outputs, on the CPU; see the package."""

from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import carray

from fgnumba.kernels.emit import pointer
from fgnumba.kernels.machine.compile import kernel
from fgnumba.kernels.machine.program import Operation
from fgnumba.kernels.ops.weighted_cross_entropy.cpu import class_of
from fgnumba.kernels.rules.elementary import exp
from fgnumba.kernels.rules.losses import SLOPES
from fgnumba.kernels.shared.loss.cpu import RESIDUAL, bind_loss_residual
from fgnumba.kernels.shared.pointwise_loss.cpu import residual_kernel
from fgnumba.validation.launcher import launcher


@launcher
def bind(
    threads: int,
    *,
    loss: str,
    z: npt.NDArray[np.float32],
    targets: npt.NDArray[Any],
    curvature: npt.NDArray[np.float32],
    constants: npt.NDArray[np.float64] | None = None,
    weighted: bool = False,
) -> Operation:
    """Bind h_i of every example.

    Parameters
    ----------
    threads : int
        Number of threads that may share the work.
    loss : str
        ``softmax``, ``binary``, ``squared`` or ``huber``.
    z : array, (B, ld) float32
        The outputs.
    targets : array, (B,) int64 or (B, N) float32
        The targets as the loss reads them; where `weighted`, (B, 1 + N) float32, each example's weight before its
        targets.
    curvature : array, (B, N) float32
        Written: h. A target that is no class makes it NaN, if classes have weights.
    constants : array, float64, or None
        The loss's own numbers, as its kernels read them: of ``softmax``, label smoothing and the weights of classes,
        or None; of ``huber``, δ.
    weighted : bool
        Whether the examples have weights.

    Notes
    -----
    Cost: reads z and writes h once, with one exponential for each output of a cross-entropy.
    """
    return bind_loss_residual(
        "output curvature", _entry(loss), threads, z, targets, curvature, weighted, constants
    )


@cache
def _entry(loss: str) -> int:
    if loss == "softmax":
        return kernel("softmax-curvature", _softmax, 3)
    return residual_kernel(f"{loss}-curvature", SLOPES[loss])


def _softmax(arguments: int, part: int, parts: int) -> None:
    a = carray(pointer(arguments, RESIDUAL), 1)[0]
    constants = carray(pointer(a.constants, np.float64), 1 + a.width)
    weights = carray(pointer(a.weights, np.float32), a.batch * a.stride)
    for i in range(a.batch * part // parts, a.batch * (part + 1) // parts):
        z = carray(pointer(a.z + i * a.ld * 4, np.float32), a.width)
        h = carray(pointer(a.residual + i * a.width * 4, np.float32), a.width)
        factor = np.float64(1)
        if a.constants != 0:
            target = class_of(a.targets, a.stride, a.weights != 0, i, a.width)
            factor = np.float64(constants[1 + target] if target >= 0 else np.nan)
        if a.weights != 0:
            factor *= np.float64(weights[i * a.stride])
        highest = z[0]
        for n in range(1, a.width):
            highest = max(highest, z[n])
        total = np.float64(0)
        for n in range(a.width):
            h[n] = exp(z[n] - highest)
            total += np.float64(h[n])
        for n in range(a.width):
            h[n] = factor * (np.float64(h[n]) / total)
