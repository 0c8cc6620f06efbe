"""Figures of a run as text: losses and the metric by which its progress is judged."""

import math
from collections.abc import Mapping, Sequence

from fgnumba.training.records import Record
from fgnumba.training.text_metrics import NATS, TEXT_METRICS

PER_CHARACTER = "nats/char"
"""Name of the metric of a text in figures: the nats per character."""


def number(value: float) -> str:
    """Return a loss or a metric with four decimal places, a large one with four digits and a power of ten."""
    return f"{value:.4f}" if abs(value) < 1e4 else f"{value:.3e}"


def of_text(metrics: Mapping[str, float], part: str = "") -> str | None:
    """Return what was measured of a text in words, or None if it was no text.

    Parameters
    ----------
    metrics : mapping of str to float
        Metrics by name.
    part : str
        What the names begin with, such as ``test_``. Default: nothing.
    """
    values = [metrics.get(f"{part}{name}") for name in TEXT_METRICS]
    if None in values:
        return None
    nats, bits, perplexity = (number(value) for value in values if value is not None)
    return f"{nats} nats per character, {bits} bits, perplexity {perplexity}"


def metric_of(record: Record, parts: Sequence[str] = ("validation", "test")) -> tuple[str, str] | None:
    """Return the name and the value of the metric to show: the accuracy where there is one, else the run's first.

    Of a text it is the nats per character.

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
        nats = record.metrics.get(f"{part}_{NATS}", math.nan)
        if not math.isnan(nats):
            return PER_CHARACTER, number(nats)
        accuracy = getattr(record, f"{part}_accuracy")
        if not math.isnan(accuracy):
            return "accuracy", number(accuracy)
        for name, value in record.metrics.items():
            if name.startswith(f"{part}_") and not math.isnan(value):
                return name.removeprefix(f"{part}_"), number(value)
    return None
