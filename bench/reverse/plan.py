"""A forward pass that keeps every activation, and the reverse pass over them, bound as one program."""

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from fgnumba.bench.reverse import kernels
from fgnumba.errors import ConfigError
from fgnumba.graph import Graph
from fgnumba.kernels.directions import NONE
from fgnumba.kernels.images import Images
from fgnumba.kernels.memory import address, aligned, leading, pads_well
from fgnumba.kernels.philox import STREAM
from fgnumba.kernels.program import Operation, Program
from fgnumba.kernels.threads import thread_count
from fgnumba.kernels.vector import PANEL, instruction_set
from fgnumba.layers import Dense, Perturbation, Site
from fgnumba.losses import Loss, MeanSquaredError, SoftmaxCrossEntropy
from fgnumba.wiring import Step, wire

_LOSSES = {
    SoftmaxCrossEntropy: kernels.softmax_cross_entropy,
    MeanSquaredError: kernels.mean_squared_error,
}


class ReversePlan:
    """Value and gradient of a network of dense layers on B examples.

    Parameters
    ----------
    model : dense layers in a row; its parameters are read in place.
    batch : B.
    loss : softmax cross-entropy or mean squared error.
    update : True: the gradient times `scale` is added to the parameters as it is computed, which with a scale of
        -η is a step of gradient descent; the gradient itself is never stored. False: it is left in `gradients`.

    Attributes
    ----------
    scale : (1,) float64, what the gradient is multiplied by.
    losses : (B,) float64, of the examples of the last run.
    gradients : by name, packed like the parameters; empty with `update`.
    multiply_adds : of the products: 3 B K N a layer, 2 for the first.

    Raises
    ------
    ConfigError
        A layer or the loss has no reverse pass here.
    """

    def __init__(self, model: Graph, batch: int, loss: Loss, update: bool = False) -> None:
        self.model, self.batch, self.update = model, batch, update
        self.isa, self.threads = instruction_set(), thread_count()
        self.scale, self.losses = np.ones(1), np.zeros(batch)
        self.gradients = {
            name: aligned(p.packed.shape) for name, p in model.packed_parameters.items() if not update
        }
        self.targets = loss.target_buffer(batch, model.outputs)
        self._input: npt.NDArray[np.float32] | None = None
        steps, _, _ = wire(model, tangents=False, training=True)
        self._check(steps, loss)
        self._panels = -(-batch // PANEL)
        inputs = int(np.prod(model.input_shape))
        nothing = np.lib.stride_tricks.as_strided(np.zeros(1, np.float32), (1, batch, inputs), (0, 0, 0))
        forward, backward = self._bind(steps, nothing, inputs)
        output = self._outputs[-1]
        top = kernels.bind_loss(
            _LOSSES[type(loss)](),
            z=output[0],
            width=model.outputs,
            targets=self.targets,
            scale=self.scale,
            by_examples=self._cotangents[-1],
            losses=self.losses,
        )
        self.operations = [*forward, top, *reversed(backward)]
        self.multiply_adds = sum(op.multiply_adds for op in self.operations)
        self._program = Program(self.operations)

    def _check(self, steps: list[Step], loss: Loss) -> None:
        for before, step in zip([None, *steps], steps, strict=False):
            chained = step.inputs == ([before.output] if before else step.inputs[:1])
            if not isinstance(step.layer, Dense) or not chained:
                raise ConfigError(
                    f"layer {step.names[0]!r}: {step.layer.kind} has no reverse pass; dense layers in a row have"
                )
        if type(loss) not in _LOSSES:
            raise ConfigError(f"{type(loss).__name__} has no reverse pass")

    def _bind(
        self, steps: list[Step], nothing: npt.NDArray[np.float32], inputs: int
    ) -> tuple[list[Operation], list[Operation]]:
        """Return the forward pass in order, and the reverse pass from its end."""
        panels = self._panels
        x, x_width = nothing, inputs
        x_panels = aligned((panels, inputs, PANEL))
        copied = kernels.bind_activation(self.isa, self.threads, z=x[0], features=inputs, out=x_panels)
        self._readers: list[tuple[Operation, str, str]] = [(copied, "z", "ld")]
        forward, backward = [copied], list[Operation]()
        self._outputs: list[npt.NDArray[np.float32]] = []
        self._cotangents: list[npt.NDArray[np.float32]] = []
        below: npt.NDArray[np.float32] | None = None
        for step in steps:
            layer: Any = step.layer
            units, rows = layer.units, -(-layer.units // PANEL) * PANEL
            y = aligned((1, self.batch, leading(units)))
            bound = self._forward(step, layer, x, x_width, y)
            if x is nothing:
                self._readers.append((bound, "x", "x_image"))
            forward.append(bound)
            dz, by_features = aligned((panels, rows, PANEL)), aligned((rows // PANEL, panels * PANEL, PANEL))
            y_panels = slopes = None
            if step is not steps[-1] or layer.activation != "identity":
                y_panels = aligned((panels, rows, PANEL))
                slopes = aligned((panels, rows, PANEL)) if layer.activation != "identity" else None
                forward.append(
                    kernels.bind_activation(
                        self.isa,
                        self.threads,
                        z=y[0],
                        features=units,
                        out=y_panels,
                        activation_name=layer.activation,
                        slopes=slopes,
                    )
                )
            backward += self._reverse(step, x_panels, x_width, dz, by_features, slopes, below)
            self._outputs.append(y)
            self._cotangents.append(dz)
            x, x_width, below = y, units, dz
            if y_panels is not None:
                x_panels = y_panels
        return forward, backward

    def _forward(
        self, step: Step, layer: Dense, x: npt.NDArray[Any], x_width: int, y: npt.NDArray[Any]
    ) -> Operation:
        site = Site(
            isa=self.isa,
            threads=self.threads,
            batch=self.batch,
            images=self.batch,
            index=step.index,
            inputs=(Images.of_batch(x, (x_width,), external=not self._outputs),),
            output=Images.of_batch(y, (layer.units,)),
            parameters=self.model.layer_parameters(step.index),
            perturbation=Perturbation(NONE, 0, np.zeros(1, STREAM)),
        )
        # The activation follows apart, where it leaves its slope too.
        (bound,) = replace(layer, activation="identity").bind(site)
        return bound

    def _reverse(
        self,
        step: Step,
        x_panels: npt.NDArray[np.float32],
        x_width: int,
        dz: npt.NDArray[np.float32],
        by_features: npt.NDArray[np.float32],
        slopes: npt.NDArray[np.float32] | None,
        below: npt.NDArray[np.float32] | None,
    ) -> list[Operation]:
        """Return a layer's reverse pass, last operation first."""
        layer: Any = step.layer
        parameters = self.model.layer_parameters(step.index)
        weight, bias = parameters["weight"], parameters.get("bias")

        def target(parameter: Any) -> npt.NDArray[np.float32]:
            found: npt.NDArray[np.float32] = (
                parameter.packed if self.update else self.gradients[parameter.name]
            )
            return found

        products = self.batch * x_width * layer.units
        cotangent = kernels.bind_cotangent(
            self.isa,
            self.threads,
            by_examples=dz,
            by_features=by_features,
            slopes=slopes,
            bias=target(bias) if bias else None,
            features=layer.units,
            batch=self.batch,
            onto=self.update,
        )
        weights = kernels.bind_product(
            "weight-gradient",
            self.isa,
            self.threads,
            a=x_panels,
            w=by_features,
            out=target(weight),
            rows=x_width,
            onto=self.update,
            multiply_adds=products,
        )
        if below is None:
            return [weights, cotangent]
        inputs = kernels.bind_product(
            "input-gradient",
            self.isa,
            self.threads,
            a=weight.packed,
            w=dz,
            out=below,
            rows=x_width,
            onto=False,
            multiply_adds=products,
        )
        # The weights that the cotangent goes through are those of the forward pass.
        return [weights, inputs, cotangent]

    def run(self, x: npt.NDArray[Any], targets: npt.NDArray[Any]) -> float:
        """Run both passes on checked x (B, ...) and targets, and return the loss."""
        rows = x.reshape(self.batch, -1)
        width = rows.shape[1]
        if rows.dtype == np.float32 and rows.flags.c_contiguous and pads_well(width):
            at, distance = rows.__array_interface__["data"][0], width
        else:
            if self._input is None:
                self._input = aligned((self.batch, leading(width)))
            self._input[:, :width] = rows
            at, distance = address(self._input), self._input.shape[1]
        for operation, base, ld in self._readers:
            operation.arguments[base], operation.arguments[ld] = at, distance
        self.targets[...] = targets
        self._program.run()
        return float(self.losses.mean())
