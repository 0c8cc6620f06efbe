"""The reverse pass of layers of sequences: embeddings, and recurrent layers through time."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fgnumba.bench.reverse.cotangents import rows_of
from fgnumba.bench.reverse.kernels import positions, scans
from fgnumba.bench.reverse.kernels.recurrences import RECURRENCES
from fgnumba.bench.reverse.passes import Passes
from fgnumba.kernels.devices.precision import for_tangents
from fgnumba.kernels.emit.vector import PANEL
from fgnumba.kernels.layout.images import Images
from fgnumba.kernels.machine.interfaces import Operation
from fgnumba.kernels.machine.memory import CACHE_LINE, aligned, round_up
from fgnumba.kernels.ops.dense import cpu as dense
from fgnumba.kernels.ops.embedding import cpu as table
from fgnumba.kernels.ops.example_panels import cpu as panels
from fgnumba.kernels.shared.product.product import Weights
from fgnumba.layers import ElementwiseLSTM, LinearRecurrentUnit, MinGRU
from fgnumba.model.tasks import Buffer, ImageBuffer, PanelBuffer
from fgnumba.model.wiring import Step


class Rows(Buffer):
    """A buffer of rows, which lie at a distance at which a product reads at full speed.

    Parameters
    ----------
    rows, columns : int
        The numbers of rows and of columns.
    """

    def __init__(self, rows: int, columns: int) -> None:
        # An odd number of cache lines, see `kernels.machine.memory.leading`.
        self.rows, self.columns = rows, columns + CACHE_LINE // 4
        super().__init__(rows * self.columns)

    @property
    def array(self) -> npt.NDArray[np.float32]:
        """The rows, (rows, columns and a gap)."""
        return super().array.reshape(self.rows, self.columns)

    def images(self, first: int, columns: int, row: int = 0, every: int = 1) -> Images:
        """Return columns of every `every`-th row, from `row` on, as images of one pixel."""
        image = every * self.columns
        start = row * self.columns + first
        return Images(self.array, start, (1, 1, columns), self.size, image, columns, columns, 0, False)


@dataclass(frozen=True)
class Place:
    """A recurrent layer in its model: what its reverse pass reads and writes.

    Parameters
    ----------
    passes : Passes
        The passes.
    step : Step
        The layer's step.
    """

    passes: Passes
    step: Step

    @property
    def layer(self) -> Any:
        """The layer."""
        return self.step.layer

    @property
    def length(self) -> int:
        """The number of positions L."""
        return self.step.output.shape[0]

    @property
    def rows(self) -> int:
        """The number of positions of all examples, B L."""
        return self.passes.batch * self.length

    @property
    def padded(self) -> int:
        """The number of units, rounded up to whole panels."""
        return round_up(self.layer.units, PANEL)

    @property
    def gates(self) -> npt.NDArray[np.float32]:
        """The gates of all positions, once the forward pass is bound."""
        gates: npt.NDArray[np.float32] = self.passes.gates[self.step]
        return gates.reshape(self.rows, -1)

    def target(self, name: str) -> npt.NDArray[np.float32]:
        """Return the array for the gradient of a parameter."""
        return self.passes.target(self.passes.parameters(self.step)[name])

    def symbols(self) -> Images:
        """Return the layer's input, if it is symbols."""
        return self.passes.values[self.step.inputs[0]].images(self.step.shapes[0], one_a_part=False)

    def sheets(self, vectors: int) -> PanelBuffer:
        """Return a buffer for so many vectors of units at each position, in panels of units."""
        return PanelBuffer(vectors * self.padded // PANEL, round_up(self.rows, PANEL))

    def images(self, buffer: ImageBuffer) -> Images:
        """Return the sequences of a buffer of the batch."""
        return buffer.images(one_a_part=False)


def embedding(passes: Passes, step: Step) -> None:
    """Add up dW[s] = Σ dy over the places of symbol s."""
    place, weight = Place(passes, step), passes.parameters(step)["weight"]
    dy, x = passes.cotangent(step.output), passes.values[step.inputs[0]]

    passes.add([dy, x], [], lambda: [by_symbol(place, rows_of(dy), passes.target(weight))], by_image=False)


def by_symbol(place: Place, rows: Images, out: npt.NDArray[np.float32]) -> Operation:
    """Return the operation that adds rows up by the symbols at their positions."""
    passes = place.passes
    return table.bind_gradient(
        passes.isa,
        passes.threads,
        batch=passes.batch,
        x=place.symbols(),
        signal=rows,
        out=out,
        onto=passes.onto,
    )


def elementwise_recurrence(passes: Passes, step: Step) -> None:
    """Go back through time in one scan; then dx = d Wᵀ and dW = xᵀ d for the cotangents d of x W + b."""
    place, layer = Place(passes, step), step.layer
    form, read, written = _form(layer)
    parameters, states = passes.parameters(step), passes.states.get(step.index)
    y, dy, x = passes.values[step.output], passes.cotangent(step.output), passes.values[step.inputs[0]]
    by_symbols = layer.symbols is not None  # type: ignore[attr-defined]
    gates = RECURRENCES[form].gates
    sheets, rows = place.sheets(gates), Rows(place.rows, gates * place.padded)
    inner = step.inputs[0].has_tangent

    def bind() -> list[Operation]:
        given: dict[str, Any]
        if by_symbols:
            given = {"symbols": place.symbols(), "weight": place.target("weight")}
        else:
            given = {"panels": sheets.array, "rows": rows.array if inner else None}
        return [
            scans.bind_scan(
                passes.isa,
                passes.threads,
                form,
                batch=passes.batch,
                units=place.layer.units,
                y=place.images(y),
                dy=place.images(dy),
                gates=place.gates,
                before=states.before if states else None,
                carry=states.carry if states else None,
                parameters=_both(parameters[name].packed if name else None for name in read),
                gradients=_both(place.target(name) if name else None for name in written),
                onto=passes.onto,
                **given,
            )
        ]

    made = [] if by_symbols else [sheets, *([rows] if inner else [])]
    passes.add([dy, y, *([x] if by_symbols else [])], made, bind, by_image=False)
    if not by_symbols:
        weight_and_input(place, sheets, rows)


def _both(values: Any) -> tuple[Any, Any]:
    first, second = values
    return first, second


def _form(layer: Any) -> tuple[str, tuple[str, str], tuple[str, str]]:
    """Return the name of a layer's recurrence, the two parameters that it reads, and those whose gradients it sums."""
    if isinstance(layer, ElementwiseLSTM):
        return "elementwise-lstm", ("recurrent", ""), ("recurrent", "bias")
    if isinstance(layer, MinGRU):
        return "min-gru", ("", ""), ("", "bias")
    assert isinstance(layer, LinearRecurrentUnit)
    names = ("nu", "theta") if layer.complex else ("nu", "")
    return ("complex-linear" if layer.complex else "real-linear"), names, names


def weight_and_input(place: Place, sheets: PanelBuffer, rows: Rows, skipped: int = 0) -> None:
    """List dx = d Wᵀ and dW = xᵀ d. The rows of panels beyond the last position must be zeros.

    Parameters
    ----------
    place : Place
        The layer.
    sheets, rows : PanelBuffer, Rows
        The cotangents d, in panels and by rows.
    skipped : int
        Number of columns before those of the gates.
    """
    passes, step = place.passes, place.step
    value, weight = step.inputs[0], passes.parameters(step)["weight"]
    products = place.rows * weight.shape[0] * weight.shape[1]
    if value.has_tangent:
        turned = aligned((-(-weight.shape[0] // PANEL), weight.packed.shape[0] * PANEL, PANEL))

        def back(dx: ImageBuffer) -> list[Operation]:
            d = rows.images(skipped, turned.shape[1])
            return [
                positions.bind_transposed(passes.isa, passes.threads, weight=weight.packed, out=turned),
                product(place, place.rows, d, rows_of(dx), weight.shape[0], turned, back=True),
            ]

        passes.send(value, [rows], back, by_image=False)
    x = passes.panels_of(passes.values[value])

    def gradient() -> list[Operation]:
        d = sheets.array[skipped // PANEL :]
        return [weight_gradient(place, x, d, passes.target(weight), weight.shape[0], products)]

    passes.add([x, sheets], [], gradient, by_image=False)


def product(
    place: Place,
    rows: int,
    x: Images,
    y: Images,
    outputs: int,
    weight: npt.NDArray[np.float32],
    bias: npt.NDArray[np.float32] | None = None,
    *,
    back: bool = False,
) -> Operation:
    """Return y = x W + b as the dense layer computes it; `back`: of cotangents, in the precision of tangents."""
    shift = np.zeros(weight.shape[0] * PANEL, np.float32) if bias is None else bias
    return dense.bind(
        for_tangents(place.passes.isa) if back else place.passes.isa,
        place.passes.threads,
        batch=rows,
        x=x,
        y=y,
        outputs=outputs,
        weights=Weights(weight, shift),
        activation_name="identity",
    )


def weight_gradient(
    place: Place,
    x: PanelBuffer,
    d: npt.NDArray[np.float32],
    out: npt.NDArray[np.float32],
    inputs: int,
    multiply_adds: int,
) -> Operation:
    """Return the product xᵀ d, summed over the positions of all examples."""
    return panels.bind_product(
        "weight-gradient",
        place.passes.isa,
        place.passes.threads,
        a=x.array,
        w=d,
        out=out,
        rows=inputs,
        terms=place.rows,
        columns=place.layer.units if len(d) == 1 else len(d) * PANEL,
        onto=place.passes.onto,
        multiply_adds=multiply_adds,
    )
