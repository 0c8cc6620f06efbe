"""Files of settings or layers, read as TOML; whatever a file holds, a message of one line says what is wrong."""

import re
import tomllib
from pathlib import Path
from typing import Any

from fgnumba.errors import ConfigError
from fgnumba.storage.files import read_whole
from fgnumba.validation.paths import path_of

MAX_TOML = 1 << 20
"""Largest size of a TOML file of settings or layers, in bytes."""
MAX_KEY_PARTS = 16
# The time that tomllib takes grows with the square of the number of parts of a dotted key such as a.b.c.
_DEEP_KEY = re.compile(
    rf"""(?<![\w-])(?:(?:[\w-]++|"[^"\n]*+"|'[^'\n]*+')[ \t]*+\.[ \t]*+){{{MAX_KEY_PARTS}}}"""
)


def read_toml(path: Path, what: str) -> dict[str, Any]:
    """Return the contents of a TOML file as a dictionary.

    Parameters
    ----------
    path : Path
        The file.
    what : str
        What the file is, for error messages: ``config`` or ``model``.

    Raises
    ------
    ConfigError
        The file cannot be read or is not TOML. The message is one line and names the file.
    """
    try:
        path = path_of(path, what)
        # Some editors on Windows begin a UTF-8 file with a byte-order mark, which "utf-8-sig" skips.
        text = read_whole(path, MAX_TOML).decode("utf-8-sig")
        if _DEEP_KEY.search(text):
            raise ConfigError(
                f"{what} {path}: a key has more than {MAX_KEY_PARTS} parts; no setting has so many"
            )
        return tomllib.loads(text)
    except OSError as error:
        raise ConfigError(f"{what} {path}: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{what} {path}: not UTF-8 text; save it as UTF-8") from None
    except RecursionError:
        raise ConfigError(f"{what} {path}: brackets are nested too deeply") from None
    # The text is not TOML, or the path is impossible.
    except ValueError as error:
        raise ConfigError(f"{what} {path}: {error}") from None
