"""Steps of reverse-mode gradient descent in other frameworks ("peers") on the GPU that they choose.

All use float32, ReLU and softmax cross-entropy, with the batch in GPU memory. A step is launched and not waited for.
Whether float32 products may be rounded to TF32 is each framework's own setting, which :func:`tf32` reports.

    JAX                  one jitted step, its parameters donated
    PyTorch eager        forward, ``backward()``, ``torch.optim.SGD``
    PyTorch compile      the same, the loss by ``torch.compile``
    PyTorch CUDA graph   the eager step, captured whole and replayed
"""

import importlib.util
import os
from collections.abc import Callable
from importlib.metadata import version
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fgnumba.bench.measure.jax_peers import jax_loss
from fgnumba.bench.measure.peer_networks import RATE, Network, initial_parameters
from fgnumba.bench.measure.torch_peers import torch_layout, torch_loss
from fgnumba.errors import ConfigError

Array = npt.NDArray[Any]
JAX = "JAX"
TORCH = ("PyTorch eager", "PyTorch compile", "PyTorch CUDA graph")
NAMES = (JAX, *TORCH)

_WARM_UP = 3


class Steps(NamedTuple):
    """The steps of another framework: `ask` launches one, `wait` waits for all, `loss` is that of the first."""

    ask: Callable[[], object]
    wait: Callable[[], object]
    loss: float


def steps(name: str, network: Network, x: Array, y: Array, device: str = "cuda") -> Steps:
    """Return the steps of another framework.

    Parameters
    ----------
    name : str
        Name of the framework and its mode, such as ``PyTorch eager``.
    network : tuple of int or str
        The network.
    x : ndarray
        Images (B, H, W, C) or rows (B, K).
    y : ndarray
        Labels (B,).
    device : str
        ``cuda`` (the default), or ``cpu`` for tests.

    Raises
    ------
    ConfigError
        The framework is not installed, or is installed without CUDA.
    """
    package = "jax" if name == JAX else "torch"
    if importlib.util.find_spec(package) is None:
        raise ConfigError(f"{package} is not installed")
    made = jax_steps(network, x, y, device) if name == JAX else torch_steps(name, network, x, y, device)
    for _ in range(_WARM_UP):
        made.ask()
    made.wait()
    return made


def jax_steps(network: Network, x: Array, y: Array, device: str) -> Steps:
    """Return the steps of JAX; the parameters are those of :func:`steps`."""
    # By default JAX reserves three quarters of the GPU's memory when it is first used.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    import jax

    try:
        place = jax.devices(device)[0]
    except RuntimeError:
        raise ConfigError(f"jax is installed without {device}") from None
    inputs, targets = jax.device_put(x, place), jax.device_put(y.astype(np.int32), place)

    def step(parameters: Any, x: Any, y: Any) -> Any:
        value, gradient = jax.value_and_grad(jax_loss)(parameters, x, y)
        return [p - RATE * g for p, g in zip(parameters, gradient, strict=True)], value

    compiled = jax.jit(step, donate_argnums=0)
    state = list(compiled(jax.device_put(initial_parameters(network, x), place), inputs, targets))

    def ask() -> None:
        state[:] = compiled(state[0], inputs, targets)

    return Steps(ask, lambda: jax.block_until_ready(state), float(state[1]))


def torch_steps(name: str, network: Network, x: Array, y: Array, device: str) -> Steps:
    """Return the steps of PyTorch; the parameters are those of :func:`steps`."""
    import torch

    if device == "cuda" and not torch.cuda.is_available():
        raise ConfigError("torch is installed without CUDA")
    inputs, targets = torch.from_numpy(x).to(device), torch.from_numpy(y).to(device)
    inputs = inputs.permute(0, 3, 1, 2).contiguous() if network == "cnn" else inputs.reshape(len(x), -1)
    trained = [torch_layout(a).to(device).requires_grad_() for a in initial_parameters(network, x)]
    optimizer = torch.optim.SGD(trained, lr=RATE)
    loss = torch.compile(torch_loss) if name == "PyTorch compile" else torch_loss

    def step() -> Any:
        optimizer.zero_grad()
        value = loss(trained, inputs, targets)
        value.backward()
        optimizer.step()
        return value

    first = float(step().detach())
    ask: Callable[[], object] = _captured(step) if name == "PyTorch CUDA graph" else step
    return Steps(ask, torch.cuda.synchronize if device == "cuda" else lambda: None, first)


def _captured(step: Callable[[], object]) -> Callable[[], object]:
    """Capture a step as a CUDA graph, as PyTorch's notes on CUDA describe, and return a function that replays it."""
    import torch

    beside = torch.cuda.Stream()
    beside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(beside):
        for _ in range(_WARM_UP):
            step()
    torch.cuda.current_stream().wait_stream(beside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    replay: Callable[[], object] = graph.replay
    return replay


def release() -> None:
    """Release the GPU memory that PyTorch keeps for later allocations."""
    if importlib.util.find_spec("torch") is not None:
        import torch

        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def versions() -> dict[str, str]:
    """Return the versions of the frameworks that are installed."""
    packages = ("jax", "torch")
    return {name: version(name) for name in packages if importlib.util.find_spec(name) is not None}


def tf32() -> dict[str, str]:
    """Return a description of how each installed framework computes float32 products."""
    descriptions = {}
    if importlib.util.find_spec("jax") is not None:
        import jax

        settings: Any = jax.config
        precision = settings.jax_default_matmul_precision
        descriptions["jax"] = (
            "TF32 where the card has it, the default" if precision is None else f"{precision}"
        )
    if importlib.util.find_spec("torch") is not None:
        import torch

        products = torch.get_float32_matmul_precision()
        convolutions = "allowed" if torch.backends.cudnn.allow_tf32 else "not allowed"
        descriptions["torch"] = (
            f"products {'float32' if products == 'highest' else products}, TF32 in convolutions {convolutions}"
        )
    return descriptions
