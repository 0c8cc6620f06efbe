"""A layer as somebody writes one for themselves, y = scale ⊙ x + shift, and faults that can be built into it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
from numba import carray

from fgnumba.kernels.emit import pointer
from fgnumba.kernels.machine import interfaces
from fgnumba.kernels.machine.arguments import filled
from fgnumba.kernels.machine.compile import kernel
from fgnumba.kernels.machine.program import Operation
from fgnumba.kernels.rules.directions import EXPLICIT
from fgnumba.kernels.shared.affine import cpu as affine
from fgnumba.layers import Layer, Shape, Site

FAULTS = (
    "",
    "value",
    "slope",
    "no parameter tangent",
    "symbolic zero",
    "draws",
    "first direction alone",
    "square of the tangent",
    "in place",
    "number of the example",
    "number of the part",
    "what was there",
    "ignores the activation",
    "shape",
)


def _scale_shift(arguments, part, parts):
    a = carray(pointer(arguments, affine.ARGUMENTS), 1)[0]
    n, fault = min(a.images, a.batch - part * a.images), a.groups
    channels, one = a.channels, np.float32(1)
    scale = carray(pointer(a.scale, np.float32), channels)
    shift = carray(pointer(a.shift, np.float32), channels)
    affine.draw(a)
    for pixel in range(n * a.height * a.width):
        i, row, column = pixel // (a.height * a.width), pixel // a.width % a.height, pixel % a.width
        x_at = a.x + (part * a.x_part + i * a.x_image + row * a.x_row + column * a.x_pixel) * 4
        y_at = a.y + (part * a.y_part + i * a.y_image + row * a.y_row + column * a.y_pixel) * 4
        x = carray(pointer(x_at, np.float32), channels)
        y = carray(pointer(y_at, np.float32), channels)
        for c in range(channels):
            value = scale[c] * x[c] + shift[c]
            if fault == 1:
                value *= one + np.float32(1e-4)
            elif fault == 9:
                value += np.float32(1e-6) * np.float32(i + part * a.images)
            elif fault == 10:
                value += np.float32(1e-6) * np.float32(part)
            elif fault == 11:
                value += np.float32(1e-6) * y[c]
            y[c] = value
        for t in range(a.count):
            ds_at, db_at = affine.tangents(a, 0 if fault == 6 else t)
            ds = carray(pointer(ds_at, np.float32), channels)
            db = carray(pointer(db_at, np.float32), channels)
            dx = carray(pointer(x_at + (t + 1) * a.x_block * 4, np.float32), channels)
            dy = carray(pointer(y_at + (t + 1) * a.y_block * 4, np.float32), channels)
            for c in range(channels):
                slope = scale[c] * (one + np.float32(1e-3)) if fault == 2 else scale[c]
                moved = np.float32(0) if fault == 3 else ds[c] * x[c]
                if a.has_tangent:
                    own = slope * dx[c]
                    if fault == 7:
                        own += np.float32(1e-3) * dx[c] * dx[c]
                    dy[c] = own + (moved + db[c])
                elif fault != 4:
                    dy[c] = moved + db[c]
        if fault == 8:
            for c in range(channels):
                x[c] = np.float32(0)


@dataclass(frozen=True)
class ScaleShift(Layer):
    """y = scale ⊙ x + shift, a number of each a channel."""

    fault: str = ""
    activation: str = "none"

    whole_batch: ClassVar[bool] = False

    def output_shape(self, *inputs: Shape) -> Shape:
        shape = tuple(map(int, inputs[0]))
        return np.array(shape) if self.fault == "shape" else shape  # type: ignore[return-value]

    def parameter_shapes(self, inputs: Sequence[Shape]) -> dict[str, Shape]:
        return dict.fromkeys(("scale", "shift"), (int(inputs[0][-1]),))

    def initial_parameters(self, inputs, generator):
        channels = inputs[0][-1]
        return {"scale": np.ones(channels, np.float32), "shift": np.zeros(channels, np.float32)}

    def with_activation(self, activation: str) -> "ScaleShift | None":
        return replace(self, activation=activation) if self.fault == "ignores the activation" else None

    def bind(self, site: Site) -> list[interfaces.Operation]:
        scale, shift, p = site.parameters["scale"], site.parameters["shift"], site.perturbation
        swapped = self.fault == "draws" and p.kind != EXPLICIT
        fields, scratch, memory = affine.fields(
            site.isa,
            **site.part,
            x=site.inputs[0],
            y=site.output,
            affine=affine.Affine(
                scale=scale.packed,
                shift=shift.packed,
                kind=p.kind,
                count=p.count,
                first=p.first,
                scale_parameter=(shift if swapped else scale).index,
                shift_parameter=(scale if swapped else shift).index,
                stream=p.stream,
                v_scale=p.of(scale),
                v_shift=p.of(shift),
            ),
            groups=FAULTS.index(self.fault),
            epsilon=0.0,
            work_vectors=0,
        )
        entry = kernel("tests-scale-shift", _scale_shift, 3)
        return [
            Operation("scale-shift", entry, filled(affine.ARGUMENTS, fields), scratch_bytes=scratch, **memory)
        ]


def reference(x, scale, shift):
    """Return what the layer computes, in NumPy."""
    return x * scale + shift
