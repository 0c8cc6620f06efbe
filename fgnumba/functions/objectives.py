"""Test functions on which forward gradients can be watched, each with the formula of its directional derivative.

Source: arXiv 2202.08587, which descends on both functions.
"""

from abc import ABC, abstractmethod

import numpy as np
from numpy.typing import ArrayLike

from fgnumba.errors import DtypeError, ShapeError
from fgnumba.validation.arrays import as_array


class Objective(ABC):
    """A scalar function f of a point θ that gives its value and its directional derivatives, but no gradient.

    ``f(theta)`` is the value, and ``f.jvp(theta, v)`` is the value and the directional derivative ∇f(θ)·v, all in
    float64. If float64 overflows, they are infinite or NaN.
    """

    @property
    @abstractmethod
    def minimum(self) -> np.ndarray:
        """The point, (2,) float64, at which the function of two variables has its least value, 0. It is a copy."""

    @abstractmethod
    def jvp(self, theta: ArrayLike, v: ArrayLike) -> tuple[float, float]:
        """Return the value f(θ) and the directional derivative ∇f(θ)·v, exact up to rounding.

        Parameters
        ----------
        theta : array, (n,) of real numbers
            The point θ.
        v : array, (n,) of real numbers
            The direction.

        Returns
        -------
        value : float
            The value f(θ), computed in float64.
        derivative : float
            The directional derivative ∇f(θ)·v, computed in float64.

        Raises
        ------
        ShapeError
            If the function is not defined for n variables, or the two shapes differ.
        DtypeError
            If an array does not hold real numbers.
        """

    def __call__(self, theta: ArrayLike) -> float:
        """Return the value f(θ); :meth:`jvp` says what is raised."""
        theta = _vector("theta", theta)
        return self.jvp(theta, np.zeros_like(theta))[0]


class Beale(Objective):
    """Beale's function of two variables. Its minimum is 0, at (3, 0.5).

        f(x, y) = Σ_k r_k²,   r_k = c_k − x + x yᵏ,   c = (1.5, 2.25, 2.625),   k = 1, 2, 3
        d       = Σ_k 2 r_k dr_k,   dr_k = (yᵏ − 1) dx + k x yᵏ⁻¹ dy

    d is the directional derivative along (dx, dy).
    Source: E. M. L. Beale, On an iterative method for finding a local minimum of a function of more than one
    variable, Princeton, 1958.

    Examples
    --------
    >>> import fgnumba as fg
    >>> fg.functions.beale([3.0, 0.5])
    0.0
    >>> fg.functions.beale.jvp([1.0, 1.0], [1.0, 0.0])  # (f, ∂f/∂x)
    (14.203125, 0.0)
    """

    @property
    def minimum(self) -> np.ndarray:
        return np.array([3.0, 0.5])

    def jvp(self, theta: ArrayLike, v: ArrayLike) -> tuple[float, float]:
        point, direction = _pair(theta, v)
        if point.shape != (2,):
            raise ShapeError(f"theta has shape {point.shape}; Beale's function takes (2,)")
        # Products of Python floats overflow to infinity without a warning or an error; a power would raise one.
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
    """Rosenbrock's valley of n ≥ 2 variables, with a = 1 and b = 100. Its minimum is 0, at (1, …, 1).

        f(θ) = Σ_i 100 t_i² + (1 − θ_i)²,   t_i = θ_{i+1} − θ_i²,   i = 1, …, n − 1
        d    = Σ_i 200 t_i dt_i − 2 (1 − θ_i) v_i,   dt_i = v_{i+1} − 2 θ_i v_i

    d is the directional derivative along v.
    Source: H. H. Rosenbrock, An automatic method for finding the greatest or least value of a function, The
    Computer Journal 3, 1960.

    Examples
    --------
    >>> import fgnumba as fg
    >>> fg.functions.rosenbrock([1.0, 1.0, 1.0])
    0.0
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
