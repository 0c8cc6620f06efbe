"""Dense layer on a GPU: y = a(x W + b) and, for every direction t, dy_t = a'(z) (dx_t W + x V_t + c_t); see ``cpu``.

A dense layer is a convolution of an image of one pixel (``shared.product.cuda``). The primal and the first tangent
share the loads of W and of x.
"""

from fgnumba.kernels.cuda.instructions import Instructions
from fgnumba.kernels.cuda.program import Operation
from fgnumba.kernels.layout.geometry import Geometry
from fgnumba.kernels.layout.images import Images
from fgnumba.kernels.ops.dense import linear_cuda
from fgnumba.kernels.shared.product.product import Weights
from fgnumba.validation.launcher import launcher


@launcher
def bind(
    isa: Instructions,
    threads: int,
    *,
    batch: int,
    x: Images,
    y: Images,
    outputs: int,
    weights: Weights,
    activation_name: str,
) -> Operation:
    """Bind the dense layer to its arrays, as ``cpu.bind`` does.

    Parameters
    ----------
    isa : Instructions
        Precision of the products.
    threads : int
        Number of multiprocessors.
    batch : int
        Number of examples B.
    x : Images
        Input (B, K), in a buffer whose rows begin at multiples of 16 bytes.
    y : Images
        Output, in such a buffer; its first N columns are written.
    outputs : int
        Number of outputs N.
    weights : Weights
        W and b, and the directions along which they move.
    activation_name : str
        Name of the activation a.

    Returns
    -------
    Operation
        The launches.

    Notes
    -----
    Cost: 1 + T products of B K N multiply-adds for rank-1 directions (1 where x has no tangent), 1 + 2 T for the others
    (1 + T). Reads W once for each tile of rows, x and its tangents once for each tile of columns.
    """
    return linear_cuda.bind(
        "dense",
        isa,
        threads,
        batch=batch,
        x=x,
        y=y.channels_from(0, outputs),
        outputs=outputs,
        geometry=Geometry((1, 1)),
        weights=weights,
        activation_name=activation_name,
    )
