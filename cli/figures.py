"""Figures of a run as text: losses and the metric by which its progress is judged."""

import math
from collections.abc import Sequence

from fgnumba.training.records import Record


def number(value: float) -> str:
    """Return a loss or a metric with four decimal places, a large one with four digits and a power of ten."""
    return f"{value:.4f}" if abs(value) < 1e4 else f"{value:.3e}"


def metric_of(record: Record, parts: Sequence[str] = ("validation", "test")) -> tuple[str, str] | None:
    """Return the name and the value of the metric to show: the accuracy where there is one, else the run's first.

    Parameters
    ----------
    record : Record
        The record.
    parts : sequence of str
        Parts of the data, ``validation`` or ``test``; the first one that was measured is shown.

    Returns
    -------
    tuple of str or None
        The name without the part of the data, such as ``accuracy``, and the value as text. None: nothing was measured.
    """
    for part in parts:
        accuracy = getattr(record, f"{part}_accuracy")
        if not math.isnan(accuracy):
            return "accuracy", number(accuracy)
        for name, value in record.metrics.items():
            if name.startswith(f"{part}_") and not math.isnan(value):
                return name.removeprefix(f"{part}_"), number(value)
    return None
