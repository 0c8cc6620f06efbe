"""The collapsed forward pass of a model: value, first derivatives and one summed second derivative in its input.

A model of dense layers is bound to a number of points and of directions, as :class:`fgnumba.model.plan.Plan` binds a
model to a batch size. The kernel is :mod:`fgnumba.kernels.shared.collapsed.cpu`.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from fgnumba.errors import ConfigError, DeviceError
from fgnumba.kernels.emit.vector import PANEL
from fgnumba.kernels.machine.memory import aligned, leading
from fgnumba.kernels.rules.activations.curvatures import CURVATURES, has_curvature
from fgnumba.kernels.shared.collapsed.cpu import ChainLayer, bind
from fgnumba.layers import Dense
from fgnumba.layers.parameters import Parameter
from fgnumba.model.graph import Graph
from fgnumba.model.wiring import Step, wire
from fgnumba.objects.bound import Bound


class CollapsedPass(Bound):
    """A model's value, first derivatives and summed second derivative, bound to B points, k directions and T tangents.

    Parameters
    ----------
    model : Graph
        The model, whose parameters are read in place.
    batch : int
        The number of points B.
    directions : array, (k, D) float32
        The directions in the input.
    weights : array, (k,) float32
        The weights of the second derivatives along them.
    tangents : int
        The number T of directions of the parameters, along which everything is differentiated once more.

    Attributes
    ----------
    v : dict of str to ndarray, float32
        By the name of each parameter its T tangents, packed; they are to be filled before a run.

    Raises
    ------
    ConfigError
        If the model is no chain of dense layers.
    DeviceError
        If the model is on a GPU.
    """

    def __init__(
        self,
        model: Graph,
        batch: int,
        directions: npt.NDArray[np.float32],
        weights: npt.NDArray[np.float32],
        tangents: int = 0,
    ) -> None:
        steps = chain_of(model)
        device, (count, inputs) = model.processor, directions.shape
        self._inputs, self._output_shape = inputs, model.output_shape
        self._x = aligned((batch, leading(inputs)))
        self._y = aligned((1 + tangents, batch, 2 + count, model.outputs))
        rows = aligned((count, leading(inputs)))
        rows[:, :inputs] = directions
        factors = aligned((count,))
        factors[...] = weights
        self._parameters: Mapping[str, Parameter] = model.packed_parameters
        self.v = {
            name: aligned((tangents, *parameter.packed.shape)) for name, parameter in self._parameters.items()
        }
        layers = [self._layer(model, step, tangents) for step in steps]
        operation = bind(
            device.isa, device.threads, x=self._x, directions=rows, weights=factors, layers=layers, y=self._y
        )
        self.multiply_adds = operation.multiply_adds
        self._program = device.program([operation])

    def _layer(self, model: Graph, step: Step, tangents: int) -> ChainLayer:
        own = model.layer_parameters(step.index)
        weight, bias = own["weight"], own.get("bias")
        columns = weight.packed.shape[0] * PANEL
        return ChainLayer(
            weight=weight.packed,
            bias=aligned((columns,)) if bias is None else bias.packed,
            outputs=weight.shape[1],
            activation=step.layer.fused_activation,
            v=self.v[weight.name] if tangents else None,
            v_bias=(self.v[bias.name] if bias else aligned((tangents, columns))) if tangents else None,
        )

    def move(self, tangent: int, arrays: Mapping[str, npt.NDArray[np.float32]]) -> None:
        """Let tangent number `tangent` be the direction of the parameters that `arrays` are, by name."""
        for name, array in arrays.items():
            self._parameters[name].assign(array, self.v[name][tangent])

    def run(self, x: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Return (1 + T, B, 2 + k, outputs) float32 of the points `x` (B, D); the next run writes it anew.

        Of each point these are the value, k first derivatives and the summed second derivative, then the same for
        each tangent.
        """
        with np.errstate(over="ignore"):
            self._x[:, : self._inputs] = x.reshape(len(x), self._inputs)
        self._program.run()
        return self._y


def chain_of(model: Graph) -> list[Step]:
    """Return the dense layers of a model that is a chain of them, or refuse the model in one line."""
    if not model.processor.by_parts:
        raise DeviceError(
            f"second derivatives in the input are computed on the CPU; the model is on {model.device!r}"
        )
    steps, before, _ = wire(model, False, False)
    for step in steps:
        name = " + ".join(step.names)
        if not isinstance(step.layer, Dense):
            raise ConfigError(
                f"layer {name!r}: second derivatives in the input are of dense layers; {step.layer.kind} is none"
            )
        if len(step.shapes[0]) > 1:
            raise ConfigError(
                f"layer {name!r}: second derivatives in the input are of vectors; it reads a sequence {step.shapes[0]}"
            )
        if step.inputs[0] is not before:
            raise ConfigError(
                f"layer {name!r}: second derivatives in the input are of a chain; it does not read the layer before"
            )
        if not has_curvature(step.layer.fused_activation):
            raise ConfigError(
                f"layer {name!r}: {step.layer.fused_activation!r} has no second derivative here; "
                f"one of {', '.join(CURVATURES)} is required"
            )
        before = step.output
    if not steps:
        raise ConfigError("second derivatives in the input are of dense layers; the model has none")
    return steps
