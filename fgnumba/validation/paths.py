"""Paths as people write them: in options, in files of settings, in the environment."""

import os
import shlex
from pathlib import Path

from fgnumba.errors import ConfigError, FgError, shown

AnyPath = str | os.PathLike[str] | bytes | os.PathLike[bytes]


def path_of(value: AnyPath, what: str, error: type[FgError] = ConfigError) -> Path:
    """Return a path, its beginning as :func:`expanded` says."""
    path = Path(expanded(value, what, error))
    # A path drops the "./" that made a name of "~": absolute, it is not taken for a home folder later.
    return path.absolute() if path.parts[:1] and path.parts[0].startswith("~") else path


def expanded(value: AnyPath, what: str, error: type[FgError] = ConfigError) -> str:
    """Return a path with the folder that ``~`` or ``~user`` at its beginning stands for.

    Parameters
    ----------
    what : the argument, for messages.

    Raises
    ------
    error
        It holds a null byte, or names a user whom there is not, unless there is a file of that name.
    """
    text = _in_file_system(os.fsdecode(value))
    if "\0" in text:
        raise error(f"{what} is {shown(text)}; a path holds no null byte")
    found = os.path.expanduser(text)
    if found == text and text.startswith("~") and not os.path.lexists(text):
        user = text.replace(os.sep, "/").partition("/")[0]
        raise error(
            f"{what} is {shown(text)}; no home folder of {shown(user)} is known, and a file of that name "
            f"is written {shown('./' + text)}"
        )
    return found


def quoted(path: str | os.PathLike[str]) -> str:
    """Return a path as a shell takes it, in one line of what can be shown whatever its bytes are."""
    text = os.fspath(path)
    if text.isprintable():
        return shlex.quote(text)
    return f"$'{''.join(_escaped(character) for character in text)}'"


def shortened(name: str, most: int) -> str:
    """Return as much of a file's name as fits into so many bytes."""
    name = _in_file_system(name)
    while len(os.fsencode(name)) > most:
        name = name[:-1]
    return name


def _escaped(character: str) -> str:
    if character in "\\'":
        return f"\\{character}"
    if character.isprintable():
        return character
    return "".join(f"\\x{byte:02x}" for byte in os.fsencode(character))


def _in_file_system(text: str) -> str:
    """Return a name as this process's locale spells it: in the C locale, the bytes of what is not ASCII."""
    try:
        os.fsencode(text)
    except UnicodeEncodeError:
        return os.fsdecode(text.encode("utf-8", "surrogateescape"))
    return text
