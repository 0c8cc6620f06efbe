"""Layers that tell attention at which position it reads: an embedding of positions, and rotary turns."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from fgnumba.errors import ConfigError, ShapeError, shown
from fgnumba.kernels.machine.interfaces import Operation
from fgnumba.kernels.ops.attention import MOST_HEADS, MOST_KEYS
from fgnumba.layers.base import Initial, Layer, Shape, Site, sizes
from fgnumba.layers.dense import weights_at
from fgnumba.validation import MAX_FLOAT32, real_number, store, whole_number

_DEVIATION = np.float32(0.02)


@dataclass(frozen=True)
class PositionalEmbedding(Layer):
    """A learned vector for each position, which is added: a sequence (L, C) stays a sequence (L, C).

        y_l  = x_l + P[l]
        dy_l = dx_l + V[l]

    V is the tangent of P, the parameter ``weight`` (length, C), which is drawn from N(0, 0.02²). A model with this
    layer takes sequences of any length up to `length`, by :meth:`fgnumba.Graph.at_length`.

    Parameters
    ----------
    length : int
        The most positions of a sequence, from 1 to 2²⁰.

    Raises
    ------
    ConfigError
        If `length` is impossible.
    ShapeError
        If the input is no sequence (L, C), or has more positions.

    Examples
    --------
    >>> import fgnumba as fg
    >>> fg.PositionalEmbedding(256).parameter_shapes([(64, 128)])
    {'weight': (256, 128)}
    """

    length: int

    whole_batch: ClassVar[bool] = True
    counts_positions: ClassVar[bool] = True

    def __post_init__(self) -> None:
        store(self, length=whole_number("PositionalEmbedding: length", self.length, 1, MOST_KEYS))

    def output_shape(self, *inputs: Shape) -> Shape:
        """Return the shape of the output, which is that of the input, (L, C)."""
        shape = checked_sequence("PositionalEmbedding", inputs[0])
        if shape[0] > self.length:
            raise ShapeError(
                f"PositionalEmbedding: the input's shape is {shape}; at most {self.length} positions are possible"
            )
        return shape

    def parameter_shapes(self, inputs: Sequence[Shape]) -> dict[str, Shape]:
        """Return the shape of the parameter ``weight``, (length, C)."""
        return {"weight": (self.length, int(inputs[0][-1]))}

    def initial_parameters(self, inputs: Sequence[Shape], generator: np.random.Generator) -> Initial:
        """Return the initial parameter: a weight drawn from N(0, 0.02²)."""
        shape = self.parameter_shapes(inputs)["weight"]
        return {"weight": generator.standard_normal(shape, np.float32) * _DEVIATION}

    def bind(self, site: Site) -> list[Operation]:
        """Return the operation that adds the vectors."""
        return [
            site.device.kernels.positional_embedding.bind(
                site.isa,
                site.threads,
                batch=site.batch,
                x=site.inputs[0],
                y=site.output,
                weights=weights_at(site),
            )
        ]


@dataclass(frozen=True)
class RotaryEmbedding(Layer):
    """Turn pairs of elements by angles that grow with the position: a sequence (L, C) stays a sequence (L, C).

        y_c = cos(φ) x_c - sin(φ) x_{c + d/2},   y_{c + d/2} = sin(φ) x_c + cos(φ) x_{c + d/2},   φ = l base^(-2c / d)

    at position l, for c < d/2 in each head of d = C / heads elements; tangents are turned alike. A query times a key,
    both turned, depends on their positions by the difference alone: give this layer to
    :class:`SelfAttention` as ``rotary=``, and it turns queries and keys. There are no parameters. Elements c and
    c + d/2 are a pair, as in GPT-NeoX and Llama; others pair elements 2c and 2c + 1.
    Source: J. Su et al., arXiv 2104.09864.

    Parameters
    ----------
    base : float, optional
        The base of the angles, at least 1. By default 10,000.
    heads : int, optional
        The number of heads that the C elements are cut into. By default 1. In ``SelfAttention(rotary=...)`` the heads
        are those of the attention.

    Raises
    ------
    ConfigError
        If an argument is impossible.
    ShapeError
        If the input is no sequence (L, C), or its elements cannot be cut into heads of pairs.

    Examples
    --------
    >>> import fgnumba as fg
    >>> attention = fg.SelfAttention(heads=4, rotary=fg.RotaryEmbedding())
    """

    base: float = 10000.0
    heads: int = 1

    whole_batch: ClassVar[bool] = True
    counts_positions: ClassVar[bool] = True

    def __post_init__(self) -> None:
        base = real_number("RotaryEmbedding: base", self.base, above_zero=True, below=MAX_FLOAT32)
        if base < 1:
            raise ConfigError(
                f"RotaryEmbedding: base is {shown(self.base)}; a number of at least 1 is required"
            )
        store(self, base=base, heads=whole_number("RotaryEmbedding: heads", self.heads, 1, MOST_HEADS))

    def output_shape(self, *inputs: Shape) -> Shape:
        """Return the shape of the output, which is that of the input, (L, C)."""
        shape = checked_sequence("RotaryEmbedding", inputs[0])
        if shape[1] % (2 * self.heads):
            heads = f"{self.heads} heads of pairs" if self.heads > 1 else "pairs"
            raise ShapeError(
                f"RotaryEmbedding: the input's shape is {shape}; its {shape[1]} elements cannot be cut into {heads}"
            )
        return shape

    def bind(self, site: Site) -> list[Operation]:
        """Return the operation that turns."""
        return [
            site.device.kernels.rotary.bind(
                site.isa,
                site.threads,
                batch=site.batch,
                count=site.perturbation.count,
                x=site.inputs[0],
                y=site.output,
                heads=self.heads,
                base=self.base,
            )
        ]


def checked_sequence(kind: str, given: Shape) -> tuple[int, int]:
    """Return a shape as (L, C); raise ShapeError if it is not the shape of a sequence that positions can number."""
    if len(given) != 2:
        raise ShapeError(f"{kind}: the input's shape is {given}; a sequence (L, C) is required")
    length, channels = sizes(given)
    if length > MOST_KEYS:
        raise ShapeError(f"{kind}: the input's shape is {given}; at most {MOST_KEYS} positions are possible")
    return length, channels
