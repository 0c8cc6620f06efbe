"""Directions v: random tangents of the parameters; see :mod:`fgnumba.model.directions`."""

from fgnumba.model.directions import (
    BY_NAME,
    Direction,
    Gaussian,
    Orthogonal,
    Rademacher,
    RankOne,
    by_name,
)

__all__ = [
    "BY_NAME",
    "Direction",
    "Gaussian",
    "Orthogonal",
    "Rademacher",
    "RankOne",
    "by_name",
]
