"""Normalisation layers.

A set is the numbers that are normalised together: the channels of a pixel, or a group of an example. Values and
tangents agree with float64 arithmetic on the same float32 numbers. The error is at most 16 U = 9.5e-7, U = 2⁻²⁴, times
a scale that is the maximum over the set, whatever its mean and its size:

    y:   max |scale x̂| + |shift|
    dy:  max |scale r (dx - mean dx)| + |dscale x̂| + |dshift|,   r = 1 / √(σ² + ε)

dy may be smaller than its terms: along dx = x, r (dx - mean dx) and x̂ mean(x̂ dx) cancel except for the effect of ε.
Sets of numbers around 10⁶ with a spread of 1 are therefore normalised correctly, and so are 3·10⁷ + {0, 2, 4}. Equal
numbers give exactly the shift, and dy = scale (dx - mean dx) / √ε + dshift. Numbers up to the largest float32 are
normalised although their squares overflow. A result that is beyond float32, or whose r (dx - mean dx) is, may be
infinite or NaN. An infinity or a NaN makes its whole set NaN. Numbers, differences and tangents below 1.2e-38 count as
zero. ``kernels.rules.moments`` says how this is computed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from fgnumba.errors import ConfigError, ShapeError, shown
from fgnumba.kernels.machine.interfaces import Operation
from fgnumba.kernels.rules.directions import EXPLICIT
from fgnumba.kernels.rules.moments import LEAST_EPSILON
from fgnumba.kernels.shared.affine.cpu import Affine
from fgnumba.layers.base import Initial, Layer, Shape, Site, sizes
from fgnumba.validation import MAX_FLOAT32, flag, real_number, store, whole_number


def checked_epsilon(name: str, value: Any) -> float:
    """Return ε as a float; raise ConfigError if squares that float32 rounds to 0 would matter beside it."""
    epsilon = real_number(name, value, above_zero=True, below=MAX_FLOAT32)
    if epsilon < LEAST_EPSILON:
        raise ConfigError(
            f"{name} is {shown(value)}; at least {LEAST_EPSILON:.2g} is required, "
            "so that squares which float32 rounds to 0 do not matter"
        )
    return epsilon


class Normalization(Layer):
    """The base class of normalisations: with ``affine``, a scale (C,) and, but for RMSNorm, a shift (C,)."""

    still: ClassVar[int] = EXPLICIT
    shifts: ClassVar[bool] = True
    # No dataclass, whose fields would come before those of the normalisations.
    affine: bool

    def parameter_shapes(self, inputs: Sequence[Shape]) -> dict[str, Shape]:
        """Return the shapes of the parameters that there are: ``scale`` (C,) and ``shift`` (C,)."""
        if not self.affine:
            return {}
        names = ("scale", "shift") if self.shifts else ("scale",)
        return dict.fromkeys(names, (int(inputs[0][-1]),))

    def initial_parameters(self, inputs: Sequence[Shape], generator: np.random.Generator) -> Initial:
        """Return the initial parameters that there are: ``scale`` (C,) of ones and ``shift`` (C,) of zeros."""
        shapes = self.parameter_shapes(inputs)
        return {name: np.full(shape, float(name == "scale"), np.float32) for name, shape in shapes.items()}

    def weights(self, site: Site) -> Affine:
        """Return scale, shift and their directions in the form that the kernels take."""
        scale, shift = site.parameters.get("scale"), site.parameters.get("shift")
        p = site.perturbation
        return Affine(
            scale=scale.packed if scale else None,
            shift=shift.packed if shift else None,
            kind=p.kind,
            count=p.count,
            first=p.first,
            scale_parameter=scale.index if scale else 0,
            shift_parameter=shift.index if shift else 0,
            stream=p.stream,
            v_scale=p.of(scale),
            v_shift=p.of(shift),
        )


@dataclass(frozen=True)
class LayerNorm(Normalization):
    """Layer normalisation: each pixel is normalised over its channels, and a vector over its elements.

        x̂ = (x - μ) / √(σ² + ε),  y = scale ⊙ x̂ + shift

    μ and σ² are the mean and the variance of the C channels. The parameters scale and shift are (C,) and start
    at 1 and 0.
    Source: J. L. Ba et al., arXiv 1607.06450.

    Parameters
    ----------
    epsilon : float, optional
        The number ε, at least 7.9e-31: beside a smaller one, squares that float32 rounds to 0 would change the result.
        By default 1e-5.
    affine : bool, optional
        Whether there are a scale and a shift; without them, y = x̂. By default True.

    Raises
    ------
    ConfigError
        If an argument is out of its range.
    """

    epsilon: float = 1e-5
    affine: bool = True

    def __post_init__(self) -> None:
        store(
            self,
            epsilon=checked_epsilon("LayerNorm: epsilon", self.epsilon),
            affine=flag("LayerNorm: affine", self.affine),
        )

    def output_shape(self, *inputs: Shape) -> Shape:
        """Return the shape of the output, which is that of the input."""
        return sizes(inputs[0])

    def bind(self, site: Site) -> list[Operation]:
        """Return the operation that computes the layer at `site`."""
        return [
            site.device.kernels.layer_norm.bind(
                site.isa,
                **site.part,
                x=site.inputs[0],
                y=site.output,
                weights=self.weights(site),
                epsilon=self.epsilon,
            )
        ]


@dataclass(frozen=True)
class GroupNorm(Normalization):
    """Group normalisation: each example is normalised over all pixels and the channels of a group.

        x̂ = (x - μ) / √(σ² + ε),  y = scale ⊙ x̂ + shift

    μ and σ² are the mean and the variance of the group. The parameters scale and shift are (C,) and start at 1 and 0.
    Source: Y. Wu, K. He, arXiv 1803.08494.

    Parameters
    ----------
    groups : int, optional
        The number of groups into which the C channels are cut; 1 normalises over all channels. By default 8.
    epsilon : float, optional
        The number ε, at least 7.9e-31: beside a smaller one, squares that float32 rounds to 0 would change the result.
        By default 1e-5.
    affine : bool, optional
        Whether there are a scale and a shift; without them, y = x̂. By default True.

    Raises
    ------
    ConfigError
        If an argument is out of its range.
    ShapeError
        If the channels cannot be cut into the groups.
    """

    groups: int = 8
    epsilon: float = 1e-5
    affine: bool = True

    mixes_positions: ClassVar[bool] = True

    def __post_init__(self) -> None:
        store(
            self,
            groups=whole_number("GroupNorm: groups", self.groups),
            epsilon=checked_epsilon("GroupNorm: epsilon", self.epsilon),
            affine=flag("GroupNorm: affine", self.affine),
        )

    def output_shape(self, *inputs: Shape) -> Shape:
        """Return the shape of the output, which is that of the input."""
        if inputs[0][-1] % self.groups:
            raise ShapeError(
                f"GroupNorm: the input's shape is {inputs[0]}; its channels cannot be cut into "
                f"{self.groups} equal groups"
            )
        return sizes(inputs[0])

    def bind(self, site: Site) -> list[Operation]:
        """Return the operation that computes the layer at `site`."""
        return [
            site.device.kernels.group_norm.bind(
                site.isa,
                **site.part,
                x=site.inputs[0],
                y=site.output,
                groups=self.groups,
                weights=self.weights(site),
                epsilon=self.epsilon,
            )
        ]
