"""Schedules: learning rates as functions of the step, and measured ones; see :mod:`fgnumba.optimizers.schedules`."""

from fgnumba.optimizers.measured_rate import MeasuredRate
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
    "MeasuredRate",
    "Schedule",
    "Warmup",
]
