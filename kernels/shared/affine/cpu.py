"""Scale and shift of each channel in a normalisation, and the tangents of both."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from numba.extending import register_jitable

from fgnumba.kernels.emit.vector import PANEL, InstructionSet
from fgnumba.kernels.layout import images
from fgnumba.kernels.layout.images import Images, operands
from fgnumba.kernels.machine.arguments import record
from fgnumba.kernels.machine.memory import address, round_up
from fgnumba.kernels.rules.directions import EXPLICIT, GAUSSIAN, NONE, RADEMACHER
from fgnumba.kernels.rules.directions import cpu as directions
from fgnumba.kernels.rules.philox import ENTRY
from fgnumba.kernels.shared.product import product

ARGUMENTS = record(
    *images.fields("x"),
    *images.fields("y"),
    *("batch", "images", "count", "has_tangent", "channels", "height", "width", "groups", "epsilon"),
    *("scale", "shift", "scale_parameter", "shift_parameter", "v_scale", "v_shift", "padded"),
    *("first", "kind", "stream", "draw", "draw_vector", "at_vectors", "at_work"),
)


@dataclass(frozen=True)
class Affine:
    """The scale and the shift of a normalisation, and their directions.

    Parameters
    ----------
    scale, shift : array, (C rounded up to PANEL,) float32, or None
        The parameters. Without a scale, there is no shift either: they are ones and zeros, which do not move, and the
        output has a tangent only where the input has one.
    kind : int
        The kind of direction, see ``rules.directions``.
    count : int
        Number of directions T.
    first : int
        Number of the first direction in the Philox counter.
    scale_parameter, shift_parameter : int
        Numbers of the two parameters in the Philox counter.
    stream : array, (1,) ``philox.STREAM``
        Seed and step, read when the operation runs.
    v_scale, v_shift : array, (T, C rounded up to PANEL) float32, or None
        The directions, if their kind is EXPLICIT.
    """

    scale: npt.NDArray[np.float32] | None
    shift: npt.NDArray[np.float32] | None
    kind: int = NONE
    count: int = 0
    first: int = 0
    scale_parameter: int = 0
    shift_parameter: int = 0
    stream: npt.NDArray[Any] | None = None
    v_scale: npt.NDArray[np.float32] | None = None
    v_shift: npt.NDArray[np.float32] | None = None


def fields(
    isa: InstructionSet,
    *,
    batch: int,
    images_a_part: int,
    x: Images,
    y: Images,
    affine: Affine,
    groups: int,
    epsilon: float,
    work_vectors: int,
) -> tuple[dict[str, int], int, dict[str, Any]]:
    """Return the values of `ARGUMENTS`, the bytes of scratch memory, and the keyword arguments of ``Operation``.

    Parameters
    ----------
    isa : InstructionSet
        The instruction set to bind for.
    batch : int
        Number of examples B.
    images_a_part : int
        Number of examples in a part.
    x, y : Images
        Input and output, of the same shape.
    affine : Affine
        Scale and shift.
    groups : int
        Number of groups of channels.
    epsilon : float
        ε. Its bits as a float32 are passed in the arguments.
    work_vectors : int
        Number of vectors of C float32 that the normalisation keeps at the beginning of the scratch memory.
    """
    height, width, channels = x.shape
    kind, padded = affine.kind, round_up(channels, PANEL)
    count = affine.count if affine.scale is not None or x.has_tangent else 0
    drawn = kind not in (NONE, EXPLICIT) and affine.scale is not None
    values, memory = operands(x=x, y=y)
    memory["keeps"] = (memory["keeps"], affine)
    at_vectors = work_vectors * padded * 4
    at_work = at_vectors + 2 * count * padded * 4
    vector_kind = GAUSSIAN if kind == GAUSSIAN else RADEMACHER
    draw = 0
    if drawn:
        draw = directions.gaussians(isa) if kind == GAUSSIAN else directions.sign_words(isa)
    return (
        {
            **values,
            **images.part_fields(batch, images_a_part),
            "count": count,
            "has_tangent": x.has_tangent and count > 0,
            "channels": channels,
            "height": height,
            "width": width,
            "groups": groups,
            "epsilon": int(np.float32(epsilon).view(np.int32)),
            "scale": address(affine.scale),
            "shift": address(affine.shift),
            "scale_parameter": affine.scale_parameter,
            "shift_parameter": affine.shift_parameter,
            "v_scale": address(affine.v_scale),
            "v_shift": address(affine.v_shift),
            "padded": padded,
            "first": affine.first,
            "kind": kind,
            "stream": address(affine.stream),
            "draw": draw,
            "draw_vector": directions.vector() if drawn else 0,
            "at_vectors": at_vectors,
            "at_work": at_work,
        },
        at_work + directions.draw_bytes(vector_kind, padded // PANEL) * drawn,
        memory,
    )


@register_jitable
def draw(a: Any) -> None:
    """Draw the tangents of scale and shift for every direction, unless they are given or there is no scale."""
    if a.kind == EXPLICIT or a.scale == 0:
        return
    work = a.scratch + a.at_work
    for t in range(a.count):
        for which in range(2 if a.shift else 1):
            parameter = a.shift_parameter if which else a.scale_parameter
            out = a.scratch + a.at_vectors + (2 * t + which) * a.padded * 4
            product.draw_vector(a, t, a.padded, ENTRY, parameter, work, out)


@register_jitable
def tangents(a: Any, t: int) -> tuple[int, int]:
    """Return the addresses of the tangents of scale and of shift along direction `t`, if there is a scale."""
    if a.kind == EXPLICIT:
        return a.v_scale + t * a.padded * 4, a.v_shift + t * a.padded * 4
    at = a.scratch + a.at_vectors + 2 * t * a.padded * 4
    return at, at + a.padded * 4
