"""Metrics: numbers beside the loss that say how good a model's predictions are."""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fgnumba.errors import ConfigError, did_you_mean, shown
from fgnumba.layers.losses import Loss
from fgnumba.validation import as_float

Function = Callable[[npt.NDArray[Any], npt.NDArray[Any]], Any]
Metrics = str | Function | Sequence[str | Function] | Mapping[str, Function] | None


class Metric(NamedTuple):
    """A metric and its name.

    Parameters
    ----------
    name : str
        The name, as records have it after ``validation_`` or ``test_``.
    function : callable
        Takes targets and predictions (see :meth:`fgnumba.Loss.predictions`) and returns a number.
    """

    name: str
    function: Function


def accuracy(targets: npt.NDArray[Any], predictions: npt.NDArray[Any]) -> float:
    """Return the fraction of labels that are predicted correctly, over all labels if an example has several."""
    return float(np.mean(targets == predictions))


def r2(targets: npt.NDArray[Any], predictions: npt.NDArray[Any]) -> float:
    """Return the coefficient of determination R², the mean over the outputs.

        R² = 1 - Σ_i (y_i - p_i)² / Σ_i (y_i - mean(y))²

    Where all targets of an output are equal, R² is 1 if the predictions are right and else 0, as in scikit-learn.
    """
    y, p = targets.astype(np.float64), predictions.astype(np.float64)
    residual, total = ((y - p) ** 2).sum(axis=0), ((y - y.mean(axis=0)) ** 2).sum(axis=0)
    constant = total == 0
    ratio = np.where(constant, residual != 0, residual / np.where(constant, 1, total))
    return float(np.mean(1 - ratio))


def mae(targets: npt.NDArray[Any], predictions: npt.NDArray[Any]) -> float:
    """Return the mean absolute error, over examples and outputs."""
    return float(np.mean(np.abs(targets.astype(np.float64) - predictions)))


def rmse(targets: npt.NDArray[Any], predictions: npt.NDArray[Any]) -> float:
    """Return the root of the mean squared error, over examples and outputs."""
    return float(np.sqrt(np.mean((targets.astype(np.float64) - predictions) ** 2)))


METRICS: dict[str, Function] = {"accuracy": accuracy, "mae": mae, "r2": r2, "rmse": rmse}
"""The metrics by name."""
MAX_NAME, MOST = 100, 32
"""Largest length of a metric's name, and largest number of metrics, so that a record fits into a line of a file."""
_NAME = re.compile(rf"[A-Za-z_]\w{{0,{MAX_NAME - 1}}}", re.ASCII)
SMALLER_IS_BETTER = frozenset(("loss", "mae", "rmse"))
"""Names of quantities that are better if they are smaller."""


def metrics_of(given: Metrics, loss: Loss) -> tuple[Metric, ...]:
    """Return metrics, the one by which models with the loss are judged first.

    Parameters
    ----------
    given : str, callable, sequence of them, mapping of str to callable, or None
        Names in `METRICS` or functions ``f(targets, predictions)``, such as scikit-learn's. A mapping gives functions
        their names; without one, a function is called by its own.
    loss : Loss
        The loss, whose :attr:`~fgnumba.Loss.metric` is added if it is missing.

    Raises
    ------
    ConfigError
        There is no metric of a name, two have the same name, one is neither a name nor a function, there are too many,
        or the accuracy is asked for where targets are real numbers.
    """
    if isinstance(given, Mapping):
        named = [_named(name, function) for name, function in given.items()]
    else:
        several = (
            [] if given is None else [given] if isinstance(given, str) or callable(given) else list(given)
        )
        named = [_metric(one) for one in several]
    if loss.metric not in (metric.name for metric in named):
        named.insert(0, Metric(loss.metric, METRICS[loss.metric]))
    if len(named) > MOST:
        raise ConfigError(f"metrics: there are {len(named)}; at most {MOST} are possible")
    if loss.metric != "accuracy" and any(metric.function is accuracy for metric in named):
        raise ConfigError(
            f"metrics: accuracy is that of labels; {type(loss).__name__} takes real numbers, for which "
            "r2, mae and rmse are known"
        )
    names = [metric.name for metric in named]
    for name in names:
        if names.count(name) > 1 or name == "loss":
            raise ConfigError(f"metrics: two are called {name!r}; give them names: {{'name': function}}")
    return tuple(named)


def _metric(given: Any) -> Metric:
    if isinstance(given, str):
        if given not in METRICS:
            raise ConfigError(f"metrics: unknown metric {shown(given)}{did_you_mean(given, METRICS)}")
        return Metric(given, METRICS[given])
    name = getattr(given, "__name__", None) or getattr(getattr(given, "func", None), "__name__", None)
    return _named(name or type(given).__name__, given)


def _named(name: Any, function: Any) -> Metric:
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ConfigError(
            f"metrics: the name {shown(name)} is no word of at most {MAX_NAME} letters from a to z, digits and _; "
            "one like macro_f1 is required"
        )
    if isinstance(function, str):
        return Metric(name, _metric(function).function)
    if not callable(function):
        raise ConfigError(
            f"metrics: {name} is {shown(function)}; a function of targets and predictions, or one of "
            f"{', '.join(METRICS)}, is required"
        )
    return Metric(name, function)


def scored(
    metrics: Sequence[Metric], targets: npt.NDArray[Any], predictions: npt.NDArray[Any]
) -> dict[str, float]:
    """Return the value of each metric by its name: NaN where a prediction is not finite, of which no metric is asked.

    Parameters
    ----------
    metrics : sequence of Metric
        The metrics.
    targets : ndarray
        The targets.
    predictions : ndarray
        What the model predicts, in the form of the targets.

    Raises
    ------
    ConfigError
        A metric returns something that is not a number.
    """
    if predictions.dtype.kind == "f" and not np.isfinite(predictions).all():
        # Those of scikit-learn raise errors then, which would hide that the run has diverged.
        return {metric.name: math.nan for metric in metrics}
    values = {}
    for metric in metrics:
        try:
            # A user's function gets copies: what it does to them must change neither the data nor the other metrics.
            own = metric.function in METRICS.values()
            result = metric.function(
                *((targets, predictions) if own else (targets.copy(), predictions.copy()))
            )
        except Exception as error:
            error.add_note(f"raised by the metric {metric.name}")
            raise
        value = as_float(result)
        if value is None:
            raise ConfigError(f"metrics: {metric.name} returned {shown(result)}; a number is required")
        values[metric.name] = value
    return values
