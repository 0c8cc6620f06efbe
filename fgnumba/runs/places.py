"""Where the paths of a configuration file lead: from the working folder, or else from the folder of the file."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes

from fgnumba.errors import ConfigError, shown
from fgnumba.objects.code import is_code
from fgnumba.validation.paths import expanded, path_of

URI = "file://"


def beside(file: Path, key: str, name: str) -> str:
    """Return a path of a configuration file as one that leads there.

    Parameters
    ----------
    file : Path
        The configuration file.
    key : str
        The setting: ``data``, ``data_dir`` or ``model``.
    name : str
        Its value: a path, or the name of a data set or a model.

    Returns
    -------
    str
        `name`, unless it is a path that leads nowhere from the working folder, and leads somewhere from the folder of
        `file`.
    """
    if not _may_be_path(key, name) or _leads(name):
        return name
    other = os.path.join(path_of(file, "config").parent, name)
    return other if _leads(other) else name


def check_places(file: Path, settings: Mapping[str, Any]) -> None:
    """Raise ConfigError if a path that a configuration file gave leads nowhere; the message says where it was sought.

    Parameters
    ----------
    file : Path
        The configuration file.
    settings : mapping
        Those of ``data``, ``data_dir`` and ``model`` that came from it.
    """
    for key, name in settings.items():
        if isinstance(name, str) and _is_path(key, name) and not _leads(expanded(name, key)):
            raise ConfigError(
                f"{file}: {key} is {shown(name)}; there is nothing of this name, neither in the working folder, "
                f"{os.getcwd()}, nor beside the file, in {path_of(file, 'config').parent.absolute()}"
            )


def path_in(file: Path, key: str, uri: str) -> str:
    """Return the path that a ``file://`` URI in a TOML file stands for.

    Parameters
    ----------
    file : Path
        The file.
    key : str
        The setting, for the message.
    uri : str
        Its value.

    Raises
    ------
    ConfigError
        The URI is not that of a file of this machine.
    """
    host, slash, rest = uri.removeprefix(URI).partition("/")
    if host not in ("", "localhost") or not slash:
        raise ConfigError(f"{file}: {key} is {shown(uri)}; a file of this machine, file:///..., is required")
    return os.fsdecode(unquote_to_bytes(f"/{rest}"))


def held(path: str) -> str:
    """Return a path in a form that TOML, which is UTF-8, can hold: a path of other bytes becomes a ``file://`` URI.

    Parameters
    ----------
    path : str
        The path.
    """
    try:
        path.encode()
    except UnicodeEncodeError:
        return Path(os.path.abspath(expanded(path, "path"))).as_uri()
    return path


def _may_be_path(key: str, name: str) -> bool:
    if not name or name.startswith("~"):
        return False
    if key == "model":
        return name.endswith(".toml")
    # Imported here, since options are checked before data sets are read.
    from fgnumba.datasets import NAMES

    return key == "data_dir" or (name not in NAMES and not is_code(name))


def _is_path(key: str, name: str) -> bool:
    """Return whether a setting can only be meant as a path: what else it might be has a message of its own."""
    if key == "data" and is_code(name):
        return False
    return key == "data_dir" or os.path.basename(name) != name or bool(os.path.splitext(name)[1])


def _leads(name: str) -> bool:
    # os.path's tests answer False for a name that is impossible.
    if os.path.lexists(name):
        return True
    # The last part of a path may begin the names of files in a folder; see fgnumba.datasets.load.
    return os.path.isdir(os.path.dirname(name)) and _begins_names(Path(name))


def _begins_names(path: Path) -> bool:
    from fgnumba.datasets.idx_folder import names_a_prefix

    return names_a_prefix(path)
