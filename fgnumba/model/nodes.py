"""The nodes of a graph: each is a layer with a name and the names of the nodes that it reads.

A model keeps its nodes twice: as they were given, and with each composite, such as a block of a transformer, written
out as nodes of its parts.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from fgnumba.errors import ConfigError, ShapeError, did_you_mean, shown
from fgnumba.layers import AvgPool2d, Composite, Conv2d, Dense, Flatten, Layer, MaxPool2d, Shape
from fgnumba.layers.base import Element
from fgnumba.layers.composite import SOURCE
from fgnumba.validation import several
from fgnumba.validation.images import channels_seem_first

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]*")


@dataclass(frozen=True)
class Node:
    """A layer with its name and its inputs, for a :class:`Graph`.

    Parameters
    ----------
    name : str
        The name: letters, digits, ``_`` and ``-``. It is the prefix of the parameters' names, as in ``head.weight``.
        The name ``input`` is taken: it stands for the input of the graph.
    layer : Layer or Composite
        The layer that the node computes, or the composite.
    inputs : str or sequence of str, optional
        The name or names of the nodes whose outputs it reads, each of which stands earlier in the graph. By default it
        reads the node before it; the first node reads ``input``.

    Examples
    --------
    >>> import fgnumba as fg
    >>> fg.Node("sum", fg.Add(activation="relu"), ("stem", "body")).inputs
    ('stem', 'body')
    """

    name: str
    layer: Element
    inputs: tuple[str, ...] | str | None = None


@dataclass(frozen=True)
class GivenNode(Node):
    """A node whose inputs are written out, in place of a single name or the default."""

    inputs: tuple[str, ...] = ()


@dataclass(frozen=True)
class WiredNode(GivenNode):
    """Such a node of a layer, which is no composite."""

    layer: Layer


def wired(nodes: Sequence[Any]) -> tuple[GivenNode, ...]:
    """Return the nodes with their inputs written out, after checking the names and the wiring.

    Raises
    ------
    ConfigError
        If an element is no node, a name is impossible or there twice, or an input is unknown; or if a layer has too
        few or too many inputs.
    """
    wired_nodes: list[GivenNode] = []
    known = {"input": None}
    before = "input"
    for index, node in enumerate(nodes):
        if not isinstance(node, Node) or not isinstance(node.layer, Layer | Composite):
            example = "Node('head', Dense(10))"
            raise ConfigError(
                f"nodes[{index}] is {shown(node)}; a node with a layer is required, for example {example}"
            )
        name = node.name
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise ConfigError(f"nodes[{index}]: name is {shown(name)}; letters, digits, _ and - are required")
        if name in known:
            raise ConfigError(
                f"layer {name!r}: the name is taken; another is required ('input' is the graph's own)"
            )
        inputs = (before,) if node.inputs is None else node.inputs
        inputs = (inputs,) if isinstance(inputs, str) else tuple(inputs)
        for source in inputs:
            if source not in known:
                raise ConfigError(
                    f"layer {name!r} reads {shown(source)}, but no earlier layer has that name"
                    f"{did_you_mean(str(source), known)}"
                )
        least, most = node.layer.inputs
        if len(inputs) < least or (most is not None and len(inputs) > most):
            required = f"{least}" if most == least else f"at least {least}"
            raise ConfigError(
                f"layer {name!r}: {node.layer.kind} is given {len(inputs)} inputs ({', '.join(inputs)}); "
                f"it takes {required}"
            )
        wired_nodes.append(GivenNode(name, node.layer, inputs))
        known[name], before = None, name
    return tuple(wired_nodes)


def written_out(
    nodes: Sequence[GivenNode], input_shape: Shape, where: Callable[[str], str]
) -> tuple[WiredNode, ...]:
    """Return the nodes, with nodes of its parts in place of each composite.

    Parameters
    ----------
    nodes : sequence of GivenNode
        The nodes, whose wiring has been checked.
    input_shape : tuple of int
        The shape of one example of the model's input.
    where : callable
        A function that returns what messages call the node of a name.

    Raises
    ------
    ShapeError, ConfigError
        If a composite does not take the shape of its input, or the name of a part is that of another node.
    """
    found: list[WiredNode] = []
    shapes = {"input": input_shape}
    composites = [index for index, node in enumerate(nodes) if isinstance(node.layer, Composite)]
    names = {node.name for node in nodes}
    for index, node in enumerate(nodes):
        if isinstance(node.layer, Layer):
            made = [WiredNode(node.name, node.layer, node.inputs)]
        else:
            made = _parts(node, shapes[node.inputs[0]], names, where)
        for one in made if composites and index <= composites[-1] else ():
            try:
                shapes[one.name] = one.layer.output_shape(*(shapes[name] for name in one.inputs))
            except ShapeError as error:
                raise ShapeError(f"{where(one.name)}: {error}") from None
        found += made
    return tuple(found)


def _parts(node: GivenNode, shape: Shape, names: set[str], where: Callable[[str], str]) -> list[WiredNode]:
    """Return the nodes of a composite's parts."""
    assert isinstance(node.layer, Composite)
    try:
        parts = node.layer.parts(shape)
    except (ShapeError, ConfigError) as error:
        raise type(error)(f"{where(node.name)}: {error}") from None

    def name_of(part: str) -> str:
        return f"{node.name}_{part}" if part else node.name

    for part in parts[:-1]:
        if name_of(part.name) in names:
            raise ConfigError(
                f"layer {name_of(part.name)!r}: the name is that of a part of {node.name!r}, a {node.layer.kind}; "
                "another is required"
            )
    own = {part.name: name_of(part.name) for part in parts} | {SOURCE: node.inputs[0]}
    return [WiredNode(own[part.name], part.layer, tuple(own[name] for name in part.inputs)) for part in parts]


def check_uses(nodes: Sequence[GivenNode], output: str) -> None:
    """Raise ConfigError unless `output` is the name of a node, and every other node feeds some node."""
    names = [node.name for node in nodes]
    if output not in names:
        raise ConfigError(f"output: no layer is called {shown(output)}{did_you_mean(str(output), names)}")
    used = {output, *(name for node in nodes for name in node.inputs)}
    for name in names:
        if name not in used:
            raise ConfigError(f"layer {name!r} feeds no other layer, and is not the output {output!r}")


def check_channels_last(layers: Sequence[Element], input_shape: Any) -> None:
    """Raise ShapeError if images seem to have their channels first and a layer would take them for rows.

    Parameters
    ----------
    layers : sequence of Layer
        The layers, each of which reads the one before.
    input_shape : tuple of int, or int
        The shape of one example.
    """
    shape = several(input_shape)
    if shape is None or not channels_seem_first(shape):
        return
    for layer in layers:
        if isinstance(layer, Dense | Flatten):
            return
        if isinstance(layer, Conv2d | MaxPool2d | AvgPool2d):
            channels, height, width = shape
            raise ShapeError(
                f"input_shape is {shown(tuple(shape))}; do the channels come first? Images are (height, width, "
                f"channels), as ({height}, {width}, {channels}); numpy.moveaxis(x, 1, -1) makes this of a batch. If "
                f"{channels} high and {width} channels is meant, build the model with fgnumba.Graph"
            )
