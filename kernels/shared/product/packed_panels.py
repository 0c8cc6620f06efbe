"""Splits and packs all panels of a weight, once a pass, for products whose factors are bfloat16."""

from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import carray

from fgnumba.kernels.emit import call, pointer
from fgnumba.kernels.emit.precision import PRECISIONS
from fgnumba.kernels.emit.vector import PANEL, InstructionSet
from fgnumba.kernels.machine.arguments import filled, record
from fgnumba.kernels.machine.compile import kernel
from fgnumba.kernels.machine.memory import address, aligned
from fgnumba.kernels.machine.program import Operation
from fgnumba.kernels.machine.work import parts_for, split
from fgnumba.kernels.shared.product import dot_tiles

_ARGUMENTS = record("weight", "out", "panels", "rows", "parts", "words", "pack")


def pack_panels(
    isa: InstructionSet, threads: int, weight: npt.NDArray[np.float32], precision: str
) -> tuple[npt.NDArray[np.uint32], Operation]:
    """Bind the splitting and packing of panels, see :mod:`fgnumba.kernels.shared.product.dot_tiles`.

    Parameters
    ----------
    isa : InstructionSet
        The instruction set to bind for.
    threads : int
        Number of threads that may share the work.
    weight : array, (..., K, PANEL) float32
        The panels, which are read whenever the operation runs.
    precision : str
        The precision, one with parts.

    Returns
    -------
    packed : array, (panels, parts, words) uint32
        What the operation writes. Its first parts serve a precision with fewer.
    operation : Operation
        It reads the weight once.
    """
    inputs, parts = weight.shape[-2], PRECISIONS[precision].parts
    panels = weight.size // (inputs * PANEL)
    packed = aligned((panels, parts, dot_tiles.padded(isa, inputs) // 2 * PANEL), np.uint32)
    fields = {
        "weight": address(weight),
        "out": address(packed),
        "panels": panels,
        "rows": inputs,
        "parts": parts,
        "words": packed.shape[-1],
        "pack": dot_tiles.pack_kernel(isa, precision),
    }
    return packed, Operation(
        name="pack",
        entry=_entry(),
        arguments=filled(_ARGUMENTS, fields),
        parts=parts_for(2 * weight.size, panels, threads),
        keeps=(weight, packed),
        once=True,
    )


@cache
def _entry() -> int:
    return kernel("pack-panels", _pack, 3)


def _pack(arguments: int, part: int, parts: int) -> None:
    a: Any = carray(pointer(arguments, _ARGUMENTS), 1)[0]
    first, last = split(a.panels, parts, part)
    for panel in range(first, last):
        out = a.out + panel * a.parts * a.words * 4
        call(a.pack, (a.rows, a.weight + panel * a.rows * PANEL * 4, out, a.words))
