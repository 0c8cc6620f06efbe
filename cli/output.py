"""Files that commands write where they are told to."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from fgnumba.cli.message import say, show
from fgnumba.errors import RunError, printable
from fgnumba.storage.durable import replace

if TYPE_CHECKING:
    from filelock import BaseFileLock

    from fgnumba.bench.measure.result import Result


def check_output(path: Path) -> Path:
    """Return where `path` leads; RunError where no file can be written or replaced there."""
    path = Path(os.path.realpath(path))
    # Replacing a device would put a file in its place.
    if path.exists() and not path.is_file():
        raise RunError(f"output: {path} is no file; a file to write or replace is required")
    if not path.parent.is_dir():
        raise RunError(f"output: {path}: there is no folder {path.parent}")
    if not os.access(path.parent, os.W_OK):
        raise RunError(f"output: {path}: its folder is not writable")
    return path


def write_output(path: Path, content: bytes) -> None:
    """Write a file, whole or not at all; RunError where that fails."""
    path = check_output(path)
    try:
        replace(path, content)
    except OSError as error:
        raise RunError(f"output: {path}: {error.strerror or error}") from None


@contextmanager
def results_folder(given: Path | None, default: Path) -> Iterator[Path]:
    """Hold the folder of a result: the one that is given, or the first of default, default-2, ... that is free.

    Free is one without a result, in which no other process works on one. Held, it is there; left without anything in
    it, it goes again.

    Raises
    ------
    RunError
        It has a result already, is another process's, or cannot be written: said before the work, not after.
    """
    from fgnumba.runs.run_folder import missing_parents, remove_empty

    for folder in _numbered(default) if given is None else (given,):
        if given is None and _result_in(folder) is not None:
            continue
        _check_folder(folder)
        created = [] if folder.exists() else [folder, *missing_parents(folder)]
        try:
            lock = _locked(folder)
            if lock is None:
                continue
            try:
                # Another process may have ended since this one looked.
                if _result_in(folder) is None:
                    yield folder
                    return
            finally:
                _unlock(lock)
        finally:
            remove_empty(created)
    raise RunError(f"out: {given}: another process works on a result there; name another folder")


def _numbered(folder: Path) -> Iterator[Path]:
    yield folder
    for number in count(2):
        yield folder.with_name(f"{folder.name}-{number}")


def _result_in(folder: Path) -> str | None:
    """Return the name of a result's file in a folder, None where there is none."""
    from fgnumba.bench.measure.result import DATA, FIGURE

    return next((name for name in (DATA, FIGURE) if os.path.lexists(folder / name)), None)


def _check_folder(folder: Path) -> None:
    """Raise RunError unless a result may be written into a folder, which need not be there."""
    from fgnumba.runs.run_folder import check_writable

    found = _result_in(folder)
    if found is not None:
        raise RunError(f"out: {folder} holds a result, {found}; name another folder")
    if folder.exists() and not folder.is_dir():
        raise RunError(f"out: {folder} is a file; a folder is required")
    check_writable(folder, (folder, *folder.absolute().parents))


def _locked(folder: Path) -> "BaseFileLock | None":
    """Make a folder and return its lock, taken; None where another process has it."""
    from filelock import FileLock, Timeout

    from fgnumba.training.checkpoints import LOCK

    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / LOCK)
        lock.acquire(timeout=0)
    except Timeout:
        return None
    except OSError as error:
        raise RunError(f"out: {folder} cannot be written: {error.strerror or error}") from None
    return lock


def _unlock(lock: "BaseFileLock") -> None:
    """Give a lock back and remove its file: while it is held, where the system lets it be removed then."""
    file = Path(lock.lock_file)
    try:
        file.unlink(missing_ok=True)
    except OSError:
        lock.release()
        with suppress(OSError):
            file.unlink()
    else:
        lock.release()


def leave(result: "Result", folder: Path) -> None:
    """Write a result into its folder and print it; what cannot be written is printed all the same.

    Where another result has come into the folder meanwhile, it stays, and this one goes into the next that is free.
    """
    try:
        found = _result_in(folder)
        if found is None:
            result.write(folder, say)
        else:
            base = folder if folder.name not in ("", "..") else folder.resolve()
            with results_folder(None, base) as beside:
                say(printable(f"{folder} got a result meanwhile, {found}; this one is written beside it"))
                result.write(beside, say)
                folder = beside
    finally:
        show(result.title)
        show(result.table())
    say(printable(f"data and figure in {folder}"))
