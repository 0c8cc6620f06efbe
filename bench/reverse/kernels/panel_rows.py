"""Emits the loop over the rows of one panel of features: they are copied, multiplied by slopes, and summed.

Numba would test before each row whether its arrays overlap, which takes longer than a row of a panel does.
"""

from collections.abc import Callable
from functools import cache
from typing import Any

from numba import types
from numba.extending import intrinsic

from fgnumba.kernels.emit.vector import PANEL, InstructionSet
from fgnumba.kernels.emit.vectors import F32, Vectors, index, loop


@cache
def panel_rows(isa: InstructionSet, slopes: bool) -> Callable[..., None]:
    """Return a Numba intrinsic that computes ``y = x`` or ``y = x ⊙ s`` for the rows of a panel, and ``total += Σ y``.

    The intrinsic takes ``(rows, x, x_row, s, s_row, y, y_row, total)``, all int64: the number of rows, at least 1, the
    address of row 0 of x, s and y, each with the elements from one row to the next, and the address of the PANEL
    totals. y may be x.

    Parameters
    ----------
    isa : InstructionSet
        The instruction set whose vectors are used.
    slopes : bool
        Whether there is a factor s.

    Notes
    -----
    Cost: reads x and s once, and writes y once; the totals stay in registers. They are summed in the order of the rows.
    """
    places = [index(lane) for lane in range(0, PANEL, isa.lanes)]

    @intrinsic
    def go_through(typingctx, rows, x, x_row, s, s_row, y, y_row, total):
        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            rows, x, x_row, s, s_row, y, y_row, total = args
            x, s, y, total = (builder.inttoptr(at, F32.as_pointer()) for at in (x, s, y, total))
            vectors = Vectors(builder, isa.lanes)
            before = [vectors.load(total, at) for at in places]
            with loop(builder, "row", rows, before) as (i, totals, following):
                x_at, s_at, y_at = (builder.mul(i, row) for row in (x_row, s_row, y_row))
                values = [vectors.load(x, builder.add(x_at, at)) for at in places]
                if slopes:
                    factors = [vectors.load(s, builder.add(s_at, at)) for at in places]
                    values = [builder.fmul(a, b) for a, b in zip(values, factors, strict=True)]
                for value, at in zip(values, places, strict=True):
                    vectors.store(value, y, builder.add(y_at, at))
                following += [builder.fadd(a, b) for a, b in zip(totals, values, strict=True)]
            for value, at in zip(following, places, strict=True):
                vectors.store(value, total, at)
            return context.get_dummy_value()

        return types.void(rows, x, x_row, s, s_row, y, y_row, total), codegen

    return go_through
