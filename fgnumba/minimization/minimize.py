"""Minimise a function of numbers and arrays along forward gradients."""

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from fgnumba.errors import ConfigError, did_you_mean, shown
from fgnumba.estimators.weight import WeightPerturbation
from fgnumba.kernels.rules.philox import MAX_SEED, MAX_STEP
from fgnumba.minimization.descent import Descent
from fgnumba.minimization.estimates import estimate_of
from fgnumba.minimization.minimum import Minimum
from fgnumba.minimization.passes import Function
from fgnumba.minimization.variables import Variables
from fgnumba.optimizers import OPTIMIZERS, Adam, Optimizer
from fgnumba.optimizers.schedules import Cosine, Schedule
from fgnumba.training.best_checkpoint import BestCheckpoint
from fgnumba.training.callbacks import Callback, EarlyStopping
from fgnumba.training.checkpoints import Checkpoints
from fgnumba.training.followers import callbacks_of
from fgnumba.training.learning_rate_finder import LearningRateFinder
from fgnumba.training.optuna_pruning import OptunaPruning
from fgnumba.validation import flag, optional, whole_number

RECORDS = 100
"""Number of records of a descent, where it is not said how often they are made."""
RATE = 0.1
"""Adam's learning rate at the first step, where none is given."""
_OF_A_MODEL = (BestCheckpoint, LearningRateFinder, OptunaPruning)


def minimize(
    f: Any,
    x0: Any,
    *,
    steps: int = 1000,
    estimator: str | WeightPerturbation | None = None,
    optimizer: str | Optimizer | None = None,
    learning_rate: float | Schedule | None = None,
    seed: int = 0,
    callbacks: Sequence[Callback] = (),
    record_every: int | None = None,
    checkpoints: Checkpoints | None = None,
    resume: bool = False,
) -> Minimum:
    """Minimise a function by steps along its gradient, or along estimates of it, by forward mode alone.

        x ← x - η_i g,    g = ∇f(x)    or    g = (1/T) Σ_t (∇f(x) · v_t) v_t

    for plain gradient descent; `optimizer` may be another rule. Everything but f is computed in float64.

    Parameters
    ----------
    f : callable
        The function of x, which returns a number: a Python function, one compiled by ``numba.njit``, or one that
        ``fgnumba.differentiable`` returned.
    x0 : float, array or tuple
        The starting point: a number, an array of any shape, or a tuple (named or not) of numbers, arrays and tuples. A
        list becomes a float64 array. f is called with one argument of this form.
    steps : int, optional
        Number of steps. By default 1000.
    estimator : str or WeightPerturbation, optional
        ``"gradient"``: exact, from n directional derivatives in passes of 8 tangents. ``"forward"``: the mean of
        forward gradients along 16 directions of random signs, in two passes whatever n is; it is unbiased, and its
        relative variance is (n - 1) / 16. ``fgnumba.WeightPerturbation("gaussian", directions=4)``: another kind and
        number of directions. By default ``"gradient"`` up to n = 256, and ``"forward"`` beyond.
    optimizer : str or Optimizer, optional
        An optimiser, or its name: ``"sgd"``, ``"adam"`` or ``"adamw"``. By default Adam.
    learning_rate : float or callable, optional
        The learning rate or a schedule (``fgnumba.schedules``) for an optimiser that is given by its name; ``"sgd"``
        needs one. By default Adam's falls from 0.1 to 0 along half a cosine over the steps. It is in units of x.
    seed : int, optional
        Seed of the directions, which are functions of (seed, step, t, element). By default 0.
    callbacks : sequence of Callback, optional
        Objects that follow the descent, see ``fgnumba.callbacks``. In place of a trainer they get an object with ``x``,
        ``steps_done`` and ``stop()``. ``EarlyStopping()`` watches f(x).
    record_every : int, optional
        Number of steps between records, each of which evaluates f once more. By default a hundredth of `steps`.
    checkpoints : Checkpoints, optional
        Where the descent is saved to disk. By default nowhere.
    resume : bool, optional
        Whether to continue from the newest checkpoint, which gives the same bits as a descent without interruption. By
        default False.

    Returns
    -------
    Minimum
        ``x``, ``value``, ``steps`` and ``history``, with ``plot()``.

    Raises
    ------
    ConfigError, ShapeError, DtypeError
        An argument is impossible.
    DifferentiationError
        Numba cannot compile f for x0, or something in f has no derivative.
    DivergenceError
        f(x) or a derivative is not finite. The error's ``reached`` is a Minimum with the last x whose value is finite.
    RunError
        The checkpoints' folder holds another descent, or cannot be used.
    """
    steps = whole_number("steps", steps, 1, MAX_STEP)
    seed = whole_number("seed", seed, 0, MAX_SEED)
    every = optional(whole_number, "record_every", record_every) or max(1, steps // RECORDS)
    if flag("resume", resume) and checkpoints is None:
        raise ConfigError("resume: checkpoints is None; the folder to resume from is required")
    if checkpoints is not None and checkpoints.compact:
        raise ConfigError("checkpoints are compact; those of minimize hold x: compact=False is required")
    variables = Variables(x0)
    return Descent(
        Function(f, variables),
        variables,
        estimate=estimate_of(estimator, seed, variables.size),
        optimizer=_optimizer_of(optimizer, learning_rate, steps),
        steps=steps,
        every=every,
        seed=seed,
        callbacks=_checked(callbacks_of(callbacks)),
        checkpoints=checkpoints,
    ).run(resume)


def _optimizer_of(given: Any, rate: Any, steps: int) -> Optimizer:
    if isinstance(given, Optimizer):
        if rate is not None:
            raise ConfigError(
                "learning_rate is given beside an optimizer, which has its own; give one of the two"
            )
        return given
    if given is None:
        return Adam(Cosine(RATE, steps) if rate is None else rate)
    kinds: dict[str, Any] = dict(OPTIMIZERS)
    known = [name for name, kind in kinds.items() if "radius" not in {one.name for one in fields(kind)}]
    if not isinstance(given, str) or given not in known:
        hint = did_you_mean(given, known) if isinstance(given, str) else ""
        raise ConfigError(
            f"optimizer is {shown(given)}{hint}; an optimizer such as fgnumba.Adam(0.01), or its name, is required"
        )
    if rate is None and given == "sgd":
        raise ConfigError("optimizer is 'sgd', which needs a learning_rate")
    optimizer: Optimizer = kinds[given](Cosine(RATE, steps) if rate is None else rate)
    return optimizer


def _checked(callbacks: tuple[Callback, ...]) -> tuple[Callback, ...]:
    for one in callbacks:
        if isinstance(one, _OF_A_MODEL):
            raise ConfigError(
                f"callbacks: {type(one).__name__} follows the training of a model, and no function"
            )
    if sum(isinstance(one, EarlyStopping) for one in callbacks) > 1:
        raise ConfigError("callbacks: EarlyStopping is there twice; one of them is required")
    return callbacks
