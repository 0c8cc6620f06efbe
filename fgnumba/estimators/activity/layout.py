"""Where the noise of activity perturbation goes in, which tangents carry it, and where blocks end."""

from dataclasses import dataclass, field

from fgnumba.errors import ConfigError
from fgnumba.kernels.shared.perturbed_units import SLOPE_FROM_OUTPUT
from fgnumba.layers import Activation, Conv2d, Dense, GroupNorm, LayerNorm
from fgnumba.model.wiring import Step, Value

LAYERS = (Dense, Conv2d, GroupNorm, LayerNorm)
"""Layers with parameters whose gradient follows from their pre-activations'."""


@dataclass(eq=False)
class Place:
    """A layer whose pre-activations get noise.

    Parameters
    ----------
    step : the layer.
    carrier : the step whose output the noise is added to: the layer's own, or that of the activation after it.
    activation : what is applied to the pre-activations.
    block : number of its block.
    slot, slots : the tangents of its noise.
    """

    step: Step
    carrier: Step
    activation: str
    block: int
    slot: int
    slots: int


@dataclass
class Layout:
    """What activity perturbation does to each step of a model.

    Parameters
    ----------
    places : of noise, in order.
    block : of each step.
    ends : the step that each block but the last ends with.
    output : the layer whose output the loss reads, where that is all that it is: its gradient is exact.
    incoming : tangents that a step computes with.
    blocks : tangents of a value's buffer.
    gap, beyond : tangents of a value that are zero: other layers' noise, before and after its own.
    slots : tangents that carry noise, of each block.
    """

    places: list[Place] = field(default_factory=list)
    block: dict[Step, int] = field(default_factory=dict)
    ends: list[Step] = field(default_factory=list)
    output: Step | None = None
    incoming: dict[Step, int] = field(default_factory=dict)
    blocks: dict[Value, int] = field(default_factory=dict)
    gap: dict[Value, tuple[int, int]] = field(default_factory=dict)
    beyond: dict[Value, tuple[int, int]] = field(default_factory=dict)
    slots: list[int] = field(default_factory=list)

    def tangents(self, value: Value, reader: Step) -> int:
        """Return the tangents of a value that a reader sees: none across blocks."""
        producer = value.producer
        if producer is None or self.block[producer] != self.block[reader]:
            return 0
        return self.blocks[value]


def lay_out(
    steps: list[Step], result: Value, has_parameters: set[Step], draws: int, layerwise: bool, local: bool
) -> Layout:
    """Return where noise goes.

    Parameters
    ----------
    has_parameters : the steps that have any.
    draws : T. layerwise : every layer has tangents of its own.
    local : blocks are cut.

    Raises
    ------
    ConfigError
        A layer with parameters is none of ours.
    """
    layout = Layout()
    last = result.producer
    if last is not None and isinstance(last.layer, Dense) and not result.readers:
        layout.output = last
    for step in steps:
        if step in has_parameters and type(step.layer) not in LAYERS:
            raise ConfigError(
                f"layer {step.names[0]!r}: {step.layer.kind} has parameters that noise on activities cannot train"
            )
    _cut(layout, steps, result, local)
    counts: dict[Value, int] = {}
    places: dict[Step, Place] = {}
    used = [0] * (len(layout.ends) + 1)
    for step in steps:
        block = layout.block[step]
        inputs = [
            counts.get(v, 0) if v.producer and layout.block[v.producer] == block else 0 for v in step.inputs
        ]
        most = max(inputs)
        layout.incoming[step] = most
        for value, count in zip(step.inputs, inputs, strict=True):
            if 0 < count < most:
                # Another branch carries more noise: this one's share of it is zero.
                layout.beyond[value] = (count, max(most, layout.beyond.get(value, (0, 0))[1]))
        if step in has_parameters and step is not layout.output:
            carrier, activation = _carrier(step)
            slot = used[block] if layerwise else 0
            used[block] = slot + draws
            places[carrier] = Place(step, carrier, activation, block, slot, draws)
            layout.places.append(places[carrier])
        count = most
        if step in places:
            place = places[step]
            count = max(most, place.slot + draws)
            if most < place.slot:
                layout.gap[step.output] = (most, place.slot)
        counts[step.output] = count
    for value, count in counts.items():
        layout.blocks[value] = max(count, layout.beyond.get(value, (0, 0))[1])
    layout.slots = used
    return layout


def _cut(layout: Layout, steps: list[Step], result: Value, local: bool) -> None:
    """Say which block each step is of: that of the first end that it reaches, the last one's where it reaches none."""
    hidden = [step for step in steps if _ends_block(step)] if local else []
    # The model's own output is what the last block is observed at.
    if hidden and layout.output is not None:
        hidden.pop()
    layout.ends = [step for step in hidden if step.output is not result]
    for block, end in enumerate(layout.ends):
        reaching = [end]
        while reaching:
            step = reaching.pop()
            if step not in layout.block:
                layout.block[step] = block
                reaching += [value.producer for value in step.inputs if value.producer is not None]
    for step in steps:
        layout.block.setdefault(step, len(layout.ends))


def _ends_block(step: Step) -> bool:
    return getattr(step.layer, "activation", "identity") != "identity"


def _carrier(step: Step) -> tuple[Step, str]:
    """Return the step whose output noise is added to, and the activation of the noisy pre-activations."""
    name = getattr(step.layer, "activation", "identity")
    if name == "identity" and len(step.output.readers) == 1:
        reader = step.output.readers[0]
        # Only what goes through an activation counts; so only that gets noise.
        if type(reader.layer) is Activation and reader.layer.activation in SLOPE_FROM_OUTPUT:
            return reader, reader.layer.activation
    return step, name
