"""Code of other packages by name: ``package.module:name``, and entry points of installed packages.

A configuration can name an object that is not fgnumba's own, in one of two ways.

``package.module:name``
    The module is imported, which runs its code, and the name is looked up in it. This happens only for names that the
    user has asked for, inside of :func:`trusting`. What a file says by itself is refused: a run folder may come from
    anybody. The command line trusts what its user names, and asks for ``--trust-code`` for what a run folder names.

``name``
    An entry point of an installed package, in one of :data:`GROUPS`. Whoever installed the package has asked for it.

How a reader of names uses this module, after it has looked among fgnumba's own names::

    found = external("loss", given, LOSSES_GROUP)
    if found is not None:
        loss = made("loss", given, found, Loss)     # an object, or a class that is called without arguments
"""

import importlib
import importlib.util
import os
import re
import sys
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from fgnumba.errors import CodeError, ConfigError, FgError, did_you_mean, shown

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

ESTIMATORS_GROUP = "fgnumba.estimators"
LOSSES_GROUP = "fgnumba.losses"
DATASETS_GROUP = "fgnumba.datasets"
GROUPS = {ESTIMATORS_GROUP: "estimator", LOSSES_GROUP: "loss", DATASETS_GROUP: "dataset"}
"""The groups of entry points in which fgnumba looks, and what each has."""

MAX_NAME = 500
"""The most characters of a name of code."""
_FORM = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*")

EVERYTHING = "*"
"""Stands for every name in :func:`trusting`."""

_trusted: ContextVar[frozenset[str]] = ContextVar("trusted", default=frozenset())


def is_code(name: Any) -> bool:
    """Return whether a value has the form ``package.module:name``."""
    return isinstance(name, str) and len(name) <= MAX_NAME and _FORM.fullmatch(name) is not None


@contextmanager
def trusting(names: Collection[str]) -> Iterator[None]:
    """Allow code to be imported by these names, beside those that are allowed already, until the block ends.

    Parameters
    ----------
    names : collection of str
        Names such as ``package.module:name``; ``EVERYTHING`` among them stands for all.

    Raises
    ------
    ConfigError
        One of them is no such name.
    """
    token = _trusted.set(_trusted.get() | checked_names(names))
    try:
        yield
    finally:
        _trusted.reset(token)


def trusted() -> frozenset[str]:
    """Return the names that :func:`trusting` allows here, for a process or thread that shall allow the same."""
    return _trusted.get()


def checked_names(names: Any) -> frozenset[str]:
    """Return names of code that a caller trusts; raise ConfigError if one of them is no such name."""
    several = isinstance(names, list | tuple | set | frozenset)
    for name in names if several else (names,):
        if name != EVERYTHING and not is_code(name):
            raise ConfigError(
                f"trust_code is {shown(names)}; names such as 'package.module:name' are required"
            )
    return frozenset(names if several else (names,))


def require_trust(what: str, name: str) -> None:
    """Raise CodeError unless :func:`trusting` allows a name here."""
    allowed = _trusted.get()
    if name not in allowed and EVERYTHING not in allowed:
        raise CodeError(
            f"{what} is {shown(name)}, code that is not fgnumba's own, which runs only if you trust it: "
            f"fgtrain's option --trust-code {name}, or in Python trust_code={name!r}, or the object itself"
        )


def code_of(what: str, name: str) -> Any:
    """Return the object that ``package.module:name`` names. This imports the module, which runs its code.

    A module that is not on ``sys.path`` is looked for in the current folder, as ``python -m`` does.

    Parameters
    ----------
    what : str
        What has the name, for messages, such as ``loss`` or ``model net.toml: layers[2]: activation``.
    name : str
        The name. It may come from anybody.

    Raises
    ------
    CodeError
        The name is not trusted, the module cannot be imported, or it has no such name.
    ConfigError
        It has not the form of a name.
    """
    if not is_code(name):
        raise ConfigError(f"{what} is {shown(name)}; a name such as 'package.module:name' is required")
    require_trust(what, name)
    module_name, path = name.split(":")
    value = _imported(what, name, module_name)
    for part in path.split("."):
        try:
            value = getattr(value, part)
        except Exception:
            known = [one for one in dir(value) if not one.startswith("_")]
            near = did_you_mean(part, known)
            # A module may have hundreds of names; they help only where there are few.
            near = near if "did you mean" in near or 0 < len(known) <= 12 else ""
            raise CodeError(f"{what} is {shown(name)}; there is no {part!r} in it{near}") from None
    return value


def _imported(what: str, name: str, module_name: str) -> Any:
    try:
        if module_name not in sys.modules and importlib.util.find_spec(module_name.partition(".")[0]) is None:
            here = os.getcwd()
            if here not in sys.path:
                sys.path.append(here)
                importlib.invalidate_caches()
        return importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is not None and f"{module_name}.".startswith(f"{error.name}."):
            raise CodeError(
                f"{what} is {shown(name)}; there is no module {error.name!r}, neither installed nor in the "
                "current folder"
            ) from None
        raise CodeError(f"{what} is {shown(name)}; {failed(module_name, error)}") from None
    # A module's code can raise anything, and a script may end the program.
    except (Exception, SystemExit) as error:
        raise CodeError(f"{what} is {shown(name)}; {failed(module_name, error)}") from None


def failed(place: str, error: BaseException) -> str:
    """Return in words that the code of a module or package could not be imported, and why."""
    reason = str(error) if isinstance(error, FgError) else f"{type(error).__name__}: {error}"
    return f"{place} cannot be imported: {reason}"


def installed(group: str) -> "dict[str, EntryPoint]":
    """Return the entry points of installed packages in a group, by name; none of them is imported.

    A name that several packages have stands for none of them: ``package:name`` tells them apart, and every entry point
    has that name, too.

    Parameters
    ----------
    group : str
        One of :data:`GROUPS`.
    """
    # Imported here: it takes longer than everything else that `fgtrain --help` imports.
    from importlib.metadata import entry_points

    try:
        points = list(entry_points(group=group))
    # A broken installation must not stop what does without it.
    except Exception:
        return {}
    names = [point.name for point in points]
    single = {point.name: point for point in points if names.count(point.name) == 1}
    return single | {f"{package_of(point)}:{point.name}": point for point in points}


def package_of(point: "EntryPoint") -> str:
    """Return the name of the package that has an entry point."""
    return point.dist.name if point.dist is not None else point.module


def loaded(what: str, point: "EntryPoint") -> Any:
    """Return the object of an entry point; raise CodeError, which names the package, if it cannot be imported."""
    try:
        return point.load()
    except (Exception, SystemExit) as error:
        reason = failed(f"its entry point {point.value!r}", error)
        raise CodeError(f"{what}: {point.name} of the package {package_of(point)}: {reason}") from None


def external(what: str, name: Any, group: str) -> Any | None:
    """Return the object of another package that a name stands for.

    Parameters
    ----------
    what : str
        What has the name, for messages, such as ``loss``.
    name : str
        ``package.module:name``, the name of an entry point, or ``package:name``, an entry point of that package.
    group : str
        One of :data:`GROUPS`.

    Returns
    -------
    object or None
        The object; None if the name has none of these forms.

    Raises
    ------
    CodeError
        The name stands for code that is not trusted, or that cannot be imported.
    """
    if not isinstance(name, str):
        return None
    point = installed(group).get(name)
    if point is not None:
        return loaded(what, point)
    return code_of(what, name) if is_code(name) else None


def made(what: str, name: str, found: Any, kind: type[Any]) -> Any:
    """Return an object of a class: what was found, or what it makes if it is a subclass.

    Parameters
    ----------
    what, name : str
        What has the name, and the name, for messages.
    found : object
        An object of the class, or a subclass that can be called without arguments.
    kind : type
        The class.

    Raises
    ------
    ConfigError
        It is neither, or the subclass needs arguments.
    """
    if isinstance(found, kind):
        return found
    if not (isinstance(found, type) and issubclass(found, kind)):
        raise ConfigError(
            f"{what} is {shown(name)}, which is {shown(found)}; a {kind.__name__}, or its subclass, is required"
        )
    try:
        return found()
    except TypeError as error:
        raise ConfigError(
            f"{what} is {shown(name)}, a class that cannot be called without arguments ({error}); "
            f"give the name of an object of it"
        ) from None


def name_of(value: Any, named_as: Any = None) -> str | None:
    """Return the name ``package.module:name`` under which an object can be imported again.

    Parameters
    ----------
    value : object
        A function or a class, or anything else that has a module and a name.
    named_as : object, optional
        The function whose place a decorator gave to `value`: its module and name are those of `value`. None (the
        default): `value` has its own.

    Returns
    -------
    str or None
        The name. None if it is not found again by it: it was made in a notebook, by a lambda, or within a function.
    """
    named = value if named_as is None else named_as
    module, path = getattr(named, "__module__", None), getattr(named, "__qualname__", None)
    if not isinstance(module, str) or not isinstance(path, str) or module == "__main__":
        return None
    held: Any = sys.modules.get(module)
    for part in path.split("."):
        held = getattr(held, part, None)
    name = f"{module}:{path}"
    return name if held is value and is_code(name) else None
