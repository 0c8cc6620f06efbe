"""Winograd's filtering F(2x2, 3x3): when it is used, its matrices, and the transformation of the weights.

    Y = Aᵀ [(G W Gᵀ) ⊙ (Bᵀ X B)] A

X is a 4x4 tile of the input, Y a 2x2 tile of the output, and W a 3x3 kernel; the transformed tiles are 4x4.

Source: A. Lavin, S. Gray, Fast Algorithms for Convolutional Neural Networks, arXiv 1509.09308, section 4.1.
"""

from functools import cache

import numpy as np
import numpy.typing as npt
from numba import carray
from numba.extending import register_jitable

from fgnumba.kernels.emit import call, pointer, separable
from fgnumba.kernels.emit.precision import PRECISIONS
from fgnumba.kernels.emit.vector import PANEL, InstructionSet
from fgnumba.kernels.layout.geometry import Geometry
from fgnumba.kernels.layout.images import Border
from fgnumba.kernels.machine.arguments import filled, record
from fgnumba.kernels.machine.compile import kernel
from fgnumba.kernels.machine.memory import address
from fgnumba.kernels.machine.program import Operation
from fgnumba.kernels.machine.work import parts_for, split
from fgnumba.kernels.rules.directions import RANK1
from fgnumba.kernels.shared.product import product

PLACES = 16
"""Elements of a transformed tile."""
TAPS = 9
"""Elements of a kernel."""
OUTPUT = ((1, 1, 1, 0), (0, 1, -1, -1))
"""Aᵀ"""
INPUT = ((1, 0, -1, 0), (0, 1, 1, 0), (0, -1, 1, 0), (0, 1, 0, -1))
"""Bᵀ"""
KERNEL = ((1, 0, 0), (0.5, 0.5, 0.5), (0.5, -0.5, 0.5), (0, 0, 1))
"""G"""

CACHED_DIRECTIONS = 1024 * 1024
"""Most bytes of transformed tangents of the weights. If there are more, the convolution is direct, panel by panel."""

SPEED = {"": 1, "pairs": 2, "tiles": 16, "quads": 4}
"""Multiply-adds of bfloat16 in the time of one of float32, by the way of multiplying."""

LEAST = 0.4
"""The time of a product, in units of float32's, from which on saving 1.25 of it pays for the transformations."""

_WEIGHTS = record("weight", "out", "panels", "channels", "transform")


def fits(geometry: Geometry, shape: tuple[int, int, int], outputs: int) -> bool:
    """Whether the filtering is possible, and saves more than its transformations cost.

    Parameters
    ----------
    geometry : Geometry
        Sizes of the convolution.
    shape : (int, int, int)
        (H, W, C) of the input.
    outputs : int
        Number of output channels N.
    """
    height, width = output_size(geometry, shape)
    return (
        geometry.kernel_size == (3, 3)
        and geometry.stride == (1, 1)
        and geometry.dilation == (1, 1)
        and geometry.groups == 1
        and shape[2] % 16 == 0
        and outputs >= 16
        and min(height, width) >= 4
    )


def suits(
    isa: InstructionSet,
    geometry: Geometry,
    shape: tuple[int, int, int],
    output: tuple[int, int, int],
    weights: product.Weights,
    has_tangent: bool,
) -> bool:
    """Whether the filtering is used, given the directions too.

    Tangents of the weights that are not of rank 1 must fit into the cache.
    If products are in bfloat16, a direct convolution must not be as fast: see :func:`saves`.

    Parameters
    ----------
    isa : InstructionSet
        The instruction set, and its precisions.
    geometry : Geometry
        Sizes of the convolution.
    shape, output : (int, int, int)
        (H, W, C) of the input, and (H', W', N) of the output.
    weights : Weights
        The layer's weights and directions.
    has_tangent : bool
        Whether the input has a tangent.
    """
    if not fits(geometry, shape, output[2]):
        return False
    if weights.kind == RANK1 and not has_tangent:
        return False
    if not saves(isa, weights, has_tangent):
        return False
    size = PLACES * weights.panels * shape[2] * PANEL * 4
    return weights.entries is None or weights.count * size <= CACHED_DIRECTIONS


def saves(isa: InstructionSet, weights: product.Weights, has_tangent: bool) -> bool:
    """Whether the products that are saved take longer than the transformations, in the precisions of `isa`.

    The filtering saves 1.25 products for each that it computes. Its transformations, and its additional splitting, take
    as long as half a product in float32 (a Zen 4 core, 64 channels): a direct convolution is 1.7 times as slow in
    float32, 1.4 times in bfloat16 by ``vdpbf16ps``, but would be faster by the tiles of AMX. Its results are also less
    exact, by 5/3 of the roundings of factors, so that a tie goes to the direct convolution.

    Parameters
    ----------
    isa : InstructionSet
        The instruction set, and its precisions.
    weights : Weights
        The layer's weights and directions.
    has_tangent : bool
        Whether the input has a tangent.
    """
    primal, tangent = (
        len(PRECISIONS[name].terms) / SPEED[isa.dots] if PRECISIONS[name].parts else 1.0
        for name in (isa.precision, isa.tangent_precision)
    )
    products = weights.products(has_tangent)
    return primal + (products - 1) * tangent > LEAST * products


def output_size(geometry: Geometry, shape: tuple[int, int, int]) -> tuple[int, int]:
    """Return the height and width of the output."""
    top, bottom, left, right = geometry.padding
    return shape[0] + top + bottom - 2, shape[1] + left + right - 2


def needed_border(geometry: Geometry, shape: tuple[int, int, int]) -> Border:
    """Return the border that the input needs: the padding, and what the last tile reads beyond it in odd outputs."""
    height, width = output_size(geometry, shape)
    top, bottom, left, right = geometry.padding
    return Border(
        top,
        max(bottom, -(-height // 2) * 2 + 2 - top - shape[0]),
        left,
        max(right, -(-width // 2) * 2 + 2 - left - shape[1]),
    )


def transform_weights(
    isa: InstructionSet, threads: int, weight: npt.NDArray[np.float32], transformed: npt.NDArray[np.float32]
) -> Operation:
    """Bind the transformation of packed weights (panels, 9 C, PANEL) to (panels, 16, C, PANEL), once a pass.

    Parameters
    ----------
    isa : InstructionSet
        The instruction set to bind for.
    threads : int
        Number of threads that may share the work.
    weight : array, (panels, 9 C, PANEL) float32
        The packed weights.
    transformed : array, (panels, 16, C, PANEL) float32
        Written: the transformed weights.

    Notes
    -----
    Cost: reads the weights once, and writes 16/9 of their size.
    """
    panels, _, channels, _ = transformed.shape
    fields = {
        "weight": address(weight),
        "out": address(transformed),
        "panels": panels,
        "channels": channels,
        "transform": transform(isa, "kernel", KERNEL),
    }
    return Operation(
        name="transform",
        entry=_weights_entry(),
        arguments=filled(_WEIGHTS, fields),
        parts=parts_for(2 * transformed.size, panels, threads),
        keeps=(weight, transformed),
        once=True,
    )


@cache
def transform(isa: InstructionSet, name: str, matrix: tuple[tuple[float, ...], ...]) -> int:
    """Return the address of the transformation that :func:`fgnumba.kernels.emit.separable` describes.

    Parameters
    ----------
    isa : InstructionSet
        The instruction set to bind for.
    name : str
        Name of the transformation.
    matrix : tuple of tuples of float
        M of Y = M X Mᵀ.
    """
    emitted = separable(isa, matrix)

    def apply(
        count: int,
        x_step: int,
        y_step: int,
        length: int,
        x: int,
        x_row: int,
        x_column: int,
        y: int,
        y_row: int,
        y_column: int,
    ) -> None:
        emitted(count, x_step, y_step, length, x, x_row, x_column, y, y_row, y_column)

    return kernel(f"winograd-{name}-{isa.vectors}", apply, 10)


@cache
def _weights_entry() -> int:
    return kernel("winograd-weights", _weights, 3)


def _weights(arguments: int, part: int, parts: int) -> None:
    a = carray(pointer(arguments, _WEIGHTS), 1)[0]
    first, last = split(a.panels, parts, part)
    for p in range(first, last):
        size = a.channels * PANEL
        transform_panel(a.transform, a.weight + p * TAPS * size * 4, a.out + p * PLACES * size * 4, size)


@register_jitable
def transform_panel(transform: int, weight: int, out: int, size: int) -> None:
    """Transform one panel of weights. `size` is the number of elements of one tap."""
    call(transform, (1, 0, 0, size, weight, 3 * size, size, out, 4 * size, size))
