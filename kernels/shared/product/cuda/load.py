"""What a block loads of a product's operands: the next step's tiles of X, dX and W, and V's, which may be drawn.

Tiles are copied asynchronously to a stage of shared memory. Where an element of X lies is computed anew only where K
goes on to another tap of the convolution's kernel: within one tap, addresses go on by a step.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from fgnumba.kernels.cuda.kernel import device_function
from fgnumba.kernels.cuda.layout import DualImages
from fgnumba.kernels.cuda.primitives import Address, Size, copy4, copy16, divide, narrow, thread
from fgnumba.kernels.rules.directions import EXPLICIT
from fgnumba.kernels.shared.product.cuda.block_tile import THREADS, Plan
from fgnumba.kernels.shared.product.cuda.entries import draw_column
from fgnumba.kernels.shared.product.cuda.operands import Directions, PackedWeights
from fgnumba.kernels.shared.product.cuda.pixels import Taps, next_taps, origin, swizzled, within


class Block(NamedTuple):
    """The part of a product that a block computes.

    Parameters
    ----------
    row, column : int
        First row and first column of its tile; columns are those of one group.
    group : int
        Number of the group.
    slot : int
        Number of the tangent.
    c2 : int
        Direction and parameter of the weights, as the counter takes them.
    """

    row: int
    column: int
    group: int
    slot: int
    c2: int


class Fixed(NamedTuple):
    """What a thread loads in every step, and where it puts it.

    Parameters
    ----------
    x : Address
        Address of the group's first channel.
    dx_apart : Address
        Bytes from an element of X to that of dX.
    row, k : Address
        Row of the block's tile, and element of K, that the thread loads first.
    m_0, m_1 : Size
        Rows of X of which it loads 16 bytes each; one or two of them.
    base_0, base_1 : Address
        Bytes from the first image to those rows' images.
    top_0, top_1, left_0, left_1 : Size
        Row and column of the pixels under the first tap.
    place_0, place_1 : Size
        Places of what is loaded in X's tile.
    place_w : Size
        Place in a stage of the 16 bytes of W.
    v_apart : Address
        Bytes from an element of W to that of V, where V is given.
    panel_v, lane_v : Address
        Panel and lane of the column of V that the thread draws, where V is drawn.
    place_v : Size
        Place in a stage of the first of its four rows.
    """

    x: Address
    dx_apart: Address
    row: Address
    k: Address
    m_0: Size
    m_1: Size
    base_0: Address
    base_1: Address
    top_0: Size
    top_1: Size
    left_0: Size
    left_1: Size
    place_0: Size
    place_1: Size
    place_w: Size
    v_apart: Address
    panel_v: Address
    lane_v: Address
    place_v: Size


class Moving(NamedTuple):
    """What a thread loads next.

    Parameters
    ----------
    x_0, x_1 : Address
        Addresses of its elements of X, where they are loaded 16 bytes at a time.
    here_0, here_1 : bool
        Whether those lie in the image.
    moved : bool
        Whether K has gone on to another tap since the addresses were computed.
    channel, tap_row, tap_column : Size
        Where in K the elements are.
    left_k : Size
        Elements of K from there to the end.
    w : Address
        Address of its 16 bytes of W.
    left_w : Size
        Rows of W from there to the end.
    quad : Size
        Number of the four rows of V that it draws.
    """

    x_0: Address
    x_1: Address
    here_0: bool
    here_1: bool
    moved: bool
    channel: Size
    tap_row: Size
    tap_column: Size
    left_k: Size
    w: Address
    left_w: Size
    quad: Size


def loading(plan: Plan) -> tuple[Callable[..., Any], ...]:
    """Return the device functions `begin` and `load` of a kernel.

    Parameters
    ----------
    plan : Plan
        The kernel's numbers.

    Returns
    -------
    tuple of callable
        `begin` returns a thread's :class:`Fixed` and :class:`Moving`. `load` begins the copies of a step's tiles, draws
        V where it is not given, and returns what is loaded next.
    """
    (primal, tangent, entries), wide, tile = plan.sums, plan.wide, plan.tile
    rows, columns, depth, w_width = tile.rows, tile.columns, tile.depth, tile.width
    chunks, quads, swizzled_rows = plan.chunks, plan.quads, plan.swizzled_rows
    at_dx, at_w, at_v, w_bytes = plan.at_dx, plan.at_w, plan.at_v, plan.w_bytes
    loads = rows * chunks // THREADS  # of 16 bytes of X by a thread and step
    singles = rows * depth // THREADS  # of 4 bytes

    @device_function
    def begin(
        x: DualImages,
        dx: int,
        weights: PackedWeights,
        v: int,
        taps: Taps,
        block: Block,
        channels: int,
    ) -> tuple[Fixed, Moving]:
        """Return what the thread loads in every step, and what it loads first."""
        t = thread()
        # Of X: element k of rows that lie some rows apart, `left_k` elements before the end.
        if wide:
            row, k = t // chunks, 4 * (t % chunks)
        else:
            row, k = t // depth, t % depth
        tap, channel = divide(k, channels)
        tap_row, tap_column = divide(tap, taps.across)
        m_0, m_1 = narrow(block.row + row), narrow(block.row + row + rows // 2)
        base_0, top_0, left_0 = origin(m_0, taps, x.image)
        base_1, top_1, left_1 = origin(m_1, taps, x.image)
        # Of W and V: as many rows as a step has, four columns; of a V that is drawn, four rows of a column.
        k_w, n_w = t // quads, 4 * (t % quads)
        panel_w, n_v = (block.column + n_w) >> 5, block.column + t % columns
        first_panel = block.group * weights.panels
        in_weight = ((first_panel + panel_w) * weights.rows + k_w) * 32 + ((block.column + n_w) & 31)
        fixed = Fixed(
            x.address + 4 * block.group * channels,
            dx - x.address,
            row,
            k,
            m_0,
            m_1,
            base_0,
            base_1,
            top_0,
            top_1,
            left_0,
            left_1,
            narrow(swizzled(row, k >> 2, chunks, swizzled_rows)),
            narrow(swizzled(row + rows // 2, k >> 2, chunks, swizzled_rows)),
            narrow(at_w + k_w * w_width + 4 * n_w),
            v - weights.weight,
            first_panel + (n_v >> 5),
            n_v & 31,
            narrow(at_v + 4 * (t // columns) * w_width + 4 * (t % columns)),
        )
        moving = Moving(
            x.address,
            x.address,
            False,
            False,
            True,
            narrow(channel),
            narrow(tap_row),
            narrow(tap_column),
            narrow(weights.rows - k),
            weights.weight + 4 * in_weight,
            narrow(weights.rows - k_w if panel_w < weights.panels else 0),
            narrow(t // columns),
        )
        return fixed, moving

    @device_function
    def load_wide(
        x: DualImages, taps: Taps, m_rows: int, fixed: Fixed, moving: Moving, stage: int
    ) -> tuple[int, int, bool, bool]:
        """Begin the copies of a step's X and dX, 16 bytes each; return the next addresses, and whether they count."""
        x_0, x_1, here_0, here_1 = moving.x_0, moving.x_1, moving.here_0, moving.here_1
        left_k = moving.left_k
        if moving.moved:
            high_at, wide_at = moving.tap_row * taps.dilation_high, moving.tap_column * taps.dilation_wide
            h, w = narrow(high_at + fixed.top_0), narrow(wide_at + fixed.left_0)
            here_0 = fixed.m_0 < m_rows and within(h, w, taps)
            x_0 = fixed.x + fixed.base_0 + 4 * (h * x.row + w * x.pixel + moving.channel)
            if loads == 2:
                h, w = narrow(high_at + fixed.top_1), narrow(wide_at + fixed.left_1)
                here_1 = fixed.m_1 < m_rows and within(h, w, taps)
                x_1 = fixed.x + fixed.base_1 + 4 * (h * x.row + w * x.pixel + moving.channel)
        # Past the end of K less than 16 bytes are left where there is one tap alone.
        room = narrow(4 * left_k if left_k < 4 else 16)
        nbytes = room if here_0 and left_k > 0 else narrow(0)
        copy16(stage + fixed.place_0, x_0, nbytes)
        if tangent:
            copy16(stage + fixed.place_0 + at_dx, x_0 + fixed.dx_apart, nbytes)
        if loads == 2:
            nbytes = room if here_1 and left_k > 0 else narrow(0)
            copy16(stage + fixed.place_1, x_1, nbytes)
            if tangent:
                copy16(stage + fixed.place_1 + at_dx, x_1 + fixed.dx_apart, nbytes)
        return x_0 + 4 * depth, x_1 + 4 * depth, here_0, here_1

    @device_function
    def load_single(
        x: DualImages, taps: Taps, m_rows: int, block: Block, fixed: Fixed, moving: Moving, stage: int
    ) -> None:
        """Begin the copies of a step's X and dX, 4 bytes each: neighbours may belong to different taps."""
        for e in range(singles):
            row = fixed.row + e * (THREADS // depth)
            base, h, w = origin(block.row + row, taps, x.image)
            h, w = h + moving.tap_row * taps.dilation_high, w + moving.tap_column * taps.dilation_wide
            here = moving.left_k > 0 and block.row + row < m_rows and within(h, w, taps)
            source = fixed.x + base + 4 * (h * x.row + w * x.pixel + moving.channel)
            nbytes = narrow(4 if here else 0)
            place = swizzled(row, fixed.k >> 2, chunks, swizzled_rows) + 4 * (fixed.k & 3)
            copy4(stage + place, source, nbytes)
            if tangent:
                copy4(stage + place + at_dx, source + fixed.dx_apart, nbytes)

    @device_function
    def draw(directions: Directions, block: Block, fixed: Fixed, moving: Moving, stage: int) -> None:
        """Draw a step's V, or begin its copy where it is given."""
        if directions.kind == EXPLICIT:
            nbytes = narrow(16 if moving.left_w > 0 else 0)
            copy16(stage + fixed.place_w + w_bytes, moving.w + fixed.v_apart, nbytes)
        else:
            at, panel, lane = stage + fixed.place_v, fixed.panel_v, fixed.lane_v
            draw_column(at, w_width, directions, moving.quad, panel, lane, block.c2)

    @device_function
    def load(
        x: DualImages,
        directions: Directions,
        taps: Taps,
        m_rows: int,
        channels: int,
        block: Block,
        fixed: Fixed,
        moving: Moving,
        stage: int,
    ) -> Moving:
        """Begin the copies of a step's tiles, draw V, and return what is loaded next."""
        x_0, x_1, here_0, here_1 = moving.x_0, moving.x_1, moving.here_0, moving.here_1
        if wide:
            x_0, x_1, here_0, here_1 = load_wide(x, taps, m_rows, fixed, moving, stage)
        else:
            load_single(x, taps, m_rows, block, fixed, moving, stage)
        channel, tap_column, tap_row = narrow(moving.channel + depth), moving.tap_column, moving.tap_row
        moved = channel >= channels
        if moved:
            channel, tap_column, tap_row = next_taps(channel, tap_column, tap_row, channels, taps.across)
        if primal or tangent:
            copy16(stage + fixed.place_w, moving.w, narrow(16 if moving.left_w > 0 else 0))
        if entries:
            draw(directions, block, fixed, moving, stage)
        return Moving(
            x_0,
            x_1,
            here_0,
            here_1,
            moved,
            channel,
            tap_row,
            tap_column,
            narrow(moving.left_k - depth),
            moving.w + 128 * depth,
            narrow(moving.left_w - depth),
            narrow(moving.quad + chunks),
        )

    return begin, load
