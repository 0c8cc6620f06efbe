"""The computations of networks in JAX, as somebody who knows it would write them.

Everything is jitted, parameters are donated where they are updated, and random numbers come from the default generator,
which is faster on a CPU than ``rbg``.

    float32    float32 throughout
    mixed      parameters, gradients and updates in float32; both are cast to bfloat16 for layers
    bf16       parameters too in bfloat16

The loss of the logits is computed in float32 in each case.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from fgnumba.bench.measure.peer_networks import (
    BF16,
    FLOAT32,
    MIXED,
    RATE,
    Call,
    Network,
    initial_parameters,
)


def jax_loss(parameters: Any, x: Any, y: Any) -> Any:
    """Return the loss in JAX. A weight with four axes is a convolution; max-pooling follows every second one.

    Parameters
    ----------
    parameters : list of array
        Weights, each followed by its bias.
    x : array
        Images (B, H, W, C) or rows (B, K).
    y : array
        Labels (B,).
    """
    import jax
    import jax.numpy as jnp

    convolutions, layers = 0, len(parameters) // 2
    for index in range(layers):
        weight, bias = parameters[2 * index], parameters[2 * index + 1]
        if weight.ndim == 4:
            layout = ("NHWC", "HWIO", "NHWC")
            x = jax.lax.conv_general_dilated(x, weight, (1, 1), "SAME", dimension_numbers=layout) + bias
            convolutions += 1
        else:
            x = x.reshape(len(x), -1) @ weight + bias
        if index < layers - 1:
            x = jax.nn.relu(x)
        if weight.ndim == 4 and convolutions % 2 == 0:
            x = jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
    # Of bfloat16 logits too the loss is computed in float32, as users of JAX do.
    x = x.astype(jnp.float32)
    return jnp.mean(jax.nn.logsumexp(x, axis=1) - jnp.take_along_axis(x, y[:, None], axis=1)[:, 0])


def _jax_direction(direction: str, key: Any, parameters: Any) -> Any:
    import jax
    import jax.numpy as jnp

    numbers = parameters[0].dtype

    def signs(key: Any, shape: tuple[int, ...]) -> Any:
        n = math.prod(shape)
        words = jax.random.bits(key, (-(-n // 32), 1), jnp.uint32)
        bits = (words >> jnp.arange(32, dtype=jnp.uint32)) & 1
        return 1 - 2 * bits.reshape(-1)[:n].reshape(shape).astype(numbers)

    def draw(key: Any, p: Any) -> Any:
        if direction == "gaussian":
            return jax.random.normal(key, p.shape, numbers)
        if direction == "rank1" and p.ndim > 1:
            left, right = jax.random.split(key)
            return signs(left, (*p.shape[:-1], 1)) * signs(right, p.shape[-1:])
        return signs(key, p.shape)

    keys = jax.random.split(key, len(parameters))
    return [draw(k, p) for k, p in zip(keys, parameters, strict=True)]


def jax_calls(
    network: Network,
    x: npt.NDArray[np.float32],
    y: npt.NDArray[np.int64],
    direction: str,
    numbers: str = FLOAT32,
) -> Mapping[str, Call]:
    """Return JAX's computations: a function for each name in `CALLS`, which waits for its result.

    Parameters
    ----------
    network : tuple of int or str
        The network.
    x : ndarray
        Images (B, H, W, C) or rows (B, K).
    y : ndarray
        Labels (B,).
    direction : str
        Distribution of the direction: ``rank1`` or ``gaussian``.
    numbers : str
        ``float32`` (the default), ``mixed`` or ``bf16``.
    """
    import jax
    import jax.numpy as jnp

    computed, kept = (jnp.bfloat16 if numbers in among else jnp.float32 for among in ((MIXED, BF16), (BF16,)))
    inputs, targets = jax.device_put(x).astype(computed), jax.device_put(y.astype(np.int32))
    first = jax.random.key(0)

    def loss(parameters: Any, x: Any, y: Any) -> Any:
        return jax_loss([p.astype(computed) for p in parameters], x, y)

    def initial() -> list[Any]:
        return [jax.device_put(array).astype(kept) for array in initial_parameters(network, x)]

    def derivative(parameters: Any, count: Any, x: Any, y: Any) -> Any:
        v = _jax_direction(direction, jax.random.fold_in(first, count), parameters)
        value, d = jax.jvp(lambda p: loss(p, x, y), (parameters,), (v,))
        return value, d, v

    def forward(parameters: Any, count: Any, x: Any, y: Any) -> Any:
        value, d, v = derivative(parameters, count, x, y)
        return [p - (RATE * d).astype(kept) * one for p, one in zip(parameters, v, strict=True)], value, d

    def backward(parameters: Any, count: Any, x: Any, y: Any) -> Any:
        value, gradient = jax.value_and_grad(loss)(parameters, x, y)
        return [p - RATE * g for p, g in zip(parameters, gradient, strict=True)], value

    def evaluated(function: Any) -> Call:
        compiled, parameters, count = jax.jit(function), initial(), [0]

        def call() -> object:
            count[0] += 1
            return jax.block_until_ready(compiled(parameters, count[0], inputs, targets))

        return call

    def stepped(function: Any) -> Call:
        compiled, state = (
            jax.jit(function, donate_argnums=0),
            [initial()],
        )
        count = [0]

        def call() -> None:
            count[0] += 1
            state[0], *rest = compiled(state[0], count[0], inputs, targets)
            jax.block_until_ready(rest)

        return call

    return {
        "f": evaluated(lambda p, _, x, y: loss(p, x, y)),
        "jvp": evaluated(lambda *arguments: derivative(*arguments)[:2]),
        "grad": evaluated(lambda p, _, x, y: jax.value_and_grad(loss)(p, x, y)),
        "forward step": stepped(forward),
        "reverse step": stepped(backward),
    }
