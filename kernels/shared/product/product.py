"""What every layer with weights does besides its products: draw directions, choose register tiles, apply the epilogue.

Dense layers and convolutions differ in how they walk over their inputs. What they have in common is here: a record of
arguments that begins with `FIELDS`, and the steps that need nothing else. In the notation used here, V = u wᵀ is a
rank-1 direction of the weight, and c the direction of the bias.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import carray
from numba.extending import register_jitable

from fgnumba.kernels.emit import call, pointer, tangent_rows
from fgnumba.kernels.emit.vector import PANEL, InstructionSet
from fgnumba.kernels.machine.compile import kernel
from fgnumba.kernels.machine.memory import address
from fgnumba.kernels.rules.activations.cpu import activation
from fgnumba.kernels.rules.directions import EXPLICIT, GAUSSIAN, NONE, RADEMACHER, RANK1
from fgnumba.kernels.rules.directions import cpu as directions
from fgnumba.kernels.rules.philox import DIRECTION_SHIFT, ENTRY, RIGHT, STREAM
from fgnumba.kernels.shared.product import dots
from fgnumba.kernels.shared.product.register_tiles import tile_table

FIELDS = (
    *("weight", "bias", "inputs", "panels", "tallest", "group", "weight_tiles", "tangent_tiles"),
    *("count", "first", "kind", "parameter", "bias_parameter", "stream", "v", "v_bias"),
    *("draw", "draw_vector", "activate", "combine"),
    *("at_slopes", "at_right", "at_shift", "at_drawn"),
    *dots.FIELDS,
)


@dataclass(frozen=True)
class Weights:
    """The weight and bias of a layer, and their directions.

    Parameters
    ----------
    weight : array, (panels, K, PANEL) float32
        The packed weight, see :func:`fgnumba.kernels.layout.packing.pack`.
    bias : array, (panels * PANEL,) float32
        The packed bias, zeros if the layer has none.
    kind : int
        The kind of direction, see ``rules.directions``.
    count : int
        Number of directions T.
    first : int
        Number of the first direction in the Philox counter.
    parameter, bias_parameter : int
        Numbers of weight and bias in the Philox counter. A `bias_parameter` of -1 means that there is no
        bias, and no tangent of it.
    stream : array, (1,) ``philox.STREAM``
        Seed and step, read when the operation runs.
    v, v_bias : array, (T, panels, K, PANEL) and (T, panels * PANEL) float32, or None
        The directions, if their kind is EXPLICIT.
    """

    weight: npt.NDArray[np.float32]
    bias: npt.NDArray[np.float32]
    kind: int = NONE
    count: int = 0
    first: int = 0
    parameter: int = 0
    bias_parameter: int = -1
    stream: npt.NDArray[Any] | None = None
    v: npt.NDArray[np.float32] | None = None
    v_bias: npt.NDArray[np.float32] | None = None

    @property
    def panels(self) -> int:
        """Number of panels of the packed weight."""
        return self.weight.shape[0]

    @property
    def inputs(self) -> int:
        """K, the number of rows of the weight."""
        return self.weight.shape[1]

    @property
    def entries(self) -> str | None:
        """The form in which the entries of V are drawn or given; None if V is of rank 1, or there is no direction."""
        return {RADEMACHER: "signs", GAUSSIAN: "float", EXPLICIT: "float"}.get(self.kind)

    def products(self, has_tangent: bool) -> int:
        """Return how many products a pass computes: the primal's, and those of T tangents."""
        return 1 + self.count * (has_tangent + (self.entries is not None))


def vector_bytes(weights: Weights) -> int:
    """Return how many bytes drawing u, w or c takes, besides the result of w and c."""
    rows = weights.panels
    if weights.kind == RANK1:
        return max(directions.draw_bytes(RANK1, rows), dots.factor_bytes(weights.inputs))
    return directions.draw_bytes(weights.kind, rows) if weights.kind in (RADEMACHER, GAUSSIAN) else 0


def fields(
    isa: InstructionSet,
    weights: Weights,
    activation_name: str,
    has_tangent: bool,
    entries: str | None,
    heights: Collection[int],
    group: int,
    last: int,
    channelwise: bool = False,
    ahead: bool = False,
    tables: tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]] | None = None,
) -> tuple[dict[str, int], tuple[Any, ...]]:
    """Return the values of `FIELDS`, except for offsets in scratch memory, and objects that must be kept alive.

    Parameters
    ----------
    isa : InstructionSet
        The instruction set to bind for.
    weights : Weights
        The layer's weights.
    activation_name : str
        The layer's activation.
    has_tangent : bool
        Whether the input has a tangent.
    entries : str or None
        The form in which tangent tiles read V, see :func:`fgnumba.kernels.emit.product_tile`.
    heights : collection of int
        Heights of the register tiles, see :func:`fgnumba.kernels.shared.product.register_tiles.tile_table`.
    group : int
        Panels of a wide tile; see there.
    last : int
        Columns of the last panel; see there.
    channelwise, ahead : bool
        Properties of all tiles, see :func:`fgnumba.kernels.emit.product_tile`.
    tables : tuple of 2 arrays, or None
        The addresses of the tiles of the primal, and of the tangents. None: those of float32, which are compiled here.
    """
    kind, drawn = weights.kind, weights.kind in (RANK1, RADEMACHER, GAUSSIAN)
    if tables is None:
        primal = tangent = tile_table(isa, heights, group, True, None, last, channelwise, ahead)
        if entries:
            tangent = tile_table(isa, heights, group, has_tangent, entries, last, channelwise, ahead)
    else:
        primal, tangent = tables
    draw = 0
    if drawn:
        draw = directions.gaussians(isa) if kind == GAUSSIAN else directions.sign_words(isa)
    values = {
        "weight": address(weights.weight),
        "bias": address(weights.bias),
        "inputs": weights.inputs,
        "panels": weights.panels,
        "tallest": isa.max_rows,
        "group": group,
        "weight_tiles": address(primal),
        "tangent_tiles": address(tangent),
        "count": weights.count,
        "first": weights.first,
        "kind": kind,
        "parameter": weights.parameter,
        "bias_parameter": weights.bias_parameter,
        "stream": address(weights.stream),
        "v": address(weights.v),
        "v_bias": address(weights.v_bias),
        "draw": draw,
        "draw_vector": directions.vector() if drawn else 0,
        "activate": activation(activation_name, slope=weights.count > 0),
        "combine": combine(isa) if weights.count > 0 else 0,
    }
    return values, (primal, tangent, weights)


def regions(weights: Weights, sums: int, slopes: int, drawn: int) -> Mapping[str, int]:
    """Return the bytes of scratch memory by field.

    The field ``sums`` comes first, at the beginning of the scratch memory.

    Parameters
    ----------
    weights : Weights
        The layer's weights.
    sums : int
        Bytes of the products' sums.
    slopes : int
        Bytes of the slopes, if there are directions.
    drawn : int
        Bytes of drawn panels of V.
    """
    width = weights.panels * PANEL * 4
    return {
        "sums": sums,
        "at_slopes": slopes * (weights.count > 0),
        "at_right": weights.count * width * (weights.kind == RANK1),
        "at_shift": weights.count * width,
        "at_drawn": max(drawn, vector_bytes(weights)),
    }


@register_jitable
def draw_right_and_shift(a: Any, t: int) -> None:
    """Draw w and c for direction `t`. If c is given, it is left where it is; without a bias, c is zero."""
    n = a.panels * PANEL
    work, shift = a.scratch + a.at_drawn, a.scratch + a.at_shift + t * n * 4
    if a.kind == RANK1:
        draw_vector(a, t, n, RIGHT, a.parameter, work, a.scratch + a.at_right + t * n * 4)
    if a.bias_parameter < 0:
        zeros = carray(pointer(shift, np.float32), n)
        for j in range(n):
            zeros[j] = np.float32(0)
    elif a.kind != EXPLICIT:
        draw_vector(a, t, n, ENTRY, a.bias_parameter, work, shift)


@register_jitable
def draw_panel(a: Any, t: int, panel: int, k: int, length: int, out: int) -> None:
    """Draw rows k to k + length of one panel of V_t."""
    stream = carray(pointer(a.stream, STREAM), 1)[0]
    c2 = ((a.first + t) << DIRECTION_SHIFT) + a.parameter
    call(a.draw, (k, length, panel, ENTRY, c2, stream.step, stream.key_low, stream.key_high, out))


@register_jitable
def draw_vector(a: Any, t: int, n: int, purpose: int, parameter: int, work: int, out: int) -> None:
    """Draw a vector of direction `t`.

    Parameters
    ----------
    a : record
        The kernel's arguments. Only first, kind, stream, draw and draw_vector are used.
    t : int
        The direction, counted from the first.
    n : int
        Number of entries, a multiple of PANEL.
    purpose : int
        ``philox.ENTRY``, ``LEFT`` or ``RIGHT``.
    parameter : int
        Number of the parameter in the Philox counter.
    work : int
        Address of memory for :func:`fgnumba.kernels.rules.directions.cpu.vector`.
    out : int
        Address of the n float32.
    """
    stream = carray(pointer(a.stream, STREAM), 1)[0]
    c2 = ((a.first + t) << DIRECTION_SHIFT) + parameter
    key = (c2, stream.step, stream.key_low, stream.key_high)
    call(a.draw_vector, (a.draw, np.int64(a.kind == GAUSSIAN), n, purpose, *key, work, out))


@register_jitable
def finish(
    a: Any, t: int, p: int, rows: int, columns: int, z: int, slopes: int, dotted: int, y: int, ld_y: int
) -> None:
    """Apply the epilogue to some rows of z.

    The primal gets bias and activation; a tangent gets the rank-1 term, the bias's direction and the slope.

    Parameters
    ----------
    a : record
        The kernel's arguments, with `FIELDS`.
    t : int
        0: the rows are of the primal. Otherwise they are of tangent t.
    p : int
        The panel at which the columns begin.
    rows, columns : int
        How many rows and columns of y are written.
    z, slopes : int
        Addresses. Their rows have a.group panels, or one if fewer than a.group remain.
    dotted : int
        Address of x·u, or 0 if there is none.
    y, ld_y : int
        Address of the result, and the elements from one of its rows to the next.
    """
    stride = (columns + PANEL - 1) // PANEL * PANEL
    if t == 0:
        call(a.activate, (rows, columns, stride, z, a.bias + p * PANEL * 4, y, ld_y, slopes))
        return
    column = ((t - 1) * a.panels + p) * PANEL * 4
    shift = a.v_bias if a.kind == EXPLICIT and a.bias_parameter >= 0 else a.scratch + a.at_shift
    right = a.scratch + a.at_right + column
    call(
        a.combine,
        (rows, columns, stride, z, slopes, dotted, a.dot_stride, right, shift + column, y, ld_y),
    )


@cache
def combine(isa: InstructionSet) -> int:
    """Return the address of a kernel that computes a tile's tangent, dy = a'(z) (dz + (x·u) w + c).

    The kernel takes ``(rows, columns, stride, dz, slopes, dots, dot_stride, right, shift, dy, ld)``. If the address
    dz is 0, the first term is left out; if `dots` is 0, the second. Rows of dz and slopes are `stride` elements
    apart, the dots `dot_stride`, and rows of dy `ld`. `columns` of each row are read and written.
    """
    lanes = isa.lanes
    both, sums, factors = (
        tangent_rows(isa, products, dots) for products, dots in ((True, True), (True, False), (False, True))
    )

    def combine_tangent(
        rows: int,
        columns: int,
        stride: int,
        dz: int,
        slopes: int,
        dots: int,
        dot_stride: int,
        right: int,
        shift: int,
        dy: int,
        ld: int,
    ) -> None:
        whole = columns // lanes * lanes
        if dots == 0:
            sums(rows, whole, stride, dz, slopes, dots, dot_stride, right, shift, dy, ld)
        elif dz == 0:
            factors(rows, whole, stride, dz, slopes, dots, dot_stride, right, shift, dy, ld)
        else:
            both(rows, whole, stride, dz, slopes, dots, dot_stride, right, shift, dy, ld)
        if whole < columns:
            _combine_rest(rows, whole, columns, stride, dz, slopes, dots, dot_stride, right, shift, dy, ld)

    return kernel(f"combine-tangent-{isa.vectors}", combine_tangent, 11)


@register_jitable
def _combine_rest(
    rows: int,
    first: int,
    columns: int,
    stride: int,
    dz: int,
    slopes: int,
    dots: int,
    dot_stride: int,
    right: int,
    shift: int,
    dy: int,
    ld: int,
) -> None:
    slope = carray(pointer(slopes, np.float32), (rows, stride))
    c = carray(pointer(shift, np.float32), columns)
    out = carray(pointer(dy, np.float32), (rows, ld))
    w = carray(pointer(right, np.float32), columns)
    s = carray(pointer(dots, np.float32), rows * dot_stride)
    product = carray(pointer(dz, np.float32), (rows, stride))
    for i in range(rows):
        for n in range(first, columns):
            total = c[n]
            if dots != 0:
                total = s[i * dot_stride] * w[n] + total
            if dz != 0:
                total = product[i, n] + total
            out[i, n] = slope[i, n] * total
