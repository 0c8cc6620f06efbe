"""Rules of activity perturbation: how the gradients of a layer's parameters follow from its error signals."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from fgnumba.errors import ConfigError
from fgnumba.estimators.activity.error_signals import Units
from fgnumba.estimators.activity.forward_tasks import Observer
from fgnumba.estimators.activity.gradients import GradientTasks
from fgnumba.layers import Conv2d, Dense, Function, GroupNorm, LayerNorm
from fgnumba.model.wiring import Step


class Rule(NamedTuple):
    """The rule of a layer that has parameters.

    Parameters
    ----------
    gradients : callable
        A function of the tasks so far, a step and the units of its layer. It appends the tasks that compute the error
        signals of the units and the gradients of the layer's parameters.
    closed_form : callable, optional
        A function of the tasks so far, the observer and a step, for a layer whose output the loss reads. It appends the
        gradients in closed form, so that the layer gets no noise. By default None: the layer gets noise there too.
    """

    gradients: Callable[[GradientTasks, Step, Sequence[Units]], None]
    closed_form: Callable[[GradientTasks, Observer, Step], None] | None = None


RULES: dict[type, Rule] = {
    Conv2d: Rule(GradientTasks.convolution),
    Dense: Rule(GradientTasks.dense, GradientTasks.output),
    Function: Rule(GradientTasks.function, GradientTasks.function_output),
    GroupNorm: Rule(GradientTasks.normalization),
    LayerNorm: Rule(GradientTasks.normalization),
}
"""The rules by the class of the layer. A layer of your own is trained once its rule is added here."""


def rule(step: Step) -> Rule:
    """Return the rule of a step's layer.

    Raises
    ------
    ConfigError
        If the layer has none.
    """
    if type(step.layer) not in RULES:
        raise ConfigError(
            f"layer {step.names[0]!r}: {step.layer.kind} has parameters that activity perturbation cannot train; "
            "a rule in fgnumba.estimators.activity.rules.RULES is missing"
        )
    return RULES[type(step.layer)]
