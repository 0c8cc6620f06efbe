"""Estimators of the gradient that cost forward passes alone."""

from dataclasses import dataclass

from fgnumba.directions import by_name
from fgnumba.kernels.philox import MAX_DIRECTIONS
from fgnumba.validation import whole_number


@dataclass(frozen=True)
class WeightPerturbation:
    """Weight perturbation: the mean of T forward gradients, whose passes share the primal.

        g = (1 / T) Σ_t (∇f · v_t) v_t

    Parameters
    ----------
    direction : ``rank1``, ``rademacher`` or ``gaussian``, see ``fgnumba.directions``.
    directions : T, at least 1.

    Unbiased; E‖g - ∇f‖² = (P - 1) / T ‖∇f‖² for signs, (P + 1) / T for Gaussians. Products the size of x W
    in a hidden layer, the primal included: 1 + T for rank-1, 1 + 2 T for the others; in the first layer 1
    and 1 + T. Source: arXiv 2202.08587.

    Raises
    ------
    ConfigError
    """

    direction: str = "rank1"
    directions: int = 1

    def __post_init__(self) -> None:
        by_name(self.direction)
        whole_number("directions", self.directions, 1, MAX_DIRECTIONS)

    @property
    def kind(self) -> int:
        """The direction as the kernels know it."""
        return by_name(self.direction).kind
