"""Embeddings of symbols."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from fgnumba.errors import ShapeError
from fgnumba.kernels.machine.interfaces import Operation
from fgnumba.kernels.rules.philox import MAX_COLUMNS
from fgnumba.layers.base import Initial, Layer, Shape, Site, sizes
from fgnumba.layers.dense import weights_at
from fgnumba.layers.recurrent import MAX_SYMBOLS
from fgnumba.validation import MAX_FLOAT32, real_number, store, whole_number


@dataclass(frozen=True)
class Embedding(Layer):
    """A vector for each symbol: symbols (L,) from 0 to V - 1 become a sequence (L, C).

        y_l  = W[x_l]
        dy_l = V[x_l]

    V, here, is the tangent of the parameter weight (V, C), which is drawn from N(0, σ²). Weight perturbation moves
    every row of W along a random direction, whether its symbol occurred or not, and so a run is replayed without its
    data. An estimator that has the gradient itself gives zeros to the rows of other symbols: SGD without momentum
    leaves them as they are, and Adam moves them on by what its moments still hold.

    Parameters
    ----------
    symbols : int
        The number V of symbols, from 1 to 2²⁴.
    width : int
        The number C of elements of a vector, at least 1.
    deviation : float, optional
        The standard deviation σ of the initial weight, above 0. By default 1.

    Raises
    ------
    ConfigError
        If an argument is impossible.
    ShapeError
        If the shape of the input is not (L,).

    Examples
    --------
    >>> import fgnumba as fg
    >>> fg.Embedding(65, 128).output_shape((64,))
    (64, 128)
    """

    symbols: int
    width: int
    deviation: float = 1.0

    whole_batch: ClassVar[bool] = True

    def __post_init__(self) -> None:
        store(
            self,
            symbols=whole_number("Embedding: symbols", self.symbols, 1, MAX_SYMBOLS),
            width=whole_number("Embedding: width", self.width, 1, MAX_COLUMNS),
            deviation=real_number("Embedding: deviation", self.deviation, True, MAX_FLOAT32),
        )

    def output_shape(self, *inputs: Shape) -> Shape:
        """Return the shape of the output, (L, C)."""
        shape = sizes(inputs[0])
        if len(shape) != 1:
            raise ShapeError(f"Embedding: the input's shape is {shape}; symbols (L,) are required")
        return (*shape, self.width)

    def symbols_read(self) -> int | None:
        """Return the number V of symbols."""
        return self.symbols

    def parameter_shapes(self, inputs: Sequence[Shape]) -> dict[str, Shape]:
        """Return the shape of the parameter ``weight``, (V, C)."""
        return {"weight": (self.symbols, self.width)}

    def initial_parameters(self, inputs: Sequence[Shape], generator: np.random.Generator) -> Initial:
        """Return the initial parameter: a weight drawn from N(0, σ²)."""
        drawn = generator.standard_normal((self.symbols, self.width), np.float32)
        return {"weight": drawn * np.float32(self.deviation)}

    def bind(self, site: Site) -> list[Operation]:
        """Return the operation that looks rows up."""
        return [
            site.device.kernels.embedding.bind(
                site.isa,
                site.threads,
                batch=site.batch,
                x=site.inputs[0],
                y=site.output.by_rows(),
                weights=weights_at(site),
            )
        ]
