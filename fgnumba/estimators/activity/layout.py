"""The layout of activity perturbation: which layers get noise, which tangents carry it, and where blocks end."""

from collections.abc import Callable
from dataclasses import dataclass, field

from fgnumba.kernels.shared.perturbed_units import SLOPE_FROM_OUTPUT
from fgnumba.model.wiring import Step, Value


@dataclass(eq=False)
class Place:
    """A layer whose pre-activations z get noise.

    Parameters
    ----------
    step : Step
        The layer.
    carrier : Step
        The step to whose output the noise is added: the layer itself, or the activation after it.
    activation : str
        The activation that is applied to the pre-activations.
    block : int
        The number of its block.
    slot : int
        The number of the first tangent that carries its noise.
    slots : int
        The number of tangents that carry its noise.
    """

    step: Step
    carrier: Step
    activation: str
    block: int
    slot: int
    slots: int


@dataclass
class Layout:
    """What activity perturbation does to each step of a model. By default every field is empty.

    Parameters
    ----------
    places : list of Place
        The layers that get noise, in the order in which they run.
    block : dict of Step to int
        The number of the block of each step.
    ends : list of Step
        The last step of each block but the last block.
    output : Step, optional
        The dense layer whose output only the loss reads, so that its gradient is exact; None if there is no such layer.
    incoming : dict of Step to int
        The number of tangents that each step computes from its inputs.
    blocks : dict of Value to int
        The number of tangents in the buffer of each value.
    gap : dict of Value to (int, int)
        The first and the end of the tangents before a value's own noise that are zero, because they carry the noise of
        layers that the value does not depend on.
    beyond : dict of Value to (int, int)
        The same for the tangents after those that the value has.
    slots : list of int
        The number of tangents that carry noise in each block.
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
        """Return how many tangents of a value a step reads: none if the two are in different blocks."""
        producer = value.producer
        if producer is None or self.block[producer] != self.block[reader]:
            return 0
        return self.blocks[value]


def lay_out(
    steps: list[Step],
    result: Value,
    has_parameters: set[Step],
    output: Step | None,
    draws: int,
    layerwise: bool,
    local: bool,
    quiet: Callable[[Step], bool] = lambda end: False,
) -> Layout:
    """Return the layout of a model.

    Parameters
    ----------
    steps : list of Step
        The steps of the model, in the order in which they run.
    result : Value
        The output of the model.
    has_parameters : set of Step
        The steps whose layers have parameters.
    output : Step or None
        The step whose output the loss reads, if its gradient is known in closed form.
    draws : int
        The number of draws of noise T.
    layerwise : bool
        Whether each layer's noise has tangents of its own.
    local : bool
        Whether the model is cut into blocks, for local losses.
    quiet : callable, optional
        A function that returns whether a layer at the end of a block gets no noise, because its feedback is known
        without. By default all layers get noise.
    """
    layout = Layout(output=output)
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
                # Another input carries more tangents than this one, whose missing tangents are zero.
                layout.beyond[value] = (count, max(most, layout.beyond.get(value, (0, 0))[1]))
        if step in has_parameters and step is not layout.output:
            carrier, activation = _carrier(step)
            slots = 0 if carrier in layout.ends and quiet(carrier) else draws
            slot = used[block] if layerwise else 0
            used[block] = max(used[block], slot + slots)
            places[carrier] = Place(step, carrier, activation, block, slot, slots)
            layout.places.append(places[carrier])
        count = most
        if step in places and places[step].slots:
            place = places[step]
            count = max(most, place.slot + place.slots)
            if most < place.slot:
                layout.gap[step.output] = (most, place.slot)
        counts[step.output] = count
    for value, count in counts.items():
        layout.blocks[value] = max(count, layout.beyond.get(value, (0, 0))[1])
    layout.slots = used
    return layout


def _cut(layout: Layout, steps: list[Step], result: Value, local: bool) -> None:
    """Assign each step to the block of the first block end that it reaches, or to the last block if it reaches none."""
    hidden = [step for step in steps if _ends_block(step)] if local else []
    # The last block needs no end, because its noise is observed at the model's own output.
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
    return step.layer.fused_activation != "identity"


def _carrier(step: Step) -> tuple[Step, str]:
    """Return the step to whose output the noise is added, and the activation of the noisy pre-activations."""
    name = step.layer.fused_activation
    if name == "identity" and len(step.output.readers) == 1:
        reader = step.output.readers[0]
        # An activation follows as a layer of its own. Noise on inactive units would have no effect, so it is added
        # there.
        lone = reader.layer.lone_activation
        if lone != "identity" and lone in SLOPE_FROM_OUTPUT:
            return reader, lone
    return step, name
