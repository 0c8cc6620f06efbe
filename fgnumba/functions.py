"""Test functions on which forward gradients can be watched, each with its dual formula.

Source: arXiv 2202.08587, which descends along both.
"""

from abc import ABC, abstractmethod

import numpy as np
from numpy.typing import ArrayLike

from fgnumba.errors import DtypeError, ShapeError
from fgnumba.validation.arrays import as_array


class Objective(ABC):
    """A scalar function of a point that gives its value and directional derivative, and no gradient.

    ``f(theta)`` is the value, ``f.jvp(theta, v)`` value and directional derivative ∇f(θ)·v, in float64. Where
    float64 overflows, they are infinite or NaN.
    """

    @property
    @abstractmethod
    def minimum(self) -> np.ndarray:
        """The point (2,) float64 of the least value, which is 0. A copy."""

    @abstractmethod
    def jvp(self, theta: ArrayLike, v: ArrayLike) -> tuple[float, float]:
        """Return f(θ) and ∇f(θ)·v, exact up to rounding.

        Parameters
        ----------
        theta, v : the point and the direction, of one shape; computed in float64.

        Raises
        ------
        ShapeError
            Where the function has no such points, or the shapes differ.
        DtypeError
            Where the numbers are not real.
        """

    def __call__(self, theta: ArrayLike) -> float:
        """Return f(θ); see `jvp` for what is raised."""
        theta = _vector("theta", theta)
        return self.jvp(theta, np.zeros_like(theta))[0]


class Beale(Objective):
    """Beale's function, of two variables; minimum 0 at (3, 0.5).

        f(x, y) = Σ_k r_k²,   r_k = c_k − x + x yᵏ,   c = (1.5, 2.25, 2.625),   k = 1, 2, 3
        d       = Σ_k 2 r_k dr_k,   dr_k = (yᵏ − 1) dx + k x yᵏ⁻¹ dy

    Source: E. M. L. Beale, On an iterative method for finding a local minimum of a function of more than one
    variable, Princeton, 1958.
    """

    @property
    def minimum(self) -> np.ndarray:
        return np.array([3.0, 0.5])

    def jvp(self, theta: ArrayLike, v: ArrayLike) -> tuple[float, float]:
        point, direction = _pair(theta, v)
        if point.shape != (2,):
            raise ShapeError(f"theta has shape {point.shape}; Beale's function takes (2,)")
        # Python floats, and products in place of powers, overflow to infinity without a warning or an error.
        x, y = point.tolist()
        dx, dy = direction.tolist()
        value = derivative = 0.0
        power, dpower = 1.0, 0.0
        for constant in (1.5, 2.25, 2.625):
            power, dpower = power * y, dpower * y + power * dy
            residual = constant - x + x * power
            dresidual = dx * (power - 1.0) + x * dpower
            value += residual * residual
            derivative += 2.0 * residual * dresidual
        return value, derivative


class Rosenbrock(Objective):
    """Rosenbrock's valley with a = 1, b = 100, of n ≥ 2 variables; minimum 0 at (1, …, 1).

        f(θ) = Σ_i 100 t_i² + (1 − θ_i)²,   t_i = θ_{i+1} − θ_i²,   i = 1, …, n − 1
        d    = Σ_i 200 t_i dt_i − 2 (1 − θ_i) v_i,   dt_i = v_{i+1} − 2 θ_i v_i

    Source: H. H. Rosenbrock, An automatic method for finding the greatest or least value of a function, The
    Computer Journal 3, 1960.
    """

    @property
    def minimum(self) -> np.ndarray:
        return np.array([1.0, 1.0])

    def jvp(self, theta: ArrayLike, v: ArrayLike) -> tuple[float, float]:
        point, direction = _pair(theta, v)
        if len(point) < 2:
            raise ShapeError(
                f"theta has shape {point.shape}; Rosenbrock's function takes (n,) with n of at least 2"
            )
        x, dx = point[:-1], direction[:-1]
        with np.errstate(over="ignore", invalid="ignore"):
            valley = point[1:] - x * x
            dvalley = direction[1:] - 2.0 * x * dx
            slope = 1.0 - x
            value = np.sum(100.0 * valley * valley + slope * slope)
            derivative = np.sum(200.0 * valley * dvalley - 2.0 * slope * dx)
        return float(value), float(derivative)


def _pair(theta: ArrayLike, v: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    point, direction = _vector("theta", theta), _vector("v", v)
    if point.shape != direction.shape:
        raise ShapeError(f"theta has shape {point.shape} and v {direction.shape}; they must be the same")
    return point, direction


def _vector(name: str, values: ArrayLike) -> np.ndarray:
    array = as_array(name, values)
    if array.dtype.kind not in "fiu":
        raise DtypeError(f"{name} is {array.dtype}; real numbers are required")
    if array.ndim != 1:
        raise ShapeError(f"{name} has shape {array.shape}; a vector (n,) is required")
    return array.astype(np.float64)


beale = Beale()
rosenbrock = Rosenbrock()
