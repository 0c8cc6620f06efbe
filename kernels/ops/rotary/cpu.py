"""Rotary embedding on the CPU: pairs of elements of each head are turned, primal and tangents alike.

    y  = R x:   y_c = cos(φ) x_c - sin(φ) x_{c + d/2},   y_{c + d/2} = sin(φ) x_c + cos(φ) x_{c + d/2}
    dy = R dx,                                           φ = l base^(-2 c / d),  c < d/2

for each head of d elements at position l, so that a query times a key depends on their positions by the difference
alone. Elements c and c + d/2 are a pair, as in GPT-NeoX and Llama. The transpose Rᵀ turns back.

Source: J. Su et al., RoFormer, arXiv 2104.09864, section 3.2.
"""

from functools import cache

import numpy as np
from numba import carray
from numba.extending import register_jitable

from fgnumba.kernels.emit import pointer
from fgnumba.kernels.emit.vector import InstructionSet
from fgnumba.kernels.layout import images
from fgnumba.kernels.layout.images import Images, operands
from fgnumba.kernels.machine.arguments import filled, record
from fgnumba.kernels.machine.compile import kernel
from fgnumba.kernels.machine.memory import address
from fgnumba.kernels.machine.program import Operation
from fgnumba.kernels.machine.work import ELEMENT_WORK, parts_for, split
from fgnumba.kernels.ops.rotary import turns
from fgnumba.validation.launcher import launcher

_ARGUMENTS = record(
    *images.fields("x"),
    *images.fields("y"),
    *("batch", "length", "heads", "size", "count", "turns"),
)


@launcher
def bind(
    isa: InstructionSet,
    threads: int,
    *,
    batch: int,
    count: int,
    x: Images,
    y: Images,
    heads: int,
    base: float,
    inverse: bool = False,
) -> Operation:
    """Bind the rotary embedding to its arrays.

    Parameters
    ----------
    isa : InstructionSet
        The instruction set to bind for.
    threads : int
        Number of threads that may share the work.
    batch : int
        Number of examples B.
    count : int
        Number of directions T.
    x, y : Images
        Sequences (L, 1, heads d) with d even, channel h d + c being element c of head h. y may be x; otherwise they
        must not overlap.
    heads : int
        Number of heads, of which each is turned by the same angles.
    base : float
        The base of the angles.
    inverse : bool
        Whether to turn back: y = Rᵀ x, for error signals.

    Notes
    -----
    Cost: reads x once and writes y once; the L d cosines and sines are computed here, and come from the cache.
    """
    length, _, channels = x.shape
    count = count if x.has_tangent else 0
    table = turns(length, channels // heads, base, inverse)
    addresses, memory = operands(x=x, y=y)
    fields = {
        **addresses,
        "batch": batch,
        "length": length,
        "heads": heads,
        "size": channels // heads,
        "count": count,
        "turns": address(table),
    }
    work = (1 + count) * batch * length * channels * ELEMENT_WORK
    memory["keeps"] = (memory["keeps"], table)
    return Operation(
        "rotary",
        _entry(),
        filled(_ARGUMENTS, fields),
        parts=parts_for(work, batch * length, threads),
        **memory,
    )


@cache
def _entry() -> int:
    return kernel("rotary", _rotary, 3)


def _rotary(arguments: int, part: int, parts: int) -> None:
    a = carray(pointer(arguments, _ARGUMENTS), 1)[0]
    first, end = split(a.batch * a.length, parts, part)
    for row in range(first, end):
        i, position = row // a.length, row % a.length
        turns_at = a.turns + position * a.size * 4
        for t in range(1 + a.count):
            x = a.x + (t * a.x_block + i * a.x_image + position * a.x_row) * 4
            y = a.y + (t * a.y_block + i * a.y_image + position * a.y_row) * 4
            for head in range(a.heads):
                _turn(a.size // 2, turns_at, x + head * a.size * 4, y + head * a.size * 4)


@register_jitable
def _turn(pairs: int, turns_at: int, x: int, y: int) -> None:
    cosine = carray(pointer(turns_at, np.float32), pairs)
    sine = carray(pointer(turns_at + pairs * 4, np.float32), pairs)
    low, high = carray(pointer(y, np.float32), pairs), carray(pointer(y + pairs * 4, np.float32), pairs)
    if x == y:
        # The same arrays, so that the compiler sees that each pair is read before it is written.
        for c in range(pairs):
            first, second = low[c], high[c]
            low[c] = cosine[c] * first - sine[c] * second
            high[c] = sine[c] * first + cosine[c] * second
    else:
        x_low, x_high = (
            carray(pointer(x, np.float32), pairs),
            carray(pointer(x + pairs * 4, np.float32), pairs),
        )
        for c in range(pairs):
            low[c] = cosine[c] * x_low[c] - sine[c] * x_high[c]
            high[c] = sine[c] * x_low[c] + cosine[c] * x_high[c]
