"""Cotangents of values: by rows, in panels of examples or of features, and what is copied between them."""

import math
from collections.abc import Callable, Sequence
from typing import cast

import numpy as np
import numpy.typing as npt

from fgnumba.bench.reverse.kernels import rows as by_rows
from fgnumba.bench.reverse.task_list import TaskList
from fgnumba.kernels.emit.vector import PANEL
from fgnumba.kernels.layout.images import NO_BORDER, Border, Images
from fgnumba.kernels.machine.interfaces import Operation
from fgnumba.kernels.machine.memory import round_up
from fgnumba.kernels.ops.elementwise import cpu as elementwise
from fgnumba.kernels.ops.example_panels import cpu as panels
from fgnumba.layers import Dense
from fgnumba.model.graph import Graph
from fgnumba.model.tasks import Buffer, ImageBuffer, PanelBuffer
from fgnumba.model.wiring import Value

MANY_ROWS = 32
"""The least number of positions for which turning a dense layer's weight is cheaper than turning its cotangents.

Measured on one thread of a Xeon with AVX-512: of 64 positions of 32 to 512 features, the passes take 0.84 to 0.94 of
the time. Vectors, whose cotangents lie in example panels from layer to layer, take 1.03 of it even if there are 512.
"""


def apart(rows: int) -> int:
    """Return the number of rows of a panel, at least `rows`, so that panels fall into different sets of the caches.

    A register tile reads a few rows of every panel. With 1,024 rows, all of them would fall into the same sets.
    """
    return rows | 1


class FeaturePanels(PanelBuffer):
    """A buffer of cotangents in panels of features, (ceil(N / PANEL), rows, PANEL).

    Parameters
    ----------
    features, rows : int
        Numbers of features N and of rows, which are rounded up to whole panels and one more.
    complete : bool
        Whether the slopes of the layer are multiplied in, and the gradient of its bias is there.
    """

    def __init__(self, features: int, rows: int, complete: bool = False) -> None:
        super().__init__(-(-features // PANEL), apart(round_up(rows, PANEL)))
        self.complete = complete


Cotangent = ImageBuffer | PanelBuffer


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


class Cotangents(TaskList):
    """The tasks of a pass, with the cotangents that values have received so far."""

    def __init__(
        self,
        model: Graph,
        batch: int,
        gradients: dict[str, npt.NDArray[np.float32]] | None,
        accumulate: bool = False,
    ) -> None:
        super().__init__(model, batch, gradients, accumulate)
        self._panels: dict[ImageBuffer, PanelBuffer] = {}
        self._cotangents: dict[Value, Cotangent] = {}

    def many(self, value: Value) -> bool:
        """Whether a value has so many positions that cotangents go through a dense layer by rows, see ``MANY_ROWS``."""
        return value.by_position and self.batch * value.positions >= MANY_ROWS

    def panels_of(self, buffer: ImageBuffer) -> PanelBuffer:
        """Return a buffer's examples as example panels, copied there the first time."""
        if buffer not in self._panels:
            rows = self.batch * buffer.positions
            copy = PanelBuffer(-(-rows // PANEL), apart(math.prod(buffer.shape) // buffer.positions))
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
        """Return the cotangent of a value: in panels of features, to which the caller may write, or else by rows."""
        if isinstance(self._cotangents[value], FeaturePanels):
            return cast(FeaturePanels, self._cotangents.pop(value))
        return self.cotangent(value)

    def _from_panels(self, value: Value, cotangent: PanelBuffer) -> ImageBuffer:
        rows = self.buffer(value)

        def bind() -> list[Operation]:
            x, array, count = rows_of(rows), cotangent.array, self.batch * rows.positions
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

    def alone(self, value: Value) -> bool:
        """Whether a dense layer makes a value, and nothing but one layer reads it."""
        made = value.producer is not None and isinstance(value.producer.layer, Dense)
        return made and len(value.readers) <= 1

    def send_panels(self, value: Value, cotangent: PanelBuffer) -> None:
        """Hand a cotangent in example panels to a value.

        It becomes images unless only a dense layer produces and reads it.
        """
        self.receive(value, cotangent if self.alone(value) else self._from_panels(value, cotangent))

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
