"""How a run's folder is held: for as long as something is entered."""

from typing import TYPE_CHECKING

from fgnumba.errors import RunError

if TYPE_CHECKING:
    from fgnumba.training.checkpoints import Checkpoints


class Hold:
    """A folder that is held while this is entered; with `resume`, for a run.

    A class: an interrupt in the midst of a generator's context would leave the lock with whoever keeps the traceback.
    """

    def __init__(self, saved: "Checkpoints", resume: bool | None = None) -> None:
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
