"""Impossible arguments: each must be refused on one line, and nothing may change."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

import fgnumba as fg
from tests.state_machine.settings import Data
from tests.state_machine.subject import Subject, require

Case = Callable[[Subject, Any, Any], Any]


def _spoiled(array: np.ndarray, value: float) -> np.ndarray:
    found = np.array(array, np.float32)
    found.flat[found.size // 2] = value
    return found


def _calls(x: Any, y: Any) -> dict[str, Callable[[Subject], Any]]:
    """Return every call that takes examples and targets."""
    return {
        "step": lambda subject: subject.trainer.step(x, y),
        "estimate": lambda subject: subject.trainer.estimate(x, y),
        "jvp": lambda subject: fg.jvp(
            subject.model, subject.trainer.loss, x, y, fg.directions.RankOne(seed=1)
        ),
    }


EXAMPLES: dict[str, Callable[[np.ndarray], Any]] = {
    "no examples": lambda x: x[:0],
    "an axis more": lambda x: x[..., None],
    "an axis fewer": lambda x: x[0],
    "a wider row": lambda x: np.concatenate([x, x], axis=-1),
    "None": lambda x: None,
    "words": lambda x: np.full(x.shape, "x"),
    "complex": lambda x: x.astype(complex),
    "objects": lambda x: np.full(x.shape, None),
    "a number": lambda x: 3.0,
    "ragged": lambda x: [[1.0], [1.0, 2.0]],
}
UNFIT: dict[str, Callable[[np.ndarray], Any]] = {
    "NaN": lambda x: _spoiled(x, np.nan),
    "infinite": lambda x: _spoiled(x, np.inf),
}
TARGETS: dict[str, Callable[[np.ndarray, int], Any]] = {
    "one more": lambda y, n: np.concatenate([y, y[:1]]),
    "none": lambda y, n: y[:0],
    "None": lambda y, n: None,
    "words": lambda y, n: np.full(y.shape, "x"),
    "complex": lambda y, n: y.astype(complex),
    "an axis more": lambda y, n: y[..., None, None],
    "impossible": lambda y, n: np.full(y.shape, n) if y.ndim == 1 else _spoiled(y, np.nan),
    "negative or infinite": lambda y, n: np.full(y.shape, -1) if y.ndim == 1 else _spoiled(y, -np.inf),
    "ragged": lambda y, n: [[1, 2], [3]],
    "fractions or objects": lambda y, n: y + 0.5 if y.ndim == 1 else np.full(y.shape, None),
}
PARAMETERS: dict[str, Callable[[dict[str, np.ndarray]], Any]] = {
    "missing": lambda p: dict(list(p.items())[1:]),
    "unknown": lambda p: {**p, "nothing": np.zeros(1, np.float32)},
    "an axis more": lambda p: {**p, _last(p): p[_last(p)][..., None]},
    "words": lambda p: {**p, _last(p): np.full(p[_last(p)].shape, "x")},
    "complex": lambda p: {**p, _last(p): p[_last(p)].astype(complex)},
    "ragged": lambda p: {**p, _last(p): [[1.0, 2.0], [3.0]]},
    "None": lambda p: {**p, _last(p): None},
}
FITS: dict[str, dict[str, Any]] = {
    "both": {"steps": 1, "epochs": 1},
    "no steps": {"steps": 0},
    "fewer than none": {"steps": -1},
    "half an epoch": {"epochs": 0.5},
    "true": {"steps": True},
    "an empty batch": {"steps": 1, "batch_size": 0},
    "a batch of words": {"steps": 1, "batch_size": "3"},
    "records of none": {"steps": 1, "evaluate_every": 0},
    "a limit of none": {"steps": 1, "stop_above": 0.0},
    "resumed from nowhere": {"steps": 1, "resume": True},
    "validated by all": {"steps": 1, "validation": 1.0},
    "validated by a word": {"steps": 1, "validation": "x"},
    "two stoppings": {
        "validation": 0.5,
        "callbacks": [fg.callbacks.EarlyStopping(), fg.callbacks.EarlyStopping()],
    },
}


def _last(parameters: dict[str, np.ndarray]) -> str:
    return list(parameters)[-1]


def _x(call: str, spoil: Callable[..., Any], subject: Subject, x: Any, y: Any) -> Any:
    return _calls(spoil(x), y)[call](subject)


def _y(call: str, spoil: Callable[..., Any], subject: Subject, x: Any, y: Any) -> Any:
    return _calls(x, spoil(y, subject.recipe.network.outputs))[call](subject)


def _predict(spoil: Callable[..., Any], subject: Subject, x: Any, y: Any) -> Any:
    return subject.model(spoil(x))


def _evaluate(spoil: Callable[..., Any], subject: Subject, x: Any, y: Any) -> Any:
    return fg.evaluate(subject.model, spoil(x), np.zeros(len(x), np.int64))


def _load(change: Callable[..., Any], subject: Subject, x: Any, y: Any) -> Any:
    return subject.model.load_parameters(change(subject.model.parameters()))


def _tangents(change: Callable[..., Any], subject: Subject, x: Any, y: Any) -> Any:
    return fg.jvp(subject.model, subject.trainer.loss, x, y, change(subject.model.parameters()))


def _fit(arguments: dict[str, Any], subject: Subject, x: Any, y: Any) -> Any:
    return subject.trainer.fit(Data(0, 5).build(subject.recipe.network), **arguments)


def cases() -> dict[str, Case]:
    """Return every case: it is given a subject and a batch that is right."""
    calls = tuple(_calls(None, None))
    return {
        **{f"{call}, x {name}": partial(_x, call, f) for call in calls for name, f in EXAMPLES.items()},
        **{f"{call}, y {name}": partial(_y, call, f) for call in calls for name, f in TARGETS.items()},
        **{f"{call}, x {name}": partial(_x, call, f) for call in calls[:2] for name, f in UNFIT.items()},
        **{f"predict, x {name}": partial(_predict, f) for name, f in EXAMPLES.items()},
        **{f"evaluate, x {name}": partial(_evaluate, f) for name, f in EXAMPLES.items()},
        **{f"load, {name}": partial(_load, f) for name, f in PARAMETERS.items()},
        **{f"tangents, {name}": partial(_tangents, f) for name, f in PARAMETERS.items()},
        **{f"fit, {name}": partial(_fit, arguments) for name, arguments in FITS.items()},
    }


CASES = cases()


def refuses(call: Callable[[], Any], what: str) -> None:
    """Have a call refuse in one line."""
    try:
        call()
    except fg.FgError as error:
        text = str(error)
        require(len(text.splitlines()) == 1 and text.isprintable(), f"{what}: refused in lines: {text!r}")
        return
    except Exception as error:
        raise AssertionError(f"{what}: {type(error).__name__} instead of an FgError: {error}") from error
    raise AssertionError(f"{what}: taken")
