"""The tasks of a forward pass that keeps what the reverse pass reads, and of the reverse pass."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from fgnumba.bench.reverse.cotangents import Cotangents, FeaturePanels, rows_of
from fgnumba.bench.reverse.kernels import activated
from fgnumba.bench.reverse.kernels.convolution import bind_slope
from fgnumba.kernels.emit.vector import PANEL
from fgnumba.kernels.layout.images import NO_BORDER
from fgnumba.kernels.machine.interfaces import Operation
from fgnumba.kernels.machine.memory import aligned
from fgnumba.kernels.ops.elementwise import cpu as elementwise
from fgnumba.kernels.rules.directions import NONE
from fgnumba.layers import Activation, Dense, Perturbation, Site
from fgnumba.layers.recurrent import RecurrentLayer
from fgnumba.model.graph import Graph
from fgnumba.model.input_rows import InputRows
from fgnumba.model.tasks import ImageBuffer, InputBuffer
from fgnumba.model.wiring import Step, Value


@dataclass(frozen=True)
class States:
    """The states of a recurrent layer, one for each example.

    Parameters
    ----------
    last : array, (1, B, S) float32
        The states that the layer begins with; replaced by those that it leaves.
    before : array, (B, S) float32
        A copy of the states that the layer begins with.
    carry : array, (B, S) float32
        The cotangents of the states that it leaves; replaced by those of the states that it begins with.
    """

    last: npt.NDArray[np.float32]
    before: npt.NDArray[np.float32]
    carry: npt.NDArray[np.float32]

    @classmethod
    def of(cls, last: npt.NDArray[np.float32]) -> "States":
        """Return states in the array `last`, with room for those before a run and for their cotangents, zeros."""
        return cls(last, aligned(last.shape[1:]), aligned(last.shape[1:]))


READ_FROM_OUTPUT = ("identity", "relu")
"""Activations whose slope is a function of their output. Their pre-activations are not kept."""


class Passes(Cotangents):
    """The tasks of both passes, listed in the order in which they run.

    Parameters
    ----------
    model : Graph
        The model.
    batch : int
        Number of examples B.
    source : Value
        The model's input.
    rows : InputRows
        The input's rows.
    stream : array, (1,) ``philox.STREAM``
        Seed and step of dropout's masks.
    gradients : dict or None
        Arrays for the gradients, by parameter name, packed. None: gradients are added to the parameters.
    states : mapping of int to States or None
        The states that recurrent layers begin with and leave, by the number of the layer. None: they begin at zeros.
    accumulate : bool
        Whether gradients are added to what their arrays hold.
    forwards : mapping of type to callable
        Layers with a forward pass of their own: it is given the passes, the step, the buffer of the output, and whether
        that is there already, since only what the reverse pass reads is computed again.

    Attributes
    ----------
    values : dict
        The buffer of each value that a step has written.
    gates : dict
        The gates that each recurrent layer keeps, once it is bound.
    kept : dict
        What the forward pass of a layer with one of its own keeps.
    """

    def __init__(
        self,
        model: Graph,
        batch: int,
        source: Value,
        rows: InputRows,
        stream: npt.NDArray[Any],
        gradients: dict[str, npt.NDArray[np.float32]] | None,
        states: Mapping[int, States] | None = None,
        accumulate: bool = False,
        forwards: Mapping[type, Callable[["Passes", Step, ImageBuffer, bool], None]] = MappingProxyType({}),
    ) -> None:
        super().__init__(model, batch, gradients, accumulate)
        self.values: dict[Value, ImageBuffer] = {source: InputBuffer(batch, source, rows)}
        self._perturbation = Perturbation(NONE, 0, stream)
        self.parameter_bytes = sum(p.packed.nbytes for p in model.packed_parameters.values())
        self.states = states or {}
        self.gates: dict[Step, npt.NDArray[np.float32]] = {}
        self.kept: dict[Step, Any] = {}
        self._forwards = forwards
        self._before_activation: dict[Step, ImageBuffer] = {}
        self._slopes: dict[Step, FeaturePanels] = {}

    def again(self, step: Step, keep: bool) -> None:
        """List a step's forward pass once more. With `keep`, what its reverse pass reads is kept."""
        known = step.output in self.values
        self.forward(step, keep)
        output = self.values[step.output]
        if not known and output.border != NO_BORDER:
            # The convolution that clears the border may not run again.
            self.add(
                [output],
                [output],
                lambda: [bind_slope(**self.part, x=output.images(), source=None, y=output.images())],
            )

    def forward(self, step: Step, keep: bool) -> None:
        """List a step's forward pass. With `keep`, what its reverse pass reads is kept."""
        value = step.output
        recomputed = value in self.values
        output = self.values.setdefault(value, self.buffer(value, value.border))
        if type(step.layer) in self._forwards:
            self._forwards[type(step.layer)](self, step, output, recomputed)
            return
        name = getattr(step.layer, "activation", "identity")
        apart = keep and name not in READ_FROM_OUTPUT and not isinstance(step.layer, Activation)
        if recomputed and not apart:
            return
        if not apart:
            self._forward(step, step.layer, output)
            return
        if isinstance(step.layer, Dense) and self.many(value):
            self._keep_slopes(step, output)
            return
        z = self.buffer(value)
        self._before_activation[step] = z
        self._forward(step, replace(step.layer, activation="identity"), z)  # type: ignore[type-var]
        self.add(
            [z],
            [output],
            lambda: [
                elementwise.bind(**self.part, count=0, x=z.images(), y=output.images(), activation_name=name)
            ],
        )

    def _keep_slopes(self, step: Step, output: ImageBuffer) -> None:
        """List the forward pass of a dense layer of many rows, which also makes its slopes."""
        rows, x = self.batch * output.positions, self.values[step.inputs[0]]
        slopes = self._slopes[step] = FeaturePanels(step.output.width, rows)
        weight, bias = (self.parameters(step).get(name) for name in ("weight", "bias"))

        def bind() -> list[Operation]:
            assert weight is not None
            return [
                activated.bind(
                    self.isa,
                    self.threads,
                    rows=rows,
                    x=rows_of(x),
                    y=rows_of(output),
                    outputs=weight.shape[1],
                    weight=weight.packed,
                    bias=bias.packed if bias else aligned((len(weight.packed) * PANEL,)),
                    slopes=slopes.array,
                    activation_name=step.layer.fused_activation,
                )
            ]

        self.add([x], [output, slopes], bind, by_image=False)

    def _forward(self, step: Step, layer: Any, output: ImageBuffer) -> None:
        inputs = [self.values[value] for value in step.inputs]

        def bind() -> list[Operation]:
            one_a_part = not layer.whole_batch
            site = self.site(
                step,
                [x.images(shape, one_a_part) for x, shape in zip(inputs, step.shapes, strict=True)],
                output.images(step.output.shape, one_a_part),
            )
            if not isinstance(layer, RecurrentLayer):
                return layer.bind(site)
            operations, self.gates[step] = layer.bind_kept(site)
            return operations

        self.add(inputs, [output], bind, by_image=not layer.whole_batch, numbered=layer.numbers_examples)

    def site(self, step: Step, inputs: Sequence[Any], output: Any) -> Site:
        """Return the arguments that a step's layer is bound with."""
        states = self.states.get(step.index)
        return Site(
            device=self.model.processor,
            batch=self.batch,
            images=1,
            index=step.index,
            inputs=tuple(inputs),
            output=output,
            parameters=self.parameters(step),
            perturbation=self._perturbation,
            shapes=tuple(step.shapes),
            state=None if states is None else states.last,
        )

    def slope_source(self, step: Step) -> ImageBuffer | None:
        """Return the buffer of which the slope of a step's activation is a function; None for the identity."""
        name = getattr(step.layer, "activation", "identity")
        if name == "identity":
            return None
        return self._before_activation.get(step, self.values[step.output])

    def slopes_of(self, step: Step) -> FeaturePanels | None:
        """Return the slopes of a dense layer of many rows, if the forward pass made them."""
        return self._slopes.get(step)

    def forget(self, values: Sequence[Value]) -> None:
        """Remove values that a later pass writes again."""
        for value in values:
            del self.values[value]
