"""The shape of images: height, width, channels. PyTorch and many files put the channels first."""

from collections.abc import Sequence

CHANNELS = (1, 3)
SMALLEST = 8
"""Smallest height of what is taken for an image; the embedded digits have it."""


def channels_seem_first(shape: Sequence[int]) -> bool:
    """Return whether a shape (H, W, C) looks like (channels, height, width): (1, 28, 28) or (3, 32, 32).

    Parameters
    ----------
    shape : sequence of int
        The shape of one image.
    """
    return len(shape) == 3 and shape[0] in CHANNELS and shape[1] == shape[2] >= SMALLEST
