"""The reverse pass of LSTM and GRU: one position after another, and between them a product with all units."""

from typing import Any

import numpy as np
import numpy.typing as npt

from fgnumba.bench.reverse.kernels import cells, positions
from fgnumba.bench.reverse.passes import Passes
from fgnumba.bench.reverse.sequences import (
    Place,
    Rows,
    by_symbol,
    product,
    weight_and_input,
    weight_gradient,
)
from fgnumba.kernels.emit.vector import PANEL
from fgnumba.kernels.layout.images import Images
from fgnumba.kernels.machine.interfaces import Operation
from fgnumba.kernels.machine.memory import address, aligned, leading
from fgnumba.kernels.ops.example_panels import cpu as panels
from fgnumba.layers import LSTM
from fgnumba.model.tasks import PanelBuffer
from fgnumba.model.wiring import Step


def full_recurrence(passes: Passes, step: Step) -> None:
    """Go back through time, and sum the gradients of all parameters over positions afterwards."""
    place = _Full(passes, step)
    padded = place.padded
    y, dy = passes.values[step.output], passes.cotangent(step.output)
    # The cotangent of q, the recurrent product of a GRU's n, comes before those of the gates.
    skipped = 0 if place.is_lstm else padded
    sheets, rows = place.sheets(4), Rows(place.rows, 4 * padded)
    cell, extra, previous = (Rows(place.rows, padded) for _ in range(3))
    before = PanelBuffer(-(-place.rows // PANEL), place.layer.units)
    passes.add(
        [y],
        [previous, before, cell, extra],
        lambda: [*place.previous(place.images(y), previous, before), *place.extra(previous, cell, extra)],
        by_image=False,
    )
    passes.add(
        [dy, y, cell, extra],
        [rows, sheets],
        lambda: place.back(place.images(y), place.images(dy), cell, extra, rows, sheets.array),
        by_image=False,
    )
    passes.add([sheets, before], [sheets], lambda: place.gradients(before, sheets.array), by_image=False)
    if step.layer.symbols is None:  # type: ignore[attr-defined]
        weight_and_input(place, sheets, rows, skipped)
        return
    x, weight = passes.values[step.inputs[0]], place.target("weight")

    def bind() -> list[Operation]:
        return [by_symbol(place, rows.images(skipped, weight.shape[0] * PANEL), weight)]

    passes.add([rows, x], [], bind, by_image=False)


class _Full(Place):
    """An LSTM or a GRU in its model."""

    @property
    def is_lstm(self) -> bool:
        """Whether it is an LSTM; else it is a GRU."""
        return isinstance(self.layer, LSTM)

    @property
    def states(self) -> Any:
        """The states that the layer is given, or None."""
        return self.passes.states.get(self.step.index)

    def state_before(self, part: int) -> tuple[int, int]:
        """Return where part 0 or 1 of the states before the first position is: an address and a distance."""
        if self.states is None:
            return 0, 0
        before = self.states.before
        return address(before) + 4 * part * self.padded, before.shape[-1]

    def previous(self, y: Images, previous: Rows, before: PanelBuffer) -> list[Operation]:
        """Return the copies of the states before each position, by rows and in example panels."""
        passes, units = self.passes, self.layer.units
        return [
            positions.bind_previous(
                passes.threads,
                batch=passes.batch,
                units=units,
                y=y,
                before=self.state_before(0),
                out=previous.array,
            ),
            panels.bind_to_panels(
                passes.isa,
                passes.threads,
                x=previous.images(0, units),
                panels=before.array,
                batch=self.rows,
            ),
        ]

    def extra(self, previous: Rows, cell: Rows, extra: Rows) -> list[Operation]:
        """Return what computes again c and tanh c of an LSTM, or the recurrent product of a GRU's n."""
        passes, units = self.passes, self.layer.units
        if self.is_lstm:
            return [
                cells.bind_cells(
                    passes.threads,
                    batch=passes.batch,
                    length=self.length,
                    gates=self.gates,
                    padded=self.padded,
                    cells=cell.array,
                    squashed=extra.array,
                    before=self.state_before(1),
                    keeps=(self.states,),
                )
            ]
        of_n = 2 * self.padded // PANEL
        parameters = passes.parameters(self.step)
        weight, bias = parameters["recurrent"].packed[of_n:], parameters["recurrent_bias"].packed
        x, y = previous.images(0, units), extra.images(0, self.padded)
        return [product(self, self.rows, x, y, units, weight, bias)]

    def back(
        self, y: Images, dy: Images, cell: Rows, extra: Rows, rows: Rows, sheets: npt.NDArray[np.float32]
    ) -> list[Operation]:
        """Return the operations of all positions, from the last to the first."""
        passes, layer, padded = self.passes, self.layer, self.padded
        weight = passes.parameters(self.step)["recurrent"].packed
        columns, of_n = (4 if self.is_lstm else 3) * padded, 2 * padded // PANEL
        turned = aligned((padded // PANEL, columns, PANEL))
        fed = aligned((1, passes.batch, leading(layer.units)))
        if self.states is None:
            carry = aligned((passes.batch, layer.state_width(self.step.shapes)))
            operations: list[Operation] = [positions.bind_clear(carry)]
        else:
            carry, operations = self.states.carry, []
        # The cotangents of a GRU stand in the order q, r, z, in which q is the recurrent product of n.
        parts = [(weight, 0)] if self.is_lstm else [(weight[of_n:], 0), (weight[:of_n], padded)]
        for part, first in parts:
            operations.append(
                positions.bind_transposed(passes.isa, passes.threads, weight=part, out=turned, first=first)
            )
        for position in reversed(range(self.length)):
            operations.append(
                cells.bind_cell(
                    passes.isa,
                    passes.threads,
                    "lstm" if self.is_lstm else "gru",
                    batch=passes.batch,
                    units=layer.units,
                    position=position,
                    dy=dy,
                    before=self._before(position, y, cell),
                    carry=carry,
                    fed=None if position == self.length - 1 else fed[0],
                    gates=self.gates,
                    extra=extra.array,
                    rows=rows.array,
                    sheets=sheets,
                    keeps=(self.states, cell.array, y.memory),
                )
            )
            if position > 0 or self.states is not None:
                d = rows.images(0, columns, row=position, every=self.length)
                h = Images.of_batch(fed, (layer.units,))
                operations.append(product(self, passes.batch, d, h, layer.units, turned, back=True))
        if self.states is not None:
            operations.append(positions.bind_add(carry, fed[0], layer.units))
        return operations

    def _before(self, position: int, y: Images, cell: Rows) -> tuple[int, int]:
        """Return where the states before a position are: h of a GRU, and c of an LSTM, M elements further on."""
        if position == 0:
            return self.state_before(0)
        if self.is_lstm:
            at = address(cell.array) + 4 * (position - 1) * cell.columns - 4 * self.padded
            return at, self.length * cell.columns
        fields = y.fields("y")
        return fields["y"] + 4 * (position - 1) * fields["y_row"], fields["y_image"]

    def gradients(self, before: PanelBuffer, sheets: npt.NDArray[np.float32]) -> list[Operation]:
        """Return the sums of the gradients of biases and of the recurrent matrix."""
        q, units = self.padded // PANEL, self.layer.units
        recurrent = self.target("recurrent")
        sums = [("bias", sheets)] if self.is_lstm else [("bias", sheets[q:]), ("recurrent_bias", sheets[:q])]
        pieces = (
            [(sheets, recurrent)]
            if self.is_lstm
            else [(sheets[q : 3 * q], recurrent[: 2 * q]), (sheets[:q], recurrent[2 * q :])]
        )
        return [
            *(
                positions.bind_sums(
                    self.passes.threads,
                    sheets=part,
                    used=self.rows,
                    out=self.target(name),
                    onto=self.passes.onto,
                )
                for name, part in sums
            ),
            *(
                weight_gradient(self, before, d, out, units, self.rows * units * len(d) * PANEL)
                for d, out in pieces
            ),
        ]
