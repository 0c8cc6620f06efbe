"""Default settings of a run for each model, used where the user gives none."""

import math
from typing import NamedTuple

from fgnumba.validation import optional, real_number, whole_number

HELD_OUT, PATIENCE = 0.05, 8
"""Default fraction of the training data that is held out for validation, and default number of records without a better
validation accuracy after which a run ends.

Holding out a tenth instead costs 0.15 % of accuracy on the digits (seven seeds, judged on a separate fifth)."""
JUDGED_RECORDS = 20
"""A run with patience has about this many records: patience is counted in records, and the moment at which it ends a
run must not depend on the size of the data."""
FEWEST_STEPS = 800
"""Smallest limit on the steps of a run whose length is not given, however small its data set."""


class Defaults(NamedTuple):
    """Default settings of a run for one model, used where the user gives none.

    Parameters
    ----------
    estimator : str
        Name of the gradient estimator that trains the model best. Default: ``"feedback"``.
    steps : int
        Largest number of steps, where the estimator's recipe has no limit of its own. Default: 10,000. On MNIST,
        judged on 7,750 examples that were held out, `feedback` reaches 98.39 % in 12,000 steps and 98.32 % in 8,000
        (two seeds).
    directions : int
        Number of directions in each step, for estimators whose learning rate comes from
        :func:`default_learning_rate`. Default: 64.
    rate : float
        The factor c of :func:`default_learning_rate`. Default: 0.08.
    schedule : str or None
        How the learning rate falls. Default: None, the schedule that is the default of every run.
    augment : str or None
        How colour images are changed at random. Default: None, not at all.
    batch_size : int or None
        Number of examples in each step. Default: None, the number that is the default of every run.
    """

    estimator: str = "feedback"
    steps: int = 10_000
    directions: int = 64
    rate: float = 0.08
    schedule: str | None = None
    augment: str | None = None
    batch_size: int | None = None


DEFAULTS = {
    # Of targets that are classes; a run on a table, or with another loss, takes the estimator of other models. On the
    # digits, with a fifth of the training data held out, `local-feedback` is at 96.0 % after 100 steps and at 98.0 %
    # after 900, and `feedback` at 95.4 % and 98.0 % (four seeds).
    "mlp": Defaults("local-feedback"),
    "cnn": Defaults("local-feedback", 6000, 16, rate=0.06),
    "resnet": Defaults("local-feedback", 6000, 16, rate=0.4),
    # 600 s of one core of a Xeon virtual machine (Emerald Rapids) in bf16.
    "vgg": Defaults("local-feedback", 20_000, 16, 0.06, "cosine-to-zero", "flip,crop:4", 32),
    # 50 s of one busy core of a Xeon virtual machine (Emerald Rapids) with one layer of 512, its compilation included.
    "char-lstm": Defaults("rtrl", 2500),
    # 1.74 nats a character after 6,000 steps; eight thousand are some minutes of two cores.
    "char-transformer": Defaults("block-feedback", 8000),
}
"""Default settings of models whose steps are long, or that need another estimator. The other models take more steps."""


def defaults(name: str) -> Defaults:
    """Return the default settings for a model.

    Parameters
    ----------
    name : str
        A model's name, such as ``cnn``, or the path of a TOML file.
    """
    return DEFAULTS.get(name, Defaults())


def step_limit(steps: int, epochs: int | None, per_epoch: int) -> int:
    """Return the largest number of steps of a run whose length is not given.

    Parameters
    ----------
    steps : int
        The number of steps that suits estimator and model.
    epochs : int or None
        The number of passes over the data after which the estimator learns nothing more; None: there is no such number.
    per_epoch : int
        Number of steps in a pass.
    """
    steps, per_epoch = whole_number("steps", steps), whole_number("per_epoch", per_epoch)
    epochs = optional(whole_number, "epochs", epochs)
    return steps if epochs is None else min(steps, max(FEWEST_STEPS, per_epoch * epochs))


def default_learning_rate(
    parameters: int, directions: int, momentum: float = 0.0, rate: float = Defaults().rate
) -> float:
    """Return a learning rate for weight perturbation with T directions of P parameters.

        η = (1 - μ) c √P T / (P + T + 1)

    T / (P + T + 1) is the factor by which the estimator's variance shortens the steps that exact gradients allow.
    c = 0.08 and √P were found by search: on the digits and MNIST, for perceptrons of 650 to 1.9 million parameters and
    1 to 64 directions, the learning rate is within a factor of four of the best; with ReLU, c = 0.12 diverges in the
    long run. The deep network without normalisation, ``cnn``, needs a smaller c, and ``resnet``, which is normalised,
    tolerates a larger one. Momentum μ makes every step 1 / (1 - μ) times as long in the end, hence the factor 1 - μ.

    Parameters
    ----------
    parameters : int
        Number of parameters P.
    directions : int
        Number of directions T in each step.
    momentum : float
        Momentum μ of the optimizer, from 0 to below 1. Default: 0.
    rate : float
        The factor c. Default: 0.08.
    """
    parameters, directions = whole_number("parameters", parameters), whole_number("directions", directions)
    momentum, rate = real_number("momentum", momentum, below=1), real_number("rate", rate, above_zero=True)
    return (1.0 - momentum) * rate * math.sqrt(parameters) * directions / (parameters + directions + 1)
