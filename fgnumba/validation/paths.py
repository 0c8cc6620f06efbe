"""Read paths as people write them in options, configuration files and environment variables."""

import os
import shlex
from pathlib import Path

from fgnumba.errors import ConfigError, FgError, shown

AnyPath = str | os.PathLike[str] | bytes | os.PathLike[bytes]


def path_of(value: AnyPath, what: str, error: type[FgError] = ConfigError) -> Path:
    """Return `value` as a path in which a home folder is written out; see :func:`expanded` for the parameters."""
    path = Path(expanded(value, what, error))
    # Path drops the "./" that protects a file named "~…". An absolute path is not taken for a home folder later.
    return path.absolute() if path.parts[:1] and path.parts[0].startswith("~") else path


def expanded(value: AnyPath, what: str, error: type[FgError] = ConfigError) -> str:
    """Return a path in which ``~`` or ``~user`` at the beginning is replaced by that user's home folder.

    Parameters
    ----------
    value : str or path
        The path.
    what : str
        The name of the argument, for messages.
    error : type of FgError
        The error to raise. By default ConfigError.

    Raises
    ------
    error
        If the path holds a null byte, or names an unknown user and no file has that name.
    """
    text = _in_file_system(os.fsdecode(value))
    if "\0" in text:
        raise error(f"{what} is {shown(text)}; a path holds no null byte")
    path = os.path.expanduser(text)
    if path == text and text.startswith("~") and not os.path.lexists(text):
        user = text.replace(os.sep, "/").partition("/")[0]
        raise error(
            f"{what} is {shown(text)}; no home folder of {shown(user)} is known, and a file of that name "
            f"is written {shown('./' + text)}"
        )
    return path


def quoted(path: str | os.PathLike[str]) -> str:
    """Return a path quoted for a shell, as one printable line whatever its bytes are."""
    text = os.fspath(path)
    if text.isprintable():
        return shlex.quote(text)
    return f"$'{''.join(_escaped(character) for character in text)}'"


def shortened(name: str, most: int) -> str:
    """Return the beginning of a file's name: as many characters as fit into `most` bytes."""
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
    """Return a name in the encoding of this process's locale; in the C locale, the bytes of characters beyond ASCII."""
    try:
        os.fsencode(text)
    except UnicodeEncodeError:
        return os.fsdecode(text.encode("utf-8", "surrogateescape"))
    return text
