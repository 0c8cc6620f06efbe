"""Estimators of the gradient that cost forward passes alone: a module a family, found by itself."""

from importlib import import_module
from pkgutil import iter_modules

from fgnumba.estimators.base import Estimate, Estimator, Setting, State

for _module in iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")

__all__ = ["Estimate", "Estimator", "Setting", "State"]
