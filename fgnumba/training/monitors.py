"""Monitors: the figure of a record that a callback watches, and whether a larger or a smaller value is better."""

import math
from typing import Any

from fgnumba.errors import ConfigError, did_you_mean, shown
from fgnumba.training.records import Record
from fgnumba.training.scoring import SMALLER_IS_BETTER

MONITORS = {"validation_accuracy": 1.0, "validation_loss": -1.0}
"""Figures that every record of a classifier with validation data has: 1 if larger is better, -1 if smaller is."""

_VALIDATION = "validation_"
_LARGER = ("accuracy", "auc", "f1", "precision", "r2", "recall", "top_k", "top5")
_SMALLER = (*SMALLER_IS_BETTER, "brier", "deviance", "error", "mse", "perplexity")
_MODES = {"max": 1.0, "min": -1.0}


class Monitor:
    """A figure of a record that a callback watches.

    Parameters
    ----------
    name : str
        Name of the figure: ``"validation_loss"``, ``"validation_accuracy"`` or ``"validation_NAME"`` for another metric
        of the run. ``"loss"``, the training loss, where `training` allows it.
    mode : str, optional
        ``"max"`` if larger is better, ``"min"`` if smaller is better. None (the default): as the name tells; a name
        that ends in ``loss``, ``error``, ``mse`` or the like is smaller-is-better, one that ends in ``accuracy``,
        ``f1``, ``auc`` or the like larger-is-better.
    training : bool
        Whether the training loss may be watched, too. Default: False.

    Attributes
    ----------
    sign : float
        1 if larger is better, -1 if smaller is better.
    inferred : bool
        Whether the name alone says the same.

    Raises
    ------
    ConfigError
        The name is no figure on validation data, or its mode is not given and not known.
    """

    def __init__(self, name: Any, mode: Any = None, training: bool = False) -> None:
        if mode is not None and (not isinstance(mode, str) or mode not in _MODES):
            raise ConfigError(f"mode is {shown(mode)}; 'max' or 'min' is required")
        known = [*MONITORS, *(("loss",) if training else ())]
        if not isinstance(name, str) or not (name in known or name.startswith(_VALIDATION)):
            raise ConfigError(f"monitor: unknown figure {shown(name)}{did_you_mean(str(name), known)}")
        guess = _sign_of(name)
        if mode is None and guess is None:
            raise ConfigError(
                f"monitor: unknown figure {shown(name)}{did_you_mean(name, known)}; for a metric of your own, "
                f"mode='max' or mode='min' is required"
            )
        self.name = str(name)
        self.sign: float = _MODES[mode] if mode is not None else (guess or 0.0)
        self.inferred = self.sign == guess

    @property
    def mode(self) -> str:
        """``"max"`` if larger is better, else ``"min"``."""
        return "max" if self.sign > 0 else "min"

    def value(self, record: Record) -> float:
        """Return the figure in a record.

        Parameters
        ----------
        record : Record
            The record.

        Raises
        ------
        ConfigError
            The record has no such figure.
        """
        if self.name in ("loss", "validation_loss"):
            return float(getattr(record, self.name))
        figures = figures_of(record)
        if self.name not in figures and (self.name != "validation_accuracy" or len(figures) > 1):
            had = [name for name in figures if name == "loss" or name.startswith(_VALIDATION)]
            raise ConfigError(f"monitor: the run has no {self.name}; it has {', '.join(had)}")
        return figures.get(self.name, math.nan)

    def better(self, value: float, best: float | None, by: float = 0.0) -> bool:
        """Return whether `value` is better than the best one so far; NaN is never better.

        Parameters
        ----------
        value : float
            The value.
        best : float or None
            The best value so far, or None if there is none.
        by : float
            The smallest difference that counts. Default: 0.
        """
        before = -math.inf if best is None else self.sign * best
        return self.sign * value > before + by


def figures_of(record: Record) -> dict[str, float]:
    """Return the losses and metrics that a record has, by their names; those that were not measured are left out.

    An accuracy that is NaN was not measured. A loss on the same data that is NaN was measured if another figure was.

    Parameters
    ----------
    record : Record
        The record.
    """
    figures = {"loss": float(record.loss)}
    metrics = {name: float(value) for name, value in record.metrics.items()}
    for part in ("validation", "test"):
        loss, accuracy = (float(getattr(record, f"{part}_{name}")) for name in ("loss", "accuracy"))
        others = any(name.startswith(f"{part}_") for name in metrics)
        if not math.isnan(loss) or not math.isnan(accuracy) or others:
            figures[f"{part}_loss"] = loss
        if not math.isnan(accuracy):
            figures[f"{part}_accuracy"] = accuracy
    return {**figures, **metrics}


def _sign_of(name: str) -> float | None:
    """Return 1 if the name says that larger is better, -1 for smaller, None if it says neither."""
    for endings, sign in ((_SMALLER, -1.0), (_LARGER, 1.0)):
        if name.endswith(endings):
            return sign
    return None
