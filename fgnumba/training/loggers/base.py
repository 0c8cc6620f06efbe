"""The base class of loggers: what is logged, when, and what happens when the place to log to fails."""

import math
import sys
import warnings
from collections.abc import Callable, Mapping
from contextlib import suppress
from importlib.util import find_spec
from typing import Any

from fgnumba.errors import ConfigError, printable
from fgnumba.kernels.devices.precision import described
from fgnumba.training.callbacks import Callback
from fgnumba.training.monitors import figures_of
from fgnumba.training.records import History, Record


class Logger(Callback):
    """Base class of callbacks that log a run to a file, a database or a server.

    At the start, a logger gets the settings of the run: the model, the loss, the estimator, the optimiser, the seed,
    the batch size and the number of steps. At each record it gets the losses and metrics that were measured, the
    learning rate, the epoch and the seconds. What a record gets after it was logged, the test figures of a run that
    diverged for instance, is logged at the end. A run that is resumed is logged on: what was logged beyond the
    checkpoint does not appear twice.

    Whatever fails in a logger, on a full disk or without its server, is said in one line. The logger then does nothing
    for the rest of the run, which goes on without it.

    A subclass defines :meth:`begin`, :meth:`write` and :meth:`finish`.

    Parameters
    ----------
    warn : callable, optional
        Called with a line of text if the logger fails. None (the default): issues a ``RuntimeWarning``.
    """

    def __init__(self, warn: Callable[[str], None] | None = None) -> None:
        self._warn = warn or _warn
        self._works = False
        # `_logged`: the names that were logged at the steps of this process.
        self._logged: dict[int, set[str]] = {}

    def begin(self, settings: Mapping[str, Any], done: int) -> None:
        """Open what is logged to.

        Parameters
        ----------
        settings : mapping
            The settings of the run, as text and numbers.
        done : int
            Number of steps that the run has taken already, 0 for a new one. What was logged at later steps is to be
            replaced.
        """
        raise NotImplementedError

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Log figures.

        Parameters
        ----------
        step : int
            The step to which they belong.
        values : mapping
            The figures by name.
        """
        raise NotImplementedError

    def drop(self, step: int) -> None:
        """Drop what was logged after a step to which the run has gone back, where that is possible.

        Parameters
        ----------
        step : int
            The step.
        """

    def finish(self, ended_by: str) -> None:
        """Close what is logged to.

        Parameters
        ----------
        ended_by : str
            What ended the run, as ``History.ended_by`` says it.
        """
        raise NotImplementedError

    def release(self) -> None:
        """Give back what is open after a failure, without writing anything. By default there is nothing."""

    def on_start(self, trainer: Any, steps: int) -> None:
        """Log the settings of a new run."""
        self._open(trainer, steps, 0)

    def on_resume(self, trainer: Any, steps: int, done: int) -> None:
        """Go on with the log of a run that is resumed."""
        self._open(trainer, steps, done)

    def on_record(self, record: Record) -> None:
        """Log the figures of a record."""
        self._log(record)

    def on_end(self, history: History) -> None:
        """Log what the last record has got meanwhile, and close the log."""
        if history.records and history.ended_by == "divergence":
            step = history.records[-1].step
            self._attempt(lambda: self.drop(step))
        if history.records:
            self._log(history.records[-1])
        self._attempt(lambda: self.finish(history.ended_by or "error"))
        self._works = False

    def _open(self, trainer: Any, steps: int, done: int) -> None:
        self._works, self._logged = True, {}
        self._attempt(lambda: self.begin(settings_of(trainer, steps), done))

    def _log(self, record: Record) -> None:
        values, known = values_of(record), self._logged.setdefault(record.step, set())
        new = {name: value for name, value in values.items() if name not in known}
        if new and new.keys() != {"seconds"}:
            self._attempt(lambda: self.write(record.step, new))
            known.update(new)

    def _attempt(self, do: Callable[[], None]) -> None:
        """Call a function if the logger works; if that fails, say so, and do nothing from then on."""
        if not self._works:
            return
        try:
            do()
        except Exception as error:
            self._works = False
            with suppress(Exception):
                self.release()
            reason = getattr(error, "strerror", None) or str(error)
            name = type(error).__name__
            self._warn(
                printable(
                    f"{type(self).__name__} logs no more, training goes on: {name}{f': {reason}' if reason else ''}"
                )
            )


def settings_of(trainer: Any, steps: int) -> dict[str, Any]:
    """Return the settings of a run, as a logger logs them: text and whole numbers by name.

    Parameters
    ----------
    trainer : Trainer
        The trainer of the run, or the descent of a function.
    steps : int
        Number of steps of the whole run.
    """
    if callable(getattr(trainer, "settings", None)):
        # A descent of a function has no model.
        return {**trainer.settings(steps), "fgnumba": sys.modules["fgnumba"].__version__}
    # The run has bound its batch size last.
    batch_size = next(reversed(trainer.estimates))[0] if trainer.estimates else 0
    return {
        "model": repr(trainer.model),
        "parameters": trainer.model.parameter_count,
        "loss": repr(trainer.loss),
        "estimator": repr(trainer.estimator),
        "optimizer": repr(trainer.optimizer),
        "seed": trainer.seed,
        "batch_size": batch_size,
        "steps": steps,
        "device": str(trainer.model.device),
        "precision": described(*trainer.model.processor.precisions),
        "fgnumba": sys.modules["fgnumba"].__version__,
    }


def values_of(record: Record) -> dict[str, float]:
    """Return what is logged of a record: its losses and metrics, its learning rate, epoch and seconds.

    Parameters
    ----------
    record : Record
        The record. Figures that were not measured are left out.
    """
    others = {name: float(getattr(record, name)) for name in ("learning_rate", "epoch", "seconds")}
    return {
        **figures_of(record),
        **{name: value for name, value in others.items() if not math.isnan(value)},
    }


def require(module: str, extra: str, what: str) -> None:
    """Raise ConfigError, with the command that installs it, if a package is missing; nothing is imported.

    Parameters
    ----------
    module : str
        Name of the module.
    extra : str
        The extra of fgnumba that installs it.
    what : str
        What needs it.
    """
    if find_spec(module) is None:
        raise ConfigError(f"{what} needs {module}: pip install 'fgnumba[{extra}]'")


def _warn(message: str) -> None:
    warnings.warn(message, RuntimeWarning, stacklevel=3)
