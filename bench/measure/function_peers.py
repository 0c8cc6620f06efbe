"""The functions of :mod:`fgnumba.bench.measure.function_kernels` for JAX and PyTorch, as somebody would write them.

JAX's have loops of ``jax.lax``, float64, and are jitted; sums over pairs of atoms are arrays of all pairs. PyTorch runs
the loops eagerly and differentiates them by ``torch.func.jvp``. Both are called as our functions are: the value and
the derivative along one direction, or the gradient.
"""

import importlib.util
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from fgnumba.bench.measure.function_kernels import (
    EULER_STEPS,
    HEAT_STEPS,
    KERNELS,
    MANY,
    ROD_STEPS,
    RUNGE_KUTTA_STEPS,
)

Functions = dict[str, Callable[[Any], Any]]


def _lorenz_slope(s: Any, r: Any, b: Any, x: Any, y: Any, z: Any) -> tuple[Any, Any, Any]:
    return s * (y - x), x * (r - z) - y, x * y - b * z


def _lorenz_step(theta: Any, state: tuple[Any, ...]) -> tuple[Any, ...]:
    rates, h = (theta[0], theta[1], theta[2]), 0.002

    def moved(slope: tuple[Any, ...], length: float) -> tuple[Any, ...]:
        return tuple(at + length * k for at, k in zip(state, slope, strict=True))

    one = _lorenz_slope(*rates, *state)
    two = _lorenz_slope(*rates, *moved(one, 0.5 * h))
    three = _lorenz_slope(*rates, *moved(two, 0.5 * h))
    four = _lorenz_slope(*rates, *moved(three, h))
    slopes = zip(one, two, three, four, strict=True)
    return moved(tuple(a + 2.0 * b + 2.0 * c + d for a, b, c, d in slopes), h / 6.0)


def _euler_step(theta: Any, state: tuple[Any, Any]) -> tuple[Any, Any]:
    (x, y), h = state, 10.0 / EULER_STEPS
    return x + h * (theta[0] - theta[1] * y) * x, y + h * (theta[2] * x - theta[3]) * y


def _likelihood_step(
    noise: Any, change: Any, carry: tuple[Any, ...], volume: Any, log: Any
) -> tuple[Any, ...]:
    level, variance, total = carry
    variance = variance + change
    spread = variance + noise
    error = volume - level
    gain = variance / spread
    total = total + 0.5 * (log(2.0 * math.pi * spread) + error * error / spread)
    return level + gain * error, variance * (1.0 - gain), total


def _jax_functions() -> Functions:
    import jax
    import jax.numpy as jnp

    (waves,), (volumes,), (start,) = (
        tuple(map(jnp.asarray, kernel.constants)) for kernel in (KERNELS["heat"], KERNELS["Kalman"], MANY)
    )

    def lotka_volterra(theta: Any) -> Any:
        return sum(
            jax.lax.fori_loop(0, EULER_STEPS, lambda i, at: _euler_step(theta, at), (theta[4], theta[5]))
        )

    def lorenz(theta: Any) -> Any:
        first = theta[3], theta[4], theta[5]
        return jax.lax.fori_loop(0, RUNGE_KUTTA_STEPS, lambda i, at: _lorenz_step(theta, at), first)[0]

    def heat(amplitudes: Any) -> Any:
        def step(i: Any, u: Any) -> Any:
            return u.at[1:-1].add(0.4 * (u[2:] - 2.0 * u[1:-1] + u[:-2]))

        return jnp.mean(jax.lax.fori_loop(0, HEAT_STEPS, step, amplitudes @ waves) ** 2)

    def forces(places: Any) -> Any:
        apart = places[:, None] - places[None]
        inverse = 1.0 / (jnp.sum(apart * apart, axis=-1) + jnp.eye(len(places)))
        inverse = inverse * (1.0 - jnp.eye(len(places)))
        sixth = inverse * inverse * inverse
        strength = 24.0 * (2.0 * sixth * sixth - sixth) * inverse
        return jnp.sum(jnp.sum(strength[..., None] * apart, axis=1) ** 2)

    def kalman(theta: Any) -> Any:
        noise, change = jnp.exp(theta[0]), jnp.exp(theta[1])

        def step(carry: Any, volume: Any) -> Any:
            return _likelihood_step(noise, change, carry, volume, jnp.log), None

        return jax.lax.scan(step, (volumes[0], noise, jnp.zeros(())), volumes[1:])[0][2]

    def rod(conductivity: Any) -> Any:
        walls = 0.5 * (conductivity[:-1] + conductivity[1:])

        def step(i: Any, u: Any) -> Any:
            flow = jnp.pad(walls * (u[1:] - u[:-1]), 1)
            return u + 0.3 * (flow[1:] - flow[:-1])

        return jnp.mean(jax.lax.fori_loop(0, ROD_STEPS, step, start) ** 2)

    return {
        **{"Lotka-Volterra": lotka_volterra, "Lorenz": lorenz, "heat": heat},
        **{"Lennard-Jones": forces, "Kalman": kalman, "rod": rod},
    }


def _torch_functions() -> Functions:
    import torch

    (waves,), (volumes,) = (
        tuple(map(torch.as_tensor, kernel.constants)) for kernel in (KERNELS["heat"], KERNELS["Kalman"])
    )

    def repeated(step: Callable[[Any], Any], count: int, at: Any) -> Any:
        for _ in range(count):
            at = step(at)
        return at

    def lotka_volterra(theta: Any) -> Any:
        return sum(repeated(lambda at: _euler_step(theta, at), EULER_STEPS, (theta[4], theta[5])))

    def lorenz(theta: Any) -> Any:
        first = theta[3], theta[4], theta[5]
        return repeated(lambda at: _lorenz_step(theta, at), RUNGE_KUTTA_STEPS, first)[0]

    def heat(amplitudes: Any) -> Any:
        def step(u: Any) -> Any:
            inner = u[1:-1] + 0.4 * (u[2:] - 2.0 * u[1:-1] + u[:-2])
            return torch.cat((u[:1], inner, u[-1:]))

        return torch.mean(repeated(step, HEAT_STEPS, amplitudes @ waves) ** 2)

    def forces(places: Any) -> Any:
        apart, unit = places[:, None] - places[None], torch.eye(len(places), dtype=torch.float64)
        inverse = 1.0 / ((apart * apart).sum(-1) + unit) * (1.0 - unit)
        sixth = inverse * inverse * inverse
        strength = 24.0 * (2.0 * sixth * sixth - sixth) * inverse
        return ((strength[..., None] * apart).sum(1) ** 2).sum()

    def kalman(theta: Any) -> Any:
        noise, change = torch.exp(theta[0]), torch.exp(theta[1])
        carry = volumes[0], noise, torch.zeros((), dtype=torch.float64)
        for volume in volumes[1:]:
            carry = _likelihood_step(noise, change, carry, volume, torch.log)
        return carry[2]

    return {
        **{"Lotka-Volterra": lotka_volterra, "Lorenz": lorenz, "heat": heat},
        **{"Lennard-Jones": forces, "Kalman": kalman},
    }


def tangents_of_peers(name: str) -> dict[str, Callable[[], Any]]:
    """Return what computes a function's value and its derivative along its kernel's direction, by what is installed.

    Parameters
    ----------
    name : str
        A function of `KERNELS`.
    """
    kernel, calls = KERNELS[name], {}
    if importlib.util.find_spec("jax") is not None:
        import jax

        with jax.enable_x64(True):
            function = _jax_functions()[name]
            both = jax.jit(lambda x, v: jax.jvp(function, (x,), (v,)))
            arrays = jax.numpy.asarray(kernel.x), jax.numpy.asarray(kernel.direction)

        def by_jax() -> Any:
            with jax.enable_x64(True):
                return jax.block_until_ready(both(*arrays))

        calls["JAX"] = by_jax
    if importlib.util.find_spec("torch") is not None:
        import torch

        tensors = torch.as_tensor(kernel.x), torch.as_tensor(kernel.direction)
        eager = _torch_functions()[name]
        calls["PyTorch"] = lambda: torch.func.jvp(eager, tensors[:1], tensors[1:])
    return calls


def gradients_of_peers() -> dict[str, Callable[[], Any]]:
    """Return what computes the gradient of `MANY`, by what is installed: ``jax.jacfwd``."""
    if importlib.util.find_spec("jax") is None:
        return {}
    import jax

    with jax.enable_x64(True):
        gradient, x = jax.jit(jax.jacfwd(_jax_functions()["rod"])), jax.numpy.asarray(MANY.x)

    def by_jax() -> Any:
        with jax.enable_x64(True):
            return jax.block_until_ready(gradient(x))

    return {"JAX": lambda: np.asarray(by_jax())}
