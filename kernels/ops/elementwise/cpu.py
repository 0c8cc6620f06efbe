"""Elementwise operations on the CPU: y = a(x) or y = a(x + x2), and dy_t = a'(z) (dx_t + dx2_t).

With the identity and one operand, this is a copy. It moves images to where they have a border, or where they are some
of the channels of larger images.
"""

from typing import Any

import numpy as np
from numba import carray
from numba.extending import register_jitable

from fgnumba.kernels.emit import pointer
from fgnumba.kernels.layout import images
from fgnumba.kernels.layout.images import Images, operands
from fgnumba.kernels.machine.arguments import filled, record
from fgnumba.kernels.machine.compile import kernel
from fgnumba.kernels.machine.program import Operation
from fgnumba.kernels.rules.activations.rules import rule_of
from fgnumba.validation.launcher import launcher

_ARGUMENTS = record(
    *images.fields("x"),
    *images.fields("x2"),
    *images.fields("y"),
    *("batch", "images", "count", "tangent", "tangent2", "two", "height", "runs", "run"),
)


@launcher
def bind(
    *,
    batch: int,
    images_a_part: int,
    count: int,
    x: Images,
    y: Images,
    x2: Images | None = None,
    activation_name: str = "identity",
) -> Operation:
    """Bind the operation to its arrays.

    Parameters
    ----------
    batch : int
        Number of examples B.
    images_a_part : int
        Number of examples in a part.
    count : int
        Number of directions T.
    x, x2, y : Images
        Images of the same shape; x2 may be None. x and x2 may each be y, and otherwise must not overlap it. If y has a
        tangent and one of them has none, that one's tangent is zero.
    activation_name : str
        The activation a.

    Notes
    -----
    Cost: reads x and x2 once, and writes y once; one slope for each element stays in the first-level cache.
    """
    values, memory = operands(**({"x": x, "y": y} | ({"x2": x2} if x2 else {})))
    height, width, channels = y.shape
    joined = all(operand.pixel == channels for operand in (x, y, x2 or x))
    run = width * channels if joined else channels
    tangent2 = x2 is not None and x2.has_tangent
    fields = {
        **values,
        **images.part_fields(batch, images_a_part),
        "count": count if y.has_tangent else 0,
        "tangent": x.has_tangent,
        "tangent2": tangent2,
        "two": x2 is not None,
        "height": height,
        "runs": 1 if joined else width,
        "run": run,
    }
    terms = ["add"] * (x2 is not None) + [activation_name] * (activation_name != "identity")
    name = "+".join(terms) or "copy"
    entry = _entry(activation_name)
    return Operation(name, entry, filled(_ARGUMENTS, fields), scratch_bytes=run * 4, **memory)


def _entry(activation_name: str) -> int:
    rule, identity = rule_of(activation_name), activation_name == "identity"

    def elementwise(arguments: int, part: int, parts: int) -> None:
        a = carray(pointer(arguments, _ARGUMENTS), 1)[0]
        n = min(a.images, a.batch - part * a.images)
        slopes = carray(pointer(a.scratch, np.float32), a.run)
        for unit in range(n * a.height * a.runs):
            i, row, run = unit // (a.height * a.runs), unit // a.runs % a.height, unit % a.runs
            x = a.x + (part * a.x_part + i * a.x_image + row * a.x_row + run * a.x_pixel) * 4
            x2 = a.x2 + (part * a.x2_part + i * a.x2_image + row * a.x2_row + run * a.x2_pixel) * 4
            at = a.y + (part * a.y_part + i * a.y_image + row * a.y_row + run * a.y_pixel) * 4
            y = _sum(a, at, x, x2, np.int64(1), a.two)
            if not identity and a.count == 0:
                for j in range(a.run):
                    y[j] = rule(y[j])[0]
            elif not identity:
                for j in range(a.run):
                    y[j], slopes[j] = rule(y[j])
            for t in range(1, 1 + a.count):
                dx, dx2 = x + t * a.x_block * 4, x2 + t * a.x2_block * 4
                dy = _sum(a, at + t * a.y_block * 4, dx, dx2, a.tangent, a.tangent2)
                if not identity:
                    for j in range(a.run):
                        dy[j] *= slopes[j]

    return kernel(f"elementwise-{activation_name}", elementwise, 3)


@register_jitable
def _sum(a: Any, at: int, first: int, second: int, has_first: int, has_second: int) -> Any:
    y = carray(pointer(at, np.float32), a.run)
    if has_first and has_second:
        x, x2 = carray(pointer(first, np.float32), a.run), carray(pointer(second, np.float32), a.run)
        for j in range(a.run):
            y[j] = x[j] + x2[j]
    elif has_first or has_second:
        x = carray(pointer(first if has_first else second, np.float32), a.run)
        for j in range(a.run):
            y[j] = x[j]
    else:
        for j in range(a.run):
            y[j] = np.float32(0)
    return y
