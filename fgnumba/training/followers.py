"""The callbacks of a run, told of its events one after another, so that one that fails keeps no other from hearing.

An exception of ``on_step`` or ``on_record`` is held until the step is complete: the other callbacks are told, the
record is written, and so is a checkpoint. Then the run ends with that exception. An exception of ``ends`` leaves
undecided whether the run ends with the record, so the record is written and no checkpoint: a resumed run asks again.
"""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from fgnumba.errors import ConfigError, shown
from fgnumba.training.callbacks import Callback
from fgnumba.training.kept_states import states_of
from fgnumba.training.records import History, Record, StepResult

T = TypeVar("T")


def callbacks_of(given: Any) -> tuple[Callback, ...]:
    """Return the callbacks of a run.

    Parameters
    ----------
    given : sequence of Callback
        The callbacks.

    Raises
    ------
    ConfigError
        It is one callback, or holds something that is none.
    """
    try:
        callbacks = tuple(given)
    except TypeError:
        raise ConfigError(
            f"callbacks is a {type(given).__name__}; a sequence of callbacks is required: callbacks=[...]"
        ) from None
    for callback in callbacks:
        if isinstance(callback, type) and issubclass(callback, Callback):
            raise ConfigError(
                f"callbacks: {callback.__name__} is a class; an object is required: {callback.__name__}(...)"
            )
        if not isinstance(callback, Callback):
            raise ConfigError(f"callbacks: {shown(callback)} is no object of a subclass of fgnumba.Callback")
    return callbacks


class Followers:
    """The callbacks of a run.

    Parameters
    ----------
    callbacks : sequence of Callback
        The callbacks, in the order in which they are told.
    judged : bool
        Whether the run has validation data.

    Attributes
    ----------
    failure : Exception or None
        The first exception that a callback raised, with which the run ends; None if there is none.

    Raises
    ------
    ConfigError
        A callback needs validation data, and there are none.
    """

    def __init__(self, callbacks: Sequence[Callback], judged: bool) -> None:
        for callback in callbacks:
            if not judged and getattr(callback, "needs_validation", False):
                raise ConfigError(
                    f"callbacks: {type(callback).__name__} needs validation data, such as validation=0.1"
                )
        self.callbacks = callbacks
        self.failure: BaseException | None = None
        # `_told`: those that know of the run and must be told of its end.
        self._told: list[Callback] = []
        self._undecided = False
        self._noted: set[tuple[int, str]] = set()

    def start(self, trainer: Any, steps: int, done: int) -> None:
        """Tell all callbacks of the start; one that raises is the last.

        Parameters
        ----------
        trainer : Trainer
            The trainer whose run begins.
        steps : int
            Number of steps of the whole run.
        done : int
            Number of steps that it has taken already; above 0, the run is resumed.
        """
        for callback in self.callbacks:
            self._told.append(callback)
            method = "on_resume" if done else "on_start"
            try:
                if done:
                    callback.on_resume(trainer, steps, done)
                else:
                    callback.on_start(trainer, steps)
            except BaseException as error:
                self._fail(callback, method, error)
                raise
        # A state that JSON cannot hold is refused before the first step, and not at the first checkpoint.
        states_of(self.callbacks)

    def step(self, step: int, result: StepResult) -> None:
        """Tell all callbacks of a step; an exception is held in :attr:`failure`.

        Parameters
        ----------
        step : int
            Number of the step, counted from 1.
        result : StepResult
            Its result.
        """
        self._tell("on_step", lambda callback: callback.on_step(step, result))

    def ends(self, record: Record) -> bool:
        """Return whether any callback ends the run with a record; each is asked, also if one before it ends the run.

        Parameters
        ----------
        record : Record
            The record.
        """
        votes = self._tell("ends", lambda callback: bool(callback.ends(record)))
        self._undecided |= len(votes) < len(self.callbacks)
        return any(votes)

    def record(self, record: Record) -> None:
        """Tell all callbacks of a record; an exception is held in :attr:`failure`.

        Parameters
        ----------
        record : Record
            The record.
        """
        self._tell("on_record", lambda callback: callback.on_record(record))

    def _tell(self, method: str, tell: Callable[[Callback], T]) -> list[T]:
        """Return what each callback says; one that raises an exception says nothing, and keeps no other from it."""
        said = []
        for callback in self.callbacks:
            try:
                said.append(tell(callback))
            except Exception as error:
                self._fail(callback, method, error)
            except BaseException as error:
                self._fail(callback, method, error)
                raise
        return said

    def decide(self) -> None:
        """Raise the exception of a callback that could not say whether the run ends, if there is one."""
        if self._undecided:
            assert self.failure is not None
            raise self.failure

    def end(self, history: History, error: BaseException | None = None) -> BaseException | None:
        """Tell each callback that knows of the run of its end.

        Parameters
        ----------
        history : History
            The run's records, and the reason for its end.
        error : BaseException, optional
            What ended the run. None (the default): it ended well.

        Returns
        -------
        BaseException or None
            The exception of a callback that is to be raised, or None: there is none, or `error` is the run's own and
            takes precedence.
        """
        held = self.failure
        if error is not None and error is not held:
            if held is not None:
                error.add_note(f"before that, a callback raised {_said(held)}")
            # What callbacks raise from here on is noted in it.
            self.failure = error
        interrupt: BaseException | None = None
        for callback in self._told:
            try:
                callback.on_end(history)
            except Exception as failure:
                self._fail(callback, "on_end", failure)
            except BaseException as failure:
                self._fail(callback, "on_end", failure)
                interrupt = interrupt or failure
        return interrupt or (self.failure if error is None or error is held else None)

    def _fail(self, callback: Callback, method: str, error: BaseException) -> None:
        """Name a callback's method in an exception that it raised, and hold the exception if it is the first."""
        if (id(callback), method) in self._noted and self.failure is not None:
            # On a GPU, steps that were taken before the failure was known are still told.
            return
        self._noted.add((id(callback), method))
        name = f"{type(callback).__name__}.{method}"
        if self.failure is None:
            error.add_note(f"raised by the callback {name}")
            self.failure = error
        elif error is not self.failure:
            self.failure.add_note(f"the callback {name}, too, raised {_said(error)}")


def _said(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
