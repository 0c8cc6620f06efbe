"""Binary cross-entropy of logits on a GPU, value and directional derivatives in one pass over the outputs; see ``cpu``.

f   = mean_in (softplus(z_in) - y_in z_in)
d_t = mean_in (sigmoid(z_in) - y_in) dz_tin

Here i runs over the examples and n over the outputs, each of which is a label of its own.
"""

from fgnumba.kernels.cuda.memory import DeviceArray
from fgnumba.kernels.cuda.program import Operation
from fgnumba.kernels.rules.losses import binary_cross_entropy
from fgnumba.kernels.shared.loss.cuda import bind_loss, bind_loss_residual
from fgnumba.kernels.shared.pointwise_loss.cuda import residual_kernel, rows_kernel
from fgnumba.validation.launcher import launcher

_ROWS = rows_kernel("binary-cross-entropy", binary_cross_entropy)
_RESIDUAL = residual_kernel("binary-residual", binary_cross_entropy)


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
        (1 + T, B, ld) float32, logits and their tangents.
    width : int
        Number of columns of z that are outputs.
    targets : DeviceArray
        (B, width) float32, each from 0 to 1; where `weighted`, (B, 1 + width), an example's weight before its targets.
    result : DeviceArray
        (1,) ``loss.RESULT``, written. A target out of range makes the loss NaN.
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
        "binary cross-entropy", _ROWS, threads, z, width, targets, result, values, weighted=weighted
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
    """Bind e_i = (sigmoid(z_i) - y_i) / N, the gradient of each example's loss, as ``cpu.bind_residual`` does.

    Parameters
    ----------
    threads : int
        Not used.
    z : DeviceArray
        (B, ld) float32, logits.
    targets : DeviceArray
        (B, N) float32, each from 0 to 1; where `weighted`, (B, 1 + N), each example's weight before its targets.
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
    return bind_loss_residual("binary residual", _RESIDUAL, threads, z, targets, residual, weighted)
