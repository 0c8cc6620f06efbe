"""Estimators of the gradient that need forward passes only.

Each module of this folder holds one family of estimators and is found by searching the folder. The dictionary
``RECIPES`` of a module holds its estimators by the names that configurations use.
"""

from collections.abc import Iterable
from importlib import import_module
from pkgutil import iter_modules

from fgnumba.errors import ConfigError, did_you_mean, shown
from fgnumba.estimators.base import Estimate, Estimator, Setting, State, Update
from fgnumba.estimators.recipes import Recipe
from fgnumba.objects.code import ESTIMATORS_GROUP, external, installed, made

RECIPES: dict[str, Recipe] = {}
"""The recipes of all estimators, by name."""

FAMILIES = ("activity", "blocks", "recurrent", "relayed", "subspace", "weight", "zeroth")
"""The modules to load if the folder cannot be searched, as in a program that was frozen into one file."""

for _name in sorted({module.name for module in iter_modules(__path__)} or FAMILIES):
    RECIPES |= getattr(import_module(f"{__name__}.{_name}"), "RECIPES", {})

__all__ = ["RECIPES", "Estimate", "Estimator", "Recipe", "Setting", "State", "Update", "recipe"]


def recipe(name: str, beside: Iterable[str] = ()) -> Recipe:
    """Return the recipe called `name`.

    Parameters
    ----------
    name : str
        A key of :data:`RECIPES`; an entry point ``fgnumba.estimators`` of an installed package; or
        ``package.module:name``, where it is trusted (:mod:`fgnumba.objects.code`). What the latter two name is a
        recipe, an estimator, or the class of one that can be called without arguments.
    beside : iterable of str
        Names that the caller knows beside them, for the message. Default: none.

    Raises
    ------
    ConfigError
        There is none.
    CodeError
        It is code that is not trusted or cannot be imported.
    """
    if isinstance(name, str) and name in RECIPES:
        return RECIPES[name]
    found = external("estimator", name, ESTIMATORS_GROUP)
    if found is None:
        known = [*RECIPES, *beside, *installed(ESTIMATORS_GROUP)]
        raise ConfigError(f"estimator: unknown estimator {shown(name)}{did_you_mean(str(name), known)}")
    if isinstance(found, Recipe):
        return found
    estimator: Estimator = made("estimator", name, found, Estimator)
    return Recipe(lambda: estimator, takes=())
