"""The product of rows in panels by panels, ``cpu.bind_product``, whose factors are bfloat16.

Each operand is split once, see :mod:`fgnumba.kernels.shared.product.split_factors`. The precision is that of tangents:
error signals and the gradients of weights are products of theirs.
"""

import numpy as np
import numpy.typing as npt
from numba import carray

from fgnumba.kernels.emit import pointer
from fgnumba.kernels.emit.precision import PRECISIONS
from fgnumba.kernels.emit.vector import PANEL, InstructionSet
from fgnumba.kernels.machine.arguments import filled, lay_out, record
from fgnumba.kernels.machine.compile import kernel
from fgnumba.kernels.machine.memory import address
from fgnumba.kernels.machine.program import Operation
from fgnumba.kernels.machine.work import grid, range_sizes, split, threads_for
from fgnumba.kernels.shared.product import dot_tiles, split_factors

_ARGUMENTS = record(
    *split_factors.FIELDS,
    *(
        "a",
        "a_panel",
        "w",
        "w_rows",
        "out",
        "out_rows",
        "rows",
        "panels",
        "onto",
        "column_parts",
        "row_parts",
    ),
)


def suits(isa: InstructionSet, terms: int, panels: int) -> bool:
    """Whether the precision of tangents has parts, and float32, where it may stand for it, is slower."""
    return bool(PRECISIONS[isa.tangent_precision].parts) and not dot_tiles.float_is_faster(isa, terms, panels)


def bind(
    name: str,
    isa: InstructionSet,
    threads: int,
    *,
    a: npt.NDArray[np.float32],
    w: npt.NDArray[np.float32],
    out: npt.NDArray[np.float32],
    rows: int,
    terms: int,
    columns: int,
    onto: bool,
    multiply_adds: int,
) -> Operation:
    """Bind the product. The parameters are those of ``cpu.bind_product``.

    Notes
    -----
    Cost: the products of ``cpu.bind_product``, as many times as the precision has terms. A thread splits its rows of
    `a` once, and its panels of w once. Memory for each thread: the parts of a chunk of rows, and of a panel, or of all
    of a thread's panels if there are several chunks.
    """
    panels = w.shape[0]
    sharing = threads_for(rows * terms * panels * PANEL, max(panels, -(-rows // isa.max_rows)), threads)
    column_parts, row_parts = grid(panels, rows, sharing)
    plan = split_factors.plan(
        isa,
        isa.tangent_precision,
        rows=range_sizes(rows, row_parts),
        panels=-(-panels // column_parts),
        terms=terms,
        last_columns=columns if panels == 1 else PANEL,
    )
    places, end = lay_out(plan.regions.items())
    fields = {
        **plan.fields,
        **places,
        "a": address(a),
        "a_panel": a.shape[1] * PANEL,
        "w": address(w),
        "w_rows": w.shape[1],
        "out": address(out),
        "out_rows": out.shape[1],
        "rows": rows,
        "panels": panels,
        "onto": onto,
        "column_parts": column_parts,
        "row_parts": row_parts,
    }
    return Operation(
        name,
        kernel("panel-product-split", _product, 3),
        filled(_ARGUMENTS, fields),
        column_parts * row_parts,
        scratch_bytes=end,
        multiply_adds=multiply_adds,
        keeps=(a, w, out, plan.table),
    )


def _product(arguments: int, part: int, parts: int) -> None:
    a = carray(pointer(arguments, _ARGUMENTS), 1)[0]
    begin, end = split(a.panels, a.column_parts, part % a.column_parts)
    first, last = split(a.rows, a.row_parts, part // a.column_parts)
    for row in range(first, last, a.chunk):
        n = min(a.chunk, last - row)
        split_factors.split_panels(a, a.a + row * PANEL * 4, a.a_panel, n)
        for q in range(begin, end):
            if row == first or a.slots == 0:
                split_factors.pack(a, a.w + q * a.w_rows * PANEL * 4, q - begin)
            out = a.out + (q * a.out_rows + row) * PANEL * 4
            split_factors.multiply(a, n, q - begin, q == a.panels - 1, out, a.onto)
