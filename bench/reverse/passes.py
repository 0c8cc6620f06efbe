"""The tasks of a forward pass that keeps what the reverse pass reads, and of the reverse pass."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from fgnumba.bench.reverse.kernels import rows as by_rows
from fgnumba.bench.reverse.kernels.convolution import bind_slope
from fgnumba.bench.reverse.task_list import TaskList
from fgnumba.kernels.devices.device import CPU
from fgnumba.kernels.emit.vector import PANEL
from fgnumba.kernels.layout.images import NO_BORDER, Border, Images
from fgnumba.kernels.machine.interfaces import Operation
from fgnumba.kernels.machine.memory import aligned, round_up
from fgnumba.kernels.ops.elementwise import cpu as elementwise
from fgnumba.kernels.ops.example_panels import cpu as panels
from fgnumba.kernels.rules.directions import NONE
from fgnumba.layers import Activation, Dense, Perturbation, Site
from fgnumba.layers.recurrent import RecurrentLayer
from fgnumba.model.graph import Graph
from fgnumba.model.input_rows import InputRows
from fgnumba.model.tasks import Buffer, ImageBuffer, InputBuffer, PanelBuffer
from fgnumba.model.wiring import Step, Value


class FeaturePanels(PanelBuffer):
    """A buffer of cotangents in panels of features, (ceil(N / PANEL), rows, PANEL).

    Parameters
    ----------
    features, rows : int
        Numbers of features N and of rows, which are rounded up to whole panels.
    """

    def __init__(self, features: int, rows: int) -> None:
        super().__init__(-(-features // PANEL), round_up(rows, PANEL))


Cotangent = ImageBuffer | PanelBuffer


@dataclass(frozen=True)
class States:
    """The states of a recurrent layer, one for each example.

    Parameters
    ----------
    last : array, (1, B, S) float32
        The states that the layer begins with; replaced by those that it leaves.
    before : array, (B, S) float32
        A copy of the states that the layer begins with.
    carry : array, (B, S) float32
        The cotangents of the states that it leaves; replaced by those of the states that it begins with.
    """

    last: npt.NDArray[np.float32]
    before: npt.NDArray[np.float32]
    carry: npt.NDArray[np.float32]

    @classmethod
    def of(cls, last: npt.NDArray[np.float32]) -> "States":
        """Return states in the array `last`, with room for those before a run and for their cotangents, zeros."""
        return cls(last, aligned(last.shape[1:]), aligned(last.shape[1:]))


def rows_of(buffer: ImageBuffer) -> Images:
    """Return what a buffer holds as images of one pixel: its examples, or the positions of its sequences."""
    if buffer.by_position:
        return buffer.images(one_a_part=False).by_rows()
    return buffer.images((math.prod(buffer.shape),), one_a_part=False)


def sheet_of(buffer: ImageBuffer | FeaturePanels) -> by_rows.Sheet:
    """Return where the rows of a buffer lie."""
    if isinstance(buffer, FeaturePanels):
        return by_rows.Sheet.of_panels(buffer.array)
    return by_rows.Sheet.of_rows(rows_of(buffer))


READ_FROM_OUTPUT = ("identity", "relu")
"""Activations whose slope is a function of their output. Their pre-activations are not kept."""

MANY_ROWS = 256
"""The least number of rows for which turning a dense layer's weight is cheaper than turning its outputs' cotangents."""


class Passes(TaskList):
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
    states : mapping of int to States or None
        The states that recurrent layers begin with and leave, by the number of the layer. None: they begin at zeros.
    accumulate : bool
        Whether gradients are added to what their arrays hold.

    Attributes
    ----------
    values : dict
        The buffer of each value that a step has written.
    gates : dict
        The gates that each recurrent layer keeps, once it is bound.
    """

    def __init__(
        self,
        model: Graph,
        batch: int,
        source: Value,
        rows: InputRows,
        stream: npt.NDArray[Any],
        gradients: dict[str, npt.NDArray[np.float32]] | None,
        states: Mapping[int, States] | None = None,
        accumulate: bool = False,
    ) -> None:
        super().__init__(model, batch, gradients, accumulate)
        self.values: dict[Value, ImageBuffer] = {source: InputBuffer(batch, source, rows)}
        self._perturbation = Perturbation(NONE, 0, stream)
        self.parameter_bytes = sum(p.packed.nbytes for p in model.packed_parameters.values())
        self.states = states or {}
        self.gates: dict[Step, npt.NDArray[np.float32]] = {}
        self._before_activation: dict[Step, ImageBuffer] = {}
        self._slopes: dict[Step, FeaturePanels] = {}
        self._panels: dict[ImageBuffer, PanelBuffer] = {}
        self._cotangents: dict[Value, Cotangent] = {}

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
        output = self.values.setdefault(value, self.buffer(value, value.border))
        name = getattr(step.layer, "activation", "identity")
        apart = keep and name not in READ_FROM_OUTPUT and not isinstance(step.layer, Activation)
        if recomputed and not apart:
            return
        if not apart:
            self._forward(step, step.layer, output)
            return
        z = self.buffer(value)
        self._before_activation[step] = z
        self._forward(step, replace(step.layer, activation="identity"), z)  # type: ignore[type-var]
        if isinstance(step.layer, Dense) and self.many(value):
            self._keep_slopes(step, z, output)
            return
        self.add(
            [z],
            [output],
            lambda: [
                elementwise.bind(**self.part, count=0, x=z.images(), y=output.images(), activation_name=name)
            ],
        )

    def _keep_slopes(self, step: Step, z: ImageBuffer, output: ImageBuffer) -> None:
        """List a dense layer's activation, which also makes its slopes."""
        rows, features = self.batch * output.positions, step.output.width
        slopes = self._slopes[step] = FeaturePanels(features, rows)

        def bind() -> list[Operation]:
            return [
                by_rows.bind_activated(
                    self.threads,
                    rows=rows,
                    features=features,
                    z=sheet_of(z),
                    y=sheet_of(output),
                    slopes=sheet_of(slopes),
                    activation_name=step.layer.fused_activation,
                )
            ]

        self.add([z], [output, slopes], bind, by_image=False)

    def _forward(self, step: Step, layer: Any, output: ImageBuffer) -> None:
        inputs = [self.values[value] for value in step.inputs]

        def bind() -> list[Operation]:
            one_a_part = not layer.whole_batch
            site = self.site(
                step,
                [x.images(shape, one_a_part) for x, shape in zip(inputs, step.shapes, strict=True)],
                output.images(step.output.shape, one_a_part),
            )
            if not isinstance(layer, RecurrentLayer):
                return layer.bind(site)
            operations, self.gates[step] = layer.bind_kept(site)
            return operations

        self.add(inputs, [output], bind, by_image=not layer.whole_batch, numbered=layer.numbers_examples)

    def site(self, step: Step, inputs: Sequence[Any], output: Any) -> Site:
        """Return the arguments that a step's layer is bound with."""
        states = self.states.get(step.index)
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
            state=None if states is None else states.last,
        )

    def slope_source(self, step: Step) -> ImageBuffer | None:
        """Return the buffer of which the slope of a step's activation is a function; None for the identity."""
        name = getattr(step.layer, "activation", "identity")
        if name == "identity":
            return None
        return self._before_activation.get(step, self.values[step.output])

    def slopes_of(self, step: Step) -> FeaturePanels | None:
        """Return the slopes of a dense layer of many rows, if the forward pass made them."""
        return self._slopes.get(step)

    def many(self, value: Value) -> bool:
        """Whether a value has so many rows that cotangents go through a dense layer by rows, see ``MANY_ROWS``."""
        return self.batch * value.positions >= MANY_ROWS

    def panels_of(self, buffer: ImageBuffer) -> PanelBuffer:
        """Return a buffer's examples as example panels, copied there the first time."""
        if buffer not in self._panels:
            rows = self.batch * buffer.positions
            copy = PanelBuffer(-(-rows // PANEL), math.prod(buffer.shape) // buffer.positions)
            self._panels[buffer] = copy
            self._to_panels(buffer, copy)
        return self._panels[buffer]

    def _to_panels(self, buffer: ImageBuffer, copy: PanelBuffer) -> None:
        def bind() -> list[Operation]:
            x, rows = rows_of(buffer), self.batch * buffer.positions
            return [panels.bind_to_panels(self.isa, self.threads, x=x, panels=copy.array, batch=rows)]

        self.add([buffer], [copy], bind, by_image=False)

    def cotangent(self, value: Value) -> ImageBuffer:
        """Return the cotangent of a value as images."""
        cotangent = self._cotangents.pop(value)
        if isinstance(cotangent, ImageBuffer):
            return cotangent
        return self._from_panels(value, cotangent)

    def rows_or_features(self, value: Value) -> ImageBuffer | FeaturePanels:
        """Return the cotangent of a value of many rows: by rows, or in panels of features that the caller may write."""
        cotangent = self._cotangents.pop(value)
        assert isinstance(cotangent, (ImageBuffer, FeaturePanels))
        return cotangent

    def _from_panels(self, value: Value, cotangent: PanelBuffer) -> ImageBuffer:
        rows = self.buffer(value)

        def bind() -> list[Operation]:
            count = self.batch * rows.positions
            if isinstance(cotangent, FeaturePanels):
                moved = {"x": sheet_of(cotangent), "y": sheet_of(rows)}
                return [by_rows.bind_rows(self.isa, self.threads, rows=count, features=value.width, **moved)]
            x, array = rows_of(rows), cotangent.array
            return [panels.bind_from_panels(self.isa, self.threads, x=x, panels=array, batch=count)]

        self.add([cotangent], [rows], bind, by_image=False)
        return rows

    def panel_cotangent(self, value: Value) -> PanelBuffer:
        """Return the cotangent of a value in example panels, whose number of rows is a multiple of PANEL."""
        cotangent = self._cotangents.pop(value)
        if isinstance(cotangent, PanelBuffer):
            return cotangent
        copy = self.new_panels(value)
        self._to_panels(cotangent, copy)
        return copy

    def new_panels(self, value: Value) -> PanelBuffer:
        """Return example panels for a cotangent of a value, whose number of rows is rounded up to a multiple of PANEL.

        The positions of a sequence count as examples.
        """
        return PanelBuffer(-(-self.batch * value.positions // PANEL), round_up(value.width, PANEL))

    def buffer(self, value: Value, border: Border = NO_BORDER) -> ImageBuffer:
        """Return a buffer for a value, or for a cotangent of it."""
        return ImageBuffer(self.batch, value.shape, border, by_position=value.by_position)

    def send_panels(self, value: Value, cotangent: PanelBuffer) -> None:
        """Hand a cotangent in panels, of examples or of features, to a value.

        It becomes images unless only a dense layer produces and reads it.
        """
        alone = (
            value.producer is not None and isinstance(value.producer.layer, Dense) and len(value.readers) <= 1
        )
        self.receive(value, cotangent if alone else self._from_panels(value, cotangent))

    def send(
        self,
        value: Value,
        reads: Sequence[Buffer],
        bind: Callable[[ImageBuffer], list[Operation]],
        numbered: bool = False,
        by_image: bool = True,
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
        by_image : bool
            Whether the task takes one image at a time.
        """
        if not value.has_tangent:
            return
        cotangent = self.buffer(value)
        self.add(reads, [cotangent], lambda: bind(cotangent), by_image, numbered)
        self.receive(value, cotangent)

    def receive(self, value: Value, cotangent: Cotangent) -> None:
        """Take a cotangent of a value, and add it to what was received before."""
        before = self.received(value)
        if before is None:
            self._cotangents[value] = cotangent
            return
        assert isinstance(cotangent, ImageBuffer)
        total = self.buffer(value)

        def bind() -> list[Operation]:
            x, x2, y = before.images(), cotangent.images(), total.images()
            return [elementwise.bind(**self.part, count=0, x=x, x2=x2, y=y)]

        self.add([before, cotangent], [total], bind)
        self._cotangents[value] = total

    def received(self, value: Value) -> ImageBuffer | None:
        """Return the cotangent of a value that was received so far, for a task that adds to it; None if none was."""
        before = self._cotangents.pop(value, None)
        assert before is None or isinstance(before, ImageBuffer)
        return before

    def share(self, value: Value, cotangent: ImageBuffer) -> bool:
        """Hand a cotangent to a value as it is, and return whether it lies in memory as the value's cotangents do.

        No task writes to a cotangent that it was handed, so that values may share one.
        """
        lies = cotangent.shape == value.shape and cotangent.by_position == value.by_position
        if not lies or cotangent.border != NO_BORDER:
            return False
        if value.has_tangent:
            self.receive(value, cotangent)
        return True

    def forget(self, values: Sequence[Value]) -> None:
        """Remove values that a later pass writes again."""
        for value in values:
            del self.values[value]
