"""Settings of a run on a text: which data are one, and what suits it where the user says nothing.

A model that carries a state reads a text as streams. One that mixes positions otherwise or counts them, such as a
transformer, reads windows at random places. The two kinds have settings of their own.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from fgnumba.errors import FgError
from fgnumba.runs.presets import CONTEXT, TEXT_MODELS, tables
from fgnumba.runs.toml_file import read_toml
from fgnumba.validation.paths import path_of

KINDS = ("characters", "bytes")
"""What the symbols of a text can be. ``fgnumba.datasets`` has them, too, and is not imported before data are loaded."""
MAX_CONTEXT = 1 << 24
ENDING = ".txt"


class Suited(NamedTuple):
    """What suits a kind of model that reads texts. The recipe of the estimator has its optimiser and learning rate.

    Parameters
    ----------
    estimator : str
        The estimator of models of this kind, whatever their names, that it can train.
    batch_size : int
        Number of streams, or of windows, in each step.
    warmup : int
        Number of steps over which the learning rate rises; 0: it begins at its highest.
    context : int
        Number of symbols of each stream or window. Default: 64.
    symbols : str
        What the symbols are. Default: ``"characters"``.
    schedule : str
        How the learning rate falls. Default: ``"cosine"``.
    """

    estimator: str
    batch_size: int
    warmup: int = 0
    context: int = CONTEXT
    symbols: str = "characters"
    schedule: str = "cosine"


STREAMS = Suited("rtrl", batch_size=32)
"""What suits models that carry a state from window to window, or take each position by itself."""
WINDOWS = Suited("block-feedback", batch_size=12, warmup=100)
"""What suits models that mix positions otherwise, or count them."""
RISING = 10
"""A run that is shorter than this many warm-ups of `Suited` has one that takes this fraction of its steps."""


def of_kind(windows: bool) -> Suited:
    """Return what suits models that read windows, or else streams.

    Parameters
    ----------
    windows : bool
        Whether the model reads windows, as :attr:`fgnumba.Graph.reads_windows` says.
    """
    return WINDOWS if windows else STREAMS


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
    kind = of_kind(reads_windows(settings))
    for name in ("context", "symbols", "batch_size", "schedule"):
        settings.setdefault(name, getattr(kind, name))
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


def reads_windows(settings: Mapping[str, Any]) -> bool:
    """Return whether the model in settings reads a text in windows, as the types of its layers say.

    A file of layers that cannot be read has none: what is wrong with it is said where the model is made.
    """
    from fgnumba.layers.composite import Composite
    from fgnumba.layers.tables import LAYERS

    named = (table.get("type") for table in _layers(settings) if isinstance(table, Mapping))
    kinds = [LAYERS[kind] for kind in named if isinstance(kind, str) and kind in LAYERS]
    return any(issubclass(kind, Composite) or kind.mixes_positions or kind.counts_positions for kind in kinds)


def _layers(settings: Mapping[str, Any]) -> Sequence[Any]:
    written, model = settings.get("layers"), settings.get("model")
    if written is None and model in TEXT_MODELS:
        return tables(model, 2)
    if written is None and isinstance(model, str) and model.endswith(".toml"):
        try:
            written = read_toml(path_of(model, "model"), "model").get("layers")
        except FgError:
            return ()
    return written if isinstance(written, list | tuple) else ()
