"""A forward pass that keeps activations and the reverse pass over them, bound as one program."""

import math
from collections.abc import Callable, Hashable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from fgnumba.bench.reverse import checkpoints
from fgnumba.bench.reverse.cotangents import rows_of
from fgnumba.bench.reverse.kernels import losses
from fgnumba.bench.reverse.passes import Passes, States
from fgnumba.bench.reverse.rules import FORWARDS, rule
from fgnumba.bench.reverse.within_blocks import Segment, Segments, within_blocks
from fgnumba.errors import ConfigError
from fgnumba.kernels.devices.device import Cpu, fill
from fgnumba.kernels.machine.interfaces import Operation
from fgnumba.kernels.machine.memory import aligned
from fgnumba.kernels.rules.philox import STREAM
from fgnumba.kernels.shared.loss import RESULT
from fgnumba.layers.losses import Loss, MeanSquaredError, SoftmaxCrossEntropy
from fgnumba.layers.parameters import Parameter
from fgnumba.model.graph import Graph
from fgnumba.model.input_rows import InputRows
from fgnumba.model.outcome import targets_of
from fgnumba.model.sizes import checked_batch
from fgnumba.model.stream import states_of
from fgnumba.model.tasks import ImageBuffer, place
from fgnumba.model.wiring import Step, Value, wire
from fgnumba.objects.bound import Bound
from fgnumba.validation import flag, optional, whole_number

_TUNED: dict[Hashable, Callable[[], int]] = {
    SoftmaxCrossEntropy: losses.softmax_cross_entropy,
    MeanSquaredError: losses.mean_squared_error,
}
"""Losses with a kernel of their own, by their keys. Any other one is its value and its residual, bound apart."""


class ReversePlan(Bound):
    """Value and gradient of a model's loss on B examples.

    Parameters
    ----------
    model : Graph
        The model, whose parameters are read in place.
    batch : int
        Number of examples B.
    loss : Loss
        The loss.
    update : bool
        True: the gradient times `scale` is added to the parameters as it is computed, and never stored. With a scale
        of -η, this is a step of gradient descent. False: the gradient is written to `gradients`.
    training : bool
        Whether dropout drops elements.
    checkpoint : bool
        True: of L steps about 2 √L keep their outputs at a time, and the others are computed again. This costs at most
        one more forward pass (T. Chen et al., arXiv 1604.06174).
    gradients : dict or None
        Arrays to write the gradient to, instead of new ones.
    states : mapping of int to array (1, B, S), or None
        By the number of a recurrent layer, the states with which it begins and which it replaces by its last ones; see
        :func:`state_arrays`. None: they begin at zeros.
    accumulate : bool
        Whether the gradient is added to what `gradients` hold.
    heads : mapping of str to Parameter, or None
        The parameters of the blocks' own heads. With them, each block of a transformer has a loss of its own, and the
        gradient is that of all of them, where each takes what earlier blocks made as constant; see
        :mod:`fgnumba.bench.reverse.within_blocks`. None: the loss of the model goes through everything.
    kept : int or None
        With `checkpoint`: the number of outputs that are kept at a time, beside those of the layer or the residual
        block that is computed. With 1, memory does not grow with L, and about L² / 2 steps are computed; see
        :mod:`fgnumba.bench.reverse.checkpoints`. None: about 2 √L.

    Attributes
    ----------
    scale : array, (1,) float64
        The factor of the gradient.
    losses : array, (B,) or (1,) float64
        The examples' losses in the last run, or their mean alone: only the two losses of the benchmarks, softmax
        cross-entropy and the mean squared error, are kept by example. Positions of sequences (L, N) count as examples.
    gradients : dict of arrays
        The gradient by parameter name, packed like the parameters; empty with `update`.
    multiply_adds : int
        Number of multiply-adds of all products, including those that are computed again.
    kept : int or None
        As given.
    buffer_nbytes, kept_nbytes : int
        Number of bytes of the buffers of both passes, and of the gates that recurrent layers keep.
    states : dict of States
        The given states by the number of the layer, with those before the last run and their cotangents.
    stream : array, (1,) ``kernels.rules.philox.STREAM``
        Seed and step of dropout's masks.

    Raises
    ------
    ConfigError
        A layer has no reverse pass, or `kept` is given without `checkpoint`.
    """

    def __init__(
        self,
        model: Graph,
        batch: int,
        loss: Loss,
        update: bool = False,
        training: bool = False,
        checkpoint: bool = False,
        gradients: dict[str, npt.NDArray[np.float32]] | None = None,
        states: Mapping[int, npt.NDArray[np.float32]] | None = None,
        accumulate: bool = False,
        heads: Mapping[str, Parameter] | None = None,
        kept: int | None = None,
    ) -> None:
        batch, update = checked_batch(batch, model.input_shape), flag("update", update)
        training, checkpoint = flag("training", training), flag("checkpoint", checkpoint)
        accumulate, kept = flag("accumulate", accumulate), optional(whole_number, "kept", kept)
        if kept is not None and not checkpoint:
            raise ConfigError(f"kept is {kept}; without checkpoint=True, all outputs are kept")
        self.model, self.batch, self.update, self.kept = model, batch, update, kept
        device = model.processor
        if not isinstance(device, Cpu):
            raise ConfigError(f"reverse mode runs on the CPU; the model is on {model.device!r}")
        self._device, self.isa, self.threads = device, device.isa, device.threads
        self.scale, self.stream = np.ones(1), np.zeros(1, STREAM)
        rows = batch * model.positions
        self.losses = np.zeros(rows if loss.key in _TUNED else 1)
        trained = {**model.packed_parameters, **(heads or {})}
        self.gradients = gradients or {
            name: aligned(p.packed.shape) for name, p in trained.items() if not update
        }
        self.targets = targets_of(device, loss, rows, model.outputs).array
        if checkpoint and (states or heads is not None):
            raise ConfigError(
                "checkpoint: layers are computed again from zeros; carried states need windows"
                if states
                else "checkpoint: within blocks, nothing is kept for longer than a block"
            )
        divided = self._divided(training, heads)
        source, segments = divided.source, divided.segments
        self._input = InputRows.of(device, batch, source)
        if not segments[-1].result.has_tangent:
            raise ConfigError(
                "the model has no parameters that its output depends on: nothing can be trained"
            )
        for segment in segments:
            for step in segment.steps:
                rule(step)
            _place_positions(segment.steps)
        self.states = {index: States.of(last) for index, last in (states or {}).items()}
        self._passes = Passes(
            model,
            batch,
            source,
            self._input,
            self.stream,
            None if update else self.gradients,
            self.states,
            accumulate,
            FORWARDS,
        )
        self._passes.own |= divided.own
        self._values: list[npt.NDArray[np.float64]] = []
        for segment in segments:
            self._put_down(segment, loss, checkpoint, kept)
        placed = place(self._passes.tasks, batch, device)
        self.buffer_nbytes, self._keeps = placed.nbytes, placed.keeps
        # The tasks are bound, and refer to this plan. With them, the plan would stay until the garbage collector runs.
        self._passes.tasks.clear()
        self._program = device.program(placed.steps)
        self.operations = self._program.operations
        self.multiply_adds = sum(op.multiply_adds for op in self.operations)
        self._readers = placed.readers
        self.kept_nbytes = sum(gates.nbytes for gates in self._passes.gates.values())

    def _divided(self, training: bool, heads: Mapping[str, Parameter] | None) -> Segments:
        """Return what has a loss of its own: the whole model, or its blocks."""
        if heads is not None:
            return within_blocks(self.model, heads)
        steps, source, result = wire(self.model, tangents=True, training=training)
        return Segments(source, [Segment(steps, result)], {})

    def _put_down(self, segment: Segment, loss: Loss, checkpoint: bool, kept: int | None) -> None:
        """List the passes of a segment; with `checkpoint`, some of its steps are computed again."""
        passes = self._passes
        for constant, value in segment.cut.items():
            passes.values[constant] = passes.values[value]
        links = _links(segment.steps) if checkpoint else [segment.steps]
        room = kept or checkpoints.square_root(len(segment.steps))
        self._reverse(segment, links, room, max(map(len, links)), loss)

    def _reverse(
        self, segment: Segment, links: list[list[Step]], room: int, size: int, loss: Loss | None
    ) -> None:
        """List the reverse pass over a chain of links whose input is kept, with room for the outputs of `room` steps.

        With a loss, the chain is the segment's end and has not been computed yet; the loss and its cotangent follow it.
        """
        passes = self._passes
        compute = passes.forward if loss else passes.again
        k = checkpoints.division(len(links), room, size).first
        if k:
            head = [step for link in links[:k] for step in link]
            for step in head:
                compute(step, keep=False)
            passes.forget([step.output for step in head if not _outlives(step, head, segment.result)])
            self._reverse(segment, links[k:], room - 1, size, loss)
            self._reverse(segment, links[:k], room, size, None)
            return
        chain = [step for link in links for step in link]
        for step in chain:
            compute(step, keep=True)
        if loss:
            values = self.losses if segment.last else np.zeros_like(self.losses)
            self._values.append(values)
            self._loss(segment.result, loss, values)
        else:
            passes.barrier()
        for step in reversed(chain):
            if step.output.has_tangent:
                rule(step)(passes, step)
        passes.flush()

    def _loss(self, result: Value, loss: Loss, values: npt.NDArray[np.float64]) -> None:
        passes, z = self._passes, self._passes.values[result]
        many = passes.many(result)
        cotangent = passes.buffer(result) if many else passes.new_panels(result)

        def out() -> losses.Written:
            return rows_of(cotangent) if isinstance(cotangent, ImageBuffer) else cotangent.array

        def bind() -> list[Operation]:
            if loss.key not in _TUNED:
                return self._untuned(loss, z, out(), values)
            return [
                losses.bind_loss(
                    _TUNED[loss.key](),
                    self.threads,
                    z=z.rows(),
                    width=self.model.outputs,
                    targets=self.targets,
                    scale=self.scale,
                    out=out(),
                    losses=values,
                )
            ]

        passes.add([z], [cotangent], bind, by_image=False)
        if isinstance(cotangent, ImageBuffer):
            passes.receive(result, cotangent)
        else:
            passes.send_panels(result, cotangent)

    def _untuned(
        self, loss: Loss, z: ImageBuffer, out: losses.Written, values: npt.NDArray[np.float64]
    ) -> list[Operation]:
        residual, result = aligned((len(z.rows()), self.model.outputs)), np.zeros(1, RESULT)
        return [
            *loss.bind(self._device, z.rows()[None], self.model.outputs, self.targets, result, values),
            loss.bind_residual(self._device, z.rows(), self.targets, residual),
            losses.bind_cotangent(self.threads, residual=residual, scale=self.scale, out=out),
        ]

    @property
    def nbytes(self) -> int:
        """Number of bytes of buffers and scratch memory, and of the copied input, without gradients and parameters."""
        states = sum(s.last.nbytes + s.before.nbytes + s.carry.nbytes for s in self.states.values())
        kept = self.buffer_nbytes + self.kept_nbytes + states
        return kept + self._program.scratch.nbytes + self._input.nbytes

    def run(self, x: npt.NDArray[Any], targets: npt.NDArray[Any]) -> float:
        """Run both passes on the checked input x (B, ...) and its targets, and return the loss.

        Recurrent layers begin with their carried states, and the gradient knows of what comes later what the `carry`
        of their states says.
        """
        for states in self.states.values():
            states.before[...] = states.last[0]
        self._input.read_by(x, self._readers)
        fill(self.targets, targets)
        self._program.run()
        return self.value

    def cut(self) -> None:
        """Take the states that recurrent layers leave as constants, as truncated backpropagation through time does."""
        for states in self.states.values():
            states.carry[...] = 0

    @property
    def value(self) -> float:
        """The loss of the last run; NaN if that of another block is not finite."""
        finite = all(np.isfinite(values).all() for values in self._values[:-1])
        return float(self.losses.mean()) if finite else math.nan

    @property
    def runs(self) -> int:
        """How many runs of both passes have ended."""
        return self._program.runs


def state_arrays(model: Graph, batch: int) -> dict[int, npt.NDArray[np.float32]]:
    """Return states of zeros for each recurrent layer, by the number of the layer."""
    return {index: aligned(shape) for index, (_, shape) in states_of(model, batch).items()}


def _place_positions(steps: list[Step]) -> None:
    """Give each position a row in all sequences that no step reads under another shape.

    The cotangents of a residual stream then lie as those of the dense layers that read it, and are shared.
    """
    for step in steps:
        value = step.output
        if len(value.shape) == 2 and all(
            shape == value.shape
            for reader in value.readers
            for of, shape in zip(reader.inputs, reader.shapes, strict=True)
            if of is value
        ):
            value.by_position = True


def _links(steps: list[Step]) -> list[list[Step]]:
    """Divide steps where the fewest values cross from one to the next: after each layer, or after residual blocks."""
    last = {step.output: i for i, step in enumerate(steps)}
    for i, step in enumerate(steps):
        last |= {value: i for value in step.inputs if value in last}
    first = {step.output: i for i, step in enumerate(steps)}
    crossing = [sum(first[value] <= i < last[value] for value in last) for i in range(len(steps) - 1)]
    links: list[list[Step]] = [[]]
    for i, step in enumerate(steps):
        links[-1].append(step)
        beside = crossing[max(0, i - 1) : i + 2]
        if i < len(crossing) and crossing[i] == min(beside):
            links.append([])
    return links


def _outlives(step: Step, chain: list[Step], result: Value) -> bool:
    """Whether a step after a chain, or the loss, reads the output of a step."""
    value = step.output
    return value is result or any(reader not in chain for reader in value.readers)
