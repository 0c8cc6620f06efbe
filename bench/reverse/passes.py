"""The tasks of a forward pass that keeps what the reverse pass reads, and of the reverse pass."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from fgnumba.bench.reverse.kernels.convolution import bind_slope
from fgnumba.kernels.devices.device import CPU
from fgnumba.kernels.emit.vector import PANEL
from fgnumba.kernels.layout.images import NO_BORDER
from fgnumba.kernels.machine.interfaces import Operation
from fgnumba.kernels.machine.memory import round_up
from fgnumba.kernels.ops.elementwise import cpu as elementwise
from fgnumba.kernels.ops.example_panels import cpu as panels
from fgnumba.kernels.rules.directions import NONE
from fgnumba.layers import Activation, Dense, Perturbation, Site
from fgnumba.model.graph import Graph
from fgnumba.model.input_rows import InputRows
from fgnumba.model.tasks import Buffer, ImageBuffer, InputBuffer, PanelBuffer, Task
from fgnumba.model.wiring import Step, Value

Cotangent = ImageBuffer | PanelBuffer
READ_FROM_OUTPUT = ("identity", "relu")
"""Activations whose slope is a function of their output. Their pre-activations are not kept."""


class Passes:
    """The tasks of both passes, listed in the order in which they run.

    Parameters
    ----------
    model : Graph
        The model.
    batch : int
        Number of examples B.
    source : Value
        The model's input.
    rows : InputRows
        The input's rows.
    stream : array, (1,) ``philox.STREAM``
        Seed and step of dropout's masks.
    gradients : dict or None
        Arrays for the gradients, by parameter name, packed. None: gradients are added to the parameters.

    Attributes
    ----------
    tasks : list of Task
        The tasks listed so far.
    values : dict
        The buffer of each value that a step has written.
    """

    def __init__(
        self,
        model: Graph,
        batch: int,
        source: Value,
        rows: InputRows,
        stream: npt.NDArray[Any],
        gradients: dict[str, npt.NDArray[np.float32]] | None,
    ) -> None:
        self.model, self.batch, self.isa, self.threads = model, batch, CPU.isa, CPU.threads
        self.tasks: list[Task] = []
        self.values: dict[Value, ImageBuffer] = {source: InputBuffer(batch, source, rows)}
        self._perturbation = Perturbation(NONE, 0, stream)
        self.parameter_bytes = sum(p.packed.nbytes for p in model.packed_parameters.values())
        self._gradients = gradients
        self._before_activation: dict[Step, ImageBuffer] = {}
        self._panels: dict[ImageBuffer, PanelBuffer] = {}
        self._cotangents: dict[Value, Cotangent] = {}
        self._deferred: list[Task] = []
        self._barrier = False

    @property
    def part(self) -> dict[str, Any]:
        """The arguments by which operations on images walk over a batch."""
        return {"batch": self.batch, "images_a_part": 1}

    @property
    def onto(self) -> bool:
        """Whether gradients are added to the parameters."""
        return self._gradients is None

    def add(
        self,
        reads: Sequence[Buffer],
        writes: Sequence[Buffer],
        bind: Callable[[], list[Operation]],
        by_image: bool = True,
        numbered: bool = False,
    ) -> None:
        """List a task. Deferred tasks are listed before a task that takes the whole batch.

        Parameters
        ----------
        reads, writes : sequence of Buffer
            The buffers that the task reads, and those that it writes.
        bind : callable
            Returns the task's operations, once its buffers are in place.
        by_image : bool
            True: the task takes one image at a time. False: it takes the whole batch.
        numbered : bool
            Whether its operations depend on the number of each example in the batch, as dropout does.
        """
        if not by_image:
            self.flush()
        self.tasks.append(Task(reads, writes, bind, by_image, numbered=numbered, begins=self._barrier))
        self._barrier = False

    def barrier(self) -> None:
        """Make the next task wait until everything before it is done, if gradients are added to the parameters.

        Otherwise a chunk of the batch could be computed again with weights that the chunk before has already updated.
        """
        self._barrier = self.onto

    def defer(self, reads: Sequence[Buffer], bind: Callable[[], list[Operation]], sums: bool) -> None:
        """List a task later, when all images that are being computed are done.

        Parameters
        ----------
        reads : sequence of Buffer
            The buffers that the task reads.
        bind : callable
            Returns the task's operations, once its buffers are in place.
        sums : bool
            Whether the task sums over images.
        """
        self._deferred.append(Task(reads, (), bind, by_image=False, sums=sums))

    def flush(self) -> None:
        """List the deferred tasks, sums first, because they belong to the images before."""
        self.tasks += sorted(self._deferred, key=lambda task: not task.sums)
        self._deferred.clear()

    def target(self, parameter: Any) -> npt.NDArray[np.float32]:
        """Return the array that a parameter's gradient is written or added to."""
        target: npt.NDArray[np.float32] = (
            parameter.packed if self._gradients is None else self._gradients[parameter.name]
        )
        return target

    def parameters(self, step: Step) -> dict[str, Any]:
        """Return the parameters of a step, under the layer's own names."""
        return self.model.layer_parameters(step.index)

    def again(self, step: Step) -> None:
        """List a step's forward pass once more, because what its reverse pass reads has been discarded."""
        known = step.output in self.values
        self.forward(step, keep=True)
        output = self.values[step.output]
        if not known and output.border != NO_BORDER:
            # The convolution that clears the border may not run again.
            self.add(
                [output],
                [output],
                lambda: [bind_slope(**self.part, x=output.images(), source=None, y=output.images())],
            )

    def forward(self, step: Step, keep: bool) -> None:
        """List a step's forward pass. With `keep`, what its reverse pass reads is kept."""
        value = step.output
        recomputed = value in self.values
        output = self.values.setdefault(value, ImageBuffer(self.batch, value.shape, value.border))
        name = getattr(step.layer, "activation", "identity")
        apart = keep and name not in READ_FROM_OUTPUT and not isinstance(step.layer, Activation)
        if recomputed and not apart:
            return
        if not apart:
            self._forward(step, step.layer, output)
            return
        z = ImageBuffer(self.batch, value.shape)
        self._before_activation[step] = z
        self._forward(step, replace(step.layer, activation="identity"), z)  # type: ignore[type-var]
        self.add(
            [z],
            [output],
            lambda: [
                elementwise.bind(**self.part, count=0, x=z.images(), y=output.images(), activation_name=name)
            ],
        )

    def _forward(self, step: Step, layer: Any, output: ImageBuffer) -> None:
        inputs = [self.values[value] for value in step.inputs]

        def bind() -> list[Operation]:
            one_a_part = not layer.whole_batch
            return layer.bind(
                self.site(
                    step,
                    [x.images(shape, one_a_part) for x, shape in zip(inputs, step.shapes, strict=True)],
                    output.images(step.output.shape, one_a_part),
                )
            )

        self.add(inputs, [output], bind, by_image=not layer.whole_batch, numbered=layer.numbers_examples)

    def site(self, step: Step, inputs: Sequence[Any], output: Any) -> Site:
        """Return the arguments that a step's layer is bound with."""
        return Site(
            device=CPU,
            batch=self.batch,
            images=1,
            index=step.index,
            inputs=tuple(inputs),
            output=output,
            parameters=self.parameters(step),
            perturbation=self._perturbation,
            shapes=tuple(step.shapes),
        )

    def slope_source(self, step: Step) -> ImageBuffer | None:
        """Return the buffer of which the slope of a step's activation is a function; None for the identity."""
        name = getattr(step.layer, "activation", "identity")
        if name == "identity":
            return None
        return self._before_activation.get(step, self.values[step.output])

    def panels_of(self, buffer: ImageBuffer) -> PanelBuffer:
        """Return a buffer's examples as example panels, copied there the first time."""
        if buffer not in self._panels:
            copy = PanelBuffer(-(-self.batch // PANEL), math.prod(buffer.shape))
            self._panels[buffer] = copy
            self._to_panels(buffer, copy)
        return self._panels[buffer]

    def _to_panels(self, buffer: ImageBuffer, copy: PanelBuffer) -> None:
        def bind() -> list[Operation]:
            x = buffer.images((math.prod(buffer.shape),), one_a_part=False)
            return [panels.bind_to_panels(self.isa, self.threads, x=x, panels=copy.array, batch=self.batch)]

        self.add([buffer], [copy], bind, by_image=False)

    def cotangent(self, value: Value) -> ImageBuffer:
        """Return the cotangent of a value as images."""
        cotangent = self._cotangents.pop(value)
        if isinstance(cotangent, ImageBuffer):
            return cotangent
        return self._from_panels(value, cotangent)

    def _from_panels(self, value: Value, cotangent: PanelBuffer) -> ImageBuffer:
        rows = ImageBuffer(self.batch, value.shape)

        def bind() -> list[Operation]:
            x = rows.images((math.prod(value.shape),), one_a_part=False)
            array = cotangent.array
            return [panels.bind_from_panels(self.isa, self.threads, x=x, panels=array, batch=self.batch)]

        self.add([cotangent], [rows], bind, by_image=False)
        return rows

    def panel_cotangent(self, value: Value) -> PanelBuffer:
        """Return the cotangent of a value in example panels, whose number of rows is a multiple of PANEL."""
        cotangent = self._cotangents.pop(value)
        if isinstance(cotangent, PanelBuffer):
            return cotangent
        copy = self.new_panels(math.prod(value.shape))
        self._to_panels(cotangent, copy)
        return copy

    def new_panels(self, features: int) -> PanelBuffer:
        """Return example panels whose number of rows, the features, is rounded up to a multiple of PANEL."""
        return PanelBuffer(-(-self.batch // PANEL), round_up(features, PANEL))

    def send_panels(self, value: Value, cotangent: PanelBuffer) -> None:
        """Hand a cotangent in example panels to a value.

        It becomes images unless only a dense layer produces and reads it.
        """
        alone = (
            value.producer is not None and isinstance(value.producer.layer, Dense) and len(value.readers) <= 1
        )
        self._receive(value, cotangent if alone else self._from_panels(value, cotangent))

    def send(
        self,
        value: Value,
        reads: Sequence[Buffer],
        bind: Callable[[ImageBuffer], list[Operation]],
        numbered: bool = False,
    ) -> None:
        """List a task that writes a cotangent of a value, unless the value depends on no parameter.

        Parameters
        ----------
        value : Value
            The value.
        reads : sequence of Buffer
            The buffers that the task reads.
        bind : callable
            Returns the task's operations, given the buffer of the cotangent.
        numbered : bool
            Whether its operations depend on the number of each example in the batch.
        """
        if not value.has_tangent:
            return
        cotangent = ImageBuffer(self.batch, value.shape)
        self.add(reads, [cotangent], lambda: bind(cotangent), numbered=numbered)
        self._receive(value, cotangent)

    def _receive(self, value: Value, cotangent: Cotangent) -> None:
        before = self._cotangents.setdefault(value, cotangent)
        if before is cotangent:
            return
        assert isinstance(before, ImageBuffer)
        assert isinstance(cotangent, ImageBuffer)
        total = ImageBuffer(self.batch, value.shape)

        def bind() -> list[Operation]:
            x, x2, y = before.images(), cotangent.images(), total.images()
            return [elementwise.bind(**self.part, count=0, x=x, x2=x2, y=y)]

        self.add([before, cotangent], [total], bind)
        self._cotangents[value] = total

    def forget(self, values: Sequence[Value]) -> None:
        """Remove values that a later pass writes again."""
        for value in values:
            del self.values[value]
