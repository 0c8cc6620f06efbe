"""Turn what reading a damaged file raises into one line that says which file is damaged."""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from fgnumba.errors import CodeError, ConfigError, DtypeError, RunError, ShapeError

T = TypeVar("T")


def undamaged(path: Path, read: Callable[[], T], problem: str = " is damaged") -> T:
    """Return what `read` returns.

    Parameters
    ----------
    path : Path
        The file that is read.
    read : callable
        Reads it, and raises an error of this library or of Python where it is wrong.
    problem : str, optional
        What the message says between the path and the error. By default " is damaged".

    Raises
    ------
    RunError
        The error that `read` raised, on one line that begins with the path.
    CodeError
        The file names code that is not trusted or cannot be imported, which is no damage.
    """
    try:
        return read()
    except CodeError as error:
        message = str(error)
        raise CodeError(message if message.startswith(f"{path}: ") else f"{path}: {message}") from None
    except (ConfigError, ShapeError, DtypeError, OSError, ValueError, TypeError, KeyError) as error:
        message = " ".join(str(error).split())
        raise RunError(f"{path}{problem}: {message.removeprefix(f'{path}: ')}") from None
