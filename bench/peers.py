"""The same training step in other frameworks: reverse mode, plain SGD, softmax cross-entropy, float32, ReLU.

Each function returns a call that takes one step and waits for it, or None where the framework is not
installed. They use as many processors as this process may (``taskset -c 0 pytest bench`` measures all on
one).
"""

import importlib.util
import os
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import numpy.typing as npt

Step = Callable[[], object]


def _parameters(widths: tuple[int, ...]) -> list[tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]]:
    rng = np.random.default_rng(0)
    return [
        ((rng.standard_normal((k, n)) * np.sqrt(2 / k)).astype(np.float32), np.zeros(n, np.float32))
        for k, n in pairwise(widths)
    ]


def jax_step(widths: tuple[int, ...], x: npt.NDArray[np.float32], y: npt.NDArray[np.int64]) -> Step | None:
    """Return a jitted ``value_and_grad`` step with donated parameters."""
    if importlib.util.find_spec("jax") is None:
        return None
    import jax
    import jax.numpy as jnp

    def loss(parameters, x, y):
        for weight, bias in parameters[:-1]:
            x = jax.nn.relu(x @ weight + bias)
        weight, bias = parameters[-1]
        z = x @ weight + bias
        return jnp.mean(jax.nn.logsumexp(z, axis=1) - jnp.take_along_axis(z, y[:, None], axis=1)[:, 0])

    def update(parameters, x, y):
        value, gradient = jax.value_and_grad(loss)(parameters, x, y)
        return jax.tree.map(lambda p, g: p - 1e-4 * g, parameters, gradient), value

    step = jax.jit(update, donate_argnums=0)
    state = [jax.device_put(_parameters(widths))]
    inputs, targets = jax.device_put(x), jax.device_put(y.astype(np.int32))

    def call() -> None:
        state[0], value = step(state[0], inputs, targets)
        value.block_until_ready()

    return call


def torch_step(widths: tuple[int, ...], x: npt.NDArray[np.float32], y: npt.NDArray[np.int64]) -> Step | None:
    """Return an eager step of ``torch.optim.SGD``."""
    if importlib.util.find_spec("torch") is None:
        return None
    import torch

    torch.set_num_threads(
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    layers: list[torch.nn.Module] = []
    for weight, bias in _parameters(widths):
        layer = torch.nn.Linear(*weight.shape)
        layer.weight.data, layer.bias.data = torch.from_numpy(weight.T.copy()), torch.from_numpy(bias)
        layers += [layer, torch.nn.ReLU()]
    model = torch.nn.Sequential(*layers[:-1])
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4)
    inputs, targets = torch.from_numpy(x), torch.from_numpy(y)

    def call() -> float:
        optimizer.zero_grad()
        value = torch.nn.functional.cross_entropy(model(inputs), targets)
        value.backward()
        optimizer.step()
        return float(value.item())

    return call


PEERS = {"JAX": jax_step, "PyTorch": torch_step}
