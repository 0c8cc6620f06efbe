"""The same training step in other frameworks: reverse mode, plain SGD, softmax cross-entropy, float32, ReLU.

Networks are perceptrons, by their widths, and the convolutional network of arXiv 2202.08587. Each function returns a
call that takes one step and waits for it, or None where the framework is not installed. They use as many processors
as this process may (``taskset -c 0 pytest bench`` measures all on one).
"""

import importlib.util
import math
import os
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

Step = Callable[[], object]
Network = tuple[int, ...] | str
"""Widths of a perceptron, or ``cnn``."""


def _parameters(
    network: Network, x: npt.NDArray[np.float32]
) -> list[tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]]:
    """Return weights, (K, N) or (KH, KW, C, N), and biases."""
    shapes: list[tuple[int, ...]] = list(pairwise(network)) if isinstance(network, tuple) else []
    if network == "cnn":
        _, height, width, channels = x.shape
        shapes = [(3, 3, channels, 64), *[(3, 3, 64, 64)] * 3]
        shapes += [(height // 4 * (width // 4) * 64, 1024), (1024, 10)]
    rng = np.random.default_rng(0)
    return [
        (
            (rng.standard_normal(shape) * np.sqrt(2 / math.prod(shape[:-1]))).astype(np.float32),
            np.zeros(shape[-1], np.float32),
        )
        for shape in shapes
    ]


def jax_step(network: Network, x: npt.NDArray[np.float32], y: npt.NDArray[np.int64]) -> Step | None:
    """Return a jitted ``value_and_grad`` step with donated parameters; images are channels last."""
    if importlib.util.find_spec("jax") is None:
        return None
    import jax
    import jax.numpy as jnp

    def pool(x: Any) -> Any:
        return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")

    def logits(parameters: Any, x: Any) -> Any:
        for index, (weight, bias) in enumerate(parameters):
            if weight.ndim == 4:
                layout = ("NHWC", "HWIO", "NHWC")
                x = jax.lax.conv_general_dilated(x, weight, (1, 1), "SAME", dimension_numbers=layout) + bias
            else:
                x = x.reshape(len(x), -1) @ weight + bias
            if index < len(parameters) - 1:
                x = jax.nn.relu(x)
            if weight.ndim == 4 and index in (1, 3):
                x = pool(x)
        return x

    def loss(parameters: Any, x: Any, y: Any) -> Any:
        z = logits(parameters, x)
        return jnp.mean(jax.nn.logsumexp(z, axis=1) - jnp.take_along_axis(z, y[:, None], axis=1)[:, 0])

    def update(parameters: Any, x: Any, y: Any) -> Any:
        value, gradient = jax.value_and_grad(loss)(parameters, x, y)
        return jax.tree.map(lambda p, g: p - 1e-4 * g, parameters, gradient), value

    step = jax.jit(update, donate_argnums=0)
    state = [jax.device_put(_parameters(network, x))]
    inputs, targets = jax.device_put(x), jax.device_put(y.astype(np.int32))

    def call() -> None:
        state[0], value = step(state[0], inputs, targets)
        value.block_until_ready()

    return call


def torch_step(network: Network, x: npt.NDArray[np.float32], y: npt.NDArray[np.int64]) -> Step | None:
    """Return an eager step of ``torch.optim.SGD``; images are channels first, PyTorch's own layout."""
    if importlib.util.find_spec("torch") is None:
        return None
    import torch

    torch.set_num_threads(
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    layers: list[torch.nn.Module] = []
    for index, (weight, bias) in enumerate(_parameters(network, x)):
        layer: Any
        if weight.ndim == 4:
            layer = torch.nn.Conv2d(weight.shape[2], weight.shape[3], 3, padding=1)
            layer.weight.data = torch.from_numpy(weight.transpose(3, 2, 0, 1).copy())
        else:
            if layers and isinstance(layers[-1], torch.nn.MaxPool2d):
                layers.append(torch.nn.Flatten())
            layer = torch.nn.Linear(*weight.shape)
            layer.weight.data = torch.from_numpy(weight.T.copy())
        layer.bias.data = torch.from_numpy(bias)
        layers += [layer, torch.nn.ReLU()]
        if weight.ndim == 4 and index in (1, 3):
            layers.append(torch.nn.MaxPool2d(2))
    model = torch.nn.Sequential(*layers[:-1])
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4)
    inputs, targets = torch.from_numpy(x), torch.from_numpy(y)
    if x.ndim == 4:
        inputs = inputs.permute(0, 3, 1, 2).contiguous()

    def call() -> float:
        optimizer.zero_grad()
        value = torch.nn.functional.cross_entropy(model(inputs), targets)
        value.backward()
        optimizer.step()
        return float(value.item())

    return call


PEERS = {"JAX": jax_step, "PyTorch": torch_step}
