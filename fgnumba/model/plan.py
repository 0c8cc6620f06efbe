"""A plan: a model bound to a batch size, with buffers assigned by liveness and every kernel bound once.

Layers that need the whole batch at once (dense ones) run one after another. The layers between them run part by part:
a few examples go through all of these layers before the next few do, in buffers that stay in a thread's cache. Running
a plan looks nothing up and allocates nothing.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

import numpy.typing as npt

from fgnumba.errors import ConfigError
from fgnumba.kernels.devices.device import Staged
from fgnumba.kernels.layout.images import Images, bordered_size
from fgnumba.kernels.machine.interfaces import Operation
from fgnumba.kernels.machine.memory import CACHE_LINE, aligned, leading, round_up
from fgnumba.kernels.machine.program import Stage, cpu_operations
from fgnumba.kernels.machine.work import ELEMENT_WORK, PARTS_A_THREAD, threads_for
from fgnumba.layers import Perturbation, Shape, Site
from fgnumba.layers.losses import Loss
from fgnumba.layers.workspace import Workspace
from fgnumba.model.input_rows import DualRows, InputRows
from fgnumba.model.liveness import SLACK, Lifetime, assign
from fgnumba.model.outcome import Outcome, targets_of
from fgnumba.model.wiring import Step, Value, Wirable, wire
from fgnumba.objects.bound import Bound
from fgnumba.objects.table import as_text

CACHED_PART = 768 * 1024
"""The most bytes that the buffers of a part may have, so that a thread's cache holds them beside the weights."""


@dataclass(frozen=True)
class Row:
    """A row of the table that ``str(plan)`` shows.

    `layer` holds the names of the nodes, joined by ``+`` if they are fused, and `operation` those of the kernels.
    `inputs` and `output` are shapes of one example. `buffer` says where the output is: ``batch 2`` is buffer 2 of those
    that hold the whole batch, ``part 2`` buffer 2 of those that hold a thread's part of it. `nbytes` is the size of the
    output in its buffer, with tangents and border. `primal` and `dual` are the multiply-adds for the batch without and
    with the tangents.
    """

    layer: str
    operation: str
    inputs: tuple[Shape, ...]
    output: Shape
    buffer: str
    nbytes: int
    primal: int
    dual: int


class Plan(Bound):
    """The forward pass of a model on B examples, with T tangents and, optionally, a loss.

    Parameters
    ----------
    model : Graph
        The model, whose parameters are read in place.
    batch : int
        The number of examples B.
    perturbation : Perturbation
        The T directions.
    loss : Loss, optional
        The loss to compute after the last layer. By default there is none.
    training : bool, optional
        Whether dropout drops units. By default False.
    noted : int, optional
        The number of extra scalars that operations appended to the pass record in the outcome. By default 0.
    moving_input : bool, optional
        Whether the T tangents are those of the input, and the parameters stand still; `perturbation` is then of kind
        NONE. By default False.
    states : mapping of int to device array, optional
        The states of recurrent layers, by the number of the node; see :class:`Site`. A run begins with them and leaves
        the last ones in them. By default every run begins with states of zeros.

    Attributes
    ----------
    values : device array, (1 + T,) float64
        The loss and the directional derivatives of the last run.
    result : device array, (1,) of dtype ``kernels.shared.loss.RESULT``
        Whether they are finite.
    output : device array, (1 + T, B, ld) float32
        The output of the model in the last run, primal and tangents. If it is a sequence (L, N), (1 + T, B L, ld).
    rows : list of Row
        What runs, layer by layer.
    steps : list of Operation or Stage
        The same as bound operations, and stages that run several operations part by part.
    """

    def __init__(
        self,
        model: Wirable,
        batch: int,
        perturbation: Perturbation,
        loss: Loss | None = None,
        training: bool = False,
        noted: int = 0,
        moving_input: bool = False,
        states: Mapping[int, Any] | None = None,
    ) -> None:
        self._states = states or {}
        self.batch, self.perturbation, self.loss = batch, perturbation, loss
        self.moving_input = moving_input
        self.outputs = model.outputs
        self.device = model.processor
        self.isa, self.threads = self.device.isa, self.device.threads
        self.outcome = Outcome(self.device, perturbation.count, noted)
        self.values, self.result = self.outcome.values, self.outcome.result
        self.rows: list[Row] = []
        self.steps: list[Operation | Stage] = []
        self.output: Any = self._bind(model, training)
        self.targets: Staged | None = None
        if loss is not None:
            self.targets = targets_of(self.device, loss, batch * model.positions, self.outputs)
            self.steps += loss.bind(
                self.device, self.output, self.outputs, self.targets.array, self.result, self.values
            )
        self._program = self.device.program(self.steps)
        self._readers = [(op, name, 0) for op in self._program.operations for name in op.external]

    def _bind(self, model: Wirable, training: bool) -> Any:
        has_tangents = self.perturbation.count > 0
        steps, source, result = wire(model, has_tangents, training, self.device.by_parts, self.moving_input)
        if has_tangents and not result.has_tangent:
            raise ConfigError(
                "the model has no parameters that its output depends on: nothing can be trained"
            )
        self.input = InputRows.of(self.device, self.batch, source)
        if self.moving_input:
            rows = self.batch * source.positions
            self.input = DualRows(self.device, 1 + self.perturbation.count, rows, source.width)
        self._place_batch_values(steps, result)
        self._workspace = Workspace(self.device)
        stages = [list(stage) for _, stage in groupby(steps, key=lambda step: step.stage)]
        parts = [self._place_part(stage) for stage in stages]
        local_nbytes = max((part.nbytes for part in parts), default=0) * self.threads
        self._local = aligned((local_nbytes // 4,))
        for stage, part in zip(stages, parts, strict=True):
            operations: list[Operation] = []
            for step in stage:

                def images(value: Value, shape: Shape, part: "_Part" = part) -> Images:
                    if value in part.places:
                        place = part.places[value]
                        return Images.of_part(
                            self._local, place, value.shape, part.images, value.has_tangent, value.border
                        ).viewed_as(shape)
                    array = self.input.array if value is source else self._arrays[value]
                    external = value is source and self.input.in_place
                    return Images.of_batch(
                        array, shape, value.has_tangent, part.images, external, value.by_position
                    )

                bound = step.layer.bind(
                    Site(
                        device=self.device,
                        batch=self.batch,
                        images=part.images,
                        index=step.index,
                        inputs=tuple(map(images, step.inputs, step.shapes)),
                        output=images(step.output, step.output.shape),
                        parameters=model.layer_parameters(step.index),
                        perturbation=self._perturbation_of(step, model),
                        shapes=tuple(step.shapes),
                        state=self._states.get(step.index),
                        workspace=self._workspace,
                    )
                )
                self._describe(step, bound, part)
                operations += bound
            if self._is_whole(stage):
                self.steps += operations
            else:
                self.steps += [op for op in operations if op.once]
                repeated = cpu_operations(op for op in operations if not op.once)
                self.steps.append(Stage(repeated, part.count, part.threads, part.nbytes))
        return self._arrays[result]

    def _perturbation_of(self, step: Step, model: Wirable) -> Perturbation:
        """Return the directions of a step: zeros where parameters stand still and the kernel reads them."""
        kind, count = step.layer.still, self.perturbation.count
        if not self.moving_input or kind == self.perturbation.kind:
            return self.perturbation
        parameters = model.layer_parameters(step.index).values()
        zeros = {p.name: self.device.zeros((count, *p.packed.shape)) for p in parameters}
        return replace(self.perturbation, kind=kind, explicit=zeros)

    def _place_batch_values(self, steps: list[Step], result: Value) -> None:
        """Allocate buffers of the whole batch for the values that outlive their stages."""
        kept = [step for step in steps if step.output.kept]
        last = {step.output: max((r.stage for r in step.output.readers), default=step.stage) for step in kept}
        last[result] = len(steps)
        sizes = [
            self._blocks(step.output) * self.batch * step.output.positions * leading(step.output.width)
            for step in kept
        ]
        lifetimes = [
            Lifetime(size, step.stage, last[step.output]) for size, step in zip(sizes, kept, strict=True)
        ]
        slots, capacities = assign(lifetimes)
        arenas = [self.device.zeros((capacity + SLACK,)) for capacity in capacities]
        self._batch_nbytes = sum(arena.nbytes for arena in arenas)
        self._arrays, self._slots = {}, {}
        for step, slot, size in zip(kept, slots, sizes, strict=True):
            rows = self.batch * step.output.positions
            self._arrays[step.output] = arenas[slot][:size].reshape(self._blocks(step.output), rows, -1)
            self._slots[step.output] = slot

    def _is_whole(self, stage: list[Step]) -> bool:
        """Return whether a stage takes the whole batch at once."""
        return stage[0].layer.whole_batch or not self.device.by_parts

    def _blocks(self, value: Value) -> int:
        return 1 + self.perturbation.count * value.has_tangent

    def _place_part(self, stage: list[Step]) -> "_Part":
        """Choose how many examples a part of a stage has, and where its values lie in a thread's memory."""
        if self._is_whole(stage):
            return _Part(0, 1, 1, 0, {}, {})
        local = [(i, step) for i, step in enumerate(stage) if not step.output.kept]
        order = {step: i for i, step in enumerate(stage)}
        lifetimes = [
            Lifetime(
                self._blocks(step.output) * bordered_size(step.output.shape, step.output.border),
                i,
                max(order[reader] for reader in step.output.readers),
            )
            for i, step in local
        ]
        slots, capacities = assign(lifetimes)
        work = sum(
            step.layer.multiply_adds(step.shapes) + ELEMENT_WORK * math.prod(step.output.shape)
            for step in stage
        )
        most = max(1, CACHED_PART // max(1, 4 * sum(capacities)))
        threads = threads_for(work * self.batch * (1 + self.perturbation.count), self.batch, self.threads)
        rounds = max(-(-self.batch // (threads * most)), PARTS_A_THREAD if threads > 1 else 1)
        images = -(-self.batch // (threads * rounds))
        places, end = {}, 0
        starts = []
        for capacity in capacities:
            starts.append(end)
            end += round_up((capacity * images + SLACK) * 4, CACHE_LINE) // 4
        for (_, step), slot in zip(local, slots, strict=True):
            places[step.output] = starts[slot]
        names = {step.output: slot for (_, step), slot in zip(local, slots, strict=True)}
        return _Part(images, -(-self.batch // images), threads, end * 4, places, names)

    def _describe(self, step: Step, bound: list[Operation], part: "_Part") -> None:
        output = step.output
        if output in part.places:
            size = self._blocks(output) * part.images * bordered_size(output.shape, output.border)
            buffer = f"part {part.slots[output]}"
        else:
            size, buffer = self._arrays[output].size, f"batch {self._slots[output]}"
        primal = step.layer.multiply_adds(step.shapes) * self.batch
        self.rows.append(
            Row(
                "+".join(step.names),
                "+".join(dict.fromkeys(op.name for op in bound if not op.once)),
                tuple(step.shapes),
                output.shape,
                buffer,
                size * 4,
                primal,
                max(primal, sum(op.multiply_adds for op in bound)),
            )
        )

    def __str__(self) -> str:
        """Return a table of the layers in the order in which they run, with totals."""
        heads = ("layer", "operation", "input", "output", "buffer", "bytes", "multiply-adds", "with tangents")
        lines = []
        for row in self.rows:
            inputs, output = " ".join(map(_times, row.inputs)), _times(row.output)
            numbers = (f"{row.nbytes:,}", f"{row.primal:,}", f"{row.dual:,}")
            lines.append((row.layer, row.operation, inputs, output, row.buffer, *numbers))
        primal, dual = sum(row.primal for row in self.rows), sum(row.dual for row in self.rows)
        lines.append(("total", "", "", "", "", f"{self.nbytes:,}", f"{primal:,}", f"{dual:,}"))
        return as_text(heads, lines, 3)

    def renumber(self, first: int) -> None:
        """Change the number of the direction, of which the pass has exactly one, to `first`."""
        assert self.perturbation.count == 1
        changed = [operation.renumber(first) for operation in self.operations]
        if any(changed):
            self._program.forget()

    def append(self, operations: Sequence[Operation]) -> None:
        """Let each run of the plan end with `operations`."""
        self.steps += operations
        self._program = self.device.program(self.steps)

    @property
    def operations(self) -> tuple[Operation, ...]:
        """The operations of a run, in the order in which they run."""
        return self._program.operations

    @property
    def runs(self) -> int:
        """The number of runs that have come to their end."""
        return self._program.runs

    @property
    def nbytes(self) -> int:
        """The number of bytes of the buffers, the scratch memory and the copied input."""
        return self.buffer_nbytes + self._program.scratch_nbytes + self.input.nbytes

    @property
    def input_nbytes(self) -> int:
        """The number of bytes of the copied input."""
        return self.input.nbytes

    @property
    def buffer_nbytes(self) -> int:
        """The number of bytes of the buffers that hold the values between layers, and of what layers share."""
        return self._batch_nbytes + self._local.nbytes + self._workspace.nbytes

    def run(self, x: Any, targets: npt.NDArray[Any] | None = None) -> None:
        """Run the pass on `x` (B, ...) and, if there is a loss, `targets`. Both have been checked before.

        :meth:`InputRows.read_by` says when `x` is read in place and when it is copied. With a moving input, `x` is the
        sequence of the input and its tangents.
        """
        self.set_input(x, targets)
        self._program.run()

    def set_input(self, x: Any, targets: npt.NDArray[Any] | None = None) -> None:
        """Let the operations read `x` and `targets` in the next run, as :meth:`run` does."""
        self.input.read_by(x, self._readers)
        if self.targets is not None and targets is not None:
            self.targets.load(targets)


def _times(shape: Shape) -> str:
    return "x".join(map(str, shape))


@dataclass(frozen=True)
class _Part:
    """How a stage is cut into parts.

    `images` is the number of examples a part, `count` the number of parts, `nbytes` the memory of each thread.
    `places` are the offsets of the values in a thread's memory, `slots` the numbers of their buffers there.
    """

    images: int
    count: int
    threads: int
    nbytes: int
    places: dict[Value, int]
    slots: dict[Value, int]
