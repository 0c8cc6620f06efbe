"""Laplacians of a perceptron in its input by JAX, as somebody who knows it would write them, and by folx.

All are jitted, float32, and take the points in chunks of `CHUNK`, which is faster on a CPU than more at once.
"""

import importlib.util
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

CHUNK = 16
"""Points that are differentiated at once."""


def laplacian_peers(
    parameters: list[npt.NDArray[np.float32]], x: npt.NDArray[np.float32]
) -> dict[str, Callable[[], Any]]:
    """Return functions that compute the Laplacian (B,) of a tanh perceptron with one output, by what is installed.

    Parameters
    ----------
    parameters : list of ndarray
        Weights (K, N), each followed by its bias.
    x : ndarray, (B, D) float32
        The points, a multiple of `CHUNK`.
    """
    if importlib.util.find_spec("jax") is None:
        return {}
    import jax
    import jax.numpy as jnp

    theta = [jnp.asarray(array) for array in parameters]
    unit = jnp.eye(x.shape[1], dtype=jnp.float32)

    def u(point: Any) -> Any:
        layers = len(theta) // 2
        for index in range(layers):
            point = point @ theta[2 * index] + theta[2 * index + 1]
            point = jnp.tanh(point) if index < layers - 1 else point
        return point[0]

    def of_jvp(point: Any) -> Any:
        def second(v: Any) -> Any:
            return jax.jvp(lambda at: jax.jvp(u, (at,), (v,))[1], (point,), (v,))[1]

        return jax.vmap(second)(unit).sum()

    def of_gradient(point: Any) -> Any:
        gradient = jax.grad(u)
        return jax.vmap(lambda v: jnp.vdot(v, jax.jvp(gradient, (point,), (v,))[1]))(unit).sum()

    def of_jet(point: Any) -> Any:
        from jax.experimental.jet import jet

        def second(v: Any) -> Any:
            return jet(u, (point,), ((v, jnp.zeros_like(v)),))[1][1]

        return jax.vmap(second)(unit).sum()

    laplacians = {"JAX jvp of jvp": of_jvp, "JAX jvp of grad": of_gradient, "JAX jet": of_jet}
    if importlib.util.find_spec("folx") is not None:
        import folx

        forward = folx.forward_laplacian(u)
        laplacians["folx"] = lambda point: forward(point).laplacian
    chunks = jnp.asarray(x.reshape(-1, CHUNK, x.shape[1]))

    def caller(one: Any) -> Callable[[], Any]:
        jitted = jax.jit(lambda parts: jax.lax.map(jax.vmap(one), parts).reshape(-1))
        return lambda: np.asarray(jax.block_until_ready(jitted(chunks)))

    return {name: caller(one) for name, one in laplacians.items()}
