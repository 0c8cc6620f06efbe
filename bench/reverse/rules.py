"""The reverse pass of each layer: from the cotangent of its output to those of its inputs and parameters."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from fgnumba.bench.reverse.kernels import convolution, few, filtering, normalization, panels, pooling
from fgnumba.bench.reverse.passes import Passes
from fgnumba.bench.reverse.tasks import ImageBuffer, PanelBuffer
from fgnumba.errors import ConfigError
from fgnumba.kernels.conv2d import cpu as conv2d
from fgnumba.kernels.conv2d import filtering as winograd
from fgnumba.kernels.conv2d.geometry import Geometry, is_channelwise
from fgnumba.kernels.images import Border, Images, image_shape
from fgnumba.kernels.memory import aligned
from fgnumba.kernels.product import Weights
from fgnumba.kernels.program import Operation
from fgnumba.kernels.vector import PANEL
from fgnumba.layers import (
    Activation,
    Add,
    AvgPool2d,
    Concatenate,
    Conv2d,
    Dense,
    Dropout,
    GlobalAveragePool2d,
    GroupNorm,
    LayerNorm,
    MaxPool2d,
)
from fgnumba.wiring import Pad, Step

CACHED_PARAMETERS = 8 * 1024 * 1024
"""Bytes of parameters that a last-level cache, which others use too, is taken to hold from pass to pass."""


def dense(passes: Passes, step: Step) -> None:
    """Compute dz = dy a'(z), dx = dz Wᵀ, dW = xᵀ dz, db = Σ dz."""
    layer: Any = step.layer
    parameters = passes.parameters(step)
    weight, bias = parameters["weight"], parameters.get("bias")
    value, features, units = step.inputs[0], step.shapes[0][0], layer.units
    x, dz = passes.values[value], passes.panel_cotangent(step.output)
    source = passes.slope_source(step)
    slopes = passes.panels_of(source) if source else None
    by_features = PanelBuffer(dz.rows // PANEL, dz.panels * PANEL)
    products = passes.batch * features * units
    isa, threads = passes.isa, passes.threads

    passes.add(
        [dz, *([slopes] if slopes else [])],
        [dz, by_features],
        lambda: [
            panels.bind_cotangent(
                isa,
                threads,
                by_examples=dz.array,
                by_features=by_features.array,
                source=slopes.array if slopes else None,
                activation_name=layer.activation,
                bias=passes.target(bias) if bias else None,
                features=units,
                batch=passes.batch,
                onto=passes.onto,
            )
        ],
        by_image=False,
    )
    if value.has_tangent:
        # The weights that the cotangent goes through are those of the forward pass: before they are updated.
        dx = passes.new_panels(features)

        def input_gradient() -> list[Operation]:
            if passes.batch <= few.EXAMPLES:
                return [
                    few.bind_input_gradient(
                        isa,
                        threads,
                        weight=weight.packed,
                        dz=by_features.array,
                        dx=dx.array,
                        batch=passes.batch,
                        features=features,
                        multiply_adds=products,
                    )
                ]
            return [
                panels.bind_product(
                    "input-gradient",
                    isa,
                    threads,
                    a=weight.packed,
                    w=dz.array,
                    out=dx.array,
                    rows=features,
                    terms=units,
                    columns=passes.batch,
                    onto=False,
                    multiply_adds=products,
                    from_memory=passes.parameter_bytes > CACHED_PARAMETERS,
                )
            ]

        passes.add([dz, by_features], [dx], input_gradient, by_image=False)
    x_panels = passes.panels_of(x)
    passes.add(
        [x_panels, by_features],
        [],
        lambda: [
            panels.bind_product(
                "weight-gradient",
                isa,
                threads,
                a=x_panels.array,
                w=by_features.array,
                out=passes.target(weight),
                rows=features,
                terms=passes.batch,
                columns=units,
                onto=passes.onto,
                multiply_adds=products,
            )
        ],
        by_image=False,
    )
    if value.has_tangent:
        passes.send_panels(value, dx)


def convolution2d(passes: Passes, step: Step) -> None:
    """Compute dz = dy a'(z), dx = dz * W', dW = Σ x dz, db = Σ dz."""
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
    bind = filtering.bind_weight_gradient if filtered else convolution.bind_weight_gradient

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
    """Return the convolution from dz to dx, and its padding, which is negative where dz is cropped."""
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
        # Before the images, like the weights that a filtered convolution transforms.
        turned.once = True
        return [
            turned,
            *conv2d.bind(
                passes.isa,
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
    """Return images without the pixels that no pixel of dx has been under."""
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


def pool(passes: Passes, step: Step) -> None:
    """Return a window's cotangent to its maximum, or to all of it."""
    layer: Any = step.layer
    value, shape = step.inputs[0], image_shape(step.shapes[0])
    maximum = isinstance(layer, MaxPool2d)
    dy, x, y = passes.cotangent(step.output), passes.values[value], passes.values[step.output]
    if isinstance(layer, GlobalAveragePool2d):
        window = stride = (shape[0], shape[1])
        padding = Border()
    else:
        window, stride, padding = layer.pool_size, layer.stride, layer.border_of(shape)

    def bind(dx: ImageBuffer) -> list[Operation]:
        dys, dxs = dy.images(), dx.images(shape)
        return [
            pooling.bind(
                maximum,
                **passes.part,
                x=x.images(shape) if maximum else dxs,
                y=y.images() if maximum else dys,
                dy=dys,
                dx=dxs,
                window=window,
                stride=stride,
                padding=padding,
            )
        ]

    passes.send(value, [dy, x, y] if maximum else [dy], bind)


def norm(passes: Passes, step: Step) -> None:
    """Compute dx = r (g - mean(g) - x̂ mean(g x̂)), ds = Σ dy x̂, db = Σ dy."""
    layer: Any = step.layer
    parameters = passes.parameters(step)
    scale, shift = parameters["scale"], parameters["shift"]
    value, shape = step.inputs[0], step.shapes[0]
    dy, x = passes.cotangent(step.output), passes.values[value]
    shares = aligned((passes.batch, 2, shape[-1]))

    def bind(dx: ImageBuffer | None) -> list[Operation]:
        return [
            normalization.bind(
                **passes.part,
                x=x.images(shape),
                dy=dy.images(),
                dx=dx.images(shape) if dx else None,
                groups=getattr(layer, "groups", 0),
                epsilon=layer.epsilon,
                scale=scale.packed,
                shares=shares,
            )
        ]

    if value.has_tangent:
        passes.send(value, [dy, x], bind)
    else:
        passes.add([dy, x], [], lambda: bind(None))
    targets = passes.target(scale), passes.target(shift)
    passes.defer([], lambda: [normalization.bind_sum(shares, *targets, passes.onto)], sums=False)


def elementwise(passes: Passes, step: Step) -> None:
    """Compute dx = dy a'(z) for every input of an activation, a sum or a copy."""
    layer: Any = step.layer
    dy, name = passes.cotangent(step.output), layer.activation
    source = passes.slope_source(step)
    if isinstance(layer, Activation) and source:
        source = passes.values[step.inputs[0]]
    for value, shape in zip(step.inputs, step.shapes, strict=True):

        def bind(dx: ImageBuffer, shape: tuple[int, ...] = shape) -> list[Operation]:
            return [
                convolution.bind_slope(
                    **passes.part,
                    x=dy.images(shape),
                    source=source.images(shape) if source else None,
                    y=dx.images(shape),
                    activation_name=name,
                )
            ]

        passes.send(value, [dy, *([source] if source else [])], bind)


def concatenate(passes: Passes, step: Step) -> None:
    """Give every input its channels of dy."""
    dy, first = passes.cotangent(step.output), 0
    for value, shape in zip(step.inputs, step.shapes, strict=True):

        def bind(dx: ImageBuffer, first: int = first, shape: tuple[int, ...] = shape) -> list[Operation]:
            x = dy.images().channels_from(first, shape[-1])
            return [convolution.bind_slope(**passes.part, x=x, source=None, y=dx.images(shape))]

        passes.send(value, [dy], bind)
        first += shape[-1]


def dropout(passes: Passes, step: Step) -> None:
    """Compute dx = m dy / (1 - p): the mask is drawn again."""
    dy, shape = passes.cotangent(step.output), step.shapes[0]

    def bind(dx: ImageBuffer) -> list[Operation]:
        return step.layer.bind(passes.site(step, [dy.images(shape)], dx.images(shape)))

    passes.send(step.inputs[0], [dy], bind, numbered=True)


RULES: dict[type, Callable[[Passes, Step], None]] = {
    Activation: elementwise,
    Add: elementwise,
    AvgPool2d: pool,
    Concatenate: concatenate,
    Conv2d: convolution2d,
    Dense: dense,
    Dropout: dropout,
    GlobalAveragePool2d: pool,
    GroupNorm: norm,
    LayerNorm: norm,
    MaxPool2d: pool,
    Pad: elementwise,
}


def rule(step: Step) -> Callable[[Passes, Step], None]:
    """Return the reverse pass of a step's layer.

    Raises
    ------
    ConfigError
        There is none: the layer is not one of the library's.
    """
    if type(step.layer) not in RULES:
        raise ConfigError(f"layer {step.names[0]!r}: {step.layer.kind} has no reverse pass")
    return RULES[type(step.layer)]
