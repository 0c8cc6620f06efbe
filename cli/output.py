"""Files and folders that commands write where the user asks for them."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fgnumba.cli.message import say, show
from fgnumba.errors import RunError, printable
from fgnumba.storage.durable import replace

if TYPE_CHECKING:
    import numpy.typing as npt
    from filelock import BaseFileLock

    from fgnumba.bench.measure.result import Result

RUN_FILES = (
    *("config.toml", "metrics.jsonl", "model.safetensors", "state.safetensors", "table.json"),
    *("text.json", "losses.f64", "replay.log"),
)
"""Names of the files from which a run folder is read; every run that has a record has the first two."""


def check_output(path: Path) -> Path:
    """Check that an output file can be written or replaced, and return its path with links resolved.

    Parameters
    ----------
    path : Path
        The file that the user named.

    Returns
    -------
    Path
        The file itself, where `path` is a link to it.

    Raises
    ------
    RunError
        The path is a folder or a device, its folder is missing or not writable, or it is one of the files from which a
        run is read.
    """
    path = Path(os.path.realpath(path))
    # Replacing a device, such as /dev/null, would put an ordinary file in its place.
    if path.exists() and not path.is_file():
        raise RunError(f"output: {path} is no file; a file to write or replace is required")
    if not path.parent.is_dir():
        raise RunError(f"output: {path}: there is no folder {path.parent}")
    if not os.access(path.parent, os.W_OK):
        raise RunError(f"output: {path}: its folder is not writable")
    if path.name in RUN_FILES and all((path.parent / name).is_file() for name in (path.name, *RUN_FILES[:2])):
        raise RunError(f"output: {path} is a file of the run in that folder; name another file")
    return path


def write_output(path: Path, content: bytes) -> None:
    """Write an output file completely or not at all; raise RunError where that fails.

    Parameters
    ----------
    path : Path
        The file; an existing one is replaced.
    content : bytes
        All of its bytes.
    """
    path = check_output(path)
    try:
        replace(path, content)
    except OSError as error:
        raise RunError(f"output: {path}: {error.strerror or error}") from None


def write_npy(path: Path, array: "npt.NDArray[Any]") -> None:
    """Write an array to a ``.npy`` file, completely or not at all; raise RunError where that fails.

    Parameters
    ----------
    path : Path
        The file; an existing one is replaced.
    array : ndarray
        The array.
    """
    import io

    import numpy as np

    content = io.BytesIO()
    np.save(content, array)
    write_output(path, content.getvalue())


@contextmanager
def results_folder(given: Path | None, default: Path) -> Iterator[Path]:
    """Reserve the folder of a result while the result is computed.

    The folder is created and locked on entry. On exit the lock is released, and the folder is removed if it is empty.
    All checks are made on entry, so that an error comes before the work and not after it.

    Parameters
    ----------
    given : Path or None
        The folder that the user named. None chooses the first free folder of ``default``, ``default-2``,
        ``default-3``, ...: one that holds no result and is not reserved by another process.
    default : Path
        The first folder to try where none is given.

    Yields
    ------
    Path
        The reserved folder.

    Raises
    ------
    RunError
        The folder that was named holds a result already, is reserved by another process, or is not writable.
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
                # Another process may have written its result since the check above.
                if _result_in(folder) is None:
                    yield folder
                    return
            finally:
                _unlock(lock)
        finally:
            remove_empty(created)
    raise RunError(f"out: {given}: another process is writing a result there; name another folder")


def _numbered(folder: Path) -> Iterator[Path]:
    yield folder
    for number in count(2):
        yield folder.with_name(f"{folder.name}-{number}")


def _result_in(folder: Path) -> str | None:
    """Return the name of a result's file in a folder, such as ``data.json``, or None where there is none."""
    from fgnumba.bench.measure.result import DATA, FIGURE

    return next((name for name in (DATA, FIGURE) if os.path.lexists(folder / name)), None)


def _check_folder(folder: Path) -> None:
    """Raise RunError unless a result can be written into a folder, which need not exist yet."""
    from fgnumba.runs.run_folder import check_writable

    name = _result_in(folder)
    if name is not None:
        raise RunError(f"out: {folder} holds a result, {name}; name another folder")
    if folder.exists() and not folder.is_dir():
        raise RunError(f"out: {folder} is a file; a folder is required")
    check_writable(folder, (folder, *folder.absolute().parents))


def _locked(folder: Path) -> "BaseFileLock | None":
    """Create a folder and return its lock, acquired, or None where another process holds the lock."""
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
    """Release a lock and remove its file.

    The file is removed while the lock is held, so that no other process can acquire it in between. Where the system
    forbids that, as Windows does, the file is removed afterwards.
    """
    file = Path(lock.lock_file)
    try:
        file.unlink(missing_ok=True)
    except OSError:
        lock.release()
        with suppress(OSError):
            file.unlink()
    else:
        lock.release()


def leave(result: "Result", folder: Path, as_json: bool = False) -> None:
    """Write a result into its folder and print it; print it also where it cannot be written.

    A result that another program has put into the folder in the meantime stays, and this one goes into the next free
    folder.

    Parameters
    ----------
    result : Result
        The result, with its title, table, data and figure.
    folder : Path
        The folder that :func:`results_folder` reserved.
    as_json : bool
        Whether to print what ``data.json`` holds, with the folder, in place of a title and a table. Default: False.
    """
    try:
        name = _result_in(folder)
        if name is None:
            result.write(folder, say)
        else:
            base = folder if folder.name not in ("", "..") else folder.resolve()
            with results_folder(None, base) as beside:
                say(printable(f"{folder} got a result meanwhile, {name}; this one is written beside it"))
                result.write(beside, say)
                folder = beside
    finally:
        if as_json:
            show(json.dumps({"folder": str(folder), **result.content}, allow_nan=False))
        else:
            show(result.title)
            show(result.table())
    say(printable(f"data and figure in {folder}"))
