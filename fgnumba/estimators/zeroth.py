"""Zeroth-order estimators: differences of losses, computed with the primal kernels. No derivative is computed."""

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from fgnumba.errors import ConfigError
from fgnumba.estimators.base import Estimator, Setting
from fgnumba.estimators.recipes import Recipe
from fgnumba.estimators.zeroth_estimate import DifferenceEstimate, Parts
from fgnumba.kernels.rules.philox import MAX_DIRECTIONS
from fgnumba.model.directions import by_name
from fgnumba.validation import real_number, store, whole_number


class Differences(Estimator):
    """The base class of estimators by central differences along random directions and coordinates."""

    epsilon: float
    moves_parameters: ClassVar[bool] = True
    needs_finite_batches: ClassVar[bool] = True

    @property
    @abstractmethod
    def parts(self) -> Parts:
        """The directions along which differences are taken."""

    @property
    def unbiased(self) -> bool:
        """False, because a difference is not exactly a derivative."""
        return False

    @property
    def statement(self) -> str:
        """What E[g] is, as a line of text."""
        return f"E[g] = ∇f + O(ε²), ε = {self.epsilon:g}, and the loss's rounding over ε"

    def relative_variance(self, parameters: int) -> float:
        """Return E‖g - E g‖² / ‖∇f‖² of exact derivatives along the same directions, for P parameters."""
        parameters = whole_number("parameters", parameters)
        direction, random, axes = self.parts
        share = self.parts.share(parameters)
        along = (parameters + (1 if direction == "gaussian" else -1)) / max(1, random)
        return share**2 * along + (1 - share) ** 2 * (parameters / max(1, axes) - 1)

    def bind(self, setting: Setting) -> "DifferenceEstimate":
        """Return the estimator bound to a setting."""
        if self.parts.axes > setting.model.parameter_count:
            raise ConfigError(
                f"coordinates is {self.parts.axes}; the model has {setting.model.parameter_count} parameters"
            )
        return DifferenceEstimate(self.parts, self.epsilon, setting)


@dataclass(frozen=True)
class SPSA(Differences):
    """Simultaneous perturbation: two passes for each direction, with no more memory than inference needs.

        g = (1 / T) Σ_t (f(θ + ε v_t) - f(θ - ε v_t)) / 2 ε · v_t

    v is drawn again for each move, and the parameters come back up to rounding. The estimate is biased by O(ε²), and by
    the rounding of the loss divided by ε. Cost, in products the size of x W: 2 T.
    Sources: J. C. Spall, IEEE TAC 37 (1992); S. Malladi et al., arXiv 2305.17333 (MeZO).

    Parameters
    ----------
    direction : str, optional
        The kind of the directions, as for :class:`fgnumba.WeightPerturbation`. By default ``rank1``.
    directions : int, optional
        The number of directions T, at least 1. By default 1.
    epsilon : float, optional
        The distance ε of a move along a direction, above 0. By default 1e-3.

    Raises
    ------
    ConfigError
        If an argument is out of its range or unknown.
    """

    direction: str = "rank1"
    directions: int = 1
    epsilon: float = 1e-3

    name: ClassVar[str] = "spsa"

    def __post_init__(self) -> None:
        by_name(self.direction)
        store(
            self,
            directions=whole_number("directions", self.directions, 1, MAX_DIRECTIONS),
            epsilon=real_number("epsilon", self.epsilon, above_zero=True),
        )

    @property
    def parts(self) -> Parts:
        """The directions of the differences: T random ones."""
        return Parts(self.direction, self.directions, 0)


@dataclass(frozen=True)
class CoordinateDifferences(Differences):
    """Central differences along T of the P coordinates, which each step draws anew without repetition.

        g = (P / T) Σ_j (f(θ + ε e_j) - f(θ - ε e_j)) / 2 ε · e_j

    The estimate is biased by O(ε²), and by the rounding of the loss divided by ε. Its relative variance is P / T - 1.
    Cost, in products the size of x W: 2 T. Source: J. Kiefer, J. Wolfowitz, 1952.

    Parameters
    ----------
    coordinates : int, optional
        The number of coordinates T, at least 1 and at most P. By default 1.
    epsilon : float, optional
        The distance ε of a move along a coordinate, above 0. By default 1e-2.

    Raises
    ------
    ConfigError
        If an argument is out of its range.
    """

    coordinates: int = 1
    epsilon: float = 1e-2

    name: ClassVar[str] = "coordinates"

    def __post_init__(self) -> None:
        store(
            self,
            coordinates=whole_number("coordinates", self.coordinates, 1, MAX_DIRECTIONS),
            epsilon=real_number("epsilon", self.epsilon, above_zero=True),
        )

    @property
    def parts(self) -> Parts:
        """The directions of the differences: T coordinates."""
        return Parts("rank1", 0, self.coordinates)


@dataclass(frozen=True)
class HybridDifferences(Differences):
    """The mean of :class:`SPSA` and :class:`CoordinateDifferences`, weighted so that the variance is least.

        g = w g_random + (1 - w) g_coordinates,  w = Var g_coordinates / (Var g_random + Var g_coordinates)

    Cost, in products the size of x W: 2 (T + S).

    Parameters
    ----------
    direction : str, optional
        The kind of the random directions, as for :class:`fgnumba.WeightPerturbation`. By default ``rank1``.
    directions : int, optional
        The number of random directions T, at least 1. By default 1.
    coordinates : int, optional
        The number of coordinates S, at least 1 and at most P. By default 1.
    epsilon : float, optional
        The distance ε of a move, above 0. By default 1e-3.

    Raises
    ------
    ConfigError
        If an argument is out of its range or unknown.
    """

    direction: str = "rank1"
    directions: int = 1
    coordinates: int = 1
    epsilon: float = 1e-3

    name: ClassVar[str] = "hybrid"

    def __post_init__(self) -> None:
        random = SPSA(self.direction, self.directions, self.epsilon)
        axes = CoordinateDifferences(self.coordinates, self.epsilon)
        store(self, directions=random.directions, coordinates=axes.coordinates, epsilon=random.epsilon)

    @property
    def parts(self) -> Parts:
        """The directions of the differences: T random ones and S coordinates."""
        return Parts(self.direction, self.directions, self.coordinates)


_BY_FORMULA = (
    "learning rate by defaults.default_learning_rate, as for exact derivatives along as many directions"
)

RECIPES = {
    "spsa": Recipe(SPSA, ("direction", "directions"), "sgd", steps=20_000, evidence=_BY_FORMULA),
    "coordinates": Recipe(
        lambda directions=1: CoordinateDifferences(directions),
        optimizer="sgd",
        steps=20_000,
        evidence=_BY_FORMULA,
    ),
    "hybrid": Recipe(
        lambda direction="rank1", directions=1: HybridDifferences(direction, directions, directions),
        ("direction", "directions"),
        "sgd",
        steps=20_000,
        evidence=_BY_FORMULA,
    ),
}
