"""Huber's loss on a GPU, value and directional derivatives in one pass over the outputs; see ``cpu``.

f   = mean_in φ(z_in - y_in)
d_t = mean_in φ'(z_in - y_in) dz_tin

Here i runs over the examples and n over the outputs; φ(d) is d² / 2 up to |d| = δ, and δ (|d| - δ / 2) beyond.
"""

from fgnumba.kernels.cuda.memory import DeviceArray
from fgnumba.kernels.cuda.program import Operation
from fgnumba.kernels.rules.losses import huber
from fgnumba.kernels.shared.loss.cuda import bind_loss, bind_loss_residual
from fgnumba.kernels.shared.pointwise_loss.cuda import residual_kernel, rows_kernel
from fgnumba.validation.launcher import launcher

_ROWS = rows_kernel("huber", huber)
_RESIDUAL = residual_kernel("huber-residual", huber)


@launcher
def bind(
    threads: int,
    *,
    z: DeviceArray,
    width: int,
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
        (1 + T, B, ld) float32, outputs and their tangents.
    width : int
        Number of columns of z that are outputs.
    targets : DeviceArray
        (B, width) float32; where `weighted`, (B, 1 + width), each example's weight before its targets.
    result : DeviceArray
        (1,) ``loss.RESULT``, written.
    values : DeviceArray
        (1 + T,) float64, written: the loss and the directional derivatives.
    constants : DeviceArray
        (1,) float64, the number δ.
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
        "huber", _ROWS, threads, z, width, targets, result, values, weighted=weighted, constants=constants
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
    """Bind e_i = φ'(z_i - y_i) / N, the gradient of each example's loss in its outputs, as ``cpu.bind_residual`` does.

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
    constants : DeviceArray
        (1,) float64, the number δ.
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
    return bind_loss_residual("huber residual", _RESIDUAL, threads, z, targets, residual, weighted, constants)
