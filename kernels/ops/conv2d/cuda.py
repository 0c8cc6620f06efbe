"""Two-dimensional convolution on a GPU, channels last, primal and tangents in one pass; see ``cpu``.

    y    = a(x * W + b)
    dy_t = a'(z) (dx_t * W + x * V_t + c_t)

The tile of ``gpu.product``: rows are output pixels, and an element of K is read where it lies in the image, zeros
outside of it. Where every channel is a group of its own, ``depthwise_cuda`` takes a thread an output element.
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
    """Bind the convolution to its arrays, as ``cpu.bind`` does; the whole batch at once, whatever `images_a_part`.

    Parameters
    ----------
    isa : says the products' precision. threads : multiprocessors.

    Cost: as on the CPU, without filtering. Reads W once a tile of rows, the pixels under the kernel once a tile of
    columns.
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
    """Return the border of zeros around dz that :func:`bind_gradient` reads: none."""
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
    """Bind dW, packed like W, and db, as ``cpu.bind_gradient`` does."""
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
