"""Rotary embedding: pairs of elements of each head are turned by angles that grow with the position, dual."""

import numpy as np
import numpy.typing as npt


def turns(length: int, size: int, base: float, inverse: bool) -> npt.NDArray[np.float32]:
    """Return the cosines and the sines of the angles by which the pairs of a head are turned.

    Parameters
    ----------
    length : int
        Number of positions L.
    size : int
        Number d of elements of a head, which is even.
    base : float
        The base: at position l, pair c is turned by the angle l base^(-2 c / d).
    inverse : bool
        Whether the pairs are turned back.

    Returns
    -------
    array, (L, d) float32
        At each position d / 2 cosines, then d / 2 sines. They are computed in float64: float32 holds no angle of 10⁶
        to better than 1/16.
    """
    pairs = size // 2
    angles = np.outer(np.arange(length), float(base) ** (-np.arange(pairs) / pairs))
    return np.concatenate([np.cos(angles), np.sin(-angles if inverse else angles)], 1).astype(np.float32)
