"""The file in which an Optuna study is kept: a line of JSON for each operation, in Optuna's own journal format.

The file is opened only if it is a journal that a search with the same settings began, and by one search at a time. Its
trials are checked before they are used.
"""

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fgnumba.errors import RunError, shown
from fgnumba.runs.search import alike
from fgnumba.storage.durable import sync_folder
from fgnumba.storage.files import read_whole
from fgnumba.storage.json_lines import parsed
from fgnumba.training.metrics import MAX_RECORDS
from fgnumba.validation.paths import path_of

if TYPE_CHECKING:
    from optuna import Study

NAME = "fgtrain search"
"""Name of the study in its file."""
SETTINGS = "fgnumba"
"""Name of the study's attribute that holds the settings of all trials, as a line of JSON."""


@contextlib.contextmanager
def opened(path: Path | None, settings: dict[str, Any]) -> Iterator["Study"]:
    """Open the study of a search while its trials run.

    Parameters
    ----------
    path : Path or None
        The file, which is created if it does not exist. None keeps the study in memory.
    settings : dict
        Everything that decides which trials are made and how they end, as values that JSON can hold.

    Yields
    ------
    optuna.Study
        The study, which maximises a trial's value.

    Raises
    ------
    RunError
        The file is no such journal, belongs to other settings, is damaged, is in use by another search, or cannot be
        written.
    """
    import optuna

    if path is None:
        yield optuna.create_study(direction="maximize")
        return
    path = path_of(path, "out")
    # A link stays a link, and the file that it leads to grows.
    file = Path(os.path.realpath(path))
    with contextlib.ExitStack() as stack:
        with writing(path):
            file.parent.mkdir(parents=True, exist_ok=True)
            stack.enter_context(_locked(file, path))
            lines = _prepare(file, path)
            study = _study(file, path, json.dumps(settings, sort_keys=True), begun=lines > 1)
        yield study


@contextlib.contextmanager
def writing(path: Path | None) -> Iterator[None]:
    """Raise RunError in place of an error of the system about the file.

    What could not be written is made good by the next search with the file, which runs that trial again.
    """
    try:
        yield
    except OSError as error:
        raise RunError(f"{path}: {error.strerror or error}") from None


@contextlib.contextmanager
def _locked(file: Path, path: Path) -> Iterator[None]:
    from filelock import FileLock, Timeout

    lock = FileLock(f"{file}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise RunError(f"{path} is in use by another search; name another file") from None
    try:
        yield
    finally:
        # Removed while it is held, so that no other process acquires it in between; Windows forbids that.
        with contextlib.suppress(OSError):
            os.unlink(lock.lock_file)
        lock.release()


def _prepare(file: Path, path: Path) -> int:
    """Create the file, or cut off an incomplete last line, which a killed process or a full disk has left.

    Returns the number of its lines.
    """
    if not file.exists():
        file.touch()
        sync_folder(file.parent)
    content = read_whole(file, MAX_RECORDS)
    begun = content[: content.rfind(b"\n") + 1]
    if content and not _is_journal((begun or content).split(b"\n", 1)[0], whole=bool(begun)):
        raise RunError(f"{path} is no file of an Optuna search; name another file")
    if len(begun) < len(content):
        with open(file, "r+b") as stream:
            stream.truncate(len(begun))
            os.fsync(stream.fileno())
    return begun.count(b"\n")


def _is_journal(line: bytes, whole: bool) -> bool:
    """Return whether a file's first line creates a study of this module's name; one that is cut short may begin so."""
    if not whole:
        return b'{"op_code":0,'.startswith(line[:13])
    try:
        entry = parsed(line.decode())
    except ValueError:
        return False
    return isinstance(entry, dict) and entry.get("op_code") == 0 and entry.get("study_name") == NAME


class _Held:
    """The lock that Optuna takes for each line; the file is locked already."""

    def acquire(self) -> bool:
        return True

    def release(self) -> None:
        pass


def _study(file: Path, path: Path, settings: str, begun: bool) -> "Study":
    """Open the study of a file; `begun` says whether more is there than the line that creates it."""
    import optuna
    from optuna.storages.journal import JournalFileBackend, JournalStorage

    try:
        lock: Any = _Held()
        storage = JournalStorage(JournalFileBackend(str(file), lock_obj=lock))
        if storage.get_all_studies():
            study = optuna.load_study(storage=storage, study_name=NAME)
        else:
            study = optuna.create_study(storage=storage, study_name=NAME, direction="maximize")
        known = study.user_attrs.get(SETTINGS)
        single = len(study.directions) == 1 and study.direction.name == "MAXIMIZE"
    except OSError:
        raise
    except Exception as error:
        # Optuna trusts the file: a damaged one raises whatever its replay of the operations runs into.
        raise RunError(f"{path} is damaged: {type(error).__name__} {shown(str(error))}") from None
    if known is None and single and not begun:
        study.set_user_attr(SETTINGS, settings)
    elif not single or not isinstance(known, str) or not alike(known, settings):
        raise RunError(f"{path} is a search with other settings; name another file")
    return study
