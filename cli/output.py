"""Files that commands write where they are told to."""

import os
from pathlib import Path

from fgnumba.durable import replace
from fgnumba.errors import RunError


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
