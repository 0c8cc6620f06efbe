"""Layers without parameters: they reshape, activate, add, concatenate, or drop elements."""

import math
from dataclasses import dataclass
from typing import Any, ClassVar

from fgnumba.errors import ShapeError
from fgnumba.kernels.machine.interfaces import Operation
from fgnumba.layers.base import Layer, Shape, Site, checked_activation, sizes
from fgnumba.layers.own_activation import activation as own_activation
from fgnumba.validation import real_number, store


@dataclass(frozen=True)
class Flatten(Layer):
    """Turn each example, (H, W, C) or another shape, into a row in C order: y = x. Nothing is computed or moved."""

    def output_shape(self, *inputs: Shape) -> Shape:
        """Return the shape of the output, (K,), where K is the number of elements of the input."""
        return (math.prod(sizes(inputs[0])),)

    def is_view(self, training: bool) -> bool:
        """Return True, because the output is the input under another shape."""
        return True

    def bind(self, site: Site) -> list[Operation]:
        """Return no operation, because nothing is computed."""
        return []


@dataclass(frozen=True)
class Activation(Layer):
    """An activation as a layer: y = a(x), dy = a'(x) ⊙ dx.

    It is fused into the layer before it if that layer has no activation of its own and no other layer reads it.

    Parameters
    ----------
    activation : str
        The activation a, as in :class:`Dense`.

    Raises
    ------
    ConfigError
        If the activation is unknown.
    """

    activation: str

    def __post_init__(self) -> None:
        store(self, activation=checked_activation("Activation", self.activation))

    def output_shape(self, *inputs: Shape) -> Shape:
        """Return the shape of the output, which is that of the input."""
        return sizes(inputs[0])

    @property
    def lone_activation(self) -> str:
        """The activation."""
        return self.activation

    def with_activation(self, activation: str) -> None:
        """Return None, because an activation layer cannot take a second activation."""

    def is_view(self, training: bool) -> bool:
        """Return whether the activation is the identity."""
        return self.activation == "identity"

    def bind(self, site: Site) -> list[Operation]:
        """Return the operation that computes the layer at `site`."""
        return [
            site.device.kernels.elementwise.bind(
                **site.part,
                count=site.perturbation.count,
                x=site.inputs[0],
                y=site.output,
                activation_name=str(self.activation),
            )
        ]


@dataclass(frozen=True)
class Elementwise(Layer):
    """A function of one's own of every element, as a layer: y = f(x), dy = f'(x) ⊙ dx.

    It is ``Activation(fgnumba.activation(f))`` under the function's name, and is fused like it.

    Parameters
    ----------
    function : function, Numba dispatcher or OwnActivation
        The function f of one number, as :func:`fgnumba.activation` takes it, or what that has made of it.

    Raises
    ------
    ConfigError
        If `function` is none, or something in it is not possible.

    Examples
    --------
    >>> import math
    >>> import fgnumba as fg
    >>> def wave(x):
    ...     return x + math.sin(x)
    >>> layer = fg.layers.Elementwise(wave)  # doctest: +SKIP
    """

    function: Any

    def __post_init__(self) -> None:
        store(self, function=own_activation(self.function))

    @property
    def activation(self) -> str:
        """The activation that was made of the function."""
        made: str = self.function
        return made

    def output_shape(self, *inputs: Shape) -> Shape:
        """Return the shape of the output, which is that of the input."""
        return sizes(inputs[0])

    @property
    def lone_activation(self) -> str:
        """The activation."""
        return self.activation

    def without_activation(self) -> Layer:
        """Return the identity."""
        return Activation("identity")

    def with_activation(self, activation: str) -> None:
        """Return None, because the layer cannot take a second function."""

    def bind(self, site: Site) -> list[Operation]:
        """Return the operation that computes the layer at `site`."""
        return Activation(self.function).bind(site)


@dataclass(frozen=True)
class Add(Layer):
    """The sum of at least two inputs of one shape, followed by an activation: y = a(x₁ + x₂ + …).

    Parameters
    ----------
    activation : str, optional
        The activation a, as in :class:`Dense`. By default ``identity``.

    Raises
    ------
    ConfigError
        If the activation is unknown.
    ShapeError
        If the shapes of the inputs differ.
    """

    activation: str | None = "identity"

    inputs: ClassVar[tuple[int, int | None]] = (2, None)

    def __post_init__(self) -> None:
        store(self, activation=checked_activation("Add", self.activation))

    def output_shape(self, *inputs: Shape) -> Shape:
        """Return the shape of the output, which is that of every input; raise ShapeError if their shapes differ."""
        inputs = tuple(map(sizes, inputs))
        for shape in inputs[1:]:
            if shape != inputs[0]:
                raise ShapeError(
                    f"Add: the inputs' shapes are {inputs[0]} and {shape}; one shape is required"
                )
        return sizes(inputs[0])

    def bind(self, site: Site) -> list[Operation]:
        """Return the operations at `site`: the sum of two inputs, then the sum of the result and each further input."""
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
                    activation_name=str(self.activation) if index == len(site.inputs) else "identity",
                )
            )
            x = site.output
        return operations


@dataclass(frozen=True)
class Concatenate(Layer):
    """The inputs side by side along their last axis: the channels of images, or the elements of vectors."""

    inputs: ClassVar[tuple[int, int | None]] = (2, None)

    def output_shape(self, *inputs: Shape) -> Shape:
        """Return the output's shape, (H, W, C₁ + C₂ + …) or (N₁ + N₂ + …,); raise ShapeError if other sizes differ."""
        inputs = tuple(map(sizes, inputs))
        for shape in inputs[1:]:
            if shape[:-1] != inputs[0][:-1]:
                raise ShapeError(
                    f"Concatenate: the inputs' shapes are {inputs[0]} and {shape}; "
                    "shapes that differ in the last axis alone are required"
                )
        return (*inputs[0][:-1], sum(shape[-1] for shape in inputs))

    def bind(self, site: Site) -> list[Operation]:
        """Return the operations at `site`: each copies an input to its place in the output."""
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
    """Dropout: in training, each element becomes 0 with probability `rate`, and otherwise x / (1 - rate).

    The mask is a function of (seed, step, layer, example, element), the same for the primal and the tangents and for
    any number of threads. In evaluation the layer does nothing.
    Source: N. Srivastava et al., Journal of Machine Learning Research 15 (2014).

    Parameters
    ----------
    rate : float, optional
        The probability that an element becomes 0, at least 0 and below 1. By default 0.5.

    Raises
    ------
    ConfigError
        If `rate` is out of its range.
    """

    rate: float = 0.5

    numbers_examples: ClassVar[bool] = True

    def __post_init__(self) -> None:
        store(self, rate=real_number("Dropout: rate", self.rate, below=1))

    def output_shape(self, *inputs: Shape) -> Shape:
        """Return the shape of the output, which is that of the input."""
        return sizes(inputs[0])

    def is_view(self, training: bool) -> bool:
        """Return whether no element is dropped."""
        return not training or self.rate == 0

    def bind(self, site: Site) -> list[Operation]:
        """Return the operation that computes the layer at `site`."""
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
