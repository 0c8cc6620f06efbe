"""Layers with a weight matrix on a GPU: which kernels of ``shared.product.cuda.product`` they launch."""

from typing import Any

from fgnumba.errors import DeviceError
from fgnumba.kernels.cuda.instructions import Instructions
from fgnumba.kernels.cuda.kernel import Kernel
from fgnumba.kernels.cuda.layout import DualImages, first_pixel, images
from fgnumba.kernels.cuda.program import Launch, Operation
from fgnumba.kernels.layout.geometry import Geometry
from fgnumba.kernels.layout.images import Images
from fgnumba.kernels.ops.elementwise import cuda as elementwise
from fgnumba.kernels.rules.activations.cuda import ALPHA
from fgnumba.kernels.shared.product.cuda.operands import directions, packed_weights
from fgnumba.kernels.shared.product.cuda.pixels import taps_of
from fgnumba.kernels.shared.product.cuda.product import KERNELS, LARGE, SMALL, TENSOR, Sums, Tile
from fgnumba.kernels.shared.product.product import Weights
from fgnumba.validation.launcher import launcher

MOST_ROWS = 2**31 - 256
"""Most rows of a product: the rows of the last tile are numbered in 32 bits."""


@launcher
def bind(
    name: str,
    instructions: Instructions,
    processors: int,
    *,
    batch: int,
    x: Images,
    y: Images,
    outputs: int,
    geometry: Geometry,
    weights: Weights,
    activation_name: str,
) -> Operation:
    """Bind y = a(X W + b) and its tangents; a row of X has the pixels of x under the taps of a convolution.

    The primal and the first tangent are one launch where they have the same precision; further tangents are another. An
    activation whose slope does not follow from its output is an operation after the product, in place.

    Parameters
    ----------
    name : str
        Name of the operation.
    instructions : Instructions
        Precision of the products.
    processors : int
        Number of multiprocessors to be kept busy.
    batch : int
        Number of examples B.
    x : Images
        Input.
    y : Images
        Output, written.
    outputs : int
        Number of columns N of W, of all groups together.
    geometry : Geometry
        How the taps move over x.
    weights : Weights
        W and b, and the directions along which they move.
    activation_name : str
        Name of the activation a.

    Returns
    -------
    Operation
        The launches.

    Raises
    ------
    DeviceError
        The product has too many rows for a GPU.
    """
    fused = activation_name in ALPHA
    count = weights.count if y.has_tangent or weights.count else 0
    launches = []
    for sums, slots, first, precision in _passes(instructions, weights, x.has_tangent, count):
        launches.append(
            _launch(
                precision,
                processors,
                sums,
                (first, slots),
                batch,
                x,
                y,
                outputs,
                geometry,
                weights,
                ALPHA.get(activation_name, 1.0),
            )
        )
    if not fused:
        applied = elementwise.bind(
            batch=batch, images_a_part=0, count=count, x=y, y=y, activation_name=activation_name
        )
        launches += applied.launches
    height, width, _ = y.shape
    products = weights.products(x.has_tangent and count > 0)
    return Operation(
        name,
        tuple(launches),
        multiply_adds=products * batch * height * width * weights.inputs * outputs,
        keeps=(x.memory, y.memory, weights),
    )


def _passes(
    instructions: Instructions, weights: Weights, has_tangent: bool, count: int
) -> list[tuple[Sums, int, int, str]]:
    """Return what each launch sums: the products, the number of tangents, the first of them, and the precision."""
    entries = weights.entries is not None
    primal, tangents = instructions.precision, instructions.of_tangents
    if count == 0:
        return [(Sums(True, False, False), 0, 0, primal)]
    alone = Sums(False, has_tangent, entries)
    if primal != tangents and any(alone):
        return [(Sums(True, False, False), 0, 0, primal), (alone, count, 0, tangents)]
    passes = [(Sums(True, has_tangent, entries), 1, 0, primal)]
    if count > 1:
        passes.append((alone, count - 1, 1, tangents))
    return passes


def _launch(
    precision: str,
    processors: int,
    sums: Sums,
    tangents: tuple[int, int],
    batch: int,
    x: Images,
    y: Images,
    outputs: int,
    geometry: Geometry,
    weights: Weights,
    alpha: float,
) -> Launch:
    first, slots = tangents
    channels = x.shape[2]
    out_high, out_wide, _ = y.shape
    groups = geometry.groups
    own, columns = channels // groups, outputs // groups
    taps = geometry.kernel_size[0] * geometry.kernel_size[1]
    rows = batch * out_high * out_wide
    kernel, tile = _kernel(precision, processors, sums, _wide(x, own, taps, groups), rows, columns, groups)
    column_tiles, row_tiles = -(-columns // tile.columns), -(-rows // tile.rows)
    if rows > MOST_ROWS:
        raise DeviceError(f"{rows} rows of a product are too many for a GPU; a smaller batch is required")
    arguments = {
        "x": images(DualImages, x),
        "dx": first_pixel(x) + 4 * (1 + first) * x.block,
        "y": images(DualImages, y),
        "dy": first_pixel(y) + 4 * (1 + first) * y.block,
        "weights": packed_weights(weights, groups),
        "directions": directions(weights, weights.kind if slots else 0, first),
        "taps": taps_of(geometry, x, y),
        "v_block": weights.panels * weights.inputs * 32,
        "v_bias_block": weights.panels * 32,
        "first": weights.first + first,
        "has_dy": int(slots > 0),
        "m_rows": rows,
        "outputs": columns,
        "column_blocks": column_tiles * groups,
        "group_tiles": column_tiles,
        "channels": own,
        "wide_stores": int(_aligned(y) and columns % 4 == 0),
        "alpha": alpha,
    }
    # Along one axis, which alone has room for millions; columns first: their blocks share the rows of X.
    return Launch(kernel, (column_tiles * groups * row_tiles, 1, max(1, slots)), arguments)


def _kernel(
    precision: str, processors: int, sums: Sums, wide: bool, rows: int, columns: int, groups: int
) -> tuple[Kernel, Tile]:
    """Return the kernel and its tile: the largest tile with which most multiprocessors have a block."""
    if not any(sums):
        precision = "float32"
    if precision != "float32" and wide:
        return KERNELS[precision, TENSOR[precision].name, sums, True], TENSOR[precision]
    blocks = -(-rows // LARGE.rows) * -(-columns // LARGE.columns) * groups
    tile = LARGE if wide and 4 * blocks >= 3 * processors else SMALL
    return KERNELS["float32", tile.name, sums, wide], tile


def _aligned(one: Images) -> bool:
    """Whether every pixel begins at a multiple of 16 bytes, in every block."""
    strides: tuple[Any, ...] = (one.block, one.image, one.row, one.pixel)
    height, width, _ = one.shape
    used = strides[:2] + strides[2:3] * (height > 1) + strides[3:] * (width > 1)
    return one.start % 4 == 0 and all(stride % 4 == 0 for stride in used)


def _wide(x: Images, channels: int, taps: int, groups: int) -> bool:
    """Whether x can be loaded 16 bytes at a time: they never cross from one pixel's channels into another's."""
    return _aligned(x) and (channels % 4 == 0 or (taps == 1 and groups == 1))
