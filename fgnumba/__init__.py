"""fgnumba: train neural networks with forward gradients, on fused Numba kernels, without a reverse pass.

Names are imported when they are first used: ``import fgnumba`` alone loads neither NumPy nor Numba.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fgnumba import datasets, directions, errors, functions, schedules
    from fgnumba.callbacks import Callback, History, Record
    from fgnumba.errors import (
        ConfigError,
        DatasetError,
        DeviceError,
        DivergenceError,
        DtypeError,
        FgError,
        RunError,
        ShapeError,
    )
    from fgnumba.estimators import WeightPerturbation
    from fgnumba.evaluation import Evaluation, evaluate
    from fgnumba.forward import forward_gradient, jvp
    from fgnumba.layers import Dense, Flatten
    from fgnumba.losses import MeanSquaredError, SoftmaxCrossEntropy
    from fgnumba.model import Sequential
    from fgnumba.optimizers import SGD
    from fgnumba.trainer import StepResult, Trainer

__version__ = "0.1.0"

_MODULES = ("datasets", "directions", "errors", "functions", "schedules")
_NAMES = {
    "callbacks": ("Callback", "History", "Record"),
    "errors": (
        *("ConfigError", "DatasetError", "DeviceError", "DivergenceError"),
        *("DtypeError", "FgError", "RunError", "ShapeError"),
    ),
    "estimators": ("WeightPerturbation",),
    "evaluation": ("Evaluation", "evaluate"),
    "forward": ("forward_gradient", "jvp"),
    "layers": ("Dense", "Flatten"),
    "losses": ("MeanSquaredError", "SoftmaxCrossEntropy"),
    "model": ("Sequential",),
    "optimizers": ("SGD",),
    "trainer": ("StepResult", "Trainer"),
}
_HOME = {name: module for module, names in _NAMES.items() for name in names}

__all__ = [
    "SGD",
    "Callback",
    "ConfigError",
    "DatasetError",
    "Dense",
    "DeviceError",
    "DivergenceError",
    "DtypeError",
    "Evaluation",
    "FgError",
    "Flatten",
    "History",
    "MeanSquaredError",
    "Record",
    "RunError",
    "Sequential",
    "ShapeError",
    "SoftmaxCrossEntropy",
    "StepResult",
    "Trainer",
    "WeightPerturbation",
    "datasets",
    "directions",
    "errors",
    "evaluate",
    "forward_gradient",
    "functions",
    "jvp",
    "schedules",
]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        value: Any = import_module(f"fgnumba.{name}")
    elif name in _HOME:
        value = getattr(import_module(f"fgnumba.{_HOME[name]}"), name)
    else:
        raise AttributeError(f"module 'fgnumba' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
