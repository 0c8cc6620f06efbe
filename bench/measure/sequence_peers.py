"""Truncated backpropagation through time in JAX, for the network of the benchmarks of sequences.

One layer of an element-wise LSTM (K. Irie et al., arXiv 2305.19044) on symbols and a linear readout; a step takes one
window of B streams, carries the states on, and moves the parameters by Adam. Everything is jitted, and what is updated
is donated.
"""

import importlib.util
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt


def jax_steps(
    parameters: Mapping[str, npt.NDArray[np.float32]], x: npt.NDArray[Any], y: npt.NDArray[Any]
) -> Callable[[], object] | None:
    """Return a function that takes one step; None if JAX is not installed.

    Parameters
    ----------
    parameters : mapping of str to array
        Those of ``[ElementwiseLSTM(H, symbols=V), Dense(V)]``.
    x, y : array, (B, L) of integers
        A window of symbols, and what follows each.
    """
    if importlib.util.find_spec("jax") is None:
        return None
    import jax
    import jax.numpy as jnp

    def loss(p: Any, c: Any, x: Any, y: Any) -> Any:
        units = p["0.bias"].shape[0] // 2

        def step(c: Any, symbols: Any) -> Any:
            gates = p["0.weight"][symbols] + p["0.bias"]
            z = jnp.tanh(gates[:, :units] + p["0.recurrent"][:units] * c)
            f = jax.nn.sigmoid(gates[:, units:] + p["0.recurrent"][units:] * c)
            c = f * c + (1 - f) * z
            return c, c

        c, states = jax.lax.scan(step, c, x.T)
        logits = jax.nn.log_softmax(states @ p["1.weight"] + p["1.bias"])
        return -jnp.mean(jnp.take_along_axis(logits, y.T[:, :, None], 2)), c

    def adam(p: Any, m: Any, v: Any, g: Any, i: Any) -> Any:
        m = jax.tree.map(lambda a, b: 0.9 * a + 0.1 * b, m, g)
        v = jax.tree.map(lambda a, b: 0.99 * a + 0.01 * b * b, v, g)
        rate = 1e-7 * jnp.sqrt(1 - 0.99**i) / (1 - 0.9**i)
        return jax.tree.map(lambda p, m, v: p - rate * m / (jnp.sqrt(v) + 1e-8), p, m, v), m, v

    def whole(p: Any, m: Any, v: Any, i: Any, c: Any, x: Any, y: Any) -> Any:
        (value, c), g = jax.value_and_grad(loss, has_aux=True)(p, c, x, y)
        return *adam(p, m, v, g, i), i + 1, c, value

    run = jax.jit(whole, donate_argnums=(0, 1, 2, 3, 4))
    p = {name: jnp.asarray(array) for name, array in parameters.items()}
    zeros = [jax.tree.map(jnp.zeros_like, p) for _ in range(2)]
    state = [p, *zeros, jnp.ones(()), jnp.zeros((len(x), parameters["0.bias"].size // 2))]
    given = jnp.asarray(x), jnp.asarray(y)

    def take() -> object:
        *state[:], value = run(*state, *given)
        return jax.block_until_ready(value)

    return take
