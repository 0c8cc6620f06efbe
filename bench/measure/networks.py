"""The networks of the measurements: those of arXiv 2202.08587, section 5, for 28x28 images in ten classes."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

import fgnumba as fg
from fgnumba.errors import ConfigError, did_you_mean
from fgnumba.runs.presets import model_from, tables

IMAGE, CLASSES = (28, 28, 1), 10
WIDTH, WIDE = 1024, 4096


def logreg(seed: int = 0, device: Any = "cpu") -> fg.Sequential:
    """Return multinomial logistic regression, 784-10."""
    return perceptron((), seed, device)


def mlp(seed: int = 0, device: Any = "cpu") -> fg.Sequential:
    """Return the perceptron 784-1024-1024-10 with ReLU."""
    return perceptron((WIDTH, WIDTH), seed, device)


def wide(seed: int = 0, device: Any = "cpu") -> fg.Sequential:
    """Return the perceptron 784-4096-4096-10 with ReLU."""
    return perceptron((WIDE, WIDE), seed, device)


def cnn(seed: int = 0, device: Any = "cpu") -> fg.Graph:
    """Return the network of four 3x3 convolutions of 64 channels."""
    return model_from(tables("cnn", CLASSES), CLASSES, "cnn", IMAGE, seed=seed, device=device)


def perceptron(widths: tuple[int, ...], seed: int = 0, device: Any = "cpu") -> fg.Sequential:
    """Return a perceptron with ReLU and hidden layers of `widths`."""
    hidden = [fg.Dense(units, activation="relu") for units in widths]
    return fg.Sequential([fg.Flatten(), *hidden, fg.Dense(CLASSES)], IMAGE, seed=seed, device=device)


NETWORKS: dict[str, Callable[..., fg.Graph]] = {"logreg": logreg, "mlp": mlp, "cnn": cnn}


def network(name: str, device: Any = "cpu") -> fg.Graph:
    """Return a network by its name; raise ConfigError if there is none.

    Parameters
    ----------
    name : str
        ``logreg``, ``mlp`` or ``cnn``.
    device : str or Device
        The network's device. Default: ``cpu``.
    """
    if name not in NETWORKS:
        raise ConfigError(f"network: unknown network {name!r}{did_you_mean(name, NETWORKS)}")
    return NETWORKS[name](device=device)


def data(batch: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """Return random images and classes, the same in every call.

    Parameters
    ----------
    batch : int
        Number of images.
    """
    rng = np.random.default_rng(0)
    return rng.random((batch, *IMAGE), np.float32), rng.integers(0, CLASSES, batch)
