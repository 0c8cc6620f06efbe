"""Packages that only some functions need, which are imported when such a function is called."""

from importlib import import_module
from typing import Any

from fgnumba.errors import ConfigError


def required(package: str, extra: str, what: str) -> Any:
    """Return an optional package.

    Parameters
    ----------
    package : str
        Its name, as Python imports it.
    extra : str
        The extra of fgnumba that installs it.
    what : str
        What needs it, for the message.

    Raises
    ------
    ConfigError
        It is not installed.
    """
    try:
        return import_module(package)
    except ImportError as error:
        # A package that is there and cannot be imported says why.
        reason = "" if getattr(error, "name", None) == package else f" ({error})"
        raise ConfigError(f"{what} needs {package}{reason}: pip install 'fgnumba[{extra}]'") from None
