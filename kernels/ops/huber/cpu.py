"""Huber's loss on the CPU: value and directional derivatives in one pass over the outputs.

    f   = mean_in φ(z_in - y_in)
    d_t = mean_in φ'(z_in - y_in) dz_tin

Here i runs over the examples and n over the outputs; φ(d) is d² / 2 up to |d| = δ, and δ (|d| - δ / 2) beyond.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from fgnumba.kernels.machine.program import Operation
from fgnumba.kernels.rules.losses import huber
from fgnumba.kernels.shared.loss.cpu import bind_loss, bind_loss_residual
from fgnumba.kernels.shared.pointwise_loss.cpu import (
    SCRATCH_ITEMSIZE,
    reduce_entry,
    residual_kernel,
    rows_kernel,
)
from fgnumba.validation.launcher import launcher


@launcher
def bind(
    threads: int,
    *,
    z: npt.NDArray[np.float32],
    width: int,
    targets: npt.NDArray[np.float32],
    result: npt.NDArray[Any],
    values: npt.NDArray[np.float64],
    constants: npt.NDArray[np.float64],
    weighted: bool = False,
) -> list[Operation]:
    """Bind the loss to its arrays.

    Parameters
    ----------
    threads : int
        Number of threads that may share the work.
    z : array, (1 + T, B, ld) float32
        A dual buffer of outputs.
    width : int
        Number of its columns that are read.
    targets : array, (B, width) float32, C-contiguous
        The targets y; where `weighted`, (B, 1 + width), each example's weight before its targets.
    result : array, (1,) ``loss.RESULT``
        Written: whether the values are finite.
    values : array, (1 + T,) float64
        Written: the loss, then the directional derivatives.
    constants : array, (1,) float64
        The number δ.
    weighted : bool
        Whether the examples have weights w_i: the mean is then (1/B) Σ_i w_i f_i.

    Notes
    -----
    Cost: one pass over z and the targets.
    """
    return bind_loss(
        "huber",
        rows_kernel("huber", huber),
        threads,
        z,
        width,
        targets,
        result,
        values,
        reduce_entry(),
        weighted=weighted,
        constants=constants,
        scratch_itemsize=SCRATCH_ITEMSIZE,
    )


@launcher
def bind_residual(
    threads: int,
    *,
    z: npt.NDArray[np.float32],
    targets: npt.NDArray[np.float32],
    residual: npt.NDArray[np.float32],
    constants: npt.NDArray[np.float64],
    weighted: bool = False,
) -> Operation:
    """Bind e_i = φ'(z_i - y_i) / N, the gradient of an example's own loss in its outputs.

    Parameters
    ----------
    threads : int
        Number of threads that may share the work.
    z : array, (B, ld) float32
        The outputs.
    targets : array, (B, N) float32, C-contiguous
        The targets y; where `weighted`, (B, 1 + N), each example's weight before its targets.
    residual : array, (B, N) float32
        Written: e.
    constants : array, (1,) float64
        The number δ.
    weighted : bool
        Whether the examples have weights w_i, with which e_i is multiplied.
    """
    return bind_loss_residual(
        "huber residual",
        residual_kernel("huber-residual", huber),
        threads,
        z,
        targets,
        residual,
        weighted,
        constants,
    )
