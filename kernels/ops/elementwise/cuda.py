"""Elementwise operations on a GPU: y = a(x) or y = a(x + x2), dy_t = a'(z) (dx_t + dx2_t); see ``cpu``."""

import numpy as np

from fgnumba.kernels.cuda.kernel import Kernel, kernel
from fgnumba.kernels.cuda.layout import DualImages, element, elements, elementwise, images, place, position
from fgnumba.kernels.cuda.primitives import Size, load_f32, store_f32
from fgnumba.kernels.cuda.program import Operation
from fgnumba.kernels.layout.images import Images
from fgnumba.kernels.rules.activations.cuda import Members
from fgnumba.kernels.rules.activations.rules import Rule
from fgnumba.validation.launcher import launcher


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
    """Bind the operation to its arrays, as ``cpu.bind`` does.

    Parameters
    ----------
    batch : int
        Number of examples B.
    images_a_part : int
        Not used: a GPU takes the whole batch at once.
    count : int
        Number of tangents T.
    x : Images
        First operand.
    y : Images
        Result, written. It may be `x`.
    x2 : Images or None
        Second operand; None: there is one operand.
    activation_name : str
        Name of the activation a.

    Returns
    -------
    Operation
        The launch.

    Notes
    -----
    Cost: reads x and x2 once, writes y once. A thread takes an element, and holds its slope for all tangents.
    """
    height, width, channels = y.shape
    n = elements(batch, y)
    arguments = {
        "x": images(DualImages, x),
        "x2": images(DualImages, x2 or x),
        "y": images(DualImages, y),
        "n": n,
        "count": count if y.has_tangent else 0,
        "tangent": int(x.has_tangent),
        "two": int(x2 is not None),
        "tangent2": int(x2 is not None and x2.has_tangent),
        "height": height,
        "width": width,
        "channels": channels,
    }
    done = ["add"] * (x2 is not None) + [activation_name] * (activation_name != "identity")
    launch = elementwise(_KERNELS[activation_name], n, arguments)
    keeps = (x.memory, y.memory, x2.memory if x2 else None)
    return Operation("+".join(done) or "copy", (launch,), keeps=keeps)


def _kernel(name: str, rule: Rule) -> Kernel:
    @kernel(f"elementwise-{name}", family="elementwise-{activation}")
    def apply(
        x: DualImages,
        x2: DualImages,
        y: DualImages,
        n: Size,
        count: Size,
        tangent: Size,
        two: Size,
        tangent2: Size,
        height: Size,
        width: Size,
        channels: Size,
    ) -> None:
        e = element()
        if e >= n:
            return
        i, h, w, c = position(e, height, width, channels)
        first, second, out = place(x, i, h, w, c), place(x2, i, h, w, c), place(y, i, h, w, c)
        z = load_f32(first)
        if two:
            z = z + load_f32(second)
        value, slope = rule(z)
        store_f32(out, value)
        for t in range(1, count + 1):
            dz = np.float32(0)
            if tangent:
                dz = load_f32(first + 4 * t * x.block)
            if tangent2:
                dz = dz + load_f32(second + 4 * t * x2.block)
            store_f32(out + 4 * t * y.block, slope * dz)

    return apply


_KERNELS = Members(_kernel)
