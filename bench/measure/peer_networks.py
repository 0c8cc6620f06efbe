"""The networks that other frameworks compute, and what they compute of them."""

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

Call = Callable[[], Any]
Network = tuple[int, ...] | str
"""The widths of a perceptron's layers, or ``cnn`` for the convolutional network of arXiv 2202.08587."""

CALLS = ("f", "jvp", "grad", "forward step", "reverse step")
"""The computations of a peer: the loss, the pass of a forward gradient with the draw of its direction, a reverse-mode
gradient, and whole SGD steps along either gradient."""

WIDTHS: dict[str, Network] = {"logreg": (784, 10), "mlp": (784, 1024, 1024, 10), "cnn": "cnn"}
RATE = 1e-7

FLOAT32, MIXED, BF16 = "float32", "mixed", "bf16"
"""The numbers of a peer: float32 throughout; parameters in float32 and products in bfloat16; bfloat16 throughout."""


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
