"""The model of a run's best record, kept in a file while the run goes on."""

import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fgnumba.errors import ConfigError
from fgnumba.model.described import content_of
from fgnumba.storage.durable import make_folder, replace
from fgnumba.training.callbacks import Callback
from fgnumba.training.kept_states import checked
from fgnumba.training.monitors import Monitor
from fgnumba.training.records import History, Record
from fgnumba.validation.paths import path_of


class BestCheckpoint(Callback):
    """Writes the model of the best record so far into a file, each time there is a better one.

    The file is what ``model.save`` writes: :func:`fgnumba.load` reads it. It is replaced as a whole, so that another
    process may read it at any moment. A file that is there when a run begins is replaced at the first record. A model
    that ``model.save`` refuses, because a layer is of a class of your own, is written as its parameters alone:
    ``model.load_parameters(safetensors.numpy.load_file(path))`` reads both kinds of file.

    The object's state is kept in checkpoints, so that a resumed run only replaces the file by parameters that are
    better than those before the interruption. If the file is gone by then, the next record is written.

    A file that cannot be written, on a full disk for instance, is no reason to end a run: a line of warning says so,
    and writing is tried again at each record and at the end.

    Parameters
    ----------
    path : str or path
        The file. Its folder is created if it is missing.
    monitor : str
        The figure that decides: ``"validation_loss"`` (the default), ``"validation_accuracy"``, ``"validation_NAME"``
        for another metric of the run, or ``"loss"``, the training loss.
    mode : str, optional
        ``"max"`` if larger values are better, ``"min"`` if smaller ones are. None (the default): as the name says.
    warn : callable, optional
        Called with a line of text if the file cannot be written. None (the default): issues a ``RuntimeWarning``.

    Attributes
    ----------
    best : float or None
        The best value so far, or None before the first record.
    best_step : int
        The step of the record with the best value.

    Raises
    ------
    ConfigError
        A value is impossible; or, during a run, its records have no such figure.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        monitor: str = "validation_loss",
        mode: str | None = None,
        warn: Callable[[str], None] | None = None,
    ) -> None:
        self.path = path_of(path, "path")
        self._monitor = Monitor(monitor, mode, training=True)
        self._warn = warn or _warn
        self._trainer: Any = None
        self._forget()

    def _forget(self) -> None:
        self.best: float | None = None
        self.best_step = 0
        self._restored, self._warned = False, False
        # What could not be written yet.
        self._left: bytes | None = None

    def __getstate__(self) -> dict[str, Any]:
        # A copy must not write the original's model.
        return {**vars(self), "_trainer": None}

    @property
    def monitor(self) -> str:
        """The figure that decides."""
        return self._monitor.name

    @property
    def needs_validation(self) -> bool:
        """Whether the run needs validation data."""
        return self.monitor != "loss"

    @property
    def statement(self) -> str:
        """The settings as one line of text. A checkpoint holds it, because a run must be resumed with the same ones.

        The path is not among them, so that files may be moved between two parts of a run.
        """
        return f"{self.monitor}, mode {self._monitor.mode}"

    @property
    def state(self) -> dict[str, Any]:
        """The attributes that change during a run, as values that JSON can hold."""
        return {"best": self.best, "best_step": self.best_step}

    @state.setter
    def state(self, seen: dict[str, Any]) -> None:
        seen = checked("the best record", seen, {"best": (float, type(None)), "best_step": (int,)})
        self.best, self.best_step, self._restored = seen["best"], seen["best_step"], True

    def on_start(self, trainer: Any, steps: int) -> None:
        """Forget the records of earlier runs."""
        self._forget()
        self._trainer = trainer

    def on_resume(self, trainer: Any, steps: int, done: int) -> None:
        """Keep the state that the run has restored from its checkpoint, if the file is still there."""
        if not self._restored or not self.path.is_file():
            self._forget()
        self._restored, self._trainer = False, trainer

    def on_record(self, record: Record) -> None:
        """Write the model if the record is better than all before it."""
        value = self._monitor.value(record)
        if self._monitor.better(value, self.best):
            self.best, self.best_step = value, record.step
            self._left = _content(self._trainer.model)
        self._write()

    def on_end(self, history: History) -> None:
        """Try once more to write a model that could not be written."""
        self._write()
        self._trainer = None

    def _write(self) -> None:
        if self._left is None:
            return
        try:
            make_folder(self.path.parent)
            replace(Path(os.path.realpath(self.path)), self._left)
            self._left = None
        except OSError as error:
            if not self._warned:
                self._warn(
                    f"{self.path}: the model of step {self.best_step} is not written, training goes on: "
                    f"{error.strerror or error}"
                )
            self._warned = True


def _content(model: Any) -> bytes:
    from safetensors.numpy import save

    try:
        return content_of(model)
    except ConfigError:
        # Nothing that a file cannot say of a model may cost the run.
        return save(model.parameters())


def _warn(message: str) -> None:
    warnings.warn(message, RuntimeWarning, stacklevel=3)
