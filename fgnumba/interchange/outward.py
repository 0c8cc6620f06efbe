"""Describe a graph as PyTorch and ONNX have it: channels first, in steps that each are one of their operations."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from fgnumba import layers
from fgnumba.errors import ConfigError
from fgnumba.interchange.axes import Order, flattened, joined, outside, rows_outside
from fgnumba.kernels.layout.images import Border
from fgnumba.layers import Shape
from fgnumba.layers.convolution import Conv2d
from fgnumba.layers.tables import LAYERS
from fgnumba.model.graph import Graph

Array = npt.NDArray[np.float32]
T = TypeVar("T")


@dataclass(frozen=True)
class Step:
    """One operation on examples whose images are (C, H, W).

    Parameters
    ----------
    op : str
        ``linear``, ``conv2d``, ``activation``, ``max_pool``, ``average_pool``, ``global_average`` (to a row),
        ``layer_norm``, ``group_norm``, ``dropout``, ``flatten``, ``add`` or ``concatenate``.
    name : str
        The name of the value that it computes: that of a layer, or with ``.before`` the one before its activation.
    inputs : tuple of str
        The names of the values that it reads.
    shape : tuple of int
        The shape of one example of the output.
    settings : dict
        Numbers and names, as the layer has them.
    arrays : dict of str to ndarray
        The parameters: ``weight`` (N, K) or (N, C / groups, KH, KW), ``bias`` (N,), ``scale`` and ``shift`` (C,).
    """

    op: str
    name: str
    inputs: tuple[str, ...]
    shape: Shape
    settings: dict[str, Any] = field(default_factory=dict)
    arrays: dict[str, Array] = field(default_factory=dict)


class _UnlikeError(Exception):
    """Rows whose elements have the order of channels first cannot go through a layer."""


def steps_of(model: Graph) -> list[Step]:
    """Return the steps of a model, in the order in which they run; the last one's output is the model's.

    A flattened image is a row in the order that it has elsewhere, and the layers that read it have their parameters
    permuted. Where that is impossible, because a row is added to one of another order or is the model's output, images
    are flattened with their channels last: ``flatten`` then has the setting ``channels_last``.

    Parameters
    ----------
    model : Graph
        The model.

    Raises
    ------
    ConfigError
        A layer is of a class that is not one of fgnumba's own.
    """
    try:
        return _Steps(model, permuted=True).steps()
    except _UnlikeError:
        return _Steps(model, permuted=False).steps()


class _Steps:
    def __init__(self, model: Graph, permuted: bool) -> None:
        self._model, self._permuted = model, permuted
        self._arrays = model.parameters()
        self._orders: dict[str, Order] = {"input": None}
        self._values = {"input": "input"}
        self._steps: list[Step] = []

    def steps(self) -> list[Step]:
        model = self._model
        used = self._ancestors()
        for index, node in enumerate(model.nodes):
            if node.name not in used:
                continue
            arrays = {
                name: self._arrays[f"{node.name}.{name}"] for name in self._model.layer_parameters(index)
            }
            # A name of a layer holds no dot.
            alone = type(node.layer) is layers.Activation or node.layer.fused_activation == "identity"
            name = node.name if alone else f"{node.name}.before"
            inputs = tuple(self._values[source] for source in node.inputs)
            orders = [self._orders[source] for source in node.inputs]
            shape = outside(model.shapes[node.name])
            try:
                op, settings, placed, order = self._step(
                    node.layer, model.input_shapes(index), orders, arrays
                )
            except ConfigError as error:
                raise ConfigError(f"layer {node.name!r}: {error}") from None
            self._steps.append(Step(op, name, inputs, shape, settings, placed))
            if not alone:
                kind = {"kind": node.layer.fused_activation}
                self._steps.append(Step("activation", node.name, (name,), shape, kind))
            self._values[node.name], self._orders[node.name] = node.name, order
        if self._orders[model.output] is not None:
            raise _UnlikeError
        return self._steps

    def _ancestors(self) -> set[str]:
        used = {self._model.output}
        for node in reversed(self._model.nodes):
            if node.name in used:
                used |= set(node.inputs)
        return used

    def _step(
        self, layer: Any, shapes: Sequence[Shape], orders: Sequence[Order], arrays: dict[str, Array]
    ) -> tuple[str, dict[str, Any], dict[str, Array], Order]:
        """Return operation, settings, parameters and the order of the output of one layer."""
        shape, order = shapes[0], orders[0]
        kind = type(layer)
        if len(shape) == 2 and kind is not layers.Flatten:
            raise ConfigError(
                f"{layer.kind} reads a sequence {shape}; models of vectors and images alone can be written"
            )
        if kind is layers.Dense:
            arrays["weight"] = np.ascontiguousarray(rows_outside(arrays["weight"], order).T)
            return "linear", {}, arrays, None
        if kind is layers.Conv2d:
            arrays["weight"] = np.ascontiguousarray(arrays["weight"].transpose(3, 2, 0, 1))
            return "conv2d", _convolution(layer, shape), arrays, None
        if kind is layers.Flatten:
            if self._permuted:
                return "flatten", {"channels_last": False}, {}, flattened(shape) if len(shape) == 3 else order
            return "flatten", {"channels_last": flattened(shape) is not None}, {}, None
        if kind is layers.Activation:
            return "activation", {"kind": layer.activation}, {}, order
        if kind is layers.Dropout:
            return "dropout", {"rate": layer.rate}, {}, order
        if kind in (layers.MaxPool2d, layers.AvgPool2d):
            settings = {"window": layer.pool_size, "stride": layer.stride, "padding": layer.border_of(shape)}
            return "max_pool" if kind is layers.MaxPool2d else "average_pool", settings, {}, None
        if kind is layers.GlobalAveragePool2d:
            return "global_average", {}, {}, None
        if kind in (layers.LayerNorm, layers.GroupNorm):
            groups = layer.groups if kind is layers.GroupNorm else None
            if order is not None and groups is not None and groups > 1:
                raise _UnlikeError
            placed = {name: rows_outside(array, order) for name, array in arrays.items()}
            settings = {"epsilon": layer.epsilon, **({} if groups is None else {"groups": groups})}
            return "layer_norm" if groups is None else "group_norm", settings, placed, order
        if kind is layers.Add:
            if any(order != other for other in orders[1:]):
                raise _UnlikeError
            return "add", {}, {}, order
        if kind is layers.Concatenate:
            return "concatenate", {}, {}, joined(orders, [each[-1] for each in shapes])
        if kind in LAYERS.values():
            raise ConfigError(f"{layer.kind} has no counterpart")
        raise ConfigError(f"a {kind.__name__} is not one of fgnumba's layers, and has no counterpart")


def _convolution(layer: Conv2d, shape: Shape) -> dict[str, Any]:
    geometry = layer.geometry(shape)
    return {
        "stride": geometry.stride,
        "padding": geometry.padding,
        "dilation": geometry.dilation,
        "groups": layer.groups,
    }


def counterpart(table: Mapping[str, T], kind: str) -> T:
    """Return what a table has for an activation; raise ConfigError if it has nothing."""
    if kind not in table:
        raise ConfigError(f"activation {kind!r} has no counterpart there")
    return table[kind]


def symmetric(padding: Border) -> tuple[int, int] | None:
    """Return a border as (height, width) if opposite sides are equal, else None."""
    if padding.top == padding.bottom and padding.left == padding.right:
        return padding.top, padding.left
    return None
