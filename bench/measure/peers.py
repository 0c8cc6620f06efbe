"""The same computations in other frameworks ("peers"), as somebody who knows these would write them.

All use float32, ReLU and softmax cross-entropy. In JAX everything is jitted, parameters are donated where they are
updated, and random numbers come from the default generator, which is faster on a CPU than ``rbg``. PyTorch runs
eagerly, computes forward mode by ``torch.func.jvp`` under ``no_grad``, and updates in place. Both use as many threads
as this process may (``taskset -c 0`` measures everything on one).

Each framework uses its own layout of images. Random signs are taken from the bits of random words, which in both
frameworks is several times faster than what either offers for signs. A rank-1 direction is drawn as two vectors of
signs and multiplied out to a matrix, since neither framework can use the vectors directly.
"""

import importlib.util
import math
import os
from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

Call = Callable[[], object]
Network = tuple[int, ...] | str
"""The widths of a perceptron's layers, or ``cnn`` for the convolutional network of arXiv 2202.08587."""

CALLS = ("f", "jvp", "grad", "forward step", "reverse step")
"""The computations of a peer: the loss, the pass of a forward gradient with the draw of its direction, a reverse-mode
gradient, and whole SGD steps along either gradient."""

WIDTHS: dict[str, Network] = {"logreg": (784, 10), "mlp": (784, 1024, 1024, 10), "cnn": "cnn"}
RATE = 1e-7


def initial_parameters(network: Network, x: npt.NDArray[np.float32]) -> list[npt.NDArray[np.float32]]:
    """Return initial parameters: weights of shape (K, N) or (KH, KW, C, N), each followed by its bias.

    Parameters
    ----------
    network : tuple of int or str
        The network.
    x : ndarray
        A batch, whose shape decides that of the first weight.
    """
    shapes: list[tuple[int, ...]] = list(pairwise(network)) if isinstance(network, tuple) else []
    if network == "cnn":
        _, height, width, channels = x.shape
        shapes = [(3, 3, channels, 64), *[(3, 3, 64, 64)] * 3]
        shapes += [(height // 4 * (width // 4) * 64, 1024), (1024, 10)]
    rng = np.random.default_rng(0)
    found = []
    for shape in shapes:
        scale = np.sqrt(2 / math.prod(shape[:-1]))
        found += [
            (rng.standard_normal(shape) * scale).astype(np.float32),
            np.zeros(shape[-1], np.float32),
        ]
    return found


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
    return jnp.mean(jax.nn.logsumexp(x, axis=1) - jnp.take_along_axis(x, y[:, None], axis=1)[:, 0])


def _jax_direction(direction: str, key: Any, parameters: Any) -> Any:
    import jax
    import jax.numpy as jnp

    def signs(key: Any, shape: tuple[int, ...]) -> Any:
        n = math.prod(shape)
        words = jax.random.bits(key, (-(-n // 32), 1), jnp.uint32)
        bits = (words >> jnp.arange(32, dtype=jnp.uint32)) & 1
        return 1 - 2 * bits.reshape(-1)[:n].reshape(shape).astype(jnp.float32)

    def draw(key: Any, p: Any) -> Any:
        if direction == "gaussian":
            return jax.random.normal(key, p.shape, jnp.float32)
        if direction == "rank1" and p.ndim > 1:
            left, right = jax.random.split(key)
            return signs(left, (*p.shape[:-1], 1)) * signs(right, p.shape[-1:])
        return signs(key, p.shape)

    keys = jax.random.split(key, len(parameters))
    return [draw(k, p) for k, p in zip(keys, parameters, strict=True)]


def jax_calls(
    network: Network, x: npt.NDArray[np.float32], y: npt.NDArray[np.int64], direction: str
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
    """
    import jax

    inputs, targets = jax.device_put(x), jax.device_put(y.astype(np.int32))
    first = jax.random.key(0)

    def derivative(parameters: Any, count: Any, x: Any, y: Any) -> Any:
        v = _jax_direction(direction, jax.random.fold_in(first, count), parameters)
        value, d = jax.jvp(lambda p: jax_loss(p, x, y), (parameters,), (v,))
        return value, d, v

    def forward(parameters: Any, count: Any, x: Any, y: Any) -> Any:
        value, d, v = derivative(parameters, count, x, y)
        return [p - RATE * d * one for p, one in zip(parameters, v, strict=True)], value, d

    def backward(parameters: Any, count: Any, x: Any, y: Any) -> Any:
        value, gradient = jax.value_and_grad(jax_loss)(parameters, x, y)
        return [p - RATE * g for p, g in zip(parameters, gradient, strict=True)], value

    def evaluated(function: Any) -> Call:
        compiled, parameters, count = jax.jit(function), jax.device_put(initial_parameters(network, x)), [0]

        def call() -> None:
            count[0] += 1
            jax.block_until_ready(compiled(parameters, count[0], inputs, targets))

        return call

    def stepped(function: Any) -> Call:
        compiled, state = (
            jax.jit(function, donate_argnums=0),
            [jax.device_put(initial_parameters(network, x))],
        )
        count = [0]

        def call() -> None:
            count[0] += 1
            state[0], *rest = compiled(state[0], count[0], inputs, targets)
            jax.block_until_ready(rest)

        return call

    return {
        "f": evaluated(lambda p, _, x, y: jax_loss(p, x, y)),
        "jvp": evaluated(lambda *arguments: derivative(*arguments)[:2]),
        "grad": evaluated(lambda p, _, x, y: jax.value_and_grad(jax_loss)(p, x, y)),
        "forward step": stepped(forward),
        "reverse step": stepped(backward),
    }


def torch_loss(parameters: Any, x: Any, y: Any) -> Any:
    """Return the loss in PyTorch, with weights (N, K) and (N, C, KH, KW), and images with their channels first.

    Parameters
    ----------
    parameters : list of Tensor
        Weights, each followed by its bias.
    x : Tensor
        Images (B, C, H, W) or rows (B, K).
    y : Tensor
        Labels (B,).
    """
    import torch

    functional, convolutions, layers = torch.nn.functional, 0, len(parameters) // 2
    for index in range(layers):
        weight, bias = parameters[2 * index], parameters[2 * index + 1]
        if weight.dim() == 4:
            x = functional.conv2d(x, weight, bias, padding=1)
            convolutions += 1
            if convolutions % 2 == 0:
                x = functional.max_pool2d(functional.relu(x), 2)
                continue
        else:
            x = functional.linear(x.flatten(1), weight, bias)
        if index < layers - 1:
            x = functional.relu(x)
    return functional.cross_entropy(x, y)


def torch_layout(array: npt.NDArray[np.float32]) -> Any:
    """Return a weight or a bias as a tensor in PyTorch's own layout."""
    import torch

    order = {2: (1, 0), 4: (3, 2, 0, 1)}.get(array.ndim, (0,))
    return torch.from_numpy(array).permute(order).contiguous()


def torch_calls(
    network: Network, x: npt.NDArray[np.float32], y: npt.NDArray[np.int64], direction: str
) -> Mapping[str, Call]:
    """Return PyTorch's computations: a function for each name in `CALLS`.

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
    """
    import torch

    torch.set_num_threads(
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    inputs, targets = torch.from_numpy(x), torch.from_numpy(y)
    inputs = inputs.permute(0, 3, 1, 2).contiguous() if network == "cnn" else inputs.reshape(len(x), -1)

    def parameters(gradients: bool) -> list[Any]:
        return [torch_layout(array).requires_grad_(gradients) for array in initial_parameters(network, x)]

    def loss(*p: Any) -> Any:
        return torch_loss(p, inputs, targets)

    places = torch.arange(8, dtype=torch.uint8)

    def signs(*shape: int) -> Any:
        n = math.prod(shape)
        words = torch.randint(0, 256, (-(-n // 8), 1), dtype=torch.uint8)
        return ((words >> places) & 1).float().mul_(2).sub_(1).view(-1)[:n].view(shape)

    def draw(p: Any) -> Any:
        if direction == "gaussian":
            return torch.randn_like(p)
        if direction == "rank1" and p.dim() > 1:
            return signs(p.shape[0], *[1] * (p.dim() - 1)) * signs(1, *p.shape[1:])
        return signs(*p.shape)

    constant, trained = parameters(gradients=False), parameters(gradients=True)
    moved, descending = parameters(gradients=False), parameters(gradients=True)
    optimizer = torch.optim.SGD(descending, lr=RATE)

    @torch.no_grad()
    def evaluate() -> float:
        return float(loss(*constant))

    def derivative(p: list[Any]) -> Any:
        v = [draw(one) for one in p]
        d = torch.func.jvp(loss, tuple(p), tuple(v))[1]
        return float(d), v

    @torch.no_grad()
    def forward() -> None:
        d, v = derivative(moved)
        torch._foreach_add_(moved, v, alpha=-RATE * d)

    def gradient() -> None:
        torch.autograd.grad(loss(*trained), trained)

    def backward() -> float:
        optimizer.zero_grad()
        value = loss(*descending)
        value.backward()
        optimizer.step()
        return float(value.item())

    return {
        "f": evaluate,
        "jvp": torch.no_grad()(lambda: derivative(constant)[0]),
        "grad": gradient,
        "forward step": forward,
        "reverse step": backward,
    }


Calls = Callable[[Network, npt.NDArray[np.float32], npt.NDArray[np.int64], str], Mapping[str, Call]]
_CALLS: dict[str, tuple[str, Calls]] = {"JAX": ("jax", jax_calls), "PyTorch": ("torch", torch_calls)}


def installed() -> dict[str, Calls]:
    """Return the functions that make the computations of each framework that is installed, by its name."""
    return {
        name: calls
        for name, (package, calls) in _CALLS.items()
        if importlib.util.find_spec(package) is not None
    }


def peers(
    network: Network, x: npt.NDArray[np.float32], y: npt.NDArray[np.int64], direction: str = "rank1"
) -> dict[str, Mapping[str, Call]]:
    """Return the computations of each framework that is installed, by its name.

    Parameters
    ----------
    network : tuple of int or str
        The network.
    x : ndarray
        Images (B, H, W, C) or rows (B, K).
    y : ndarray
        Labels (B,).
    direction : str
        Distribution of the direction: ``rank1`` (the default) or ``gaussian``.
    """
    return {name: calls(network, x, y, direction) for name, calls in installed().items()}


def versions() -> dict[str, str]:
    """Return the versions of the frameworks that are installed."""
    from importlib.metadata import version

    return {name: version(_CALLS[name][0]) for name in installed()}
