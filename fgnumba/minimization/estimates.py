"""Estimates of a function's gradient from directional derivatives: exact by chunks, or along random directions."""

from typing import Any, NamedTuple

import numpy as np

from fgnumba.errors import ConfigError, did_you_mean, shown
from fgnumba.estimators.weight import WeightPerturbation
from fgnumba.minimization.directions import Directions
from fgnumba.minimization.passes import CHUNK, Function
from fgnumba.minimization.variables import Vector
from fgnumba.model.directions import Gaussian, Rademacher

EXACT_UP_TO = 256
"""Largest number of variables whose gradient is exact by default.

With Adam and equal numbers of passes (8,000, the best of four learning rates), the gradient came as low as forward
gradients or lower on a chain of springs, Rosenbrock's valley and two quadratic functions of up to 128 variables, and on
three of the four with 512, where forward gradients were better on the quadratic function of condition 2.
"""
NAMES = ("gradient", "forward")
_KINDS = {"rank1": Rademacher, "rademacher": Rademacher, "gaussian": Gaussian}


class Estimation(NamedTuple):
    """An estimate of the gradient at a point.

    Parameters
    ----------
    value : float
        f(x).
    derivatives : ndarray
        (T,) float64: the directional derivatives; for an exact gradient its norm, the derivative along itself.
    gradient : ndarray
        (n,) float64.
    """

    value: float
    derivatives: Vector
    gradient: Vector


class ExactGradient:
    """∇f from n directional derivatives, one for each variable, of which each pass computes eight."""

    text = "gradient"

    def at(self, f: Function, x: Vector, step: int) -> Estimation:
        """Return f(x) and ∇f(x)."""
        n, value = len(x), np.nan
        gradient = np.empty(n)
        for first in range(0, n, CHUNK):
            columns, count = np.zeros((n, CHUNK)), min(CHUNK, n - first)
            columns[first + np.arange(count), np.arange(count)] = 1.0
            value, found = f.derivatives(x, columns)
            gradient[first : first + count] = found[:count]
        with np.errstate(over="ignore", invalid="ignore"):
            return Estimation(value, np.array([np.linalg.norm(gradient)]), gradient)


class ForwardGradient:
    """The mean of T forward gradients, each along a random direction: g = (1/T) Σ_t (∇f · v_t) v_t, E[g] = ∇f.

    Parameters
    ----------
    estimator : WeightPerturbation
        Kind and number of directions.
    seed : int
        The seed.
    size : int
        Number of variables n.
    """

    def __init__(self, estimator: WeightPerturbation, seed: int, size: int) -> None:
        if estimator.direction not in _KINDS or estimator.combine != "mean" or estimator.control != 0:
            raise ConfigError(
                f"estimator is {shown(estimator)}; minimize takes rank1, rademacher or gaussian directions, "
                "combined by their mean, without a control variate"
            )
        self._clip = estimator.clip
        self.text = repr(estimator)
        self._directions = Directions(_KINDS[estimator.direction], seed, size, estimator.directions)

    def at(self, f: Function, x: Vector, step: int) -> Estimation:
        """Return f(x) and an estimate of ∇f(x)."""
        columns = self._directions.draw(step)
        count = columns.shape[1]
        derivatives, value = np.empty(count), np.nan
        for first in range(0, count, CHUNK):
            chunk = columns[:, first : first + CHUNK]
            value, derivatives[first : first + CHUNK] = f.derivatives(x, chunk)
        used = derivatives if self._clip is None else np.clip(derivatives, -self._clip, self._clip)
        with np.errstate(over="ignore", invalid="ignore"):
            return Estimation(value, derivatives, columns @ used / count)


def estimate_of(given: Any, seed: int, size: int) -> ExactGradient | ForwardGradient:
    """Return what estimates the gradient.

    Parameters
    ----------
    given : str, WeightPerturbation or None
        ``"gradient"``, ``"forward"``, or a weight perturbation with directions of its own. None: the gradient for few
        variables, forward gradients for many.
    seed : int
        The seed of the directions.
    size : int
        Number of variables n.

    Raises
    ------
    ConfigError
        It is something else.
    """
    if given is None:
        given = "gradient" if size <= EXACT_UP_TO else "forward"
    if isinstance(given, WeightPerturbation):
        return ForwardGradient(given, seed, size)
    if isinstance(given, str) and given in NAMES:
        return (
            ExactGradient()
            if given == "gradient"
            else ForwardGradient(WeightPerturbation("rademacher", directions=2 * CHUNK), seed, size)
        )
    hint = did_you_mean(given, NAMES) if isinstance(given, str) else ""
    raise ConfigError(
        f"estimator is {shown(given)}{hint}; 'gradient', 'forward' or a fgnumba.WeightPerturbation is required"
    )
