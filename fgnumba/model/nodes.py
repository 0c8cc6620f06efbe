"""The nodes of a graph: layers by name, and what each reads."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fgnumba.errors import ConfigError, did_you_mean, shown
from fgnumba.layers import Layer

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]*")


@dataclass(frozen=True)
class Node:
    """A layer in a graph.

    Parameters
    ----------
    name : letters, digits, ``_`` and ``-``; the parameters' prefix. ``input`` is the graph's input.
    layer : what it computes.
    inputs : names of the nodes that it reads, each earlier in the graph; one name, or several. By default the node
        before, the graph's input for the first.
    """

    name: str
    layer: Layer
    inputs: tuple[str, ...] | str | None = None


@dataclass(frozen=True)
class WiredNode(Node):
    """A node whose inputs are written out."""

    inputs: tuple[str, ...] = ()


def wired(nodes: Sequence[Any]) -> tuple[WiredNode, ...]:
    """Return the nodes with their inputs written out, having checked names and wiring."""
    found: list[WiredNode] = []
    known = {"input": None}
    before = "input"
    for index, node in enumerate(nodes):
        if not isinstance(node, Node) or not isinstance(node.layer, Layer):
            example = "Node('head', Dense(10))"
            raise ConfigError(
                f"nodes[{index}] is {shown(node)}; a node with a layer is required, for example {example}"
            )
        name = node.name
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise ConfigError(f"nodes[{index}]: name is {shown(name)}; letters, digits, _ and - are required")
        if name in known:
            raise ConfigError(f"layer {name!r}: the name is there twice; 'input' is the graph's own")
        inputs = (before,) if node.inputs is None else node.inputs
        inputs = (inputs,) if isinstance(inputs, str) else tuple(inputs)
        for one in inputs:
            if one not in known:
                raise ConfigError(
                    f"layer {name!r} reads {shown(one)}, which no earlier layer is called"
                    f"{did_you_mean(str(one), known)}"
                )
        least, most = node.layer.inputs
        if len(inputs) < least or (most is not None and len(inputs) > most):
            required = f"{least}" if most == least else f"at least {least}"
            raise ConfigError(
                f"layer {name!r}: {node.layer.kind} reads {len(inputs)} inputs ({', '.join(inputs)}); "
                f"{required} required"
            )
        found.append(WiredNode(name, node.layer, inputs))
        known[name], before = None, name
    return tuple(found)


def check_uses(nodes: Sequence[WiredNode], output: str) -> None:
    """Raise ConfigError unless `output` is a node, and every other one feeds a node."""
    names = [node.name for node in nodes]
    if output not in names:
        raise ConfigError(f"output: no layer is called {shown(output)}{did_you_mean(str(output), names)}")
    used = {output, *(name for node in nodes for name in node.inputs)}
    for name in names:
        if name not in used:
            raise ConfigError(f"layer {name!r} feeds no other layer, and is not the output {output!r}")
