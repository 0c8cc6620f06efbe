"""The plan of real-time recurrent learning: a model bound to a number of streams, with the traces of its layers."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from fgnumba.estimators.planned import Target
from fgnumba.estimators.recurrent.layout import Layout, Traced
from fgnumba.kernels.emit.vector import PANEL
from fgnumba.kernels.layout.images import Images
from fgnumba.kernels.machine.interfaces import Operation
from fgnumba.kernels.machine.memory import leading, round_up
from fgnumba.kernels.ops.traces import PARTS, trace_shapes
from fgnumba.kernels.rules.directions import NONE
from fgnumba.kernels.shared.perturbed_units.cpu import Perturbed
from fgnumba.kernels.shared.product.product import Weights
from fgnumba.layers import Perturbation, Site
from fgnumba.layers.losses import Loss
from fgnumba.layers.parameters import Parameter
from fgnumba.model.graph import Graph
from fgnumba.model.input_rows import InputRows
from fgnumba.model.outcome import Outcome, targets_of
from fgnumba.model.wiring import Step, Value
from fgnumba.objects.bound import Bound

Memory = Callable[[str, tuple[int, ...]], npt.NDArray[np.float32]]


class RecurrentPlan(Bound):
    """The loss and the gradient of a recurrent model on L positions of B streams.

    Parameters
    ----------
    model : Graph
        The model, whose parameters are read in place.
    layout : Layout
        Its layers.
    batch : int
        The number of streams B.
    loss : Loss
        The loss.
    stream : device array, (1,) of dtype ``kernels.rules.philox.STREAM``
        The seed and the step.
    heads : mapping of str to Parameter
        The parameters of layers' own heads, by name.
    carried : bool
        Whether traces are carried from step to step.
    states : mapping of int to array, or None
        The states (1, B, S) that are carried from step to step, by the number of the layer, with the traces. None:
        each step begins with states and traces of zeros.
    memory : callable
        A function that returns an array that lives from step to step, given its name and shape.
    target : callable
        A function that returns the array to which a parameter's gradient is written, given its name.
    after : callable
        A function that returns the operations which move the parameters, given the plan.

    Attributes
    ----------
    outcome : Outcome
        The loss.
    result : device array, (1,) of dtype ``kernels.shared.loss.RESULT``
        Whether the loss is finite.
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
        carried: bool,
        states: Mapping[int, npt.NDArray[np.float32]] | None,
        memory: Memory,
        target: Target,
        after: Callable[["RecurrentPlan"], Sequence[Operation]],
    ) -> None:
        self.device, self._model, self._layout, self._batch = model.processor, model, layout, batch
        self._stream, self._target, self._carried = stream, target, carried
        self._streams, self._memory = states, memory
        self._nbytes = 0
        self.outcome = Outcome(self.device, 0)
        self.result = self.outcome.result
        self.input = InputRows.of(self.device, batch, layout.source)
        self._rows = batch * model.positions
        self._scale = self.device.array(np.full(1, 1.0 / self._rows))
        self.targets = targets_of(self.device, loss, self._rows, model.outputs)
        self._images = self._place(layout)
        self._gates: dict[Step, Any] = {}
        self._states: dict[Step, tuple[Any, Any]] = {}
        first = self._forward()
        z: Any = self._images[layout.result].memory
        first += loss.bind(
            self.device, z, model.outputs, self.targets.array, self.result, self.outcome.values
        )
        second = self._told(layout.readout, loss, z)
        for traced in layout.traced:
            if traced.column is None:
                second += self._told_by_head(traced, loss, heads)
        carried_on = self._states.values() if states is not None else ()
        kept = [self._copied(work, state) for state, work in carried_on]
        self._programs = [
            self.device.program(first),
            self.device.program([*second, *after(self), *kept]),
        ]
        self._readers = [
            (op, name, 0) for program in self._programs for op in program.operations for name in op.external
        ]
        self.operations = tuple(op for program in self._programs for op in program.operations)

    def _zeros(self, *shape: int) -> Any:
        array = self.device.zeros(shape)
        self._nbytes += array.nbytes
        return array

    def _place(self, layout: Layout) -> dict[Value, Images]:
        """Return the memory of each value, which holds all positions of all streams."""
        source = layout.source
        images = {
            source: Images.of_batch(
                self.input.array,
                source.shape,
                external=self.input.in_place,
                by_position=source.by_position,
            )
        }
        for value in (step.output for step in layout.steps):
            array = self._zeros(1, self._batch * value.positions, leading(value.width))
            images[value] = Images.of_batch(array, value.shape, by_position=value.by_position)
        return images

    def _forward(self) -> list[Operation]:
        """Return the operations of the forward pass, which leave the states at its end beside those at its start."""
        operations: list[Operation] = []
        traced = {layer.step: layer for layer in self._layout.traced}
        still = Perturbation(NONE, 0, self._stream)
        for step in self._layout.steps:
            site = Site(
                device=self.device,
                batch=self._batch,
                images=0 if step.layer.whole_batch else self._batch,
                index=step.index,
                inputs=tuple(
                    self._images[value].viewed_as(shape)
                    for value, shape in zip(step.inputs, step.shapes, strict=True)
                ),
                output=self._images[step.output],
                parameters=self._model.layer_parameters(step.index),
                perturbation=still,
                shapes=tuple(step.shapes),
            )
            if step not in traced:
                operations += step.layer.bind(site)
                continue
            width = step.layer.state_width(step.shapes)
            work = self._zeros(1, self._batch, width)
            state = (
                self._streams[step.index] if self._streams is not None else self._zeros(1, self._batch, width)
            )
            self._states[step] = state, work
            layer: Any = step.layer
            bound, self._gates[step] = layer.bind_kept(replace(site, state=work))
            self._nbytes += self._gates[step].nbytes
            operations += [self._copied(state, work), *bound]
        return operations

    def _copied(self, source: Any, target: Any) -> Operation:
        shape = (source.shape[2],)
        return self.device.kernels.elementwise.bind(
            batch=self._batch,
            images_a_part=self._batch,
            count=0,
            x=Images.of_batch(source, shape),
            y=Images.of_batch(target, shape),
        )

    def _told(self, readout: Step, loss: Loss, z: Any) -> list[Operation]:
        """Return the operations by which the readout learns, and the layers that it reads."""
        parameters = self._model.layer_parameters(readout.index)
        weight = parameters["weight"]
        delta, operations = self._error(loss, z, parameters.get("bias"))
        operations += self._outer(weight, self._images[readout.inputs[0]].by_rows(), delta)
        for traced in self._layout.traced:
            if traced.column is not None:
                operations += self._trained(traced, weight, traced.column, delta)
        return operations

    def _told_by_head(self, traced: Traced, loss: Loss, heads: Mapping[str, Parameter]) -> list[Operation]:
        """Return the operations by which a layer's own head learns, and the layer from it."""
        weight, bias = heads[f"{traced.head}.weight"], heads[f"{traced.head}.bias"]
        z = self._zeros(1, self._rows, leading(self._model.outputs))
        x = self._images[traced.step.output].by_rows()
        forward = self.device.kernels.dense.bind(
            self.device.isa,
            self.device.threads,
            batch=self._rows,
            x=x,
            y=Images.of_batch(z, (round_up(self._model.outputs, PANEL),)),
            outputs=self._model.outputs,
            weights=Weights(weight.packed, bias.packed, stream=self._stream),
            activation_name="identity",
        )
        delta, operations = self._error(loss, z, bias)
        return [
            forward,
            *operations,
            *self._outer(weight, x, delta),
            *self._trained(traced, weight, 0, delta),
        ]

    def _error(self, loss: Loss, z: Any, bias: Parameter | None) -> tuple[Any, list[Operation]]:
        """Return ∂f/∂z in panels of outputs, and the operations that compute it and its sum, the bias's gradient."""
        outputs, rows = self._model.outputs, self._rows
        residual = self._zeros(rows, outputs)
        delta = self._zeros(round_up(outputs, PANEL) // PANEL, round_up(rows, PANEL), PANEL)
        images = Images.of_batch(z, (outputs,))
        return delta, [
            loss.bind_residual(self.device, z[0], self.targets.array, residual),
            self.device.kernels.error_signal.bind(
                self.device.isa,
                self.device.threads,
                site=Perturbed(rows, 0, images, "identity", 0, self._stream),
                out=delta,
                scale=self._scale,
                known=residual,
                bias=self._target(bias.name) if bias else None,
            ),
        ]

    def _outer(self, weight: Parameter, x: Images, delta: Any) -> list[Operation]:
        """Return the operations that compute xᵀ δ, the gradient of a readout's weight."""
        width, outputs = weight.shape
        panels = self._zeros(round_up(self._rows, PANEL) // PANEL, width, PANEL)
        kernels, isa, threads = self.device.kernels.example_panels, self.device.isa, self.device.threads
        return [
            kernels.bind_to_panels(isa, threads, x=x, panels=panels, batch=self._rows),
            kernels.bind_product(
                "weight-gradient",
                isa,
                threads,
                a=panels,
                w=delta,
                out=self._target(weight.name),
                rows=width,
                terms=self._rows,
                columns=outputs,
                onto=False,
                multiply_adds=self._rows * width * outputs,
            ),
        ]

    def _trained(self, traced: Traced, weight: Parameter, column: int, delta: Any) -> list[Operation]:
        """Return the operations that carry a layer's traces through the window, and leave its gradients."""
        step, layer, device = traced.step, traced.layer, self.device
        parameters = self._model.layer_parameters(step.index)
        outputs, parts = weight.shape[1], PARTS[traced.recurrence]
        panels = round_up(layer.units, PANEL) // PANEL
        turned = self._zeros(parts * panels, round_up(outputs, PANEL), PANEL)
        signals = self._zeros(parts * panels, delta.shape[1], PANEL)
        operations: list[Operation] = [
            device.kernels.traces.bind_turned(
                device.isa,
                device.threads,
                weight=weight.packed,
                first=column + part * layer.units,
                units=layer.units,
                turned=turned[part * panels : (part + 1) * panels],
            )
            for part in range(parts)
        ]
        operations.append(
            device.kernels.example_panels.bind_product(
                "signals",
                device.isa,
                device.threads,
                a=delta,
                w=turned,
                out=signals,
                rows=self._rows,
                terms=outputs,
                columns=parts * panels * PANEL,
                onto=False,
                multiply_adds=self._rows * outputs * traced.width,
            )
        )
        symbols = layer.symbols or 0
        shapes = trace_shapes(
            traced.recurrence, self._batch, layer.units, parameters["weight"].shape[0], bool(symbols)
        )
        traces = {
            name: self._zeros(*shape)
            if self._streams is None
            else self._memory(f"trace.{parameters[name].name}", shape)
            for name, shape in shapes.items()
        }
        return operations + device.kernels.traces.bind(
            device.isa,
            device.threads,
            recurrence=traced.recurrence,
            batch=self._batch,
            units=layer.units,
            x=self._images[step.inputs[0]].viewed_as(step.shapes[0]),
            symbols=symbols,
            y=self._images[step.output],
            gates=self._gates[step],
            first=self._states[step][0][0],
            signals=signals,
            parameters={name: parameters[name].packed for name in shapes},
            traces=traces,
            gradients={name: self._target(parameters[name].name) for name in shapes},
            carried=self._carried,
            fresh=self._streams is None,
        )

    @property
    def nbytes(self) -> int:
        """The number of bytes of buffers, scratch memory and the copied input, without gradients, states and traces."""
        return self._nbytes + sum(program.scratch_nbytes for program in self._programs) + self.input.nbytes

    @property
    def updates(self) -> int:
        """The number of runs of the program that moves parameters, states and traces that came to their end."""
        return self._programs[-1].runs

    def run(self, x: npt.NDArray[Any], targets: npt.NDArray[Any]) -> None:
        """Run a step on `x` and `targets`, already checked; nothing is moved unless the loss is finite."""
        self.input.read_by(x, self._readers)
        self.targets.load(targets)
        self._programs[0].run()
        if self.outcome.finite:
            self._programs[1].run()
