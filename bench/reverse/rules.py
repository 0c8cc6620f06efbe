"""The reverse pass of each kind of layer: from the cotangent of its output to those of its inputs and parameters."""

from collections.abc import Callable
from typing import Any

import numpy as np

from fgnumba.bench.reverse import attention
from fgnumba.bench.reverse.convolution import convolution2d
from fgnumba.bench.reverse.cotangents import rows_of
from fgnumba.bench.reverse.dense import dense
from fgnumba.bench.reverse.full_recurrences import full_recurrence
from fgnumba.bench.reverse.kernels import convolution, normalization, pooling
from fgnumba.bench.reverse.kernels import rms_norm as rms
from fgnumba.bench.reverse.passes import Passes
from fgnumba.bench.reverse.sequences import elementwise_recurrence, embedding
from fgnumba.errors import ConfigError
from fgnumba.kernels.layout.images import Border, image_shape
from fgnumba.kernels.machine.interfaces import Operation
from fgnumba.kernels.machine.memory import aligned
from fgnumba.kernels.ops.normalization_slope import LAYER_NORM, RMS_NORM
from fgnumba.kernels.ops.normalization_slope import cpu as normalization_slope
from fgnumba.layers import (
    GRU,
    LSTM,
    Activation,
    Add,
    AvgPool2d,
    Concatenate,
    Conv2d,
    Dense,
    Dropout,
    ElementwiseLSTM,
    Embedding,
    GlobalAveragePool2d,
    GroupNorm,
    LayerNorm,
    LinearRecurrentUnit,
    MaxPool2d,
    MinGRU,
    PositionalEmbedding,
    RMSNorm,
    RotaryEmbedding,
    SelfAttention,
)
from fgnumba.model.tasks import ImageBuffer
from fgnumba.model.wiring import Gather, Pad, Step


def pool(passes: Passes, step: Step) -> None:
    """Hand a window's cotangent to its maximum, or in equal shares to all its pixels."""
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
    """Compute dx = r (g - mean(g) - x̂ mean(g x̂)), ds = Σ dy x̂ and db = Σ dy."""

    def bind(images: dict[str, Any], how: dict[str, Any]) -> Operation:
        groups = getattr(step.layer, "groups", 0)
        return normalization.bind(passes.isa, **passes.part, **images, groups=groups, **how)

    _normalization(passes, step, bind)


def rms_norm(passes: Passes, step: Step) -> None:
    """Compute dx = r (g - x̂ mean(g x̂)) and ds = Σ dy x̂."""
    _normalization(passes, step, lambda images, how: rms.bind(**passes.part, **images, **how))


def _normalization(
    passes: Passes, step: Step, bind_one: Callable[[dict[str, Any], dict[str, Any]], Operation]
) -> None:
    """List a normalisation's reverse pass. What its input was told before is added to dx on the way."""
    layer: Any = step.layer
    parameters, value, shape = passes.parameters(step), step.inputs[0], step.shapes[0]
    dy, x = passes.cotangent(step.output), passes.values[value]
    if not layer.affine and not value.has_tangent:
        return
    base = passes.received(value) if value.has_tangent else None
    if not layer.affine and type(layer) in _SLOPES and x.by_position and dy.by_position:
        _slope(passes, step, dy, base)
        return
    shares = aligned((passes.batch, 2, shape[-1]))
    scale = parameters["scale"].packed if layer.affine else np.ones(shape[-1], np.float32)
    how = {"epsilon": layer.epsilon, "scale": scale, "shares": shares}

    def bind(dx: ImageBuffer | None) -> list[Operation]:
        given = {"x": x.images(shape), "dy": dy.images(), "dx": dx.images(shape) if dx else None}
        return [bind_one({**given, "base": base.images(shape) if base else None}, how)]

    reads = [dy, x, *([base] if base else [])]
    if value.has_tangent:
        passes.send(value, reads, bind)
    else:
        passes.add(reads, [], lambda: bind(None))
    if not layer.affine:
        return
    shift = parameters.get("shift")
    targets = passes.target(parameters["scale"]), passes.target(shift) if shift else None
    passes.defer([], lambda: [normalization.bind_sum(shares, *targets, passes.onto)], sums=False)


_SLOPES: dict[type, str] = {LayerNorm: LAYER_NORM, RMSNorm: RMS_NORM}


def _slope(passes: Passes, step: Step, dy: ImageBuffer, base: ImageBuffer | None) -> None:
    """List the cotangent of a normalisation's input where it has no parameters: all rows of the batch at once."""
    layer: Any = step.layer
    value = step.inputs[0]
    x = passes.values[value]

    def bind(dx: ImageBuffer) -> list[Operation]:
        return [
            normalization_slope.bind(
                passes.isa,
                passes.threads,
                batch=passes.batch * value.positions,
                kind=_SLOPES[type(layer)],
                x=rows_of(x),
                signal=rows_of(dy),
                out=rows_of(dx),
                base=rows_of(base) if base else None,
                epsilon=layer.epsilon,
            )
        ]

    passes.send(value, [dy, x, *([base] if base else [])], bind, by_image=False)


def elementwise(passes: Passes, step: Step) -> None:
    """Compute dx = dy a'(z) for every input of an activation, a sum or a copy."""
    layer: Any = step.layer
    dy, name = passes.cotangent(step.output), layer.activation
    source = passes.slope_source(step)
    if isinstance(layer, Activation) and source:
        source = passes.values[step.inputs[0]]
    for value, shape in zip(step.inputs, step.shapes, strict=True):
        if source is None and passes.share(value, dy):
            continue

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
    """Hand each input its channels of dy."""
    dy, first = passes.cotangent(step.output), 0
    for value, shape in zip(step.inputs, step.shapes, strict=True):

        def bind(dx: ImageBuffer, first: int = first, shape: tuple[int, ...] = shape) -> list[Operation]:
            x = dy.images().channels_from(first, shape[-1])
            return [convolution.bind_slope(**passes.part, x=x, source=None, y=dx.images(shape))]

        passes.send(value, [dy], bind)
        first += shape[-1]


def dropout(passes: Passes, step: Step) -> None:
    """Compute dx = m dy / (1 - p), with the mask m drawn again."""
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
    ElementwiseLSTM: elementwise_recurrence,
    Embedding: embedding,
    GRU: full_recurrence,
    Gather: elementwise,
    GlobalAveragePool2d: pool,
    GroupNorm: norm,
    LSTM: full_recurrence,
    LayerNorm: norm,
    LinearRecurrentUnit: elementwise_recurrence,
    MaxPool2d: pool,
    MinGRU: elementwise_recurrence,
    Pad: elementwise,
    PositionalEmbedding: attention.positional_embedding,
    RMSNorm: rms_norm,
    RotaryEmbedding: attention.rotary_embedding,
    SelfAttention: attention.self_attention,
}

FORWARDS: dict[type, Callable[[Passes, Step, ImageBuffer, bool], None]] = {SelfAttention: attention.forward}
"""Layers whose forward pass is another one if a reverse pass follows."""


def rule(step: Step) -> Callable[[Passes, Step], None]:
    """Return the reverse pass of a step's layer.

    Raises
    ------
    ConfigError
        The layer has no reverse pass, because it is not one of the library's.
    """
    if type(step.layer) not in RULES:
        raise ConfigError(f"layer {step.names[0]!r}: {step.layer.kind} has no reverse pass")
    return RULES[type(step.layer)]
