"""The same computations in other frameworks ("peers"), as somebody who knows these would write them.

All use ReLU and softmax cross-entropy, and as many threads as this process may (``taskset -c 0`` measures everything
on one): see :mod:`fgnumba.bench.measure.jax_peers` and :mod:`fgnumba.bench.measure.torch_peers`. Each framework uses
its own layout of images. Random signs are taken from the bits of random words, which in both frameworks is several
times faster than what either offers for signs. A rank-1 direction is drawn as two vectors of signs and multiplied out
to a matrix, since neither framework can use the vectors directly.
"""

import importlib.util
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib.metadata import version
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from fgnumba.bench.measure.jax_peers import jax_calls
from fgnumba.bench.measure.peer_networks import BF16, MIXED, Call, Network
from fgnumba.bench.measure.torch_peers import torch_calls

Calls = Callable[[Network, npt.NDArray[np.float32], npt.NDArray[np.int64], str], Mapping[str, Call]]


class Peer(NamedTuple):
    """A framework with one kind of numbers: its package, and the function that makes its computations."""

    package: str
    calls: Calls


FRAMEWORKS = {"JAX": "jax", "PyTorch": "torch"}
"""The package of each framework."""

FLOAT32_PEERS = tuple(FRAMEWORKS)
"""Names of the peers that compute in float32."""

TORCH_BF16 = "PyTorch bf16"
"""The peer whose parameters are bfloat16 in PyTorch."""

PEERS: dict[str, Peer] = {
    "JAX": Peer("jax", jax_calls),
    "PyTorch": Peer("torch", torch_calls),
    "JAX mixed": Peer("jax", partial(jax_calls, numbers=MIXED)),
    "JAX bf16": Peer("jax", partial(jax_calls, numbers=BF16)),
    "PyTorch autocast": Peer("torch", partial(torch_calls, numbers=MIXED)),
    TORCH_BF16: Peer("torch", partial(torch_calls, numbers=BF16)),
}
"""All peers, by name: first those that compute in float32."""


def installed(names: Sequence[str] = FLOAT32_PEERS) -> dict[str, Calls]:
    """Return the functions that make the computations of each peer whose framework is installed, by its name.

    Parameters
    ----------
    names : sequence of str
        The peers. Default: those that compute in float32.
    """
    return {
        name: peer.calls
        for name, peer in PEERS.items()
        if name in names and importlib.util.find_spec(peer.package) is not None
    }


def peers(
    network: Network,
    x: npt.NDArray[np.float32],
    y: npt.NDArray[np.int64],
    direction: str = "rank1",
    names: Sequence[str] = FLOAT32_PEERS,
) -> dict[str, Mapping[str, Call]]:
    """Return the computations of each peer whose framework is installed, by its name.

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
    names : sequence of str
        The peers. Default: those that compute in float32.
    """
    return {name: calls(network, x, y, direction) for name, calls in installed(names).items()}


def versions() -> dict[str, str]:
    """Return the versions of the frameworks that are installed."""
    return {
        name: version(package)
        for name, package in FRAMEWORKS.items()
        if importlib.util.find_spec(package) is not None
    }
