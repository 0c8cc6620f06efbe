"""The plan of block feedback: a model bound to a batch, the losses of its blocks, and what they tell the branches."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy.typing as npt

from fgnumba.estimators.blocks.credit import Credit
from fgnumba.estimators.blocks.feedback import Memory
from fgnumba.estimators.blocks.layout import Block, Layout
from fgnumba.estimators.blocks.matrices import Matrices
from fgnumba.estimators.blocks.workshop import Workshop
from fgnumba.kernels.layout.images import Images
from fgnumba.kernels.machine.interfaces import Operation
from fgnumba.kernels.machine.memory import leading
from fgnumba.kernels.rules.directions import NONE
from fgnumba.kernels.shared.perturbed_units import SLOPE_FROM_OUTPUT
from fgnumba.layers import Activation, Perturbation, SelfAttention, Site
from fgnumba.layers.losses import Loss
from fgnumba.layers.parameters import Parameter
from fgnumba.model.graph import Graph
from fgnumba.model.input_rows import InputRows
from fgnumba.model.outcome import Outcome, targets_of
from fgnumba.model.wiring import Step, Value
from fgnumba.objects.bound import Bound

Target = Callable[[str], npt.NDArray[Any]]
"""A function that returns the array to which a parameter's gradient is written, given the parameter's name."""


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
        self._images = self._place()
        self._kept: dict[Step, Any] = {}
        self._matrices = Matrices(self._w, model, layout, settings, heads, memory)
        credit = Credit(self._w, model, layout, self._matrices, self._images, self._kept, target, settings)
        # A block learns from what its own forward pass has just left in the caches: no later one is waited for.
        first: list[Any] = [matrix.turn() for matrix in self._matrices.all]
        first += self._forward(layout.inputs)
        for block in layout.blocks:
            first += self._forward(self._steps_of(block))
            delta, told = self._error(block)
            first += told + credit.block(block, delta)
        inputs = {
            branch: self.rows(branch.first.inputs[0]) for each in layout.sums for branch in each.branches
        }
        self._programs = [
            self.device.program(first),
            self.device.program([*after(self), *self._matrices.learn(inputs)]),
        ]
        self._readers = [
            (op, name, 0) for program in self._programs for op in program.operations for name in op.external
        ]
        self.operations = tuple(op for program in self._programs for op in program.operations)

    def _place(self) -> dict[Value, Images]:
        """Return the memory of each value, which holds all positions of all examples."""
        source = self._layout.source
        images = {
            source: Images.of_batch(
                self.input.array,
                source.shape,
                images=1,
                external=self.input.in_place,
                by_position=source.by_position,
            )
        }
        for value in (step.output for step in self._layout.steps):
            array = self._w.zeros(1, self._batch * value.positions, leading(value.width))
            images[value] = Images.of_batch(array, value.shape, images=1, by_position=value.by_position)
        return images

    def rows(self, value: Value) -> Images:
        """Return a sequence as rows, one for each position."""
        return self._images[value].by_rows()

    def _steps_of(self, block: Block) -> list[Step]:
        """Return the steps of a block in the model's order; those after the last block belong to it, too."""
        wanted = {step for each in block.sums for branch in each.branches for step in branch.steps}
        wanted |= {each.add for each in block.sums}
        if block.last:
            wanted |= {step for step in (self._layout.norm, self._layout.readout) if step}
        return [step for step in self._layout.steps if step in wanted]

    def _site(self, step: Step) -> Site:
        return Site(
            device=self.device,
            batch=self._batch,
            images=0 if step.layer.whole_batch else 1,
            index=step.index,
            inputs=tuple(
                self._images[value].viewed_as(shape)
                for value, shape in zip(step.inputs, step.shapes, strict=True)
            ),
            output=self._images[step.output],
            parameters=self._model.layer_parameters(step.index),
            perturbation=Perturbation(NONE, 0, self._w.stream),
            shapes=tuple(step.shapes),
        )

    def _forward(self, steps: Sequence[Step]) -> list[Any]:
        """Return the forward pass of some steps, which keeps what their closed forms need."""
        operations: list[Any] = []
        for step in steps:
            site = self._site(step)
            if isinstance(step.layer, SelfAttention):
                bound, self._kept[step] = step.layer.bind_kept(site)
                self._w.nbytes += self._kept[step].nbytes
                operations += bound
            elif step.layer.fused_activation not in SLOPE_FROM_OUTPUT:
                # The slope of such an activation is computed from what it is applied to, which is kept.
                before = self._w.zeros(*site.output.memory.shape)
                self._kept[step] = replace(site.output, memory=before)
                operations += step.layer.without_activation().bind(replace(site, output=self._kept[step]))
                active = Activation(step.layer.fused_activation)
                operations += self._w.parted(
                    active.bind(replace(site, inputs=(self._kept[step],), images=1)), self._batch
                )
            elif site.images:
                operations += self._w.parted(step.layer.bind(site), self._batch)
            else:
                operations += step.layer.bind(site)
        return operations

    def _error(self, block: Block) -> tuple[Images, list[Any]]:
        """Return the error of a block's end, as rows, and the operations that compute it, and the head's gradients."""
        w, layout, outputs = self._w, self._layout, self._model.outputs
        end = self.rows(block.result)
        operations: list[Any] = []
        if block.last:
            parameters = self._model.layer_parameters(layout.readout.index)
            weight, bias = parameters["weight"], parameters.get("bias")
            features, z = self.rows(layout.readout.inputs[0]), self._images[layout.result]
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
