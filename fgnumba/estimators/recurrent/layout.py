"""Which layers of a model real-time recurrent learning trains, and what tells each of them its error."""

from dataclasses import dataclass
from typing import Any

from fgnumba.errors import ConfigError
from fgnumba.kernels.ops.traces import PARTS
from fgnumba.layers import Concatenate, Dense, Dropout, ElementwiseLSTM, LinearRecurrentUnit, MinGRU
from fgnumba.layers.recurrent import RecurrentLayer
from fgnumba.model.graph import Graph
from fgnumba.model.wiring import Step, Value, wire

NAMES = "ElementwiseLSTM, MinGRU or LinearRecurrentUnit"


@dataclass(eq=False)
class Traced:
    """A recurrent layer that is trained.

    Parameters
    ----------
    step : Step
        The layer's step.
    column : int or None
        The first column of its states among those that the readout reads; None if the readout does not read them.
    """

    step: Step
    column: int | None = None

    @property
    def layer(self) -> Any:
        """The layer."""
        return self.step.layer

    @property
    def name(self) -> str:
        """The name of the layer in the model."""
        return self.step.names[0]

    @property
    def recurrence(self) -> str:
        """The name by which kernels know the layer's formula, a key of ``kernels.ops.traces.PARAMETERS``."""
        if isinstance(self.layer, ElementwiseLSTM):
            return "elementwise_lstm"
        if isinstance(self.layer, MinGRU):
            return "min_gru"
        return "complex_linear" if self.layer.complex else "linear"

    @property
    def width(self) -> int:
        """The number of outputs at each position."""
        return int(PARTS[self.recurrence] * self.layer.units)

    @property
    def head(self) -> str:
        """The name of the layer's own head, which it has where the readout does not read its states."""
        return f"head.{self.name}"


@dataclass
class Layout:
    """The steps of a model, as real-time recurrent learning trains them.

    Parameters
    ----------
    steps : list of Step
        All steps, in order.
    source, result : Value
        The values of the input and of the output.
    readout : Step
        The dense layer at the end.
    traced : list of Traced
        The recurrent layers, in order.
    """

    steps: list[Step]
    source: Value
    result: Value
    readout: Step
    traced: list[Traced]


def analyzed(model: Graph, direct: bool) -> Layout:
    """Return the layout of a model.

    Parameters
    ----------
    model : Graph
        The model.
    direct : bool
        Whether the readout must read the states of every layer.

    Raises
    ------
    ConfigError
        If real-time recurrent learning cannot train the model.
    """
    steps, source, result = wire(model, True, True, by_parts=False)
    last = result.producer
    for step in steps:
        if isinstance(step.layer, Dropout):
            raise _refused(step, "drops units at random; a model without Dropout is required")
        if isinstance(step.layer, RecurrentLayer) and not _is_traced(step):
            raise _refused(
                step,
                f"mixes all units in each step, so that its traces would not fit; {NAMES}, or the estimator "
                "weight-perturbation, is required",
            )
        if step is not last and step.layer.parameter_shapes(step.shapes) and not _is_traced(step):
            raise _refused(
                step, f"has parameters that it cannot train; {NAMES}, and one Dense at the end, are required"
            )
    traced = {step: Traced(step) for step in steps if _is_traced(step)}
    if not traced:
        raise ConfigError(
            f"real-time recurrent learning: the model has no recurrent layer; {NAMES} is required"
        )
    if last is None or not isinstance(last.layer, Dense) or result.readers:
        raise ConfigError(
            "real-time recurrent learning: the model ends with "
            f"{last.layer.kind if last else 'its input'}; one Dense at the end is required"
        )
    if last.layer.fused_activation != "identity":
        raise _refused(
            last, f"has the activation {last.layer.fused_activation!r}; a readout without one is required"
        )
    _find_columns(last.inputs[0], 0, traced, last)
    for layer in traced.values():
        if layer.column is None and direct:
            raise _refused(
                layer.step,
                "is not read by the Dense at the end; a Concatenate of all recurrent layers before it, "
                "or feedback='local', is required",
            )
    return Layout(steps, source, result, last, list(traced.values()))


def _is_traced(step: Step) -> bool:
    return isinstance(step.layer, ElementwiseLSTM | MinGRU | LinearRecurrentUnit)


def _find_columns(value: Value, column: int, traced: dict[Step, Traced], readout: Step) -> None:
    """Set the column of each recurrent layer whose states `value` has, of which the readout reads the first there."""
    step = value.producer
    if step in traced:
        if traced[step].column is not None:
            raise _refused(readout, f"reads {traced[step].name!r} twice; once is required")
        traced[step].column = column
    elif step is not None and isinstance(step.layer, Concatenate):
        for part in step.inputs:
            _find_columns(part, column, traced, readout)
            column += part.shape[-1]
    elif step is not None:
        raise _refused(
            readout,
            f"reads {step.names[-1]!r}, a {step.layer.kind}; "
            "recurrent layers, or a Concatenate of them, are required",
        )
    else:
        raise _refused(readout, "reads the input; recurrent layers, or a Concatenate of them, are required")


def _refused(step: Step, why: str) -> ConfigError:
    return ConfigError(f"real-time recurrent learning: layer {step.names[0]!r}, {step.layer.kind}, {why}")
