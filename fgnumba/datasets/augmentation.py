"""Augmentation: random versions of a batch's images, drawn from a generator that depends on seed and batch alone.

So a run that is resumed augments each batch as the uninterrupted run would have done.
"""

from collections.abc import Callable
from dataclasses import dataclass, is_dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fgnumba.errors import ConfigError, DtypeError, ShapeError, shown
from fgnumba.validation import real_number, store, whole_number

Augment = Callable[[npt.NDArray[np.float32], np.random.Generator], npt.NDArray[Any]]


@dataclass(frozen=True)
class RandomFlip:
    """Flips each image left to right with probability p.

    Parameters
    ----------
    p : float
        The probability, from 0 to 1. Default: 0.5.

    Raises
    ------
    ConfigError
        The probability is impossible.
    """

    p: float = 0.5

    def __post_init__(self) -> None:
        p = real_number("p", self.p)
        if p > 1:
            raise ConfigError(f"p is {shown(self.p)}; a probability from 0 to 1 is required")
        store(self, p=p)

    def __call__(self, x: npt.NDArray[np.float32], generator: np.random.Generator) -> npt.NDArray[np.float32]:
        """Return images (B, H, W, C), some of them flipped.

        Parameters
        ----------
        x : ndarray, (B, H, W, C)
            The images.
        generator : Generator
            What is random.
        """
        flipped = generator.random(len(x)) < self.p
        images = _images(x).copy()
        images[flipped] = images[flipped, :, ::-1]
        return images


@dataclass(frozen=True)
class RandomCrop:
    """Moves each image by up to `padding` pixels up or down, and left or right, and fills the margin.

    That is a random crop of the image with a margin of that width around it.

    Parameters
    ----------
    padding : int
        The width of the margin in pixels. Default: 4.
    fill : float
        What the margin is filled with, 0 or above. Default: 0.

    Raises
    ------
    ConfigError
        A value is impossible.
    """

    padding: int = 4
    fill: float = 0.0

    def __post_init__(self) -> None:
        store(self, padding=whole_number("padding", self.padding), fill=real_number("fill", self.fill))

    def __call__(self, x: npt.NDArray[np.float32], generator: np.random.Generator) -> npt.NDArray[np.float32]:
        """Return images (B, H, W, C), each moved.

        Parameters
        ----------
        x : ndarray, (B, H, W, C)
            The images.
        generator : Generator
            What is random.
        """
        batch, height, width, _ = _images(x).shape
        p = self.padding
        padded = np.pad(x, ((0, 0), (p, p), (p, p), (0, 0)), constant_values=self.fill)
        down, right = generator.integers(0, 2 * p + 1, (2, batch, 1))
        rows, columns = down + np.arange(height), right + np.arange(width)
        return padded[np.arange(batch)[:, None, None], rows[:, :, None], columns[:, None, :]]


class Compose:
    """Several augmentations, one after the other.

    Parameters
    ----------
    *augmentations : callable
        Functions ``augment(x, generator)``, in their order.

    Raises
    ------
    ConfigError
        One of them cannot be called.
    """

    def __init__(self, *augmentations: Augment) -> None:
        for augment in augmentations:
            checked_augment(augment)
        self.augmentations = augmentations

    def __call__(self, x: npt.NDArray[np.float32], generator: np.random.Generator) -> npt.NDArray[Any]:
        """Return what the augmentations make of a batch.

        Parameters
        ----------
        x : ndarray, (B, ``*input_shape``)
            The examples.
        generator : Generator
            What is random.
        """
        for augment in self.augmentations:
            x = augment(x, generator)
        return x

    def __repr__(self) -> str:
        return f"Compose({', '.join(map(statement_of, self.augmentations))})"


def checked_augment(augment: Any) -> Augment:
    """Return an augmentation, after checking that it can be called.

    Parameters
    ----------
    augment : callable
        A function ``augment(x, generator)``.

    Raises
    ------
    ConfigError
        It cannot be called, or is a class.
    """
    if isinstance(augment, type) or not callable(augment):
        raise ConfigError(
            f"augment is {shown(augment)}; a function augment(x, generator) is required, such as "
            "fgnumba.datasets.RandomFlip()"
        )
    return augment


def statement_of(augment: Any) -> str:
    """Return an augmentation as text, which a checkpoint holds: a run must be resumed with the same one.

    Parameters
    ----------
    augment : callable
        The augmentation.
    """
    if is_dataclass(augment) or isinstance(augment, Compose):
        return repr(augment)
    kind = augment if hasattr(augment, "__qualname__") else type(augment)
    return f"{kind.__module__}.{kind.__qualname__}"


def augmented(augment: Augment, x: npt.NDArray[Any], seed: int, number: int) -> npt.NDArray[np.float32]:
    """Return a version of a batch's examples, drawn by a generator that depends on seed and batch alone.

    Parameters
    ----------
    augment : callable
        The augmentation. It may change `x`.
    x : ndarray, (B, ``*input_shape``)
        The examples.
    seed : int
        The seed.
    number : int
        Number of the batch.

    Raises
    ------
    ShapeError, DtypeError
        The augmentation returns something other than real numbers of the same shape.
    """
    key = np.array([seed, number], np.uint64)
    result = np.asarray(augment(x, np.random.Generator(np.random.Philox(key=key))))
    if result.shape != x.shape:
        raise ShapeError(
            f"augment returned shape {result.shape} for examples of shape {x.shape}; the same is required"
        )
    if result.dtype.kind not in "fiub":
        raise DtypeError(f"augment returned dtype {result.dtype}; real numbers are required")
    return np.ascontiguousarray(result, np.float32)


def _images(x: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    if x.ndim != 4:
        raise ShapeError(f"augment: examples have shape {x.shape[1:]}; images (H, W, C) are required")
    return x
