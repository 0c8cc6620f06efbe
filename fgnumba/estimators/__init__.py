"""Estimators of the gradient that cost forward passes alone: a module a family, found by itself.

A module's ``RECIPES`` are its estimators by the names that configurations use.
"""

from importlib import import_module
from pkgutil import iter_modules

from fgnumba.errors import ConfigError, did_you_mean
from fgnumba.estimators.base import Estimate, Estimator, Recipe, Setting, State, Update

RECIPES: dict[str, Recipe] = {}
"""Every estimator by name."""

FAMILIES = ("activity", "weight", "zeroth")
"""What there is where a loader cannot search the folder, as that of a frozen program."""

for _name in sorted({module.name for module in iter_modules(__path__)} or FAMILIES):
    RECIPES |= getattr(import_module(f"{__name__}.{_name}"), "RECIPES", {})

__all__ = ["RECIPES", "Estimate", "Estimator", "Recipe", "Setting", "State", "Update", "recipe"]


def recipe(name: str) -> Recipe:
    """Return the recipe called `name`; ConfigError where there is none."""
    if not isinstance(name, str) or name not in RECIPES:
        raise ConfigError(f"estimator: unknown estimator {name!r}{did_you_mean(str(name), RECIPES)}")
    return RECIPES[name]
