"""A Gauss-Newton step in the span of Gaussian directions, in JAX, beside which ``SubspaceGaussNewton`` is timed.

The form is that of N. Yu et al., NeurIPS 2024: directions are drawn and stored, one forward-mode pass for all of them
gives the tangents of the outputs, and the step is V (G + λ I)⁻¹ Vᵀ∇f. Everything is one compiled function.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt


def jax_step(
    sizes: Sequence[int], directions: int, damping: float, rate: float
) -> Callable[[npt.NDArray[np.float32], npt.NDArray[np.int64]], None]:
    """Return a function that takes a step of a perceptron with ReLU and softmax cross-entropy, and waits for it.

    Parameters
    ----------
    sizes : sequence of int
        Inputs, units of each layer, classes.
    directions : int
        Number of directions T.
    damping : float
        λ.
    rate : float
        Learning rate.
    """
    import jax
    from jax import numpy as jnp
    from jax.scipy.linalg import cho_factor, cho_solve

    keys = jax.random.split(jax.random.PRNGKey(0), len(sizes))
    parameters = [
        (jax.random.normal(key, (k, n)) * (2 / k) ** 0.5, jnp.zeros(n))
        for key, k, n in zip(keys, sizes, sizes[1:], strict=False)
    ]

    def outputs(p: Any, x: Any) -> Any:
        for weight, bias in p[:-1]:
            x = jax.nn.relu(x @ weight + bias)
        return x @ p[-1][0] + p[-1][1]

    @jax.jit
    def step(p: Any, key: Any, x: Any, y: Any) -> Any:
        leaves, tree = jax.tree_util.tree_flatten(p)
        drawn = [
            jax.random.normal(one, (directions, *leaf.shape))
            for one, leaf in zip(jax.random.split(key, len(leaves)), leaves, strict=True)
        ]
        v = jax.tree_util.tree_unflatten(tree, drawn)
        z, push = jax.linearize(lambda q: outputs(q, x), p)
        j = jax.vmap(push)(v)
        probabilities = jax.nn.softmax(z)
        d = jnp.einsum("bn,tbn->t", probabilities - jax.nn.one_hot(y, sizes[-1]), j) / len(x)
        moved = (j - (probabilities * j).sum(-1, keepdims=True)) * jnp.sqrt(probabilities)
        rows = moved.reshape(directions, -1)
        gram = rows @ rows.T / len(x) + damping * jnp.eye(directions)
        c = cho_solve(cho_factor(gram), d)
        return jax.tree_util.tree_map(lambda leaf, one: leaf - rate * jnp.tensordot(c, one, 1), p, v)

    state: list[Any] = [parameters, jax.random.PRNGKey(1)]

    def call(x: npt.NDArray[np.float32], y: npt.NDArray[np.int64]) -> None:
        state[1], key = jax.random.split(state[1])
        state[0] = jax.block_until_ready(step(state[0], key, x, y))

    return call
