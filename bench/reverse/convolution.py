"""The reverse pass of a convolution: where its cotangents lie, and which kernels compute them.

The *cotangent* of a value is the gradient of the loss with respect to it, for example dz for z.
"""

import math
from dataclasses import replace
from typing import Any

import numpy as np

from fgnumba.bench.reverse.kernels import convolution
from fgnumba.bench.reverse.passes import Passes
from fgnumba.kernels.devices.precision import for_tangents
from fgnumba.kernels.emit.vector import PANEL
from fgnumba.kernels.layout.geometry import Geometry, is_channelwise
from fgnumba.kernels.layout.images import Border, Images, image_shape
from fgnumba.kernels.machine.interfaces import Operation
from fgnumba.kernels.machine.memory import aligned
from fgnumba.kernels.ops.conv2d import cpu as conv2d
from fgnumba.kernels.ops.conv2d import filtered_gradient, split_gradient, weight_gradient
from fgnumba.kernels.ops.conv2d import filtering as winograd
from fgnumba.kernels.shared.product.product import Weights
from fgnumba.model.tasks import ImageBuffer
from fgnumba.model.wiring import Step


def convolution2d(passes: Passes, step: Step) -> None:
    """Compute dz = dy a'(z), dx = dz * W', dW = Σ x dz and db = Σ dz."""
    layer: Any = step.layer
    parameters = passes.parameters(step)
    weight, bias = parameters["weight"], parameters.get("bias")
    value, shape, out_shape = step.inputs[0], image_shape(step.shapes[0]), image_shape(step.output.shape)
    x, dy, source = passes.values[value], passes.cotangent(step.output), passes.slope_source(step)
    geometry: Geometry = layer.geometry(shape)
    height, width, outputs = out_shape
    stride = geometry.stride
    spread = ((height - 1) * stride[0] + 1, (width - 1) * stride[1] + 1, outputs)
    backward, pads = _backward_geometry(geometry, shape, spread)
    filtered = winograd.fits(geometry, shape, outputs)
    border = Border(0, height % 2, 0, width % 2) if filtered else Border()
    if value.has_tangent:
        border = border.union(conv2d.needed_border(backward, _cropped(spread, pads), shape[2]))
    dz = ImageBuffer(passes.batch, spread, border)
    passes.add(
        [dy, *([source] if source else [])],
        [dz],
        lambda: [
            convolution.bind_slope(
                **passes.part,
                x=dy.images(),
                source=source.images() if source else None,
                y=dz.images(),
                activation_name=layer.activation,
                stride=stride,
            )
        ],
    )
    if value.has_tangent:
        _convolve_back(passes, step, dz, backward, pads)
    products = layer.multiply_adds(step.shapes) * passes.batch
    direct = not filtered or split_gradient.suits(passes.isa)
    bind = weight_gradient.bind if direct else filtered_gradient.bind

    def gradient() -> list[Operation]:
        images = dz.images(one_a_part=False)
        strided = replace(
            images,
            shape=out_shape,
            row=stride[0] * images.row,
            pixel=stride[1] * images.pixel,
        )
        return [
            bind(
                passes.isa,
                passes.threads,
                batch=passes.batch,
                x=x.images(shape, one_a_part=False),
                dz=strided,
                geometry=geometry,
                out=passes.target(weight),
                bias=passes.target(bias) if bias else None,
                onto=passes.onto,
                multiply_adds=products,
            )
        ]

    passes.defer([x, dz], gradient, sums=True)


def _backward_geometry(
    geometry: Geometry, shape: tuple[int, ...], spread: tuple[int, ...]
) -> tuple[Geometry, tuple[int, int, int, int]]:
    """Return the convolution from dz to dx, and its padding on each side, which is negative where dz is cropped."""
    sides = []
    padding = (geometry.padding.top, geometry.padding.left)
    for axis in range(2):
        reach = (geometry.kernel_size[axis] - 1) * geometry.dilation[axis]
        before = reach - padding[axis]
        sides += [before, shape[axis] + reach - spread[axis] - before]
    padded = Border(*(max(0, side) for side in sides))
    return (
        Geometry(geometry.kernel_size, (1, 1), geometry.dilation, padded, geometry.groups),
        (sides[0], sides[1], sides[2], sides[3]),
    )


def _cropped(spread: tuple[int, int, int], pads: tuple[int, int, int, int]) -> tuple[int, int, int]:
    top, bottom, left, right = (min(0, side) for side in pads)
    return spread[0] + top + bottom, spread[1] + left + right, spread[2]


def _convolve_back(
    passes: Passes, step: Step, dz: ImageBuffer, geometry: Geometry, pads: tuple[int, int, int, int]
) -> None:
    weight = passes.parameters(step)["weight"].packed
    channels, outputs = step.shapes[0][2], step.output.shape[2]
    channelwise = is_channelwise(geometry, channels, outputs)
    groups = 1 if channelwise else geometry.groups
    each = channels // groups, outputs // groups
    taps = math.prod(geometry.kernel_size)
    rows = taps if channelwise else taps * each[1]
    reverse = aligned((groups * -(-each[0] // PANEL), rows, PANEL))

    def bind(dx: ImageBuffer) -> list[Operation]:
        turned = convolution.bind_reversed(
            passes.isa,
            weight,
            reverse,
            taps=taps,
            groups=groups,
            channels=each[0],
            outputs=each[1],
            channelwise=channelwise,
        )
        # It runs before the images, like the transformation of the weights in a Winograd convolution.
        turned.once = True
        return [
            turned,
            *conv2d.bind(
                for_tangents(passes.isa),
                passes.threads,
                **passes.part,
                x=_crop(dz.images(), pads),
                y=dx.images(step.shapes[0]),
                geometry=geometry,
                weights=Weights(reverse, np.zeros(reverse.shape[0] * PANEL, np.float32)),
                activation_name="identity",
            ),
        ]

    passes.send(step.inputs[0], [dz], bind)


def _crop(images: Images, pads: tuple[int, int, int, int]) -> Images:
    """Return images without the pixels that no pixel of dx contributes to."""
    top, bottom, left, right = (max(0, -side) for side in pads)
    if not any((top, bottom, left, right)):
        return images
    height, width, channels = images.shape
    return replace(
        images,
        start=images.start + top * images.row + left * images.pixel,
        shape=(height - top - bottom, width - left - right, channels),
        border=Border(
            *(0 if cut else side for cut, side in zip((top, bottom, left, right), images.border, strict=True))
        ),
    )
