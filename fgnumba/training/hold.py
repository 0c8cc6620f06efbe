"""How a run's folder is held: for as long as something is entered."""

from pathlib import Path
from typing import Protocol

from fgnumba.errors import RunError


class Holdable(Protocol):
    """A folder that one process at a time may hold, see :class:`fgnumba.Checkpoints`."""

    folder: Path

    def take(self) -> None:
        """Take the lock."""

    def release(self) -> None:
        """Give the lock back."""

    def begin(self, resume: bool) -> None:
        """Begin or continue a run in the folder."""

    def end(self) -> None:
        """End the run."""


class Hold:
    """A folder that is held while this is entered; with `resume`, for a run.

    A class: an interrupt in the midst of a generator's context would leave the lock with whoever keeps the traceback.
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
        except OSError as found:
            self._name(found)
        finally:
            self._saved.release()
        self._name(error)

    def _name(self, error: BaseException | None) -> None:
        """Raise RunError for what the system refused to a run."""
        if self._resume is not None and isinstance(error, OSError):
            raise RunError(f"{error.filename or self._saved.folder}: {error.strerror or error}") from None
