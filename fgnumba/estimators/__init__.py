"""Estimators of the gradient that need forward passes only.

Each module of this folder holds one family of estimators and is found by searching the folder. The dictionary
``RECIPES`` of a module holds its estimators by the names that configurations use.
"""

from importlib import import_module
from pkgutil import iter_modules

from fgnumba.errors import ConfigError, did_you_mean
from fgnumba.estimators.base import Estimate, Estimator, Recipe, Setting, State, Update

RECIPES: dict[str, Recipe] = {}
"""The recipes of all estimators, by name."""

FAMILIES = ("activity", "weight", "zeroth")
"""The modules to load if the folder cannot be searched, as in a program that was frozen into one file."""

for _name in sorted({module.name for module in iter_modules(__path__)} or FAMILIES):
    RECIPES |= getattr(import_module(f"{__name__}.{_name}"), "RECIPES", {})

__all__ = ["RECIPES", "Estimate", "Estimator", "Recipe", "Setting", "State", "Update", "recipe"]


def recipe(name: str) -> Recipe:
    """Return the recipe called `name`; raise ConfigError if there is none."""
    if not isinstance(name, str) or name not in RECIPES:
        raise ConfigError(f"estimator: unknown estimator {name!r}{did_you_mean(str(name), RECIPES)}")
    return RECIPES[name]
