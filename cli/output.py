"""Files that commands write where they are told to."""

import os
from itertools import chain, count
from pathlib import Path
from typing import TYPE_CHECKING

from fgnumba.cli.message import say, show
from fgnumba.durable import replace
from fgnumba.errors import RunError, printable

if TYPE_CHECKING:
    from fgnumba.bench.result import Result


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


def results_folder(given: Path | None, default: Path) -> Path:
    """Return the folder of a result: the one that is given, or the first of default, default-2, ... that has none.

    Raises
    ------
    RunError
        It has a result already, or cannot be written: said before the work, not after.
    """
    from fgnumba.bench.result import DATA, FIGURE

    def holds(folder: Path) -> str | None:
        return next((name for name in (DATA, FIGURE) if os.path.lexists(folder / name)), None)

    if given is None:
        names = chain([default], (default.with_name(f"{default.name}-{n}") for n in count(2)))
        given = next(folder for folder in names if holds(folder) is None)
    found = holds(given)
    if found is not None:
        raise RunError(f"out: {given} holds a result, {found}; name another folder")
    if given.exists() and not given.is_dir():
        raise RunError(f"out: {given} is a file; a folder is required")
    nearest = next(folder for folder in (given, *given.absolute().parents) if folder.exists())
    if not nearest.is_dir():
        raise RunError(f"out: {nearest} is a file; {given} cannot be below it")
    if not os.access(nearest, os.W_OK):
        raise RunError(f"out: {nearest} is not writable")
    return given


def leave(result: "Result", folder: Path) -> None:
    """Write a result into its folder and print it; what cannot be written is printed all the same."""
    try:
        result.write(folder, say)
    finally:
        show(result.title)
        show(result.table())
    say(printable(f"data and figure in {folder}"))
