"""Make a graph of layers that are described as PyTorch and ONNX describe them: channels first.

A reader calls a method of :class:`Builder` for each layer, and hands on the :class:`Value` that it returns. Every
method takes `where`, which names the layer in messages.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from fgnumba import layers
from fgnumba.errors import ConfigError, FgError, ShapeError
from fgnumba.interchange.axes import Order, flattened, joined, rows_here
from fgnumba.kernels.devices.device import Device
from fgnumba.kernels.layout.images import NO_BORDER, Border
from fgnumba.layers import Layer, Shape
from fgnumba.layers.base import Element
from fgnumba.layers.convolution import resolved_padding
from fgnumba.model.graph import Graph
from fgnumba.model.nodes import Node
from fgnumba.model.sequential import Sequential
from fgnumba.model.sizes import check_example, shape_of

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Value:
    """The output of a layer.

    Parameters
    ----------
    name : str
        The name of the node that computes it; ``input`` is the model's input.
    shape : tuple of int
        The shape of one example here: (H, W, C) or (K,).
    order : tuple, optional
        The order of a row's elements elsewhere (see ``axes``). None (the default): the same as here.
    channels_last : bool
        Whether an image has its channels last elsewhere, too. Default: False.
    """

    name: str
    shape: Shape
    order: Order = None
    channels_last: bool = False


class Builder:
    """Collects nodes and their parameters.

    Parameters
    ----------
    input_shape : tuple of int, or int
        The shape of one example here: (H, W, C) or (K,).
    channels_last : bool
        Whether an image that goes in has its channels last elsewhere, too. Default: False.
    """

    def __init__(self, input_shape: Shape | int, channels_last: bool = False) -> None:
        shape = shape_of("input_shape", input_shape)
        if len(shape) not in (1, 3):
            raise ShapeError(f"input_shape is {shape}; (K,), or (H, W, C) for images, is required")
        check_example("input_shape", shape)
        self.input = Value("input", shape, channels_last=channels_last and len(shape) == 3)
        self._nodes: list[Node] = []
        self._arrays: dict[str, Array] = {}
        self._means: set[str] = set()

    def _add(self, where: str, layer: Layer | Any, *values: Value, **arrays: Array | None) -> Value:
        """Add a node; `layer` is a layer, or a function that makes one."""
        name = str(len(self._nodes))
        try:
            made = layer if isinstance(layer, Layer) else layer()
            shape = made.output_shape(*(value.shape for value in values))
            check_example("the output", shape)
            needed = made.parameter_shapes([value.shape for value in values])
        except FgError as error:
            raise type(error)(f"{where}: {error}") from None
        self._nodes.append(Node(name, made, tuple(value.name for value in values)))
        for key, array in arrays.items():
            if array is None:
                continue
            if array.shape != needed[key]:
                raise ShapeError(f"{where}: {key} has shape {array.shape}; {needed[key]} is required")
            self._arrays[f"{name}.{key}"] = array
        return Value(name, shape)

    def linear(self, where: str, x: Value, weight: Array, bias: Array | None) -> Value:
        """Add y = x Wᵀ + b: `weight` is (N, K)."""
        if len(x.shape) != 1:
            raise ShapeError(f"{where}: its input is an image; a row is required, put Flatten before it")
        if weight.ndim != 2 or weight.shape[1] != x.shape[0]:
            raise ShapeError(f"{where}: weight has shape {weight.shape}; (N, {x.shape[0]}) is required")
        placed = rows_here(weight.T, x.order)
        layer = layers.Dense(len(weight), bias=bias is not None)
        return self._add(where, layer, x, weight=placed, bias=bias)

    def conv2d(
        self,
        where: str,
        x: Value,
        weight: Array,
        bias: Array | None,
        stride: tuple[int, int],
        padding: Border,
        dilation: tuple[int, int],
        groups: int,
    ) -> Value:
        """Add a convolution: `weight` is (N, C / groups, KH, KW)."""
        self._image(where, x)
        if weight.ndim != 4:
            raise ShapeError(f"{where}: weight has shape {weight.shape}; four axes are required")
        size = (int(weight.shape[2]), int(weight.shape[3]))
        extent = ((size[0] - 1) * dilation[0] + 1, (size[1] - 1) * dilation[1] + 1)
        return self._add(
            where,
            lambda: layers.Conv2d(
                len(weight),
                size,
                stride,
                _padding(padding, x.shape, extent, stride),
                dilation,
                groups,
                bias=bias is not None,
            ),
            x,
            weight=weight.transpose(2, 3, 1, 0),
            bias=bias,
        )

    def activation(self, where: str, x: Value, name: str) -> Value:
        """Add an activation; ``identity`` is one, too."""
        return self._like(x, self._add(where, layers.Activation(name), x))

    def dropout(self, where: str, x: Value, rate: float) -> Value:
        """Add dropout of single elements."""
        return self._like(x, self._add(where, lambda: layers.Dropout(rate), x))

    def pool(
        self,
        where: str,
        x: Value,
        kind: str,
        window: tuple[int, int],
        stride: tuple[int, int],
        padding: Border,
    ) -> Value:
        """Add maximum (`kind` ``max``) or average pooling, whose padding counts neither as maximum nor in the mean."""
        self._image(where, x)
        pool = layers.MaxPool2d if kind == "max" else layers.AvgPool2d
        return self._add(where, lambda: pool(window, stride, _padding(padding, x.shape, window, stride)), x)

    def global_average(self, where: str, x: Value) -> Value:
        """Add the mean over all pixels; the result is an image of one pixel."""
        self._image(where, x)
        size = (x.shape[0], x.shape[1])
        mean = self._add(where, lambda: layers.AvgPool2d(size), x)
        self._means.add(mean.name)
        return mean

    def layer_norm(
        self, where: str, x: Value, scale: Array | None, shift: Array | None, epsilon: float
    ) -> Value:
        """Add a normalisation over the elements of a row, or over the channels of each pixel.

        Without a scale it has no parameters.
        """
        return self._normalized(where, lambda affine: layers.LayerNorm(epsilon, affine), x, scale, shift)

    def group_norm(
        self,
        where: str,
        x: Value,
        groups: int,
        scale: Array | None,
        shift: Array | None,
        epsilon: float,
    ) -> Value:
        """Add a normalisation over all pixels and the channels of a group; without a scale it has no parameters."""
        if x.channels_last:
            self._image(where, x)
        if x.order is not None and groups > 1:
            raise ConfigError(f"{where}: groups of a flattened image have no counterpart; flatten after it")
        return self._normalized(
            where, lambda affine: layers.GroupNorm(groups, epsilon, affine), x, scale, shift
        )

    def _normalized(
        self,
        where: str,
        layer: Callable[[bool], Layer],
        x: Value,
        scale: Array | None,
        shift: Array | None,
    ) -> Value:
        arrays = {}
        if scale is not None:
            shift = np.zeros_like(scale) if shift is None else shift
            arrays = {"scale": rows_here(scale, x.order), "shift": rows_here(shift, x.order)}
        return self._like(x, self._add(where, lambda: layer(scale is not None), x, **arrays))

    def add(self, where: str, *values: Value) -> Value:
        """Add a sum of values."""
        first = values[0]
        for value in values[1:]:
            if first.order != value.order or first.channels_last != value.channels_last:
                raise ConfigError(
                    f"{where}: it adds a flattened image to a row of another order; add before Flatten"
                )
        return self._like(first, self._add(where, layers.Add(), *values))

    def concatenate(self, where: str, *values: Value) -> Value:
        """Add a concatenation along the channels, or along a row."""
        if len({value.channels_last for value in values}) > 1:
            raise ConfigError(f"{where}: its inputs have their axes in different orders")
        sizes = [value.shape[-1] for value in values]
        order = joined([value.order for value in values], sizes)
        added = self._add(where, layers.Concatenate(), *values)
        return replace(added, order=order, channels_last=values[0].channels_last)

    def flatten(self, where: str, x: Value) -> Value:
        """Add the step from an image to a row."""
        order = x.order if len(x.shape) == 1 or x.channels_last else flattened(x.shape)
        return replace(self._add(where, layers.Flatten(), x), order=order)

    def transposed(self, where: str, x: Value, channels_last: bool) -> Value:
        """Note that an image has its axes in another order elsewhere from here on; nothing is computed."""
        if len(x.shape) != 3 or x.channels_last == channels_last:
            raise ConfigError(f"{where}: it exchanges axes other than the channels of an image")
        return replace(x, channels_last=channels_last)

    def model(self, output: Value, device: str | Device = "auto") -> Graph:
        """Return the model: a :class:`fgnumba.Sequential` if every layer reads the one before, else a Graph.

        Layers that the output does not depend on are left out.
        """
        if output.order is not None:
            raise ConfigError(
                "the model's output is a flattened image, whose elements have another order here; leave out the last "
                "Flatten"
            )
        used = {output.name}
        for node in reversed(self._nodes):
            if node.name in used:
                used |= set(node.inputs or ())
        nodes = self._with_means([node for node in self._nodes if node.name in used], output.name)
        names = {node.name: str(index) for index, node in enumerate(nodes)}
        names["input"] = "input"
        nodes = [
            Node(names[n.name], n.layer, tuple(names[source] for source in n.inputs or ())) for n in nodes
        ]
        arrays = {}
        for full, array in self._arrays.items():
            name, _, key = full.partition(".")
            if name in names:
                arrays[f"{names[name]}.{key}"] = np.ascontiguousarray(array, np.float32)
        before = [("input",), *((str(index),) for index in range(len(nodes) - 1))]
        if nodes and [node.inputs for node in nodes] == before and names[output.name] == nodes[-1].name:
            chain = [node.layer for node in nodes]
            return Sequential(chain, self.input.shape, device=device, initial=lambda shapes: arrays)
        return Graph(
            nodes, self.input.shape, names[output.name], device=device, initial=lambda shapes: arrays
        )

    def _with_means(self, nodes: list[Node], output: str) -> list[Node]:
        """Return the nodes, with a layer of its own for each mean over all pixels that nothing but Flatten reads."""
        readers: dict[str, list[Element]] = {node.name: [] for node in nodes}
        for node in nodes:
            for source in node.inputs or ():
                readers.get(source, []).append(node.layer)
        return [
            Node(node.name, layers.GlobalAveragePool2d(), node.inputs)
            if node.name in self._means and node.name != output and readers[node.name] == [layers.Flatten()]
            else node
            for node in nodes
        ]

    def _image(self, where: str, x: Value) -> None:
        if len(x.shape) != 3:
            raise ShapeError(f"{where}: its input has shape {x.shape}; an image is required")
        if x.channels_last:
            raise ConfigError(f"{where}: its input has its channels last; it needs them first")

    @staticmethod
    def _like(x: Value, added: Value) -> Value:
        return replace(added, order=x.order, channels_last=x.channels_last)


def _padding(padding: Border, shape: Shape, extent: tuple[int, int], stride: tuple[int, int]) -> Border | str:
    """Return a border by its name, where it has one."""
    if padding == NO_BORDER:
        return "valid"
    return "same" if padding == resolved_padding("same", shape, extent, stride) else padding
