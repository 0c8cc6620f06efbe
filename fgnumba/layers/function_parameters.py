"""Parameters of a function layer in float64, with T directions of them: what the function is called with.

Kernels keep parameters in panels of 32 columns, and draw directions panel by panel. A function of one's own takes plain
arrays. So each pass begins with a copy: block 0 holds all parameters one after the other, row by row, and block t their
tangents along direction t. A direction of a function layer is therefore stored, 8 T P bytes for P numbers.
"""

import math
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import carray
from numba.extending import register_jitable

from fgnumba.kernels.emit import pointer
from fgnumba.kernels.emit.vector import PANEL, InstructionSet
from fgnumba.kernels.machine.arguments import filled, record
from fgnumba.kernels.machine.compile import kernel
from fgnumba.kernels.machine.memory import address, aligned, round_up
from fgnumba.kernels.machine.program import Operation
from fgnumba.kernels.rules.directions import EXPLICIT, GAUSSIAN, NONE, RADEMACHER, RANK1
from fgnumba.kernels.rules.directions.cpu import draw_bytes
from fgnumba.kernels.rules.philox import ENTRY, LEFT, RIGHT
from fgnumba.kernels.shared.drawn import cpu as drawn
from fgnumba.layers.base import Perturbation
from fgnumba.layers.parameters import Parameter

_ARGUMENTS = record(*drawn.FIELDS, "packed", "explicit", "out", "block", "right")


def bind(
    isa: InstructionSet, perturbation: Perturbation, parameters: Sequence[Parameter]
) -> tuple[npt.NDArray[np.float64], list[Operation]]:
    """Return an array (1 + T, P) of the parameters and T directions, and the operations that fill it before a pass.

    Parameters
    ----------
    isa : InstructionSet
        The instruction set to bind for.
    perturbation : Perturbation
        The directions, which are drawn, given, or none.
    parameters : sequence of Parameter
        The layer's parameters, in the order of the function's arguments.
    """
    count = 0 if perturbation.kind == NONE else perturbation.count
    sizes = [math.prod(parameter.shape) for parameter in parameters]
    values = aligned((1 + count, sum(sizes)), np.float64)
    starts = np.cumsum([0, *sizes])
    operations = [
        _bind_one(isa, perturbation, parameter, count, values, int(start))
        for parameter, start in zip(parameters, starts, strict=False)
    ]
    return values, operations


def _bind_one(
    isa: InstructionSet,
    perturbation: Perturbation,
    parameter: Parameter,
    count: int,
    values: npt.NDArray[np.float64],
    start: int,
) -> Operation:
    shape = parameter.shape
    explicit = perturbation.of(parameter) if count else None
    given = drawn.Drawn(
        parameter.packed.shape,
        shape[-1],
        1,
        perturbation.kind,
        count,
        perturbation.first,
        parameter.index,
        perturbation.stream,
    )
    left, right = draw_bytes(RADEMACHER, -(-given.rows // PANEL)), draw_bytes(RADEMACHER, given.panels)
    fields = {
        **given.fields(isa),
        "packed": address(parameter.packed),
        "explicit": address(explicit),
        "out": address(values) + 8 * start,
        "block": 8 * values.shape[1],
        "right": round_up(left, 64),
    }
    entries = draw_bytes(given.kind, drawn.BLOCK) if given.kind in (RADEMACHER, GAUSSIAN) else 0
    return Operation(
        "function-parameters",
        _entry(),
        filled(_ARGUMENTS, fields),
        1 + count,
        scratch_bytes=max(entries, round_up(left, 64) + right),
        keeps=(parameter.packed, explicit, perturbation.stream, values),
        once=True,
    )


@cache
def _entry() -> int:
    return kernel("function-parameters", _fill, 3)


def _fill(arguments: int, part: int, parts: int) -> None:
    a = carray(pointer(arguments, _ARGUMENTS), 1)[0]
    for block in range((1 + a.count) * part // parts, (1 + a.count) * (part + 1) // parts):
        out = a.out + block * a.block
        if block == 0:
            _unpack(a, a.packed, out)
        elif a.kind == EXPLICIT:
            _unpack(a, a.explicit + (block - 1) * a.panels * a.rows * PANEL * 4, out)
        elif a.kind == RANK1:
            _outer(a, block - 1, out)
        else:
            _entries(a, block - 1, out)


@register_jitable
def _row(a: Any, panel: int, row: int, out: int) -> Any:
    """Return the entries of the plain array that a row of a panel holds."""
    first = row * PANEL if a.vector else row * a.columns + panel * PANEL
    return carray(pointer(out + 8 * first, np.float64), drawn.lanes(a, panel, row))


@register_jitable
def _unpack(a: Any, packed: int, out: int) -> None:
    for panel in range(a.panels):
        for row in range(a.rows):
            numbers = carray(pointer(packed + (panel * a.rows + row) * PANEL * 4, np.float32), PANEL)
            entries = _row(a, panel, row, out)
            for lane in range(len(entries)):
                entries[lane] = numbers[lane]


@register_jitable
def _entries(a: Any, t: int, out: int) -> None:
    signs = carray(pointer(a.scratch, np.uint32), drawn.BLOCK)
    normal = carray(pointer(a.scratch, np.float32), (drawn.BLOCK, PANEL))
    for panel in range(a.panels):
        for first in range(0, a.rows, drawn.BLOCK):
            rows = min(drawn.BLOCK, a.rows - first)
            drawn.draw(a, t, first, rows, panel, ENTRY, a.scratch)
            for row in range(rows):
                entries = _row(a, panel, first + row, out)
                for lane in range(len(entries)):
                    if a.kind == GAUSSIAN:
                        entries[lane] = normal[row, lane]
                    else:
                        entries[lane] = _sign(signs[row], lane)


@register_jitable
def _outer(a: Any, t: int, out: int) -> None:
    left_rows = (a.rows + PANEL - 1) // PANEL
    left = carray(pointer(a.scratch, np.uint32), left_rows)
    right = carray(pointer(a.scratch + a.right, np.uint32), a.panels)
    drawn.draw(a, t, 0, left_rows, 0, LEFT, a.scratch)
    drawn.draw(a, t, 0, a.panels, 0, RIGHT, a.scratch + a.right)
    for panel in range(a.panels):
        for row in range(a.rows):
            u = _sign(left[row // PANEL], row % PANEL)
            entries = _row(a, panel, row, out)
            for lane in range(len(entries)):
                entries[lane] = u * _sign(right[panel], lane)


@register_jitable
def _sign(word: np.uint32, lane: int) -> float:
    return -1.0 if (word >> np.uint32(lane)) & np.uint32(1) else 1.0


def places(parameter: Parameter, packed: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
    """Return the address of each entry of a parameter in an array of the kernels' layout, row by row.

    Parameters
    ----------
    parameter : Parameter
        The parameter.
    packed : array, float32
        Its packed array, or another one of the same layout.
    """
    columns = parameter.shape[-1]
    k, n = np.divmod(np.arange(math.prod(parameter.shape)), columns)
    rows = packed.shape[1] if packed.ndim == 3 else 1
    return np.asarray(address(packed) + 4 * ((n // PANEL * rows + k) * PANEL + n % PANEL), np.int64)
