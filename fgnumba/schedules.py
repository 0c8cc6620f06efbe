"""Schedules: learning rates as functions of the step; see :mod:`fgnumba.optimizers.schedules`."""

from fgnumba.optimizers.schedules import (
    Constant,
    Cosine,
    Exponential,
    Schedule,
    Warmup,
)

__all__ = [
    "Constant",
    "Cosine",
    "Exponential",
    "Schedule",
    "Warmup",
]
