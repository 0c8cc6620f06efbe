"""Zeroth-order estimators: differences of losses, on the same primal kernels; no derivative is computed."""

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from fgnumba.errors import ConfigError
from fgnumba.estimators.base import Estimator, Recipe, Setting
from fgnumba.estimators.zeroth_estimate import DifferenceEstimate, Parts
from fgnumba.kernels.rules.philox import MAX_DIRECTIONS
from fgnumba.model.directions import by_name
from fgnumba.validation import real_number, store, whole_number


class Differences(Estimator):
    """Central differences along random directions and coordinates."""

    epsilon: float
    moves_parameters: ClassVar[bool] = True
    trusts_batches: ClassVar[bool] = True

    @property
    @abstractmethod
    def parts(self) -> Parts:
        """What they are taken along."""

    @property
    def unbiased(self) -> bool:
        """False: a difference is no derivative."""
        return False

    @property
    def statement(self) -> str:
        """What E[g] is."""
        return f"E[g] = ∇f + O(ε²), ε = {self.epsilon:g}, and the loss's rounding over ε"

    def relative_variance(self, parameters: int) -> float:
        """Return that of exact derivatives along the same directions."""
        parameters = whole_number("parameters", parameters)
        direction, random, axes = self.parts
        share = self.parts.share(parameters)
        along = (parameters + (1 if direction == "gaussian" else -1)) / max(1, random)
        return share**2 * along + (1 - share) ** 2 * (parameters / max(1, axes) - 1)

    def bind(self, setting: Setting) -> "DifferenceEstimate":
        """Return the estimate at a setting."""
        if self.parts.axes > setting.model.parameter_count:
            raise ConfigError(
                f"coordinates is {self.parts.axes}; the model has {setting.model.parameter_count} parameters"
            )
        return DifferenceEstimate(self.parts, self.epsilon, setting)


@dataclass(frozen=True)
class SPSA(Differences):
    """Simultaneous perturbation: two passes a direction, and the memory of inference.

        g = (1 / T) Σ_t (f(θ + ε v_t) - f(θ - ε v_t)) / 2 ε · v_t

    Parameters
    ----------
    direction, directions : as for :class:`fgnumba.WeightPerturbation`.
    epsilon : ε, above 0.

    v is drawn again for each move; the parameters come back to rounding. Biased by O(ε²), and by the rounding of the
    loss over ε. Products the size of x W: 2 T. Sources: J. C. Spall, IEEE TAC 37 (1992); S. Malladi et al.,
    arXiv 2305.17333 (MeZO).

    Raises
    ------
    ConfigError
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
        """T random directions."""
        return Parts(self.direction, self.directions, 0)


@dataclass(frozen=True)
class CoordinateDifferences(Differences):
    """Central differences along T coordinates of the P, drawn anew in each step without repetition.

        g = (P / T) Σ_j (f(θ + ε e_j) - f(θ - ε e_j)) / 2 ε · e_j

    Parameters
    ----------
    coordinates : T, at least 1.
    epsilon : ε, above 0.

    Biased by O(ε²), and by the rounding of the loss over ε; relative variance P / T - 1. Products the size of x W: 2 T.
    Source: J. Kiefer, J. Wolfowitz, 1952.

    Raises
    ------
    ConfigError
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
        """T coordinates."""
        return Parts("rank1", 0, self.coordinates)


@dataclass(frozen=True)
class HybridDifferences(Differences):
    """The mean of :class:`SPSA` and :class:`CoordinateDifferences`, weighted so that the variance is least.

        g = w g_random + (1 - w) g_coordinates,  w = Var g_coordinates / (Var g_random + Var g_coordinates)

    Parameters
    ----------
    direction, directions, coordinates, epsilon : as for the two.

    Products the size of x W: 2 (T + S).

    Raises
    ------
    ConfigError
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
        """T random directions and S coordinates."""
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
