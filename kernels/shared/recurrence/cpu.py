"""Scans over the positions of sequences: parameters that are vectors, states that are carried on, and parts."""

from dataclasses import dataclass
from typing import Any

import numpy.typing as npt

from fgnumba.kernels.rules.directions import NONE


@dataclass(frozen=True)
class Vectors:
    """Parameters of a recurrence that are vectors, and their directions.

    Parameters
    ----------
    values : tuple of array, each (G Hp,) float32
        The packed parameters.
    parameters : tuple of int
        Their numbers in the Philox counter.
    kind : int
        The kind of direction, see ``rules.directions``. For RANK1 the entries are random signs, and for NONE zeros.
    count : int
        Number of directions T.
    first : int
        Number of the first direction in the Philox counter.
    stream : array, (1,) ``philox.STREAM``
        Seed and step, read when the operation runs.
    v : tuple of array, each (T, G Hp) float32 or None
        The directions, if their kind is EXPLICIT.
    """

    values: tuple[npt.NDArray[Any], ...]
    parameters: tuple[int, ...]
    kind: int = NONE
    count: int = 0
    first: int = 0
    stream: npt.NDArray[Any] | None = None
    v: tuple[npt.NDArray[Any] | None, ...] = ()
