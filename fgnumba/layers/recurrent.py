"""What recurrent layers share: the shapes of sequences, the product with the input, and what is kept of a pass.

A recurrent layer reads a sequence (L, K), or (L,) symbols, and writes one (L, H): at each position, the state that its
formula makes of the state before and of the input there. It is bound in two steps. First comes the product x W + b of
all B L positions at once; then a *scan*, which goes through the positions of each sequence in their order, and replaces
x W + b by the *gates*, the values of the layer's activations.
"""

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from fgnumba.errors import ShapeError
from fgnumba.kernels.emit.vector import PANEL
from fgnumba.kernels.layout.images import Images
from fgnumba.kernels.machine.interfaces import Operation
from fgnumba.kernels.machine.memory import round_up
from fgnumba.kernels.rules.philox import MAX_COLUMNS
from fgnumba.kernels.shared.recurrence.cpu import Vectors
from fgnumba.layers.base import Layer, Shape, Site, sizes
from fgnumba.layers.dense import weights_at
from fgnumba.validation import store, whole_number

MAX_SYMBOLS = 1 << 24
"""The most symbols: a symbol is a whole number in float32, which has all of them up to there."""


class RecurrentLayer(Layer):
    """The base class of recurrent layers, which are dataclasses with the fields `units` and `symbols`.

    Attributes
    ----------
    units : int
        The number H of units, at least 1.
    symbols : int or None
        The number V of symbols, if the input are symbols 0, …, V - 1: row s of the weight (V, G H) stands for x W.
        None: the input is a sequence of numbers (L, K).
    most_gates : int
        The number of gates G of the layer, or the most that it may have.
    state_parts : int
        The number of vectors of H numbers that make a state.
    """

    units: int
    symbols: int | None

    whole_batch: ClassVar[bool] = True
    most_gates: ClassVar[int] = 2
    state_parts: ClassVar[int] = 1

    def __post_init__(self) -> None:
        kind = type(self).__name__
        store(self, units=whole_number(f"{kind}: units", self.units, 1, MAX_COLUMNS // self.most_gates))
        if self.symbols is not None:
            store(self, symbols=whole_number(f"{kind}: symbols", self.symbols, 1, MAX_SYMBOLS))

    @property
    def gates(self) -> int:
        """The number of gates G: the weight has G H columns."""
        return self.most_gates

    @property
    def width(self) -> int:
        """The number of outputs at each position."""
        return self.units

    def output_shape(self, *inputs: Shape) -> Shape:
        """Return the shape of the output, (L, H)."""
        shape = sizes(inputs[0])
        if self.symbols is not None and len(shape) != 1:
            raise ShapeError(f"{self.kind}: the input's shape is {shape}; symbols (L,) are required")
        if self.symbols is None and len(shape) != 2:
            raise ShapeError(
                f"{self.kind}: the input's shape is {shape}; a sequence (L, K) is required, or symbols= for (L,)"
            )
        return (shape[0], self.width)

    def symbols_read(self) -> int | None:
        """Return the number V of symbols, or None if the input are numbers."""
        return self.symbols

    def column_groups(self, inputs: Sequence[Shape]) -> int:
        """Return the number of gates, each of which begins a panel of its own."""
        return self.gates

    def state_width(self, inputs: Sequence[Shape]) -> int:
        """Return the number of float32 of a state in memory, each of whose vectors is filled up to whole panels."""
        return self.state_parts * self.padded

    @property
    def padded(self) -> int:
        """The number of units, rounded up to whole panels."""
        return round_up(self.units, PANEL)

    def rows(self, inputs: Sequence[Shape]) -> int:
        """Return the number of rows of the weight: K, or V of symbols."""
        return self.symbols or int(inputs[0][-1])

    def multiply_adds(self, inputs: Sequence[Shape]) -> int:
        """Return the number of multiply-adds of the product with the input for one example; 0 of symbols."""
        if self.symbols is not None:
            return 0
        return int(inputs[0][0]) * int(inputs[0][1]) * self.gates * self.units

    def weight(
        self, inputs: Sequence[Shape], generator: np.random.Generator, share: float = 1.0
    ) -> npt.NDArray[np.float32]:
        """Return a weight (K, G H) drawn from N(0, `share` / K), or (V, G H) from N(0, `share`)."""
        rows = self.rows(inputs)
        deviation = np.float32(np.sqrt(share / (1 if self.symbols else rows)))
        return generator.standard_normal((rows, self.gates * self.units), np.float32) * deviation

    def bind(self, site: Site) -> list[Operation]:
        """Return the operations that compute the layer at `site`."""
        return self._bound(site)[0]

    def bind_kept(self, site: Site) -> tuple[list[Operation], Any]:
        """Return the operations that compute the layer at `site`, and the array that has its gates after a run.

        Parameters
        ----------
        site : Site
            The place of the layer, without directions.

        Returns
        -------
        operations : list of Operation
            The operations, as :meth:`bind` returns them.
        gates : device array, (B L, G Hp) float32
            The gates of each position, those of a gate from a multiple of Hp on, which is H rounded up to whole panels.
        """
        assert site.perturbation.count == 0
        operations, product = self._bound(site)
        return operations, product[0]

    def _bound(self, site: Site) -> tuple[list[Operation], Any]:
        length = site.output.shape[0]
        rows, columns = site.batch * length, self.gates * self.padded
        product = site.device.zeros((1 + site.perturbation.count, rows, columns))
        y = Images.of_batch(product, (columns,), True)
        if self.symbols is None:
            first = site.device.kernels.dense.bind(
                site.isa,
                site.threads,
                batch=rows,
                x=site.inputs[0].by_rows(),
                y=y,
                # Padding, too, so that states have the same bits whatever the memory held before.
                outputs=columns,
                weights=weights_at(site),
                activation_name="identity",
            )
        else:
            first = site.device.kernels.embedding.bind(
                site.isa, site.threads, batch=site.batch, x=site.inputs[0], y=y, weights=weights_at(site)
            )
        return [first, *self._scan(site, product)], product

    def _scan(self, site: Site, product: Any) -> list[Operation]:
        """Return the operations that go through the positions, with the product of the input in memory."""
        raise NotImplementedError

    def _vectors(self, site: Site, *names: str) -> Vectors:
        """Return parameters that are vectors in the form that a scan takes."""
        p = site.perturbation
        parameters = [site.parameters[name] for name in names]
        return Vectors(
            values=tuple(parameter.packed for parameter in parameters),
            parameters=tuple(parameter.index for parameter in parameters),
            kind=p.kind,
            count=p.count,
            first=p.first,
            stream=p.stream,
            v=tuple(p.of(parameter) for parameter in parameters),
        )
