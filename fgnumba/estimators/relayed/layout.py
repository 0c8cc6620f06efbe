"""Which models relayed feedback trains: those of vectors, whose layers are dense or have slopes in closed form."""

from typing import NamedTuple

from fgnumba.errors import ConfigError
from fgnumba.layers import Activation, Add, Dense, Dropout, LayerNorm, RMSNorm
from fgnumba.model.graph import Graph
from fgnumba.model.wiring import Step, Value, wire

LAYERS = (Dense, Activation, Add, Dropout, LayerNorm, RMSNorm)
"""The layers that an error passes: through a learned matrix, or by the slope of the layer."""


class Layout(NamedTuple):
    """The steps of a model, and what they read first and write last.

    Parameters
    ----------
    steps : list of Step
        All steps, in order.
    source, result : Value
        The values of the input and of the output.
    """

    steps: list[Step]
    source: Value
    result: Value

    @property
    def told(self) -> list[Step]:
        """The dense layers whose input is told its error, each by a matrix: those behind another with parameters."""
        return [step for step in self.steps if type(step.layer) is Dense and step.inputs[0].has_tangent]


def analyzed(model: Graph) -> Layout:
    """Return the layout of a model.

    Raises
    ------
    ConfigError
        If the model has a layer that no error can pass, or one that is not of vectors.
    """
    steps, source, result = wire(model, True, True, by_parts=False)
    if not result.has_tangent:
        raise ConfigError("the model has no parameters that its output depends on: nothing can be trained")
    for step in steps:
        if type(step.layer) not in LAYERS:
            known = ", ".join(kind.__name__ for kind in LAYERS)
            raise _refused(step, f"is {step.layer.kind}; one of {known} is required")
        if len(step.output.shape) != 1:
            raise _refused(step, f"writes {step.output.shape} numbers an example; a vector is required")
    return Layout(steps, source, result)


def _refused(step: Step, why: str) -> ConfigError:
    return ConfigError(f"relayed feedback: layer {step.names[0]!r} {why}")
