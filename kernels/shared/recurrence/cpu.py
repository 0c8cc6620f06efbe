"""Scans over the positions of sequences: parameters that are vectors, states that are carried on, and parts.

A *scan* goes through the positions of each sequence in their order. It reads the product of the input, x W + b, of all
positions, and carries a state on. A part is a range of examples and a range of panels of units, so that no part reads
what another one writes.

A part takes a few panels at a time. All that belongs to a panel lies in a *block* of scratch memory, in rows of PANEL
float32: first rows of the primal (parameters, slopes, the state), then rows of each tangent (the parameters' tangents,
the state's). The blocks stay in the first-level cache while sequences pass. A loop takes a block as one array of rows:
of these the compiler knows that they do not overlap, and it gives up on loops with too many others.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import carray
from numba.extending import register_jitable

from fgnumba.kernels.emit import pointer
from fgnumba.kernels.emit.vector import PANEL, InstructionSet
from fgnumba.kernels.layout import images
from fgnumba.kernels.layout.images import Images, operands
from fgnumba.kernels.machine.arguments import filled, lay_out, record
from fgnumba.kernels.machine.compile import kernel
from fgnumba.kernels.machine.memory import address
from fgnumba.kernels.machine.program import Operation
from fgnumba.kernels.machine.work import parts_for, split
from fgnumba.kernels.rules.directions import EXPLICIT, GAUSSIAN, NONE, RADEMACHER
from fgnumba.kernels.rules.directions import cpu as directions
from fgnumba.kernels.rules.philox import ENTRY
from fgnumba.kernels.shared.product import product as products

CACHED_BLOCKS = 16 * 1024
"""Bytes of the blocks that a part takes at a time, so that the first-level cache holds them beside the products."""

VECTOR_FIELDS = (
    *("vectors", "vector", "vector2", "parameter", "parameter2", "v", "v2", "padded", "count"),
    *("first", "kind", "stream", "draw", "draw_vector", "at_vectors", "at_work"),
)

ARGUMENTS = record(
    *images.fields("y"),
    *VECTOR_FIELDS,
    *("batch", "length", "units", "panels", "group", "column_parts", "row_parts"),
    *("product", "product_block", "product_row"),
    *("state", "state_block", "state_row", "state_moves"),
)


@dataclass(frozen=True)
class Vectors:
    """Parameters of a recurrence that are vectors, of equal sizes, and their directions.

    Parameters
    ----------
    values : tuple of array, each (N,) float32
        At most two packed parameters.
    parameters : tuple of int
        Their numbers in the Philox counter.
    kind : int
        The kind of direction, see ``rules.directions``. For RANK1 the entries are random signs, and for NONE zeros.
    count : int
        Number of directions T.
    first : int
        Number of the first direction in the Philox counter.
    stream : array, (1,) ``philox.STREAM``, or None
        Seed and step, read when the operation runs.
    v : tuple of array, each (T, N) float32 or None
        The directions, if their kind is EXPLICIT.
    """

    values: tuple[npt.NDArray[Any], ...] = ()
    parameters: tuple[int, ...] = ()
    kind: int = NONE
    count: int = 0
    first: int = 0
    stream: npt.NDArray[Any] | None = None
    v: tuple[npt.NDArray[Any] | None, ...] = ()


@dataclass(frozen=True)
class Rows:
    """How many rows a block has, and which of them are states.

    Parameters
    ----------
    primal, tangent : int
        Number of rows of the primal, and of each tangent.
    state, tangent_state : int
        Number of the first row of the state among them.
    states : int
        Number of rows of a state.
    """

    primal: int
    tangent: int
    state: int
    tangent_state: int
    states: int = 1


def vector_fields(isa: InstructionSet, vectors: Vectors) -> tuple[dict[str, int], dict[str, int]]:
    """Return the values of `VECTOR_FIELDS` but for offsets, and the bytes of scratch memory by field.

    Parameters
    ----------
    isa : InstructionSet
        The instruction set to bind for.
    vectors : Vectors
        The parameters and their directions.
    """
    kind, number = vectors.kind, len(vectors.values)
    drawn = kind not in (NONE, EXPLICIT) and number > 0 and vectors.count > 0
    padded = vectors.values[0].size if number else 0
    draw = 0
    if drawn:
        draw = directions.gaussians(isa) if kind == GAUSSIAN else directions.sign_words(isa)
    values = {
        "vectors": number,
        "padded": padded,
        "count": vectors.count,
        "first": vectors.first,
        "kind": kind,
        "stream": address(vectors.stream),
        "draw": draw,
        "draw_vector": directions.vector() if drawn else 0,
    }
    for which, suffix in zip(range(number), ("", "2"), strict=False):
        values[f"vector{suffix}"] = address(vectors.values[which])
        values[f"parameter{suffix}"] = vectors.parameters[which]
        values[f"v{suffix}"] = address(vectors.v[which]) if kind == EXPLICIT else 0
    drawn_kind = GAUSSIAN if kind == GAUSSIAN else RADEMACHER
    regions = {
        "at_vectors": number * vectors.count * padded * 4 * (kind != EXPLICIT),
        "at_work": directions.draw_bytes(drawn_kind, padded // PANEL) * drawn,
    }
    return values, regions


@register_jitable
def draw(a: Any) -> None:
    """Draw the tangents of the vectors for every direction, unless they are given. Without directions they are zero."""
    if a.kind == EXPLICIT:
        return
    for which in range(a.vectors):
        for t in range(a.count):
            out = a.scratch + a.at_vectors + (which * a.count + t) * a.padded * 4
            if a.kind == NONE:
                zeros = carray(pointer(out, np.float32), a.padded)
                for j in range(a.padded):
                    zeros[j] = np.float32(0)
            else:
                parameter = a.parameter2 if which else a.parameter
                work = a.scratch + a.at_work
                products.draw_vector(a, t, a.padded, ENTRY, parameter, work, out)


@register_jitable
def tangent_of(a: Any, which: int, t: int) -> int:
    """Return the address of the tangent of vector 0 or 1 along direction `t`."""
    if a.kind == EXPLICIT:
        return int((a.v2 if which else a.v) + t * a.padded * 4)
    return int(a.scratch + a.at_vectors + (which * a.count + t) * a.padded * 4)


@register_jitable(forceinline=True)
def row(block: int, number: int) -> int:
    """Return the address of a row of a block."""
    return block + number * PANEL * 4


@register_jitable(forceinline=True)
def copy(to: int, source: int, n: int) -> None:
    """Copy n float32. A constant n would be unrolled, and would not become vector code, since rows may overlap."""
    x, y = carray(pointer(source, np.float32), n), carray(pointer(to, np.float32), n)
    for j in range(n):
        y[j] = x[j]


@register_jitable(forceinline=True)
def clear(to: int, n: int) -> None:
    """Fill n float32 with zeros."""
    y = carray(pointer(to, np.float32), n)
    for j in range(n):
        y[j] = np.float32(0)


def bind(
    name: str,
    entry: int,
    isa: InstructionSet,
    threads: int,
    *,
    batch: int,
    units: int,
    product: npt.NDArray[np.float32],
    y: Images,
    state: npt.NDArray[np.float32] | None,
    vectors: Vectors,
    rows: Rows,
    work: int,
) -> Operation:
    """Bind a scan to its arrays.

    Parameters
    ----------
    name : str
        Name of the operation.
    entry : int
        Address of the kernel, see :func:`scan`.
    isa : InstructionSet
        The instruction set to bind for.
    threads : int
        Number of threads that may share the work.
    batch : int
        Number of examples B.
    units : int
        Number of units H.
    product : array, (1 + T, B L, G Hp) float32
        The product of the input.
    y : Images
        The states of B examples (L, 1, H), a row for each position.
    state : array, (1 + T, B, S) or (1, B, S) float32, or None
        The state that is carried on.
    vectors : Vectors
        The parameters that are vectors, and the number of directions.
    rows : Rows
        The rows of a block.
    work : int
        How many multiply-adds take as long as one unit of one position.
    """
    length, panels, count = y.shape[0], -(-units // PANEL), vectors.count
    each = (rows.primal + count * rows.tangent) * PANEL * 4
    parts = parts_for(batch * length * units * work * (2 + count) // 2, batch * panels, threads)
    row_parts = min(batch, parts)
    column_parts = min(panels, -(-parts // row_parts))
    group = max(1, min(-(-panels // column_parts), CACHED_BLOCKS // each))
    values, regions = vector_fields(isa, vectors)
    offsets, end = lay_out({"blocks": group * each, **regions}.items())
    addresses, memory = operands(y=y)
    moves = state is not None and count > 0 and state.shape[0] > 1
    fields = {
        **addresses,
        **values,
        **{field: offset for field, offset in offsets.items() if field != "blocks"},
        "batch": batch,
        "length": length,
        "units": units,
        "panels": panels,
        "group": group,
        "column_parts": column_parts,
        "row_parts": row_parts,
        "product": address(product),
        "product_block": product[0].size,
        "product_row": product.shape[2],
        "state": address(state),
        "state_block": 0 if state is None else state[0].size,
        "state_row": 0 if state is None else state.shape[2],
        "state_moves": moves,
    }
    return Operation(
        name,
        entry,
        filled(ARGUMENTS, fields),
        parts=column_parts * row_parts,
        scratch_bytes=end,
        keeps=(memory["keeps"], product, state, vectors),
        external=memory["external"],
    )


def scan(
    name: str,
    rows: Rows,
    prepare: Callable[..., None],
    prepare_tangent: Callable[..., None],
    primal: Callable[..., None],
    tangent: Callable[..., None],
) -> int:
    """Return the address of a kernel that scans the positions of sequences.

    Parameters
    ----------
    name : str
        Name of the kernel.
    rows : Rows
        The rows of a block.
    prepare : function
        Takes ``(a, panel, block)``: writes the parameters of a panel of units into its block.
    prepare_tangent : function
        Takes ``(a, t, panel, block, own)``: writes the tangents of the parameters along direction t into the rows of
        that direction, which begin at the address `own`.
    primal : function
        Takes ``(a, block, product, y, lanes)``: computes the next state of a panel. The last two rows of addresses are
        those of the panel in the product of the position, and in y, where `lanes` elements may be written.
    tangent : function
        Takes ``(a, block, own, product, y, lanes)``: computes the next tangent of the state in the rows at the address
        `own`. It runs after `primal`, which therefore keeps the state before in the block.
    """
    primal_rows, tangent_rows = rows.primal, rows.tangent
    state_row, tangent_state, states = rows.state, rows.tangent_state, rows.states

    def run(arguments: int, part: int, parts: int) -> None:
        a = carray(pointer(arguments, ARGUMENTS), 1)[0]
        first, end = split(a.panels, a.column_parts, part % a.column_parts)
        i_first, i_end = split(a.batch, a.row_parts, part // a.column_parts)
        if first == end or i_first == i_end:
            return
        draw(a)
        each = (primal_rows + a.count * tangent_rows) * PANEL * 4
        for p in range(first, end, a.group):
            p_end = min(end, p + a.group)
            for panel in range(p, p_end):
                block = a.scratch + (panel - p) * each
                prepare(a, panel, block)
                for t in range(a.count):
                    own = block + (primal_rows + t * tangent_rows) * PANEL * 4
                    prepare_tangent(a, t, panel, block, own)
            for i in range(i_first, i_end):
                for panel in range(p, p_end):
                    block = a.scratch + (panel - p) * each
                    _carry(
                        a, block, state_row, tangent_state, states, primal_rows, tangent_rows, i, panel, False
                    )
                for position in range(a.length):
                    row = i * a.length + position
                    for panel in range(p, p_end):
                        block = a.scratch + (panel - p) * each
                        product = a.product + (row * a.product_row + panel * PANEL) * 4
                        y = a.y + (i * a.y_image + position * a.y_row + panel * PANEL) * 4
                        lanes = min(PANEL, a.units - panel * PANEL)
                        primal(a, block, product, y, lanes)
                        for t in range(a.count):
                            own = block + (primal_rows + t * tangent_rows) * PANEL * 4
                            product += a.product_block * 4
                            y += a.y_block * 4
                            tangent(a, block, own, product, y, lanes)
                if a.state != 0:
                    for panel in range(p, p_end):
                        block = a.scratch + (panel - p) * each
                        _carry(
                            a,
                            block,
                            state_row,
                            tangent_state,
                            states,
                            primal_rows,
                            tangent_rows,
                            i,
                            panel,
                            True,
                        )

    return kernel(name, run, 3)


@register_jitable
def _carry(
    a: Any,
    block: int,
    state_row: int,
    tangent_state: int,
    states: int,
    primal_rows: int,
    tangent_rows: int,
    i: int,
    panel: int,
    back: bool,
) -> None:
    """Copy the state of an example, and its tangents, into a panel's block, or `back` from there."""
    for t in range(1 + a.count):
        moves = a.state != 0 and (t == 0 or a.state_moves)
        for which in range(states):
            row = state_row if t == 0 else primal_rows + (t - 1) * tangent_rows + tangent_state
            inside = block + (row + which) * PANEL * 4
            column = (which * a.panels + panel) * PANEL
            outside = a.state + (t * a.state_block + i * a.state_row + column) * 4
            if not moves and not back:
                clear(inside, PANEL)
            elif moves and back:
                copy(outside, inside, PANEL)
            elif moves:
                copy(inside, outside, PANEL)
