"""A training step of the character transformer in PyTorch, eager, as somebody who knows it would write it.

Weights lie as ``torch.nn.Linear`` keeps them, queries, keys and values come from one product, attention is
``scaled_dot_product_attention``, and Adam is the fused one. It uses as many threads as it is given.
"""

import importlib.util
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

TABLES = ("0.weight", "1.weight")
"""Weights of which rows are looked up: they lie as they do here."""

Parameters = Mapping[str, npt.NDArray[np.float32]]
RATE = 1e-7


def torch_parameters(arrays: Parameters) -> dict[str, Any]:
    """Return a model's arrays as PyTorch's parameters; weights (K, N) of products are turned to (N, K).

    Parameters
    ----------
    arrays : mapping of str to array
        Those of ``[Embedding(V, C), PositionalEmbedding(L), TransformerBlock, ..., LayerNorm, Dense(V)]``.
    """
    import torch

    def laid_out(name: str, array: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        return array if array.ndim < 2 or name in TABLES else np.ascontiguousarray(array.T)

    return {name: torch.nn.Parameter(torch.tensor(laid_out(name, array))) for name, array in arrays.items()}


def torch_loss(p: Mapping[str, Any], heads: int, x: Any, y: Any) -> Any:
    """Return the mean cross entropy of a model's predictions for each position.

    Parameters
    ----------
    p : mapping of str to tensor
        What :func:`torch_parameters` returns.
    heads : int
        Number of heads of each block's attention.
    x, y : tensor, (B, L) of integers
        Symbols, and what follows each.
    """
    import torch
    from torch.nn import functional

    def normalized(h: Any, name: str) -> Any:
        return functional.layer_norm(h, h.shape[-1:], p.get(f"{name}.scale"), p.get(f"{name}.shift"))

    batch, length = x.shape
    h = functional.embedding(x, p["0.weight"]) + p["1.weight"][:length]
    channels = h.shape[-1]
    blocks = sum(name.endswith("_attention.weight") for name in p)
    for block in range(2, 2 + blocks):
        qkv = functional.linear(normalized(h, f"{block}_norm"), p[f"{block}_attention.weight"])
        q, k, v = qkv.view(batch, length, 3, heads, -1).permute(2, 0, 3, 1, 4)
        mean = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        mean = mean.transpose(1, 2).reshape(batch, length, channels)
        h = h + functional.linear(mean, p[f"{block}_attention.output"])
        hidden = functional.linear(
            normalized(h, f"{block}_norm2"), p[f"{block}_hidden.weight"], p[f"{block}_hidden.bias"]
        )
        h = h + functional.linear(
            functional.gelu(hidden), p[f"{block}_project.weight"], p[f"{block}_project.bias"]
        )
    last = blocks + 3
    z = functional.linear(normalized(h, str(last - 1)), p[f"{last}.weight"], p[f"{last}.bias"])
    loss: torch.Tensor = functional.cross_entropy(z.view(-1, z.shape[-1]), y.reshape(-1))
    return loss


def torch_step(
    arrays: Parameters, heads: int, x: npt.NDArray[Any], y: npt.NDArray[Any], threads: int
) -> Callable[[], float] | None:
    """Return a function that takes one step and returns the loss before it; None if PyTorch is not installed.

    Parameters
    ----------
    arrays : mapping of str to array
        As for :func:`torch_parameters`.
    heads : int
        Number of heads of each block's attention.
    x, y : array, (B, L) of integers
        Symbols, and what follows each.
    threads : int
        Number of threads.
    """
    if importlib.util.find_spec("torch") is None:
        return None
    import torch

    torch.set_num_threads(threads)
    parameters = torch_parameters(arrays)
    optimizer = torch.optim.Adam(parameters.values(), lr=RATE, fused=True)
    inputs, targets = torch.from_numpy(x.astype(np.int64)), torch.from_numpy(y.astype(np.int64))

    def take() -> float:
        optimizer.zero_grad(set_to_none=True)
        loss = torch_loss(parameters, heads, inputs, targets)
        loss.backward()
        optimizer.step()
        return float(loss.detach())

    return take
