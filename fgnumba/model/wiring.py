"""From a graph of layers to steps over values: what is fused, what is a view, which steps run part by part together."""

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from fgnumba.kernels.layout.images import NO_BORDER, Border
from fgnumba.layers import Activation, Layer, Shape

if TYPE_CHECKING:
    from fgnumba.model.graph import Graph


@dataclass(eq=False)
class Value:
    """What a step writes and others read.

    Parameters
    ----------
    shape : of one example.
    has_tangent : False: its tangent is a symbolic zero.
    border : pixels around it, for the convolutions that read it.
    kept : it outlives its stage: another stage or the caller reads it.
    """

    shape: Shape
    has_tangent: bool
    producer: "Step | None" = None
    readers: "list[Step]" = field(default_factory=list)
    border: Border = NO_BORDER
    kept: bool = False
    flattened: bool = False


@dataclass(eq=False)
class Step:
    """A layer that computes, with the values that it reads and writes.

    Parameters
    ----------
    names : of the nodes that it computes, the layer's own first.
    inputs, shapes : what it reads, and under which shapes.
    index : number of the node in the graph.
    stage : steps of one stage run part by part together; a layer of the whole batch is a stage by itself.
    """

    names: list[str]
    layer: Layer
    inputs: list[Value]
    shapes: list[Shape]
    output: Value
    index: int
    stage: int = 0


class Pad(Activation):
    """Moves an image to where there is a border around it."""

    @property
    def kind(self) -> str:
        return "pad"


def wire(
    graph: "Graph", tangents: bool, training: bool, by_parts: bool = True
) -> tuple[list[Step], Value, Value]:
    """Return the steps of a graph in order, the value of its input and that of its output.

    Parameters
    ----------
    tangents : whether there are directions.
    training : whether dropout drops.
    by_parts : whether the device goes through images part by part, with borders around them; else each step is a stage.
    """
    source = Value(graph.input_shape, has_tangent=False, kept=True)
    found: dict[str, tuple[Value, Shape]] = {"input": (source, graph.input_shape)}
    uses = Counter([graph.output, *(name for node in graph.nodes for name in node.inputs)])
    steps: list[Step] = []
    for index, node in enumerate(graph.nodes):
        read = [found[name] for name in node.inputs]
        value, shape = read[0]
        if node.layer.is_view(training):
            found[node.name] = value, graph.shapes[node.name]
            value.flattened |= graph.shapes[node.name] != shape
            continue
        fused = None
        producer = value.producer
        if isinstance(node.layer, Activation) and producer and producer.names[-1] == node.inputs[0]:
            fused = producer.layer.with_activation(node.layer.activation)
        if fused and producer and uses[node.inputs[0]] == 1:
            producer.layer = fused
            producer.names.append(node.name)
            found[node.name] = value, shape
            continue
        has_tangent = tangents and (
            bool(graph.layer_parameters(index)) or any(one.has_tangent for one, _ in read)
        )
        output = Value(graph.shapes[node.name], has_tangent)
        step = Step([node.name], node.layer, [v for v, _ in read], [s for _, s in read], output, index)
        output.producer = step
        for one, _ in read:
            one.readers.append(step)
        found[node.name] = output, output.shape
        steps.append(step)
    result = found[graph.output][0]
    result.kept = True
    _assign_stages(steps, by_parts)
    for step in steps if by_parts else ():
        _provide_border(steps, step)
    return steps, source, result


def _assign_stages(steps: list[Step], by_parts: bool) -> None:
    stage = 0
    for step, before in zip(steps, [None, *steps], strict=False):
        whole = step.layer.whole_batch or not by_parts
        if before is not None and (whole or before.layer.whole_batch):
            stage += 1
        step.stage = stage
    for step in steps:
        step.output.kept |= any(reader.stage != step.stage for reader in step.output.readers)
        step.output.kept |= step.layer.whole_batch or not by_parts


def _provide_border(steps: list[Step], step: Step) -> None:
    """Give the input of a convolution the border that it reads: its own, or that of a copy."""
    border, value = step.layer.border(step.shapes), step.inputs[0]
    # A caller's array ends where it ends.
    beyond = value.producer is None and step.layer.reads_beyond(step.shapes)
    if border == NO_BORDER and not beyond:
        return
    if not value.kept and not value.flattened:
        value.border = value.border.union(border)
        return
    copy = Value(step.shapes[0], value.has_tangent, readers=[step], border=border)
    copy.producer = Step(
        [step.names[0]], Pad("identity"), [value], step.shapes[:1], copy, step.index, step.stage
    )
    value.readers[value.readers.index(step)] = copy.producer
    step.inputs[0] = copy
    steps.insert(steps.index(step), copy.producer)
