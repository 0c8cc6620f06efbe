"""A context manager that holds the lock of a run's folder."""

from pathlib import Path
from typing import Protocol

from fgnumba.errors import RunError


class Holdable(Protocol):
    """A folder that one process at a time may hold: the interface of :class:`fgnumba.Checkpoints` that is used here."""

    folder: Path

    def take(self) -> None:
        """Acquire the lock."""

    def release(self) -> None:
        """Release the lock."""

    def begin(self, resume: bool) -> None:
        """Begin a run in the folder, or continue the one in it if `resume` is True."""

    def end(self) -> None:
        """Close the logs of the run."""


class Hold:
    """A context manager that holds a folder, and optionally begins and ends a run in it.

    It is a class and no generator, because an interrupt inside a generator's context would leave the lock acquired for
    as long as anything keeps the traceback.

    Parameters
    ----------
    saved : Holdable
        The folder.
    resume : bool, optional
        False begins a run on entry, True continues one. None (the default): only the lock is acquired.
    """

    def __init__(self, saved: Holdable, resume: bool | None = None) -> None:
        self._saved, self._resume = saved, resume

    def __enter__(self) -> None:
        self._saved.take()
        try:
            if self._resume is not None:
                self._saved.begin(self._resume)
        except BaseException as error:
            self._saved.release()
            self._name(error)
            raise

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        try:
            if self._resume is not None:
                self._saved.end()
        except OSError as failure:
            self._name(failure)
        finally:
            self._saved.release()
        self._name(error)

    def _name(self, error: BaseException | None) -> None:
        """Raise RunError with the file's name for an OSError of a run."""
        if self._resume is not None and isinstance(error, OSError):
            raise RunError(f"{error.filename or self._saved.folder}: {error.strerror or error}") from None
