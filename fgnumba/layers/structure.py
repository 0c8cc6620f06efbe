"""Layers without parameters that shape, join or thin out what flows through a model."""

import math
from dataclasses import dataclass
from typing import ClassVar

from fgnumba.errors import ShapeError
from fgnumba.kernels.machine.interfaces import Operation
from fgnumba.layers.base import Layer, Shape, Site, checked_activation, sizes
from fgnumba.validation import real_number, store


@dataclass(frozen=True)
class Flatten(Layer):
    """Take (H, W, C), or any shape, as one row: y = x, row-major. Computes and moves nothing."""

    def output_shape(self, *inputs: Shape) -> Shape:
        """Return (K,), K the product of the input's shape."""
        return (math.prod(sizes(inputs[0])),)

    def is_view(self, training: bool) -> bool:
        """Return true."""
        return True

    def bind(self, site: Site) -> list[Operation]:
        """Return no operation."""
        return []


@dataclass(frozen=True)
class Activation(Layer):
    """An activation by itself: y = a(x). Fused into the layer before where that has none of its own.

    Parameters
    ----------
    activation : as in :class:`Dense`.
    """

    activation: str

    def __post_init__(self) -> None:
        store(self, activation=checked_activation("Activation", self.activation))

    def output_shape(self, *inputs: Shape) -> Shape:
        """Return the input's shape."""
        return sizes(inputs[0])

    def with_activation(self, activation: str) -> None:
        """Return None: one activation at a time."""

    def is_view(self, training: bool) -> bool:
        """Return whether it is the identity."""
        return self.activation == "identity"

    def bind(self, site: Site) -> list[Operation]:
        """Return the elementwise operation."""
        return [
            site.device.kernels.elementwise.bind(
                **site.part,
                count=site.perturbation.count,
                x=site.inputs[0],
                y=site.output,
                activation_name=self.activation,
            )
        ]


@dataclass(frozen=True)
class Add(Layer):
    """Sum of inputs of one shape, and an activation: y = a(x₁ + x₂ + …).

    Parameters
    ----------
    activation : as in :class:`Dense`.
    """

    activation: str = "identity"

    inputs: ClassVar[tuple[int, int | None]] = (2, None)

    def __post_init__(self) -> None:
        store(self, activation=checked_activation("Add", self.activation))

    def output_shape(self, *inputs: Shape) -> Shape:
        """Return the inputs' shape; ShapeError where they differ."""
        inputs = tuple(map(sizes, inputs))
        for shape in inputs[1:]:
            if shape != inputs[0]:
                raise ShapeError(
                    f"Add: the inputs' shapes are {inputs[0]} and {shape}; one shape is required"
                )
        return sizes(inputs[0])

    def bind(self, site: Site) -> list[Operation]:
        """Return the sums: of the first two inputs, then of that and each other one."""
        operations: list[Operation] = []
        x = site.inputs[0]
        for index, x2 in enumerate(site.inputs[1:], 2):
            operations.append(
                site.device.kernels.elementwise.bind(
                    **site.part,
                    count=site.perturbation.count,
                    x=x,
                    x2=x2,
                    y=site.output,
                    activation_name=self.activation if index == len(site.inputs) else "identity",
                )
            )
            x = site.output
        return operations


@dataclass(frozen=True)
class Concatenate(Layer):
    """Inputs side by side along their last axis: channels of images, elements of vectors."""

    inputs: ClassVar[tuple[int, int | None]] = (2, None)

    def output_shape(self, *inputs: Shape) -> Shape:
        """Return (H, W, C₁ + C₂ + …), or (N₁ + N₂ + …,); ShapeError where the other sizes differ."""
        inputs = tuple(map(sizes, inputs))
        for shape in inputs[1:]:
            if shape[:-1] != inputs[0][:-1]:
                raise ShapeError(
                    f"Concatenate: the inputs' shapes are {inputs[0]} and {shape}; "
                    "shapes that differ in the last axis alone are required"
                )
        return (*inputs[0][:-1], sum(shape[-1] for shape in inputs))

    def bind(self, site: Site) -> list[Operation]:
        """Return a copy for each input."""
        operations: list[Operation] = []
        first = 0
        for x in site.inputs:
            channels = x.shape[2]
            operations.append(
                site.device.kernels.elementwise.bind(
                    **site.part,
                    count=site.perturbation.count,
                    x=x,
                    y=site.output.channels_from(first, channels),
                )
            )
            first += channels
        return operations


@dataclass(frozen=True)
class Dropout(Layer):
    """Dropout: in training, a share of the elements becomes 0 and the others x / (1 - rate).

    The mask is a function of (seed, step, layer, example, element), the same for primal and tangents and for any number
    of threads. Off in evaluation.

    Parameters
    ----------
    rate : share of elements that become 0, at least 0 and below 1.

    Source: N. Srivastava et al., Journal of Machine Learning Research 15 (2014).
    """

    rate: float = 0.5

    def __post_init__(self) -> None:
        store(self, rate=real_number("Dropout: rate", self.rate, below=1))

    def output_shape(self, *inputs: Shape) -> Shape:
        """Return the input's shape."""
        return sizes(inputs[0])

    def is_view(self, training: bool) -> bool:
        """Return whether nothing is dropped."""
        return not training or self.rate == 0

    def bind(self, site: Site) -> list[Operation]:
        """Return the masking."""
        return [
            site.device.kernels.dropout.bind(
                site.isa,
                **site.part,
                count=site.perturbation.count,
                x=site.inputs[0],
                y=site.output,
                layer=site.index,
                rate=self.rate,
                stream=site.perturbation.stream,
            )
        ]
