"""The plan of block feedback: a model bound to a batch, the losses of its blocks, and what they tell the branches."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy.typing as npt

from fgnumba.estimators.blocks.credit import Credit
from fgnumba.estimators.blocks.feedback import Memory
from fgnumba.estimators.blocks.forward import KeptForward
from fgnumba.estimators.blocks.layout import Block, Layout
from fgnumba.estimators.blocks.matrices import Matrices
from fgnumba.estimators.blocks.workshop import Workshop
from fgnumba.estimators.planned import Target
from fgnumba.kernels.layout.images import Images
from fgnumba.kernels.machine.interfaces import Operation
from fgnumba.layers.losses import Loss
from fgnumba.layers.parameters import Parameter
from fgnumba.model.graph import Graph
from fgnumba.model.input_rows import InputRows
from fgnumba.model.outcome import Outcome, targets_of
from fgnumba.model.wiring import Step
from fgnumba.objects.bound import Bound


class BlockPlan(Bound):
    """The losses of a model's blocks on a batch of sequences, and the gradients that they and feedback give.

    Parameters
    ----------
    model : Graph
        The model, whose parameters are read in place.
    layout : Layout
        Its stream.
    batch : int
        The number of examples B.
    loss : Loss
        The loss, of every block.
    stream : device array, (1,) of dtype ``kernels.rules.philox.STREAM``
        The seed and the step.
    heads : mapping of str to Parameter
        The parameters of the blocks' own heads, by name.
    settings : BlockFeedback
        The estimator, for its settings.
    memory, target : callable
        Functions that return the array of a feedback matrix, given its name and shape, and that to which a parameter's
        gradient is written, given its name.
    after : callable
        A function that returns the operations which move the parameters, given the plan.

    Attributes
    ----------
    outcome : Outcome
        The loss of the model itself, which is that of the last block.
    result : device array, (1,) of dtype ``kernels.shared.loss.RESULT``
        Whether that loss is finite.
    """

    def __init__(
        self,
        model: Graph,
        layout: Layout,
        batch: int,
        loss: Loss,
        stream: npt.NDArray[Any],
        *,
        heads: Mapping[str, Parameter],
        settings: Any,
        memory: Memory,
        target: Target,
        after: Callable[["BlockPlan"], Sequence[Operation]],
    ) -> None:
        self.device, self._model, self._layout, self._batch = model.processor, model, layout, batch
        self._loss, self._heads, self._target, self._settings = loss, heads, target, settings
        self._outcomes = {block: Outcome(self.device, 0) for block in layout.blocks}
        self.outcome = self._outcomes[layout.blocks[-1]]
        self.result = self.outcome.result
        self.input = InputRows.of(self.device, batch, layout.source)
        count = batch * model.positions
        self.targets = targets_of(self.device, loss, count, model.outputs)
        self._w = Workshop(self.device, count, stream)
        self._forward = KeptForward(self._w, model, batch, layout.source, self.input, layout.steps)
        self._rows, images = self._forward.rows, self._forward.images
        self._matrices = Matrices(self._w, model, layout, settings, heads, memory)
        credit = Credit(self._w, model, layout, self._matrices, images, self._forward.kept, target, settings)
        # A block learns from what its own forward pass has just left in the caches: no later one is waited for.
        first: list[Any] = [matrix.turn() for matrix in self._matrices.all]
        first += self._forward.bind(layout.inputs)
        for block in layout.blocks:
            first += self._forward.bind(self._steps_of(block))
            delta, told = self._error(block)
            first += told + credit.block(block, delta)
        inputs = {
            branch: self._rows(branch.first.inputs[0]) for each in layout.sums for branch in each.branches
        }
        self._programs = [
            self.device.program(first),
            self.device.program([*after(self), *self._matrices.learn(inputs)]),
        ]
        self._readers = [
            (op, name, 0) for program in self._programs for op in program.operations for name in op.external
        ]
        self.operations = tuple(op for program in self._programs for op in program.operations)

    def _steps_of(self, block: Block) -> list[Step]:
        """Return the steps of a block in the model's order; those after the last block belong to it, too."""
        wanted = {step for each in block.sums for branch in each.branches for step in branch.steps}
        wanted |= {each.add for each in block.sums}
        if block.last:
            wanted |= {step for step in (self._layout.norm, self._layout.readout) if step}
        return [step for step in self._layout.steps if step in wanted]

    def _error(self, block: Block) -> tuple[Images, list[Any]]:
        """Return the error of a block's end, as rows, and the operations that compute it, and the head's gradients."""
        w, layout, outputs = self._w, self._layout, self._model.outputs
        end = self._rows(block.result)
        operations: list[Any] = []
        if block.last:
            parameters = self._model.layer_parameters(layout.readout.index)
            weight, bias = parameters["weight"], parameters.get("bias")
            features, z = self._rows(layout.readout.inputs[0]), self._forward.images[layout.result]
        else:
            weight, bias = self._heads[f"{block.head}.weight"], self._heads[f"{block.head}.bias"]
            features = end
            if layout.norm:
                features = w.rows("features", end.shape[2])
                operations += w.normalized(layout.norm.layer, end, features)
            z = w.rows("outputs", outputs)
            operations.append(w.product(features, weight.packed, z, bias.packed, primal=True))
        outcome, targets = self._outcomes[block], self.targets.array
        operations += self._loss.bind(self.device, z.memory, outputs, targets, outcome.result, outcome.values)
        residual = w.lent("residual", 1, w.count, outputs)
        error, known = w.rows("error", outputs), Images.of_batch(residual, (outputs,))
        panels = w.feature_panels("error", outputs)
        x, filled = w.example_panels(features, "features")
        delta = w.rows("told features", end.shape[2])
        operations += [
            self._loss.bind_residual(self.device, z.memory[0], targets, residual[0]),
            w.signal(known, error, share=True),
            w.signal(known, panels, share=True, bias=self._target(bias.name) if bias else None),
            filled,
            w.gradient(weight, x, panels, self._target(weight.name)),
            *self._matrices.heads[block].told(error, delta),
        ]
        if not layout.norm:
            return delta, operations
        out = w.rows("told sum", end.shape[2])
        told = self._model.layer_parameters(layout.norm.index) if block.last else None
        operations += w.slope(layout.norm.layer, end, delta, out, parameters=told, target=self._target)
        return out, operations

    @property
    def nbytes(self) -> int:
        """The number of bytes of buffers, scratch memory and the copied input, without gradients and state."""
        return self._w.nbytes + sum(program.scratch_nbytes for program in self._programs) + self.input.nbytes

    @property
    def updates(self) -> int:
        """The number of runs of the program that moves parameters and feedback that came to their end."""
        return self._programs[-1].runs

    def run(self, x: npt.NDArray[Any], targets: npt.NDArray[Any]) -> None:
        """Run a step on `x` and `targets`, already checked; nothing is moved unless all blocks' losses are finite."""
        self.input.read_by(x, self._readers)
        self.targets.load(targets)
        self._programs[0].run()
        if self.finite:
            self._programs[1].run()

    @property
    def finite(self) -> bool:
        """Whether the losses of all blocks were finite in the last run."""
        return all(outcome.finite for outcome in self._outcomes.values())
