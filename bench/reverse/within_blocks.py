"""Reverse mode within blocks: each block of a transformer has a loss of its own, and no error passes between blocks.

The blocks and their heads are those of :class:`fgnumba.BlockFeedback`, which this is the yardstick of: the same losses,
with their exact gradients. A block's reverse pass follows its forward pass at once, so that activations are kept for
one block at a time.

Source: A. Nøkland, L. H. Eidnes, arXiv 1901.06656.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from fgnumba.estimators.blocks.layout import Block, Layout, analyzed
from fgnumba.layers import Dense, Layer
from fgnumba.layers.parameters import Parameter
from fgnumba.model.graph import Graph
from fgnumba.model.wiring import Step, Value


@dataclass
class Segment:
    """Steps with a loss at their end.

    Parameters
    ----------
    steps : list of Step
        The steps, in order.
    result : Value
        The outputs that the loss takes.
    cut : dict of Value to Value
        Values that count as constants here, with those of earlier segments whose numbers they have.
    last : bool
        Whether the loss is the model's own.
    """

    steps: list[Step]
    result: Value
    cut: dict[Value, Value] = field(default_factory=dict)
    last: bool = True


@dataclass
class Segments:
    """A model's blocks as segments.

    Parameters
    ----------
    source : Value
        The model's input.
    segments : list of Segment
        The segments, in the order in which they run.
    own : dict
        Parameters of the steps that are no layers of the model, by the layer's own names.
    """

    source: Value
    segments: list[Segment]
    own: dict[Step, dict[str, Parameter]]


def within_blocks(model: Graph, heads: Mapping[str, Parameter]) -> Segments:
    """Return the segments of a model, given the parameters of the blocks' own heads by name.

    Raises
    ------
    ConfigError
        The model is not a residual stream with branches that are known.
    """
    layout = analyzed(model)
    found = Segments(layout.source, [], {})
    for block in layout.blocks:
        steps, cut = _steps_of(layout, block), {}
        if found.segments:
            value = block.sums[0].before
            constant = replace(value, has_tangent=False, readers=[])
            cut[constant] = value
            for step in steps:
                step.inputs = [constant if of is value else of for of in step.inputs]
        else:
            steps = [*layout.inputs, *steps]
        for step in steps:
            has_parameters = bool(model.layer_parameters(step.index))
            step.output.has_tangent = has_parameters or any(value.has_tangent for value in step.inputs)
        result = layout.result
        if not block.last:
            head = _head(model, layout, block, heads, found.own)
            steps, result = [*steps, *head], head[-1].output
        found.segments.append(Segment(steps, result, cut, block.last))
    return found


def _steps_of(layout: Layout, block: Block) -> list[Step]:
    """Return the steps of a block in the model's order; those after the last block belong to it, too."""
    wanted = {step for each in block.sums for branch in each.branches for step in branch.steps}
    wanted |= {each.add for each in block.sums}
    if block.last:
        wanted |= {step for step in (layout.norm, layout.readout) if step}
    return [step for step in layout.steps if step in wanted]


def _head(
    model: Graph,
    layout: Layout,
    block: Block,
    heads: Mapping[str, Parameter],
    own: dict[Step, dict[str, Parameter]],
) -> list[Step]:
    """Return the steps of a block's own head: a normalisation like the model's, without parameters, and a readout."""
    value, steps = block.result, []
    if layout.norm:
        plain = replace(layout.norm.layer, affine=False)  # type: ignore[type-var]
        steps.append(_step(model, f"{block.head}.norm", plain, value, value.shape))
        own[steps[-1]] = {}
        value = steps[-1].output
    shape = (*value.shape[:-1], model.outputs)
    steps.append(_step(model, block.head, Dense(model.outputs), value, shape))
    own[steps[-1]] = {name: heads[f"{block.head}.{name}"] for name in ("weight", "bias")}
    return steps


def _step(model: Graph, name: str, layer: Layer, value: Value, shape: tuple[int, ...]) -> Step:
    output = Value(shape, has_tangent=True, kept=True, by_position=len(shape) == 2)
    # A number that no node has.
    step = Step([name], layer, [value], [value.shape], output, index=len(model.nodes))
    output.producer = step
    value.readers.append(step)
    return step
