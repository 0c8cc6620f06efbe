"""Recurrent layers whose units see all states of the position before: LSTM and GRU.

Each position takes a product of the states before with the recurrent weight, and then the gates and the new state. The
positions of a sequence follow each other; the work of one is shared by the threads. Directions of the recurrent weight
are drawn again at each position. Of rank-1 directions and of signs that costs next to nothing, of Gaussian ones more
than the product if there are few sequences.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from fgnumba.kernels.layout.images import Images
from fgnumba.kernels.machine.interfaces import Operation
from fgnumba.kernels.shared.product.product import Weights
from fgnumba.layers.base import Initial, Shape, Site
from fgnumba.layers.recurrent import RecurrentLayer


class _FullRecurrence(RecurrentLayer):
    """A recurrent layer with a recurrent weight (H, G H)."""

    def multiply_adds(self, inputs: Sequence[Shape]) -> int:
        """Return the number of multiply-adds for one example: L K G H of the input, and L H G H of the states."""
        recurrent = int(inputs[0][0]) * self.units * self.gates * self.units
        return super().multiply_adds(inputs) + recurrent

    def _recurrent(self, generator: np.random.Generator) -> Any:
        """Return a recurrent weight (H, G H) drawn from N(0, 1 / H)."""
        shape = (self.units, self.gates * self.units)
        return generator.standard_normal(shape, np.float32) * np.float32(1 / np.sqrt(self.units))

    def _scan(self, site: Site, product: Any) -> list[Operation]:
        count, columns = site.perturbation.count, self.gates * self.padded
        weight, p = site.parameters["recurrent"], site.perturbation
        weights = Weights(
            weight=weight.packed,
            bias=site.device.zeros((columns,)),
            kind=p.kind,
            count=count,
            first=p.first,
            parameter=weight.index,
            stream=p.stream,
            v=p.of(weight),
        )
        states = site.device.zeros((1 + count, site.batch, columns))
        operations: list[Operation] = []
        step = self._step(site, product, states)
        for position in range(site.output.shape[0]):
            before = self._before(site, position)
            if before is not None:
                operations.append(
                    site.device.kernels.dense.bind(
                        site.isa,
                        site.threads,
                        batch=site.batch,
                        x=before,
                        y=Images.of_batch(states, (columns,), True),
                        outputs=columns,
                        weights=weights,
                        activation_name="identity",
                    )
                )
            operations.append(step(position))
        return operations

    def _before(self, site: Site, position: int) -> Images | None:
        """Return the states before a position, B rows of H; None if they are zeros."""
        if position == 0:
            if site.state is None:
                return None
            moves = site.perturbation.count > 0 and site.state.shape[0] > 1
            return Images.of_batch(site.state, (1, 1, self.units), moves)
        y = site.output
        # One pixel of H channels: its strides are those of images without gaps, as kernels of a GPU take them.
        start, h = y.start + (position - 1) * y.row, self.units
        return replace(y, start=start, shape=(1, 1, h), row=h, pixel=h)

    def _step(self, site: Site, product: Any, states: Any) -> Any:
        """Return a function that binds the operation of a position."""
        raise NotImplementedError


@dataclass(frozen=True)
class LSTM(_FullRecurrence):
    """A long short-term memory.

        i = σ(x Wi + h Ri + bi),  f = σ(x Wf + h Rf + bf),  g = tanh(x Wg + h Rg + bg),  o = σ(x Wo + h Ro + bo)
        c' = f ⊙ c + i ⊙ g,  h' = o ⊙ tanh(c')

    The output at each position is h' (H,). The state is h and c, which are 0 before the first position. The parameters
    are weight (K, 4 H) = [Wi | Wf | Wg | Wo], from N(0, 1 / K), or N(0, 1) of symbols; recurrent (H, 4 H), from
    N(0, 1 / H); and bias (4 H,), which starts at 0, and at 1 for f.
    Source: S. Hochreiter, J. Schmidhuber, Neural Computation 9 (8), 1997; the gate f is that of F. A. Gers et al.,
    Neural Computation 12 (10), 2000.

    Parameters
    ----------
    units : int
        The number H of units, at least 1.
    symbols : int or None, optional
        The number V of symbols, if the input are symbols (L,) from 0 to V - 1: row s of the weight (V, 4 H) stands for
        x W. By default None: the input is a sequence of numbers (L, K).

    Raises
    ------
    ConfigError
        If an argument is impossible.
    ShapeError
        If the input is not a sequence.
    """

    units: int
    symbols: int | None = None

    most_gates: ClassVar[int] = 4
    state_parts: ClassVar[int] = 2

    def parameter_shapes(self, inputs: Sequence[Shape]) -> dict[str, Shape]:
        """Return the shapes of the parameters: ``weight`` (K, 4 H), ``recurrent`` (H, 4 H) and ``bias`` (4 H,)."""
        columns = 4 * self.units
        return {
            "weight": (self.rows(inputs), columns),
            "recurrent": (self.units, columns),
            "bias": (columns,),
        }

    def initial_parameters(self, inputs: Sequence[Shape], generator: np.random.Generator) -> Initial:
        """Return the initial parameters, as the class says."""
        bias = np.zeros(4 * self.units, np.float32)
        bias[self.units : 2 * self.units] = 1
        return {
            "weight": self.weight(inputs, generator),
            "recurrent": self._recurrent(generator),
            "bias": bias,
        }

    def _step(self, site: Site, product: Any, states: Any) -> Any:
        count = site.perturbation.count
        cells = site.device.zeros((1 + count, site.batch, self.padded))

        def step(position: int) -> Operation:
            bound: Operation = site.device.kernels.lstm.bind(
                site.isa,
                site.threads,
                batch=site.batch,
                units=self.units,
                count=count,
                position=position,
                product=product,
                recurrent=states,
                y=site.output,
                cells=cells,
                state=site.state,
            )
            return bound

        return step


@dataclass(frozen=True)
class GRU(_FullRecurrence):
    """A gated recurrent unit, in the form that PyTorch has.

        r = σ(x Wr + h Rr + br),  z = σ(x Wz + h Rz + bz),  n = tanh(x Wn + bn + r ⊙ (h Rn + cn))
        h' = (1 - z) ⊙ n + z ⊙ h

    The output at each position is h' (H,), which is also the state; before the first position it is 0. The parameters
    are weight (K, 3 H) = [Wr | Wz | Wn], from N(0, 1 / K), or N(0, 1) of symbols; recurrent (H, 3 H), from N(0, 1 / H);
    and bias (3 H,) = [br | bz | bn] and recurrent_bias (H,) = cn, which start at 0.
    Source: K. Cho et al., arXiv 1406.1078; r acts on the product, as in version 1 of that article.

    Parameters
    ----------
    units : int
        The number H of units, at least 1.
    symbols : int or None, optional
        The number V of symbols, if the input are symbols (L,) from 0 to V - 1: row s of the weight (V, 3 H) stands for
        x W. By default None: the input is a sequence of numbers (L, K).

    Raises
    ------
    ConfigError
        If an argument is impossible.
    ShapeError
        If the input is not a sequence.
    """

    units: int
    symbols: int | None = None

    most_gates: ClassVar[int] = 3
    ungrouped: ClassVar[tuple[str, ...]] = ("recurrent_bias",)

    def parameter_shapes(self, inputs: Sequence[Shape]) -> dict[str, Shape]:
        """Return the shapes: ``weight`` (K, 3 H), ``recurrent`` (H, 3 H), ``bias`` (3 H,), ``recurrent_bias`` (H,)."""
        columns = 3 * self.units
        return {
            "weight": (self.rows(inputs), columns),
            "recurrent": (self.units, columns),
            "bias": (columns,),
            "recurrent_bias": (self.units,),
        }

    def initial_parameters(self, inputs: Sequence[Shape], generator: np.random.Generator) -> Initial:
        """Return the initial parameters, as the class says."""
        return {
            "weight": self.weight(inputs, generator),
            "recurrent": self._recurrent(generator),
            "bias": np.zeros(3 * self.units, np.float32),
            "recurrent_bias": np.zeros(self.units, np.float32),
        }

    def _step(self, site: Site, product: Any, states: Any) -> Any:
        def step(position: int) -> Operation:
            bound: Operation = site.device.kernels.gru.bind(
                site.isa,
                site.threads,
                batch=site.batch,
                units=self.units,
                position=position,
                product=product,
                recurrent=states,
                y=site.output,
                state=site.state,
                vectors=self._vectors(site, "recurrent_bias"),
            )
            return bound

        return step
