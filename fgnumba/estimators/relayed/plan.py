"""The plan of relayed feedback: a model bound to a batch, its loss, and the errors that go from layer to layer.

δ is the error of a value, ∂f/∂y of one example over the batch size. What reads a value tells it

    dense layers       δx = δz Fᵀ, with δz = a'(z) ⊙ δ and F the learned matrix of the weight
    normalisations     Jᵀ δ, with J their slope in closed form
    dropout            m ⊙ δ, with its mask m
    sums, activations  a'(z) ⊙ δ

and a value that several layers read gets the sum. The gradient of a weight is xᵀ δz.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy.typing as npt

from fgnumba.estimators.blocks.feedback import Feedback
from fgnumba.estimators.blocks.forward import KeptForward
from fgnumba.estimators.blocks.workshop import Workshop
from fgnumba.estimators.planned import Target
from fgnumba.estimators.relayed.layout import Layout
from fgnumba.kernels.layout.images import Images
from fgnumba.kernels.machine.interfaces import Operation
from fgnumba.kernels.machine.memory import leading
from fgnumba.layers import Activation, Add, Dense, Dropout
from fgnumba.layers.losses import Loss
from fgnumba.layers.parameters import Parameter
from fgnumba.model.graph import Graph
from fgnumba.model.input_rows import InputRows
from fgnumba.model.outcome import Outcome, targets_of
from fgnumba.model.wiring import Step, Value
from fgnumba.objects.bound import Bound


def matrix_name(weight: Parameter) -> str:
    """Return the name of the feedback matrix that follows a weight."""
    return f"feedback.{weight.name}"


class RelayedPlan(Bound):
    """The loss of a model of vectors on a batch, and the gradients that relayed errors give.

    Parameters
    ----------
    model : Graph
        The model, whose parameters are read in place.
    layout : Layout
        Its steps.
    batch : int
        The number of examples B.
    loss : Loss
        The loss.
    stream : device array, (1,) of dtype ``kernels.rules.philox.STREAM``
        The seed and the step.
    noise : int
        The number R of rows of noise from which each matrix learns.
    rate : float
        The rate at which they learn.
    own : mapping of str to Parameter
        The feedback matrices by name, see :func:`matrix_name`.
    target : callable
        A function that returns the array to which a parameter's gradient is written, given its name.
    after : callable
        A function that returns the operations which move the parameters, given the plan. It is called twice.

    Attributes
    ----------
    outcome : Outcome
        The loss.
    result : device array, (1,) of dtype ``kernels.shared.loss.RESULT``
        Whether it is finite.
    """

    def __init__(
        self,
        model: Graph,
        layout: Layout,
        batch: int,
        loss: Loss,
        stream: npt.NDArray[Any],
        *,
        noise: int,
        rate: float,
        own: Mapping[str, Parameter],
        target: Target,
        after: Callable[["RelayedPlan"], Sequence[Operation]],
    ) -> None:
        self.device, self._model, self._layout = model.processor, model, layout
        self._noise, self._rate, self._target = noise, rate, target
        self.outcome = Outcome(self.device, 0)
        self.result = self.outcome.result
        self.input = InputRows.of(self.device, batch, layout.source)
        self.targets = targets_of(self.device, loss, batch, model.outputs)
        self._w = Workshop(self.device, batch, stream)
        self._forward = KeptForward(self._w, model, batch, layout.source, self.input, layout.steps)
        self._matrices = {}
        for step in layout.told:
            weight = self._weight(step)
            packed = own[matrix_name(weight)].packed
            self._matrices[step] = Feedback(self._w, packed, weight.shape[1], panels=False)
        turned = [matrix.turn() for matrix in self._matrices.values()]
        self._told: dict[Value, list[Images]] = {}
        first = [*turned, *self._forward.bind(layout.steps), *self._losses(loss), *self._errors()]
        self._first = self.device.program(first)
        # A step in which the matrices learn ends with another program, so that one program moves all that is moved.
        learn = [
            operation for number, step in enumerate(layout.told) for operation in self._learn(number, step)
        ]
        self._last = [self.device.program([*after(self), *more]) for more in ([], learn)]
        programs = (self._first, *self._last)
        self._readers = [(op, name, 0) for one in programs for op in one.operations for name in op.external]
        self.operations = tuple(op for one in (self._first, self._last[1]) for op in one.operations)

    def _weight(self, step: Step) -> Parameter:
        return self._model.layer_parameters(step.index)["weight"]

    def _learn(self, number: int, step: Step) -> list[Operation]:
        """Return the operations by which a matrix learns how a weight responds to noise."""
        weight = self._weight(step)
        outputs = weight.shape[1]

        def respond(noise: Images) -> tuple[Any, list[Operation]]:
            response = self._w.lent("response", 1, self._noise, leading(outputs))
            y = Images.of_batch(response, (outputs,))
            return response, [self._w.product(noise, weight.packed, y, rows=self._noise)]

        return self._matrices[step].learn(number, self._noise, self._rate, respond)

    def _losses(self, loss: Loss) -> list[Any]:
        """Return the operations that compute the loss, and the error of the model's output."""
        w, outputs = self._w, self._model.outputs
        z, targets = self._forward.images[self._layout.result], self.targets.array
        residual = w.lent("residual", 1, w.count, outputs)
        error = w.rows("error of the output", outputs)
        self._told[self._layout.result] = [error]
        return [
            *loss.bind(self.device, z.memory, outputs, targets, self.result, self.outcome.values),
            loss.bind_residual(self.device, z.memory[0], targets, residual[0]),
            w.signal(Images.of_batch(residual, (outputs,)), error, share=True),
        ]

    def _errors(self) -> list[Any]:
        """Return the operations that tell each layer its error, the last one first, and compute the gradients."""
        operations: list[Any] = []
        for step in reversed(self._layout.steps):
            # A value that nothing with parameters comes before is not told, nor one that the output does not depend on.
            if not step.output.has_tangent or step.output not in self._told:
                continue
            delta, summed = self._sum(step)
            operations += summed
            if isinstance(step.layer, Dense):
                operations += self._dense(step, delta)
            elif isinstance(step.layer, Activation | Add):
                delta, sloped = self._sloped(step, delta)
                operations += sloped
                for value in step.inputs:
                    self._told.setdefault(value, []).append(delta)
            elif isinstance(step.layer, Dropout):
                operations += self._dropout(step, delta)
            else:
                operations += self._normalization(step, delta)
        return operations

    def _sum(self, step: Step) -> tuple[Images, list[Any]]:
        """Return the sum of what all readers of a step's output tell it."""
        first, *others = self._told.pop(step.output)
        operations: list[Any] = []
        for other in others:
            out = self._w.rows(f"sum {step.index}", first.shape[2])
            operations += self._w.sum(first, other, out)
            first = out
        return first, operations

    def _sloped(self, step: Step, delta: Images) -> tuple[Images, list[Any]]:
        """Return a'(z) ⊙ δ as rows; it is δ itself where there is no activation."""
        lone = isinstance(step.layer, Activation)
        activation = step.layer.lone_activation if lone else step.layer.fused_activation
        if activation == "identity":
            return delta, []
        out = self._w.rows(f"error {step.index}", delta.shape[2])
        return out, [self._w.signal(delta, out, source=self._source(step), activation=activation)]

    def _source(self, step: Step) -> Images:
        """Return the rows from which the slope of a step's activation is computed."""
        if isinstance(step.layer, Activation):
            return self._forward.images[step.inputs[0]].viewed_as(step.shapes[0]).by_rows()
        kept = self._forward.kept.get(step)
        return kept.by_rows() if kept else self._forward.rows(step.output)

    def _dense(self, step: Step, delta: Images) -> list[Any]:
        """Return the gradients of a dense layer from its error δ, and what tells its input."""
        w, parameters = self._w, self._model.layer_parameters(step.index)
        weight, bias = parameters["weight"], parameters.get("bias")
        delta, operations = self._sloped(step, delta)
        x = self._forward.images[step.inputs[0]].viewed_as(step.shapes[0]).by_rows()
        examples, filled = w.example_panels(x, "inputs")
        panels = w.feature_panels("errors", delta.shape[2])
        operations += [
            w.panels_of(delta, panels, self._target(bias.name) if bias else None),
            filled,
            w.gradient(weight, examples, panels, self._target(weight.name)),
        ]
        if step in self._matrices:
            told = w.rows(f"told by {step.index}", weight.shape[0])
            operations += self._matrices[step].told(delta, told)
            self._told.setdefault(step.inputs[0], []).append(told)
        return operations

    def _dropout(self, step: Step, delta: Images) -> list[Any]:
        """Return what tells the input of a dropout: δ through the same mask, drawn again."""
        told = self._w.rows(f"told by {step.index}", delta.shape[2])
        self._told.setdefault(step.inputs[0], []).append(told)
        site = replace(
            self._forward.site(step),
            inputs=(replace(delta, part=delta.image),),
            output=replace(told, part=told.image),
        )
        return self._w.parted(step.layer.bind(site), self._w.count)

    def _normalization(self, step: Step, delta: Images) -> list[Any]:
        """Return the gradients of a normalisation from its error δ, and what tells its input."""
        w, value = self._w, step.inputs[0]
        parameters = self._model.layer_parameters(step.index)
        told = w.rows(f"told by {step.index}", delta.shape[2])
        self._told.setdefault(value, []).append(told)
        x = self._forward.images[value].viewed_as(step.shapes[0]).by_rows()
        return w.slope(step.layer, x, delta, told, parameters=parameters, target=self._target)

    @property
    def nbytes(self) -> int:
        """The number of bytes of buffers, scratch memory and the copied input, without gradients and state."""
        scratch = sum(program.scratch_nbytes for program in (self._first, *self._last))
        return self._w.nbytes + scratch + self.input.nbytes

    @property
    def updates(self) -> int:
        """The number of runs of a program that moves the parameters that came to their end."""
        return sum(program.runs for program in self._last)

    def run(self, x: npt.NDArray[Any], targets: npt.NDArray[Any], learns: bool) -> None:
        """Run a step on `x` and `targets`, already checked; nothing is moved unless its loss is finite.

        `learns` says whether the matrices learn.
        """
        self.input.read_by(x, self._readers)
        self.targets.load(targets)
        self._first.run()
        if self.outcome.finite:
            self._last[learns].run()
