"""Settings of a run on a text: which data are one, and what suits it where the user says nothing."""

from collections.abc import Mapping
from typing import Any

from fgnumba.runs.presets import TEXT_MODELS

KINDS = ("characters", "bytes")
"""What the symbols of a text can be. ``fgnumba.datasets`` has them, too, and is not imported before data are loaded."""
MAX_CONTEXT = 1 << 24
ENDING = ".txt"
SUITED: dict[str, Any] = {"context": 64, "symbols": "characters", "batch_size": 32, "schedule": "cosine"}


def suited(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings with those added that suit a text, if the data are one and the user did not give them.

    Parameters
    ----------
    given : mapping
        The settings that the user gave, by the names of :class:`fgnumba.runs.configuration.RunConfig`'s parameters.
    """
    settings = dict(given)
    if not is_text(settings):
        return settings
    if "layers" not in settings:
        settings.setdefault("model", TEXT_MODELS[0])
    for name, value in SUITED.items():
        settings.setdefault(name, value)
    if not settings.get("patience"):
        # What is held out of a text lies just before its test part and tells most about it: on tiny Shakespeare, whose
        # last part is one play, a run without these five hundredths is at 1.89 nats a character, and else at 1.69.
        settings.setdefault("validation", 0.0)
    return settings


def is_text(settings: Mapping[str, Any]) -> bool:
    """Return whether the data of settings are a text: its file, its symbols, its windows or its model say so."""
    if settings.get("target") is not None:
        return False
    names = (settings.get(name) for name in ("symbols", "context"))
    if any(value is not None for value in names) or settings.get("model") in TEXT_MODELS:
        return True
    data = settings.get("data")
    return isinstance(data, str) and data.lower().endswith(ENDING)
