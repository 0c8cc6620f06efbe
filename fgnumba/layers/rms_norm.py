"""Root mean square normalisation.

Values and tangents agree with float64 arithmetic on the same float32 numbers, as those of the other normalisations do
(:mod:`fgnumba.layers.normalization`). The error is at most 16 U = 9.5e-7, U = 2⁻²⁴, times a scale that is the maximum
over the set of numbers that are normalised together:

    y:   max |scale x̂|
    dy:  max |scale r dx| + |dscale x̂|,   r = 1 / √(mean(x²) + ε)

dy may be smaller than its terms: along dx = x, r dx and x̂ mean(x̂ r dx) cancel except for the effect of ε. Where r dx
is beyond float32, dy may be anything.
"""

from dataclasses import dataclass
from typing import ClassVar

from fgnumba.kernels.machine.interfaces import Operation
from fgnumba.layers.base import Shape, Site, sizes
from fgnumba.layers.normalization import Normalization, checked_epsilon
from fgnumba.validation import flag, store


@dataclass(frozen=True)
class RMSNorm(Normalization):
    """Root mean square normalisation: each pixel, position or vector, over its C elements.

        y  = scale ⊙ x̂,  x̂ = r x,  r = 1 / √(mean(x²) + ε)
        dy = scale ⊙ r (dx - x̂ mean(x̂ dx)) + dscale ⊙ x̂

    The parameter scale (C,) starts at 1.
    Source: B. Zhang, R. Sennrich, arXiv 1910.07467.

    Parameters
    ----------
    epsilon : float, optional
        The number ε, at least 7.9e-31: beside a smaller one, squares that float32 rounds to 0 would change the result.
        By default 1e-5.
    affine : bool, optional
        Whether there is a scale; without it, y = x̂. By default True.

    Raises
    ------
    ConfigError
        If an argument is out of its range.
    """

    epsilon: float = 1e-5
    affine: bool = True

    shifts: ClassVar[bool] = False

    def __post_init__(self) -> None:
        store(
            self,
            epsilon=checked_epsilon("RMSNorm: epsilon", self.epsilon),
            affine=flag("RMSNorm: affine", self.affine),
        )

    def output_shape(self, *inputs: Shape) -> Shape:
        """Return the shape of the output, which is that of the input."""
        return sizes(inputs[0])

    def bind(self, site: Site) -> list[Operation]:
        """Return the operation that computes the layer at `site`."""
        return [
            site.device.kernels.rms_norm.bind(
                site.isa,
                **site.part,
                x=site.inputs[0],
                y=site.output,
                weights=self.weights(site),
                epsilon=self.epsilon,
            )
        ]
