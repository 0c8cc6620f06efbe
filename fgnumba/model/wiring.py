"""Turn a graph of layers into steps over values.

This decides which layers are fused (an activation joins the layer that feeds it), which are views that compute nothing,
and which steps form a stage, that is, run together on one part of the batch (a few examples) after another.
"""

import math
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import Protocol

from fgnumba.kernels.devices.device import Device
from fgnumba.kernels.layout.images import NO_BORDER, Border
from fgnumba.kernels.machine.interfaces import Operation
from fgnumba.layers import Activation, Elementwise, Layer, Shape, Site
from fgnumba.layers.parameters import Parameter
from fgnumba.model.nodes import WiredNode


class Wirable(Protocol):
    """What of a model is needed to wire and to bind it, so that the modules which do so do not import models."""

    nodes: tuple[WiredNode, ...]
    input_shape: Shape
    shapes: dict[str, Shape]
    output: str
    outputs: int
    positions: int
    processor: Device

    def layer_parameters(self, index: int) -> dict[str, Parameter]:
        """Return the parameters of node `index`, by the layer's own names."""


@dataclass(eq=False)
class Value:
    """The output of a step, or the input of the model: a primal with its tangents, if it has any.

    Parameters
    ----------
    shape : tuple of int
        The shape of one example.
    has_tangent : bool
        Whether there are tangents. If not, they are symbolic zeros.
    producer : Step, optional
        The step that writes the value. By default None, as for the input of the model.
    readers : list of Step
        The steps that read it. By default there are none yet.
    border : Border
        The pixels around it that the convolutions that read it take as zeros. By default there are none.
    kept : bool
        Whether it outlives its stage, because another stage or the caller reads it. By default False.
    flattened : bool
        Whether a step reads it under another shape, which a border would not allow. By default False.
    by_position : bool
        Whether it is a sequence (L, C) of which each position is a row of the batch's buffer, as layers read and write
        it that take the whole batch. By default False: an example is a row, without gaps.
    """

    shape: Shape
    has_tangent: bool
    producer: "Step | None" = None
    readers: "list[Step]" = field(default_factory=list)
    border: Border = NO_BORDER
    kept: bool = False
    flattened: bool = False
    by_position: bool = False

    @property
    def positions(self) -> int:
        """The number of rows that an example has in the buffer of a batch."""
        return self.shape[0] if self.by_position else 1

    @property
    def width(self) -> int:
        """The number of elements of such a row."""
        return math.prod(self.shape) // self.positions


@dataclass(eq=False)
class Step:
    """A layer that computes, with the values that it reads and writes.

    Parameters
    ----------
    names : list of str
        The names of the nodes that it computes: the layer's own, then those that are fused with it.
    layer : Layer
        The layer, with the activation that is fused with it.
    inputs : list of Value
        The values that it reads.
    shapes : list of tuple of int
        The shape of one example under which it reads each of them.
    output : Value
        The value that it writes.
    index : int
        The number of the node in the graph.
    stage : int
        The number of its stage. The steps of a stage run together on one part of the batch after another; a layer that
        needs the whole batch at once is a stage by itself. By default 0, until stages are assigned.
    """

    names: list[str]
    layer: Layer
    inputs: list[Value]
    shapes: list[Shape]
    output: Value
    index: int
    stage: int = 0


class Pad(Activation):
    """A copy of an image to memory in which there is a border around it."""

    @property
    def kind(self) -> str:
        return "pad"


class Gather(Activation):
    """A copy of a sequence, of which each position is a row, to memory in which its elements lie without gaps."""

    @property
    def kind(self) -> str:
        return "gather"

    def bind(self, site: Site) -> list[Operation]:
        """Return the operation that copies: the output counts as a sequence too, whose positions have no gaps."""
        return super().bind(replace(site, output=site.output.viewed_as(site.shapes[0])))


def wire(
    graph: Wirable, tangents: bool, training: bool, by_parts: bool = True, moving_input: bool = False
) -> tuple[list[Step], Value, Value]:
    """Return the steps of a graph in order, the value of its input and the value of its output.

    Parameters
    ----------
    graph : Graph
        The graph.
    tangents : bool
        Whether there are directions, and so tangents.
    training : bool
        Whether dropout drops units.
    by_parts : bool
        Whether the device takes images part by part, with borders around them (the CPU does). If not, each step is a
        stage by itself. By default True.
    moving_input : bool
        Whether the model's input has tangents, and its parameters have none. By default False.
    """
    source = Value(graph.input_shape, has_tangent=moving_input, kept=True)
    outputs: dict[str, tuple[Value, Shape]] = {"input": (source, graph.input_shape)}
    uses = Counter([graph.output, *(name for node in graph.nodes for name in node.inputs)])
    steps: list[Step] = []
    for index, node in enumerate(graph.nodes):
        layer = node.layer if training else node.layer.in_evaluation()
        if isinstance(layer, Elementwise):
            layer = Activation(layer.function)
        read = [outputs[name] for name in node.inputs]
        value, shape = read[0]
        if node.layer.is_view(training):
            outputs[node.name] = value, graph.shapes[node.name]
            value.flattened |= graph.shapes[node.name] != shape
            continue
        fused = None
        producer = value.producer
        if isinstance(layer, Activation) and producer and producer.names[-1] == node.inputs[0]:
            fused = producer.layer.with_activation(layer.activation)
        if fused and producer and uses[node.inputs[0]] == 1:
            producer.layer = fused
            producer.names.append(node.name)
            outputs[node.name] = value, shape
            continue
        has_tangent = tangents and (
            any(of.has_tangent for of, _ in read)
            or (not moving_input and bool(graph.layer_parameters(index)))
        )
        output = Value(graph.shapes[node.name], has_tangent)
        step = Step([node.name], layer, [v for v, _ in read], [s for _, s in read], output, index)
        output.producer = step
        for source_value, _ in read:
            source_value.readers.append(step)
        outputs[node.name] = output, output.shape
        steps.append(step)
    result, shape = outputs[graph.output]
    _place_positions(steps, source, result)
    if shape != result.shape and result.by_position:
        result = _gathered(steps, result, shape, len(steps))
    result.kept = True
    _assign_stages(steps, by_parts)
    for step in steps if by_parts else ():
        _provide_border(steps, step)
    return steps, source, result


def _place_positions(steps: list[Step], source: Value, result: Value) -> None:
    """Decide which sequences have a row for each position, and copy them for steps that read them flattened."""
    for value in (source, *(step.output for step in steps)):
        read_so = any(
            reader.layer.whole_batch and shape == value.shape
            for reader in value.readers
            for of, shape in zip(reader.inputs, reader.shapes, strict=True)
            if of is value
        )
        written_so = value.producer is not None and (value.producer.layer.whole_batch or value is result)
        value.by_position = len(value.shape) == 2 and (read_so or written_so)
    for step in list(steps):
        for number, (value, shape) in enumerate(zip(step.inputs, step.shapes, strict=True)):
            if value.by_position and shape != value.shape:
                copy = _gathered(steps, value, shape, steps.index(step))
                value.readers.remove(step)
                copy.readers.append(step)
                step.inputs[number] = copy


def _gathered(steps: list[Step], value: Value, shape: Shape, at: int) -> Value:
    """Insert a step that copies a sequence to a value of `shape` without gaps, before step `at`."""
    assert value.producer is not None or value.readers
    index = value.producer.index if value.producer else 0
    names = value.producer.names[-1:] if value.producer else ["input"]
    copy = Value(shape, value.has_tangent)
    copy.producer = Step(names, Gather("identity"), [value], [value.shape], copy, index)
    value.readers.append(copy.producer)
    steps.insert(at, copy.producer)
    return copy


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
    """Give the input of a convolution the border that the convolution reads, or a copy with that border."""
    border, value = step.layer.border(step.shapes), step.inputs[0]
    # Nothing may be read past the end of the caller's array, which is the model's input.
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
