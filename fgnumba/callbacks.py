"""What a trainer reports while it runs, and what may end it early; see :mod:`fgnumba.training.callbacks`."""

from fgnumba.training.callbacks import (
    MONITORS,
    Callback,
    EarlyStopping,
    History,
    Record,
    StepResult,
    result_of,
)

__all__ = [
    "MONITORS",
    "Callback",
    "EarlyStopping",
    "History",
    "Record",
    "StepResult",
    "result_of",
]
