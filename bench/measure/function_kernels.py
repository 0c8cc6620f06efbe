"""Functions of numbers on which derivatives of functions are measured: simulations and a likelihood, in float64.

Each is a function of one array whose value is a number, written as somebody would who knows Numba and has never heard
of derivatives. :mod:`fgnumba.bench.measure.function_peers` has the same functions for other frameworks.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

import fgnumba as fg

EULER_STEPS = 2_000
RUNGE_KUTTA_STEPS = 1_000
CELLS, HEAT_STEPS = 1_024, 200
ATOMS = 32
YEARS = 1_000
ROD, ROD_STEPS = 100, 200

_RNG = np.random.default_rng(0)
WAVES = np.array([np.sin(math.pi * k * np.linspace(0.0, 1.0, CELLS)) for k in range(1, 9)])
"""The first eight standing waves of a rod, (8, CELLS)."""
VOLUMES = 900.0 + np.cumsum(30.0 * _RNG.standard_normal(YEARS)) + 120.0 * _RNG.standard_normal(YEARS)
START = np.exp(-((np.linspace(0.0, 1.0, ROD) - 0.4) ** 2) / 0.01)


@fg.differentiable
def lotka_volterra(theta: Any) -> Any:
    """Return prey plus predators after Euler's steps; theta holds four rates and both populations at first."""
    a, b, c, d, x, y = theta[0], theta[1], theta[2], theta[3], theta[4], theta[5]
    h = 10.0 / EULER_STEPS
    for _ in range(EULER_STEPS):
        growth, decline = (a - b * y) * x, (c * x - d) * y
        x += h * growth
        y += h * decline
    return x + y


@fg.differentiable
def lorenz_steps(theta: Any, steps: Any) -> Any:
    """Return a coordinate of Lorenz's system after Runge's and Kutta's steps; theta holds (σ, ρ, β, x, y, z)."""
    s, r, b, x, y, z = theta[0], theta[1], theta[2], theta[3], theta[4], theta[5]
    h = 0.002
    for _ in range(steps):
        ax, ay, az = s * (y - x), x * (r - z) - y, x * y - b * z
        u, v, w = x + 0.5 * h * ax, y + 0.5 * h * ay, z + 0.5 * h * az
        bx, by, bz = s * (v - u), u * (r - w) - v, u * v - b * w
        u, v, w = x + 0.5 * h * bx, y + 0.5 * h * by, z + 0.5 * h * bz
        cx, cy, cz = s * (v - u), u * (r - w) - v, u * v - b * w
        u, v, w = x + h * cx, y + h * cy, z + h * cz
        dx, dy, dz = s * (v - u), u * (r - w) - v, u * v - b * w
        x += h / 6.0 * (ax + 2.0 * bx + 2.0 * cx + dx)
        y += h / 6.0 * (ay + 2.0 * by + 2.0 * cy + dy)
        z += h / 6.0 * (az + 2.0 * bz + 2.0 * cz + dz)
    return x


@fg.differentiable
def lorenz(theta: Any) -> Any:
    """Return a coordinate of Lorenz's system after `RUNGE_KUTTA_STEPS` steps."""
    return lorenz_steps(theta, RUNGE_KUTTA_STEPS)


@fg.differentiable(nondiff="waves")
def heat(amplitudes: Any, waves: Any) -> Any:
    """Return the mean square temperature of a rod, by array expressions, for the amplitudes of eight waves at first."""
    u = amplitudes @ waves
    for _ in range(HEAT_STEPS):
        u[1:-1] += 0.4 * (u[2:] - 2.0 * u[1:-1] + u[:-2])
    return np.mean(u * u)


@fg.differentiable
def forces(places: Any) -> Any:
    """Return the sum of squares of the forces between atoms at `places`, (ATOMS, 3), after Lennard and Jones."""
    force = np.zeros_like(places)
    for i in range(len(places)):
        for j in range(i):
            x, y, z = places[i, 0] - places[j, 0], places[i, 1] - places[j, 1], places[i, 2] - places[j, 2]
            inverse = 1.0 / (x * x + y * y + z * z)
            sixth = inverse * inverse * inverse
            strength = 24.0 * (2.0 * sixth * sixth - sixth) * inverse
            force[i, 0] += strength * x
            force[i, 1] += strength * y
            force[i, 2] += strength * z
            force[j, 0] -= strength * x
            force[j, 1] -= strength * y
            force[j, 2] -= strength * z
    return np.sum(force * force)


@fg.differentiable(nondiff="volumes")
def kalman(theta: Any, volumes: Any) -> Any:
    """Return minus the log likelihood of a wandering level that is measured with noise; theta holds log variances."""
    noise, change = math.exp(theta[0]), math.exp(theta[1])
    level, variance, total = volumes[0], noise, 0.0
    for t in range(1, len(volumes)):
        variance += change
        spread = variance + noise
        error = volumes[t] - level
        total += 0.5 * (math.log(2.0 * math.pi * spread) + error * error / spread)
        gain = variance / spread
        level += gain * error
        variance *= 1.0 - gain
    return total


@fg.differentiable(nondiff="start")
def rod(conductivity: Any, start: Any) -> Any:
    """Return the mean square temperature of a rod for the conductivity of each of its cells, by loops."""
    n = len(conductivity)
    u = start.copy()
    flow = np.zeros(n + 1)
    for _ in range(ROD_STEPS):
        for i in range(1, n):
            flow[i] = 0.5 * (conductivity[i - 1] + conductivity[i]) * (u[i] - u[i - 1])
        for i in range(n):
            u[i] += 0.3 * (flow[i + 1] - flow[i])
    return np.sum(u * u) / n


@dataclass(frozen=True)
class Kernel:
    """A function that is measured.

    Parameters
    ----------
    function : Differentiable
        The function.
    x : ndarray
        Where it is differentiated.
    constants : tuple
        The other arguments, which carry no tangent.
    """

    function: Any
    x: npt.NDArray[np.float64]
    constants: tuple[npt.NDArray[np.float64], ...] = ()

    @property
    def direction(self) -> npt.NDArray[np.float64]:
        """A tangent of x."""
        return np.random.default_rng(1).standard_normal(self.x.shape) * np.abs(self.x).max()

    def passes(self, chunk: int) -> int:
        """Return how many passes of `chunk` tangents the gradient takes."""
        return -(-self.x.size // chunk)

    def calls(self) -> dict[str, Callable[[], Any]]:
        """Return what is measured: the value alone, one tangent, and the gradient by 8 tangents a pass.

        The compiled functions are called, so that no check in Python is part of a time.
        """
        arguments, tangents = (self.x, *self.constants), (self.direction, *(None for _ in self.constants))
        primal, tangent = self.function.primal, self.function.tangent
        derivative: Any = fg.gradient(self.function)
        gradient = derivative.primal
        return {
            "primal": lambda: primal(*arguments),
            "tangent": lambda: tangent(*arguments, *tangents),
            "gradient": lambda: gradient(*arguments),
        }


def _grid() -> npt.NDArray[np.float64]:
    places = np.array([(i, j, k) for i in range(4) for j in range(4) for k in range(2)], float)
    return 1.2 * places + 0.05 * np.random.default_rng(2).standard_normal(places.shape)


KERNELS = {
    "Lotka-Volterra": Kernel(lotka_volterra, np.array([1.1, 0.4, 0.1, 0.4, 10.0, 5.0])),
    "Lorenz": Kernel(lorenz, np.array([10.0, 28.0, 8.0 / 3.0, 1.0, 1.0, 25.0])),
    "heat": Kernel(heat, np.array([1.0, 0.5, 0.3, 0.2, 0.15, 0.1, 0.08, 0.05]), (WAVES,)),
    "Lennard-Jones": Kernel(forces, _grid()),
    "Kalman": Kernel(kalman, np.log([15_000.0, 1_500.0]), (VOLUMES,)),
}
"""Functions whose tangents are measured over the function itself."""

MANY = Kernel(rod, 0.5 + 0.4 * np.sin(np.linspace(0.0, 6.0, ROD)), (START,))
"""The function of a hundred numbers."""
