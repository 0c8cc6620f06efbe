"""Test functions on which forward gradients can be watched, differentiable as any function of one's own.

Source: arXiv 2202.08587, which descends on both functions.
"""

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from fgnumba.errors import DtypeError, ShapeError
from fgnumba.functions.differentiable import Differentiable
from fgnumba.validation.arrays import as_array


class Objective(Differentiable, ABC):
    """A function f of a point θ, (n,) real numbers, which is differentiable and known by its minimum.

    ``f(theta)`` is the value, and ``f.jvp(theta, v)`` is the value and the directional derivative ∇f(θ)·v, all in
    float64. If float64 overflows, they are infinite or NaN. The derivative is that of the compiled function, by forward
    mode, and ``fgnumba.minimize``, ``fgnumba.gradient`` and the like take f as any other function.
    """

    def __init__(self, name: str, function: Any) -> None:
        super().__init__(function)
        self.__name__ = self.__qualname__ = name

    def __reduce__(self) -> Any:
        return type(self), ()

    @property
    @abstractmethod
    def minimum(self) -> np.ndarray:
        """The point, (2,) float64, at which the function of two variables has its least value, 0. It is a copy."""

    @abstractmethod
    def _check(self, point: np.ndarray) -> None:
        """Raise ShapeError unless the function is defined for so many variables."""

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
        point, direction = _pair(theta, v)
        self._check(point)
        value, derivative = self.tangent(point, direction)
        return value, derivative

    def __call__(self, theta: ArrayLike) -> float:
        """Return the value f(θ); :meth:`jvp` says what is raised."""
        point = _vector("theta", theta)
        self._check(point)
        return float(self.primal(point))


def _beale(theta: Any) -> float:
    x, y = theta[0], theta[1]
    first = 1.5 - x + x * y
    second = 2.25 - x + x * (y * y)
    third = 2.625 - x + x * (y * y * y)
    return first * first + second * second + third * third


class Beale(Objective):
    """Beale's function of two variables. Its minimum is 0, at (3, 0.5).

        f(x, y) = Σ_k (c_k − x + x yᵏ)²,   c = (1.5, 2.25, 2.625),   k = 1, 2, 3

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

    def __init__(self) -> None:
        super().__init__("beale", _beale)

    @property
    def minimum(self) -> np.ndarray:
        return np.array([3.0, 0.5])

    def _check(self, point: np.ndarray) -> None:
        if point.shape != (2,):
            raise ShapeError(f"theta has shape {point.shape}; Beale's function takes (2,)")


def _rosenbrock(theta: Any) -> float:
    total = 0.0
    for i in range(len(theta) - 1):
        valley = theta[i + 1] - theta[i] * theta[i]
        slope = 1.0 - theta[i]
        total += 100.0 * valley * valley + slope * slope
    return total


class Rosenbrock(Objective):
    """Rosenbrock's valley of n ≥ 2 variables, with a = 1 and b = 100. Its minimum is 0, at (1, …, 1).

        f(θ) = Σ_i 100 (θ_{i+1} − θ_i²)² + (1 − θ_i)²,   i = 1, …, n − 1

    Source: H. H. Rosenbrock, An automatic method for finding the greatest or least value of a function, The
    Computer Journal 3, 1960.

    Examples
    --------
    >>> import fgnumba as fg
    >>> fg.functions.rosenbrock([1.0, 1.0, 1.0])
    0.0
    """

    def __init__(self) -> None:
        super().__init__("rosenbrock", _rosenbrock)

    @property
    def minimum(self) -> np.ndarray:
        return np.array([1.0, 1.0])

    def _check(self, point: np.ndarray) -> None:
        if len(point) < 2:
            raise ShapeError(
                f"theta has shape {point.shape}; Rosenbrock's function takes (n,) with n of at least 2"
            )


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
