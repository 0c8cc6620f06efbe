"""The residual stream of a model: what is added to it, and where errors are told.

A *stream* is a sequence of values h_0, h_1, …, of one shape (L, C). Each is the sum of the one before and of *branches*
that read it. A *block* is what has a loss of its own: it ends with a sum that adds dense layers.
"""

from dataclasses import dataclass, field
from typing import Any

from fgnumba.errors import ConfigError
from fgnumba.layers import Add, Dense, Embedding, LayerNorm, PositionalEmbedding, RMSNorm, SelfAttention
from fgnumba.model.graph import Graph
from fgnumba.model.wiring import Step, Value, wire

RULE = "block feedback"
BRANCHES = (
    "SelfAttention, or Dense and a Dense without activation; either behind a LayerNorm, an RMSNorm or neither"
)


@dataclass(eq=False)
class Branch:
    """What is computed from a value of the stream and added to it.

    Parameters
    ----------
    first : Step
        The SelfAttention, or the dense layer of the hidden units.
    project : Step or None
        The dense layer after the hidden units; None after a SelfAttention, which has its own.
    norm : Step or None
        The normalisation before `first`, if there is one.
    """

    first: Step
    project: Step | None
    norm: Step | None

    @property
    def steps(self) -> list[Step]:
        """The steps of the branch, in order. Branches may share their normalisation."""
        return [step for step in (self.norm, self.first, self.project) if step]


@dataclass(eq=False)
class Sum:
    """A step of the stream: from one value to the next.

    Parameters
    ----------
    before : Value
        The value of the stream that the branches read.
    add : Step
        The addition.
    branches : list of Branch
        The branches.
    """

    before: Value
    add: Step
    branches: list[Branch]

    @property
    def norms(self) -> list[Step]:
        """The normalisations of the branches, each once."""
        return list(dict.fromkeys(branch.norm for branch in self.branches if branch.norm))


@dataclass(eq=False)
class Block:
    """Sums that have a loss together, which is that of the last one.

    Parameters
    ----------
    sums : list of Sum
        The sums, in order. All but the last add attention alone.
    last : bool
        Whether the model's own readout reads the last sum. If not, the block has a head of its own.
    """

    sums: list[Sum]
    last: bool = False

    @property
    def result(self) -> Value:
        """The value of the stream at the block's end."""
        return self.sums[-1].add.output

    @property
    def head(self) -> str:
        """The name of the block's own head."""
        return f"head.{self.sums[-1].add.names[-1]}"


@dataclass
class Layout:
    """The steps of a model, as its blocks are trained.

    Parameters
    ----------
    steps : list of Step
        All steps, in order.
    source, result : Value
        The values of the input and of the output.
    inputs : list of Step
        The steps that make h_0 from the input, in order.
    blocks : list of Block
        The blocks, in order.
    norm : Step or None
        The normalisation that the readout reads, if there is one. The heads of the other blocks have one like it.
    readout : Step
        The dense layer at the end.
    """

    steps: list[Step]
    source: Value
    result: Value
    inputs: list[Step]
    blocks: list[Block] = field(default_factory=list)
    norm: Step | None = None
    readout: Any = None

    @property
    def sums(self) -> list[Sum]:
        """The sums of all blocks, in order."""
        return [each for block in self.blocks for each in block.sums]

    def tells_before(self, block: Block, each: Sum) -> bool:
        """Return whether the value before a sum is told its error: within a block, or by the first one its inputs."""
        return bool(self.inputs) if each is self.sums[0] else each is not block.sums[0]


def analyzed(model: Graph) -> Layout:
    """Return the layout of a model; raise ConfigError if it is not a residual stream with branches that are known."""
    steps, source, result = wire(model, True, True, by_parts=False)
    readout = result.producer
    if readout is None or not _is(readout, Dense) or result.readers:
        kind = readout.layer.kind if readout else "its input"
        raise ConfigError(f"{RULE}: the model ends with {kind}; one Dense at the end is required")
    if readout.layer.fused_activation != "identity":
        raise _refused(
            readout, f"has the activation {readout.layer.fused_activation!r}; one without is required"
        )
    value = readout.inputs[0]
    norm = value.producer if _is_norm(value.producer) else None
    value = norm.inputs[0] if norm else value
    sums: list[Sum] = []
    while value.producer is not None and _is(value.producer, Add):
        sums.insert(0, _sum(value.producer))
        value = sums[0].before
    if not sums:
        raise _refused(
            readout, f"reads {_named(value)}; TransformerBlock, or Add of a value and branches, is required"
        )
    layout = Layout(steps, source, result, _inputs(value), _blocks(sums), norm, readout)
    _check(layout, readout)
    for value in (source, *(step.output for step in steps)):
        # Errors of all values are rows, and so are the values; of those that are read flattened, examples are rows.
        value.by_position = len(value.shape) == 2 and not value.flattened
    return layout


def trains(model: Graph) -> bool:
    """Return whether block feedback can train a model."""
    try:
        analyzed(model)
    except ConfigError:
        return False
    return True


def _blocks(sums: list[Sum]) -> list[Block]:
    blocks: list[Block] = []
    begun: list[Sum] = []
    for each in sums:
        begun.append(each)
        if each is sums[-1] or any(branch.project for branch in each.branches):
            blocks.append(Block(begun))
            begun = []
    blocks[-1].last = True
    return blocks


def _sum(add: Step) -> Sum:
    if add.layer.fused_activation != "identity":
        raise _refused(add, f"has the activation {add.layer.fused_activation!r}; a sum without is required")
    # What reads a value stands behind it.
    before = min(add.inputs, key=lambda value: value.producer.index if value.producer else -1)
    others = list(add.inputs)
    others.remove(before)
    branches = []
    for value in others:
        branch = _branch(value, before)
        if branch is None:
            raise _refused(
                add,
                f"adds {_named(value)}, to {_named(before)}; a branch that reads the latter is required: {BRANCHES}",
            )
        branches.append(branch)
    return Sum(before, add, branches)


def _named(value: Value) -> str:
    """Return how messages call a value."""
    step = value.producer
    return f"{step.names[-1]!r}, {step.layer.kind}" if step else "the model's input"


def _branch(value: Value, before: Value) -> Branch | None:
    """Return the branch that leads from `before` to `value`, or None if none that is known does."""
    last = value.producer
    if last is None:
        return None
    project = None
    first: Step | None = last
    if _is(last, Dense):
        project, first = last, last.inputs[0].producer
        if not _is(first, Dense) or last.layer.fused_activation != "identity":
            return None
    elif not _is(last, SelfAttention):
        return None
    assert first is not None
    source = first.inputs[0]
    norm = source.producer if source is not before and _is_norm(source.producer) else None
    if (norm.inputs[0] if norm else source) is not before:
        return None
    return Branch(first, project, norm)


def _inputs(value: Value) -> list[Step]:
    """Return the steps that make the first value of the stream from the input."""
    steps: list[Step] = []
    while value.producer is not None:
        step = value.producer
        dense = _is(step, Dense) and step.layer.fused_activation == "identity"
        ends = dense or _is(step, Embedding)
        if not ends and not _is(step, PositionalEmbedding):
            raise _refused(
                step,
                "makes the input of the first block; Embedding, PositionalEmbedding or Dense without activation does",
            )
        steps.insert(0, step)
        value = step.inputs[0]
        if ends and value.producer is not None:
            raise _refused(
                step, "reads another layer; of the layers before the first block, it must be the first"
            )
    return steps


def _check(layout: Layout, readout: Step) -> None:
    """Raise ConfigError if a value is read by something else than its branch, or a step is in no branch."""
    known = [*layout.inputs, readout, *([layout.norm] if layout.norm else [])]
    for each in layout.sums:
        known.append(each.add)
        for branch in each.branches:
            known += branch.steps
            for step in (branch.first, branch.project):
                if step and len(step.output.readers) > 1:
                    raise _refused(step, "is read by several layers; one is required")
    for step in layout.steps:
        if step not in known:
            raise _refused(step, f"is not part of a branch: {BRANCHES}")
        for value, shape in zip(step.inputs, step.shapes, strict=True):
            if shape != value.shape and step not in layout.inputs:
                raise _refused(step, "reads values flattened; only a Dense before the stream can")
    for each in layout.sums:
        allowed = [each.add, *each.norms, *(branch.first for branch in each.branches if not branch.norm)]
        for reader in each.before.readers:
            if reader not in allowed:
                raise _refused(reader, "reads a value of the stream that an earlier sum has ended")


def _is(step: Step | None, *kinds: type) -> bool:
    """Return whether a step is of one of some kinds: a subclass, which may compute something else, is not."""
    return step is not None and type(step.layer) in kinds


def _is_norm(step: Step | None) -> bool:
    return _is(step, LayerNorm, RMSNorm)


def _refused(step: Step, why: str) -> ConfigError:
    return ConfigError(f"{RULE}: layer {step.names[0]!r}, {step.layer.kind}, {why}")
