"""What a trainer is made with, by name: losses, estimators and optimisers as strings."""

from collections.abc import Callable, Iterable
from dataclasses import fields
from typing import Any

from fgnumba.errors import ConfigError, did_you_mean, shown
from fgnumba.estimators import RECIPES, Estimator, Recipe, recipe
from fgnumba.estimators.weight import WeightPerturbation
from fgnumba.layers.losses import BinaryCrossEntropy, Huber, Loss, MeanSquaredError, SoftmaxCrossEntropy
from fgnumba.model.graph import Graph
from fgnumba.objects.code import LOSSES_GROUP, external, installed, made
from fgnumba.optimizers import AUTO, OPTIMIZERS, SGD, MeasuredRate, Optimizer
from fgnumba.training.defaults import default_learning_rate

LOSSES: dict[str, type[Loss]] = {
    "cross-entropy": SoftmaxCrossEntropy,
    "softmax-cross-entropy": SoftmaxCrossEntropy,
    "bce": BinaryCrossEntropy,
    "binary-cross-entropy": BinaryCrossEntropy,
    "huber": Huber,
    "mse": MeanSquaredError,
    "mean-squared-error": MeanSquaredError,
}
"""The losses by name."""


def loss_of(given: Loss | Callable[..., Any] | str | None) -> Loss:
    """Return a loss.

    Parameters
    ----------
    given : Loss, callable, str or None
        The loss itself; a function f(z, y) that :meth:`fgnumba.Loss.from_function` makes a loss of; or a name: in
        `LOSSES`, that of an entry point ``fgnumba.losses`` of an installed package, or ``package.module:name`` of a
        loss or such a function where it is trusted (:mod:`fgnumba.objects.code`). None stands for
        :class:`fgnumba.SoftmaxCrossEntropy`.

    Raises
    ------
    ConfigError
        There is no loss of that name, or it is something else.
    """
    if given is None:
        return SoftmaxCrossEntropy()
    if isinstance(given, str):
        return LOSSES[given]() if given in LOSSES else _loss_of_a_package(given)
    if callable(given) and not isinstance(given, Loss | type):
        return Loss.from_function(given)
    loss: Loss = _object("loss", given, Loss, LOSSES)
    return loss


def _loss_of_a_package(name: str) -> Loss:
    """Return the loss that ``package.module:name`` or an entry point names."""
    found = external("loss", name, LOSSES_GROUP)
    if found is None:
        _known("loss", name, [*LOSSES, *installed(LOSSES_GROUP)])
    if callable(found) and not isinstance(found, Loss | type):
        return Loss.from_function(found)
    loss: Loss = made("loss", name, found, Loss)
    return loss


def estimator_of(given: Estimator | str | None) -> Estimator:
    """Return a gradient estimator.

    Parameters
    ----------
    given : Estimator, str or None
        The estimator itself or the name of its recipe in ``fgnumba.estimators.RECIPES``. None stands for
        :class:`fgnumba.WeightPerturbation` with one rank-1 direction.

    Raises
    ------
    ConfigError
        There is no estimator of that name, or it is something else.
    """
    if given is None:
        return WeightPerturbation()
    if isinstance(given, str):
        return recipe(given).make()
    estimator: Estimator = _object("estimator", given, Estimator, RECIPES)
    return estimator


def optimizer_of(given: Optimizer | str, estimator: Estimator, model: Graph) -> Optimizer:
    """Return an optimiser.

    Parameters
    ----------
    given : Optimizer or str
        The optimiser itself; ``"auto"``: the one that suits the estimator, with a learning rate that is measured
        (:class:`fgnumba.schedules.MeasuredRate`); or its name in ``fgnumba.optimizers.OPTIMIZERS``. By such a name it
        takes the learning rate that a search found for the estimator (see the evidence of its recipe). For weight
        perturbation it takes that of :func:`fgnumba.training.defaults.default_learning_rate`. The rate stays the same
        over the run.
    estimator : Estimator
        The trainer's estimator.
    model : Graph
        The model; its number of parameters decides the rate of weight perturbation.

    Raises
    ------
    ConfigError
        There is no optimiser of that name, it needs more than a learning rate, nobody has searched a rate for the
        estimator, or it is something else.
    """
    if not isinstance(given, str):
        optimizer: Optimizer = _object("optimizer", given, Optimizer, OPTIMIZERS)
        return optimizer
    if given == AUTO:
        return _measuring(estimator)
    kind: Any = OPTIMIZERS[_known("optimizer", given, (*OPTIMIZERS, AUTO))]
    if "radius" in {field.name for field in fields(kind)}:
        raise ConfigError(
            f"optimizer is {given!r}, which needs a radius; fgnumba.{kind.__name__}(radius, learning_rate) is required"
        )
    searched = recipe_of(estimator)
    momentum = searched.momentum if searched is not None and searched.optimizer == given else None
    more = {} if momentum is None else {"momentum": momentum}
    optimizer = kind(learning_rate=_rate(f"fgnumba.{kind.__name__}", searched, estimator, model), **more)
    return optimizer


def _measuring(estimator: Estimator) -> Optimizer:
    """Return the optimiser of an estimator's recipe with a measured learning rate; Adam if it has no recipe."""
    if isinstance(estimator, WeightPerturbation):
        return SGD(MeasuredRate())
    searched = recipe_of(estimator)
    kind: Any = OPTIMIZERS["adam" if searched is None else searched.optimizer]
    optimizer: Optimizer = kind(MeasuredRate())
    return optimizer


def _rate(kind: str, searched: Recipe | None, estimator: Estimator, model: Graph) -> float:
    """Return the learning rate that is known for an estimator, whose recipe is `searched`, if it has one."""
    if searched is not None and searched.learning_rate is not None:
        return searched.learning_rate
    if searched is None and not isinstance(estimator, WeightPerturbation):
        raise ConfigError(
            f"optimizer: no learning rate is known for this {type(estimator).__name__}; "
            f"{kind}(learning_rate=...) is required"
        )
    return default_learning_rate(model.parameter_count, getattr(estimator, "directions", None) or 1)


def recipe_of(estimator: Estimator) -> Recipe | None:
    """Return the recipe that makes an estimator when none of its options is chosen, or None if there is none.

    Parameters
    ----------
    estimator : Estimator
        The estimator.
    """
    return next((entry for entry in RECIPES.values() if _makes(entry, estimator)), None)


def _makes(entry: Recipe, estimator: Estimator) -> bool:
    """Return whether a recipe's estimator, with none of its options chosen, is this one."""
    made = entry.make()
    return type(made) is type(estimator) and made == estimator


def _known(what: str, name: str, names: Iterable[str]) -> str:
    if name not in names:
        raise ConfigError(f"{what}: unknown {what} {shown(name)}{did_you_mean(name, names)}")
    return str(name)


def _object(what: str, given: Any, kind: Any, names: Iterable[str]) -> Any:
    if isinstance(given, kind):
        return given
    if isinstance(given, type) and issubclass(given, kind):
        raise ConfigError(
            f"{what} is the class {given.__name__}; an object is required: {given.__name__}(...)"
        )
    choices = ", ".join(sorted(names))
    raise ConfigError(
        f"{what} is {shown(given)}; an object of class {kind.__name__}, or one of the names {choices}, is required"
    )
