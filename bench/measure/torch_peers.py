"""The computations of networks in PyTorch, as somebody who knows it would write them.

It runs eagerly, computes forward mode by ``torch.func.jvp`` under ``no_grad``, updates in place, and uses as many
threads as this process may.

    float32    float32 throughout
    mixed      parameters in float32, the loss under ``torch.autocast`` with bfloat16
    bf16       parameters, images and updates in bfloat16

In the last two, images and filters have their channels last.
"""

import math
import os
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
    network: Network,
    x: npt.NDArray[np.float32],
    y: npt.NDArray[np.int64],
    direction: str,
    numbers: str = FLOAT32,
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
    numbers : str
        ``float32`` (the default), ``mixed`` or ``bf16``.
    """
    import torch

    kept = torch.bfloat16 if numbers == BF16 else torch.float32

    torch.set_num_threads(
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )

    def placed(array: Any) -> Any:
        """Return images and filters with the channels last, where oneDNN multiplies bfloat16."""
        last = array.dim() == 4 and numbers != FLOAT32
        return array.contiguous(memory_format=torch.channels_last if last else torch.contiguous_format)

    inputs, targets = torch.from_numpy(x).to(kept), torch.from_numpy(y)
    inputs = placed(inputs.permute(0, 3, 1, 2)) if network == "cnn" else inputs.reshape(len(x), -1)

    def parameters(gradients: bool) -> list[Any]:
        layouts = [placed(torch_layout(array).to(kept)) for array in initial_parameters(network, x)]
        return [array.requires_grad_(gradients) for array in layouts]

    def loss(*p: Any) -> Any:
        with torch.autocast("cpu", torch.bfloat16, enabled=numbers == MIXED):
            return torch_loss(p, inputs, targets)

    places = torch.arange(8, dtype=torch.uint8)

    def signs(*shape: int) -> Any:
        n = math.prod(shape)
        words = torch.randint(0, 256, (-(-n // 8), 1), dtype=torch.uint8)
        return ((words >> places) & 1).to(kept).mul_(2).sub_(1).view(-1)[:n].view(shape)

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

    def gradient() -> object:
        return torch.autograd.grad(loss(*trained), trained)

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
