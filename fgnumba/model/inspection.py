"""Run a forward pass again layer by layer, so that the results of each layer can be inspected.

The buffers of a plan are overwritten while it runs, and between dense layers they hold only a few examples at a time.
Here each value has memory of its own for the whole batch, from the layer that writes it to the last layer that reads
it. The kernels, parameters, directions and dropout masks are those of the plan: how a batch is cut into parts changes
no bit of the results.
"""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from fgnumba.kernels.devices.device import Device
from fgnumba.kernels.machine.interfaces import Operation
from fgnumba.kernels.machine.program import Stage, cpu_operations
from fgnumba.layers import Perturbation, Site
from fgnumba.model.graph import Graph
from fgnumba.model.input_rows import InputRows
from fgnumba.model.liveness import SLACK
from fgnumba.model.tasks import Buffer, ImageBuffer, InputBuffer, Task
from fgnumba.model.wiring import Step, Value, wire
from fgnumba.objects.bound import Bound


@dataclass
class Inspection(Bound):
    """A forward pass of B examples that runs layer by layer.

    Parameters
    ----------
    device : Device
        The device that it runs on.
    batch : int
        The number of examples B.
    rows : InputRows
        The model's input.
    layers : sequence of (Step, sequence of Task)
        The layers in order, each with its tasks. The last task that writes a value leaves it as other layers read it.
    values : mapping of Value to ImageBuffer
        The buffer of each value.
    result : Value
        The output of the model.
    watched : mapping of int to int
        The tangents in which a failure can lie: from the number of the tangent in the buffers to the number of its
        direction. By default there are none.
    reaching : collection of Step, optional
        The layers whose tangents contribute to the directional derivatives. By default all do.
    moved : str
        What was done to the parameters before the pass, for messages. By default nothing.
    model : Graph, optional
        The model whose parameters are used. By default they are the estimate's.
    """

    device: Device
    batch: int
    rows: InputRows
    layers: Sequence[tuple[Step, Sequence[Task]]]
    values: Mapping[Value, ImageBuffer]
    result: Value
    watched: Mapping[int, int] = field(default_factory=dict)
    reaching: Collection[Step] | None = None
    moved: str = ""
    model: Graph | None = None
    _x: Any = field(default=None, init=False)

    @classmethod
    def of_directions(
        cls,
        model: Graph,
        batch: int,
        perturbation: Perturbation,
        watched: Mapping[int, int] | None = None,
        moved: str = "",
    ) -> "Inspection":
        """Return the pass that a ``Plan`` for training with these directions runs.

        Parameters
        ----------
        model : Graph
            The model.
        batch : int
            The number of examples B.
        perturbation : Perturbation
            The directions.
        watched : mapping of int to int, optional
            The tangents in which a failure can lie, as for the class. By default there are none.
        moved : str, optional
            What was done to the parameters before the pass, for messages. By default nothing.
        """
        device = model.processor
        steps, source, result = wire(model, perturbation.count > 0, True, device.by_parts)
        rows = InputRows.of(device, batch, source)
        values: dict[Value, ImageBuffer] = {source: InputBuffer(batch, source, rows)}
        layers: list[tuple[Step, Sequence[Task]]] = []
        for step in steps:
            value, whole = step.output, step.layer.whole_batch
            inputs = [values[source_value] for source_value in step.inputs]
            tangents = perturbation.count * value.has_tangent
            output = values[value] = ImageBuffer(
                batch, value.shape, value.border, tangents, value.by_position
            )

            def bind(
                step: Step = step,
                whole: bool = whole,
                inputs: Sequence[ImageBuffer] = inputs,
                output: ImageBuffer = output,
            ) -> list[Operation]:
                return step.layer.bind(
                    Site(
                        device=device,
                        batch=batch,
                        images=1,
                        index=step.index,
                        inputs=tuple(
                            buffer.images(shape, not whole)
                            for buffer, shape in zip(inputs, step.shapes, strict=True)
                        ),
                        output=output.images(one_a_part=not whole),
                        parameters=model.layer_parameters(step.index),
                        perturbation=perturbation,
                        shapes=tuple(step.shapes),
                    )
                )

            layers.append((step, [Task(inputs, [output], bind, by_image=not whole)]))
        return cls(device, batch, rows, layers, values, result, watched or {}, moved=moved, model=model)

    def run(self, x: npt.NDArray[np.float32]) -> Iterator[tuple[Step, list[ImageBuffer]]]:
        """Run one layer after another, and yield each with the buffers that it wrote while its inputs are still there.

        Parameters
        ----------
        x : ndarray, (B, ...) float32
            The examples.

        Yields
        ------
        step : Step
            The layer that has run.
        written : list of ImageBuffer
            The buffers that it wrote.
        """
        self._x = x
        left = Counter(buffer for _, tasks in self.layers for task in tasks for buffer in _buffers(task))
        left[self.values[self.result]] += 1
        for step, tasks in self.layers:
            written: dict[ImageBuffer, None] = {}
            for task in tasks:
                self._run(task)
                written |= {buffer: None for buffer in task.writes if isinstance(buffer, ImageBuffer)}
            yield step, list(written)
            left -= Counter(buffer for task in tasks for buffer in _buffers(task))
            for buffer in {buffer for task in tasks for buffer in _buffers(task)} - set(left):
                buffer.memory = None

    def _run(self, task: Task) -> None:
        for buffer in task.writes:
            if buffer.memory is None:
                buffer.memory = self.device.zeros((buffer.size + SLACK,))
        bound = task.bind()
        steps: list[Operation | Stage] = [operation for operation in bound if operation.once]
        repeated = [operation for operation in bound if not operation.once]
        if task.by_image and self.device.by_parts:
            steps.append(Stage(cpu_operations(repeated), self.batch, min(self.batch, self.device.threads), 0))
        else:
            steps += repeated
        program = self.device.program(steps)
        self.rows.read_by(self._x, [(op, name, 0) for op in program.operations for name in op.external])
        program.run()

    def output(self) -> npt.NDArray[np.float32]:
        """Return the model's output and its T tangents, (1 + T, B, ld) float32, once all layers have run."""
        return self.device.values(self.values[self.result].dual())

    def array(self, buffer: ImageBuffer, shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
        """Return the primal and the tangents that a buffer holds now, without borders.

        Parameters
        ----------
        buffer : ImageBuffer
            The buffer.
        shape : tuple of int
            The shape of one example.

        Returns
        -------
        ndarray, (1 + T, B, *shape) float32
            The primal, then the T tangents.
        """
        if isinstance(buffer, InputBuffer):
            return np.asarray(self._x, np.float32).reshape(1, self.batch, *shape)
        images = buffer.images()
        memory = self.device.values(buffer.array)[images.start :]
        strides = (images.block, images.image, images.row, images.pixel, 1)
        dual = np.lib.stride_tricks.as_strided(
            memory, (buffer.blocks, self.batch, *images.shape), [4 * stride for stride in strides]
        )
        return dual.reshape(buffer.blocks, self.batch, *shape)


def _buffers(task: Task) -> set[Buffer]:
    return {*task.reads, *task.writes}
