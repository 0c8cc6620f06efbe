"""The plan of activity perturbation: a model bound to a batch size, with noise on its activities."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fgnumba.errors import ConfigError
from fgnumba.estimators.activity.error_signals import Memory, SignalTasks, Units
from fgnumba.estimators.activity.followers import follower, is_told_by_head, matrix_name
from fgnumba.estimators.activity.forward_tasks import ForwardTasks, Observer, cell_means, groups_of, head_name
from fgnumba.estimators.activity.gradients import GradientTasks, Target
from fgnumba.estimators.activity.layout import Layout, lay_out
from fgnumba.estimators.activity.rules import rule
from fgnumba.estimators.activity.settings import Feedback, LocalLosses
from fgnumba.kernels.layout.images import image_shape
from fgnumba.kernels.machine.interfaces import Operation
from fgnumba.layers.losses import Loss
from fgnumba.layers.parameters import Parameter
from fgnumba.model.graph import Graph
from fgnumba.model.input_rows import InputRows
from fgnumba.model.outcome import Outcome, targets_of
from fgnumba.model.tasks import place
from fgnumba.model.wiring import Step, Value, wire
from fgnumba.objects.bound import Bound


class ActivityPlan(Bound):
    """The loss and the estimate of the gradient of a model on B examples, from noise on its activities.

    Parameters
    ----------
    model : Graph
        The model, whose parameters are read in place.
    batch : int
        The number of examples B.
    loss : Loss
        The loss.
    stream : device array, (1,) of dtype ``kernels.rules.philox.STREAM``
        The seed and the step from which the noise is drawn.
    draws : int
        The number of draws of noise T. With 0 there is no noise: feedback alone gives the error signals.
    layerwise : bool
        Whether each layer's noise has tangents of its own, so that one layer at a time is perturbed.
    feedback : Feedback or None
        The learned feedback, if there is any.
    local : LocalLosses or None
        The local losses, if there are any.
    own : mapping of str to Parameter
        The estimator's own parameters by name: those of the heads of local losses, see :func:`head_shapes`, and the
        feedback matrices that follow a weight, see :func:`followers`.
    memory : callable
        A function that returns the array in which a feedback matrix is kept, given its name and shape.
    target : callable
        A function that returns the array to which a parameter's gradient is written, given its name.
    onto : bool
        Whether gradients are added to these arrays; if not, they replace their content.
    failed : device array, (1,) int64, optional
        On a device that takes steps by itself: if it is not 0, a step moves nothing. By default None.
    after : callable, optional
        A function that returns the operations which follow, given the plan. By default none follow.

    Attributes
    ----------
    outcome : Outcome
        The loss, and the mean derivatives along the noise that reaches the model's output.
    slots : int
        The number S of tangents of the model's output.
    result : device array, (1,) of dtype ``kernels.shared.loss.RESULT``
        Whether the loss and the derivatives are finite.
    scale : array, (1,) float64
        The factor of the gradient of the loss summed over the batch: 1 / B gives that of the mean.

    Raises
    ------
    ConfigError
        If activity perturbation cannot train the model.
    """

    def __init__(
        self,
        model: Graph,
        batch: int,
        loss: Loss,
        stream: npt.NDArray[Any],
        *,
        draws: int,
        layerwise: bool,
        feedback: Feedback | None,
        local: LocalLosses | None,
        own: Mapping[str, Parameter],
        memory: Memory,
        target: Target,
        onto: bool,
        failed: Any = None,
        after: Callable[["ActivityPlan"], Sequence[Operation]] = lambda plan: (),
    ) -> None:
        self.device = model.processor
        steps, source, result, layout = analyzed(model, draws, layerwise, local, feedback)
        if local is not None and local.groups > 1:
            _check_groups(layout, local.groups)
        self.input = InputRows(self.device, batch, math.prod(model.input_shape))
        forward = ForwardTasks(model, batch, stream, layout, source, self.input, local, own)
        self.threads = forward.threads
        self.scale = self.device.array(np.full(1, 1.0 / batch))
        self.targets = targets_of(self.device, loss, batch, model.outputs)
        observers = forward.forward(steps, result)
        main = observers[-1][0]
        self.outcome = Outcome(self.device, main.slots)
        self.result, self.slots = self.outcome.result, main.slots
        forward.add([main.z], [], lambda: self._loss(loss, main))
        second = len(forward.tasks)
        signals = SignalTasks(forward, feedback, memory, draws, self.scale, onto, own)
        gradients = GradientTasks(forward, signals, target, onto)
        units = [unit for one in layout.places for unit in signals.units(one, observers[one.block])]
        every = [observer for block in observers for observer in block]
        for observer in every:
            signals.residual(observer, loss, self.targets.array)
        for unit in units if feedback is not None else ():
            signals.feed_back(unit)
        coefficients: dict[Units, npt.NDArray[Any]] = {}
        for observer in every:
            if observer.slots:
                learning = [unit for unit in units if unit.observer is observer and unit.place.slots]
                coefficients |= signals.weigh(observer, learning)
        for one in layout.places:
            rule(one.step).gradients(gradients, one.step, [unit for unit in units if unit.place is one])
        if layout.output is not None:
            closed_form = rule(layout.output).closed_form
            assert closed_form is not None
            closed_form(gradients, main, layout.output)
        for observer in every[:-1]:
            gradients.head(observer)
        for unit in units if feedback is not None else ():
            if unit.place.slots:
                signals.learn(unit, coefficients[unit])
        placed = place(forward.tasks, batch, self.device, forward.tasks[second])
        self._keeps, self.buffer_nbytes, self._readers = (
            (forward, placed.keeps),
            placed.nbytes,
            placed.readers,
        )
        # The tasks have been bound. They hold references to this plan, whose memory would wait for the garbage
        # collector.
        forward.tasks.clear()
        forward.layers.clear()
        first, last = (
            placed.steps[: placed.second],
            [
                *self.device.hold(self.result, failed),
                *placed.steps[placed.second :],
                *after(self),
            ],
        )
        parts = [first, last] if self.device.checks_between else [[*first, *last]]
        self._programs = [self.device.program(part) for part in parts]
        self.operations = tuple(op for program in self._programs for op in program.operations)

    def _loss(self, loss: Loss, main: Observer) -> list[Operation]:
        (outputs,) = main.z.shape
        return loss.bind(
            self.device, main.z.dual(), outputs, self.targets.array, self.result, self.outcome.values
        )

    @property
    def nbytes(self) -> int:
        """The number of bytes of buffers, scratch memory and the copied input, without gradients and state."""
        scratch = sum(program.scratch_nbytes for program in self._programs)
        return self.buffer_nbytes + scratch + self.input.nbytes

    def set_input(self, x: npt.NDArray[Any], targets: npt.NDArray[Any]) -> None:
        """Let the operations read `x` (B, ...) and `targets`, both already checked."""
        self.input.read_by(x, self._readers)
        self.targets.load(targets)

    @property
    def updates(self) -> int:
        """The number of runs of the program that moves the parameters that came to their end."""
        return self._programs[-1].runs

    def run(self, x: npt.NDArray[Any], targets: npt.NDArray[Any]) -> None:
        """Run the pass; the gradients are computed only if its loss is finite."""
        self.set_input(x, targets)
        for program in self._programs:
            program.run()
            if program is not self._programs[-1] and not self.outcome.finite:
                break


def _check_groups(layout: Layout, groups: int) -> None:
    """Raise ConfigError if the noise of a layer would reach the heads of several groups."""
    for one in layout.places:
        if one.block < len(layout.ends) and one.carrier is not layout.ends[one.block]:
            raise ConfigError(
                f"layer {one.step.names[0]!r}: not the only layer with parameters in its block; "
                f"local losses in {groups} groups need one such layer a block"
            )


def analyzed(
    model: Graph,
    draws: int,
    layerwise: bool,
    local: LocalLosses | None,
    feedback: Feedback | None = None,
) -> tuple[list[Step], Value, Value, Layout]:
    """Return the steps of a model, the value of its input, the value of its output, and its layout.

    Raises
    ------
    ConfigError
        If activity perturbation cannot train the model.
    """
    steps, source, result = wire(model, True, True, model.processor.by_parts)
    if not result.has_tangent:
        raise ConfigError("the model has no parameters that its output depends on: nothing can be trained")
    sequence = next((step for step in steps if step.output.by_position), None)
    if sequence is not None or source.by_position:
        where = "the input" if sequence is None else f"layer {sequence.names[0]!r}"
        raise ConfigError(
            f"{where}: activity perturbation takes no sequences; weight perturbation, or for recurrent layers "
            "real-time recurrent learning, is required"
        )
    rules = {step: rule(step) for step in steps if step.layer.parameter_shapes(step.shapes)}
    last = result.producer
    exact = last in rules and rules[last].closed_form is not None and not result.readers
    layout = lay_out(
        steps,
        result,
        set(rules),
        last if exact else None,
        draws,
        layerwise,
        local is not None,
        lambda end: is_told_by_head(end, feedback, local),
    )
    return steps, source, result, layout


def head_shapes(model: Graph, local: LocalLosses) -> dict[str, tuple[int, int]]:
    """Return the shape of the weight of each local head, by the name of the head."""
    *_, layout = analyzed(model, 1, False, local)
    shapes = {}
    for end in layout.ends:
        height, width, _ = image_shape(end.output.shape)
        for group, (_, count) in enumerate(groups_of(end, local.groups)):
            means = cell_means(height, width, local.cells).output_shape((height, width, count))
            shapes[head_name(end, group)] = (math.prod(means), model.outputs)
    return shapes


def followers(
    model: Graph, feedback: Feedback | None, local: LocalLosses | None
) -> dict[str, tuple[tuple[int, int], str]]:
    """Return the shape of each feedback matrix that follows a weight, and the weight's name, by the matrix's name."""
    *_, layout = analyzed(model, 1, False, local, feedback)
    shapes = {
        name: parameter.shape
        for name, parameter in model.packed_parameters.items()
        if len(parameter.shape) == 2
    }
    if local is not None:
        shapes |= {f"{name}.weight": shape for name, shape in head_shapes(model, local).items()}
    matrices = {}
    for one in layout.places:
        groups = local.groups if local is not None and one.carrier in layout.ends else 1
        for group in range(groups):
            found = follower(model, layout, one, group, feedback, local)
            if found is not None:
                matrices[matrix_name(one.step, group)] = shapes[found.leader], found.leader
    return matrices
