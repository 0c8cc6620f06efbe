"""Two-dimensional convolution on a GPU, channels last, primal and tangents in one pass; see ``cpu``.

    y    = a(x * W + b)
    dy_t = a'(z) (dx_t * W + x * V_t + c_t)

The convolution is a matrix product (``shared.product.cuda``): its rows are output pixels, and an element of K is read
where it lies in the image; outside of the image there are zeros. Where every channel is a group of its own,
``depthwise_cuda`` uses a thread for each element of the output.
"""

from typing import Any

from fgnumba.kernels.cuda.instructions import Instructions
from fgnumba.kernels.cuda.program import Operation
from fgnumba.kernels.layout.geometry import Geometry, is_channelwise
from fgnumba.kernels.layout.images import NO_BORDER, Border, Images
from fgnumba.kernels.ops.conv2d import depthwise_cuda, gradient_cuda
from fgnumba.kernels.ops.dense import linear_cuda
from fgnumba.kernels.shared.product.product import Weights
from fgnumba.validation.launcher import launcher


@launcher
def bind(
    isa: Instructions,
    threads: int,
    *,
    batch: int,
    images_a_part: int,
    x: Images,
    y: Images,
    geometry: Geometry,
    weights: Weights,
    activation_name: str,
) -> list[Operation]:
    """Bind the convolution to its arrays, as ``cpu.bind`` does.

    Parameters
    ----------
    isa : Instructions
        Precision of the products.
    threads : int
        Number of multiprocessors.
    batch : int
        Number of examples B.
    images_a_part : int
        Not used: a GPU takes the whole batch at once.
    x : Images
        Input.
    y : Images
        Output, written.
    geometry : Geometry
        Size of the kernel, and how it moves.
    weights : Weights
        W and b, and the directions along which they move.
    activation_name : str
        Name of the activation a.

    Returns
    -------
    list of Operation
        The launches.

    Notes
    -----
    Cost: as on the CPU, without filtering. Reads W once for each tile of rows, and the pixels under the kernel once for
    each tile of columns.
    """
    channels, outputs = x.shape[2], y.shape[2]
    if is_channelwise(geometry, channels, outputs):
        return [
            depthwise_cuda.bind(
                batch=batch,
                x=x,
                y=y,
                geometry=geometry,
                weights=weights,
                activation_name=activation_name,
            )
        ]
    return [
        linear_cuda.bind(
            "conv2d",
            isa,
            threads,
            batch=batch,
            x=x,
            y=y,
            outputs=outputs,
            geometry=geometry,
            weights=weights,
            activation_name=activation_name,
        )
    ]


def gradient_border(geometry: Geometry, shape: tuple[int, int, int], outputs: int) -> Border:
    """Return the border of zeros that :func:`bind_gradient` reads around dz: none on a GPU.

    Parameters
    ----------
    geometry : Geometry
        Not used.
    shape : tuple of int
        Not used.
    outputs : int
        Not used.

    Returns
    -------
    Border
        No border.
    """
    return NO_BORDER


@launcher
def bind_gradient(
    isa: Instructions,
    threads: int,
    *,
    batch: int,
    x: Images,
    dz: Images,
    geometry: Geometry,
    out: Any,
    bias: Any,
    onto: bool,
    multiply_adds: int,
) -> Operation:
    """Bind the gradient in the weights, as ``cpu.bind_gradient`` does.

    Parameters
    ----------
    isa : Instructions
        Not used.
    threads : int
        Number of multiprocessors.
    batch : int
        Number of examples B.
    x : Images
        Input of the convolution.
    dz : Images
        Error signal δ of its pre-activations.
    geometry : Geometry
        Size of the kernel, and how it moves.
    out : DeviceArray
        dW, packed like W, written.
    bias : DeviceArray or None
        db, written; None where the layer has no bias.
    onto : bool
        Whether the gradient is added to what `out` and `bias` hold.
    multiply_adds : int
        Number of multiply-adds, for the plan.

    Returns
    -------
    Operation
        The launches.
    """
    return gradient_cuda.bind(
        threads,
        batch=batch,
        x=x,
        dz=dz,
        geometry=geometry,
        out=out,
        bias=bias,
        onto=onto,
        multiply_adds=multiply_adds,
    )
