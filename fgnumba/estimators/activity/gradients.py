"""Tasks that compute the gradients of parameters from the error signals of pre-activations."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from fgnumba.errors import ConfigError
from fgnumba.estimators.activity.error_signals import SignalTasks, Units
from fgnumba.estimators.activity.forward_tasks import ForwardTasks, Observer, Read
from fgnumba.estimators.planned import Target
from fgnumba.kernels.emit.vector import PANEL
from fgnumba.kernels.layout.images import NO_BORDER, Border, image_shape
from fgnumba.kernels.machine.interfaces import Operation
from fgnumba.kernels.machine.memory import round_up
from fgnumba.kernels.rules.directions import NONE
from fgnumba.kernels.shared.perturbed_units import SLOPE_FROM_OUTPUT
from fgnumba.layers import Perturbation
from fgnumba.layers.parameters import Parameter
from fgnumba.model.tasks import ImageBuffer, PanelBuffer, Task
from fgnumba.model.wiring import Step


class GradientTasks:
    """Appends the tasks that compute error signals and gradients to the tasks of a pass.

    Parameters
    ----------
    forward : ForwardTasks
        The forward pass, to whose list of tasks these are appended.
    signals : SignalTasks
        The tasks before these, which weigh the noise.
    target : callable
        A function that returns the array to which a parameter's gradient is written, given the parameter's name.
    onto : bool
        Whether gradients are added to these arrays; if not, they replace their content.
    """

    def __init__(self, forward: ForwardTasks, signals: SignalTasks, target: Target, onto: bool) -> None:
        self.forward, self.signals, self.target, self.onto = forward, signals, target, onto
        self.batch, self.device = forward.batch, forward.device
        self.isa, self.threads = forward.isa, forward.threads

    def dense(self, step: Step, units: Sequence[Units]) -> None:
        """Append the tasks for the error signals δ of a dense layer and the gradients of its weight and bias."""
        parameters = self.forward.model.layer_parameters(step.index)
        x, shape = self.forward.values[step.inputs[0]], step.shapes[0]
        bias = parameters.get("bias")
        delta = self._panels(step.output.shape[-1])

        def bind() -> list[Operation]:
            target = self.target(bias.name) if bias else None
            return [
                self.signals.signal(
                    unit,
                    delta.array[unit.first // PANEL : -(-(unit.first + unit.count) // PANEL)],
                    None if target is None else target[unit.first :],
                )
                for unit in units
            ]

        self.forward.add(self.signals.reads(units), [delta], bind)
        self._outer(parameters["weight"], x, lambda: x.images(shape, one_a_part=False), delta)

    def _signals(self, step: Step, units: Sequence[Units], border: Border = NO_BORDER) -> ImageBuffer:
        """Append the error signals δ of a layer whose output is images; return the images they are written to."""
        delta = ImageBuffer(self.batch, step.output.shape, border)
        by_image = units[0].by_image

        def bind() -> list[Operation]:
            images = delta.images(one_a_part=by_image)
            return [
                self.signals.signal(unit, images.channels_from(unit.first, unit.count), None)
                for unit in units
            ]

        self.forward.add(self.signals.reads(units), [delta], bind, by_image)
        return delta

    def convolution(self, step: Step, units: Sequence[Units]) -> None:
        """Append the tasks for the error signals δ of a convolution and the gradients of its weight and bias."""
        layer: Any = step.layer
        parameters, x = self.forward.model.layer_parameters(step.index), self.forward.values[step.inputs[0]]
        weight, bias = parameters["weight"], parameters.get("bias")
        shape = image_shape(step.shapes[0])
        kernels = self.device.kernels.conv2d
        border = kernels.gradient_border(layer.geometry(shape), shape, step.output.shape[-1])
        delta = self._signals(step, units, border)

        def gradient() -> list[Operation]:
            return [
                kernels.bind_gradient(
                    self.isa,
                    self.threads,
                    batch=self.batch,
                    x=x.images(shape, one_a_part=False),
                    dz=delta.images(one_a_part=False),
                    geometry=layer.geometry(shape),
                    out=self.target(weight.name),
                    bias=self.target(bias.name) if bias else None,
                    onto=self.onto,
                    multiply_adds=layer.multiply_adds(step.shapes) * self.batch,
                )
            ]

        self.forward.tasks.append(Task([x, delta], [], gradient, by_image=False, sums=units[0].by_image))

    def normalization(self, step: Step, units: Sequence[Units]) -> None:
        """Append the gradients of a normalisation's scale and shift: sums of δ x̂ and of δ over pixels and examples.

        x̂ is computed again, as the layer's output with a scale of 1 and a shift of 0.
        """
        parameters, x = self.forward.model.layer_parameters(step.index), self.forward.values[step.inputs[0]]
        delta = self._signals(step, units)
        plain = {
            name: Parameter.create(
                p.name, 0, np.full(p.shape, float(name == "scale"), np.float32), device=self.device
            )
            for name, p in parameters.items()
        }
        normalized, shape = ImageBuffer(self.batch, step.output.shape), step.shapes[0]

        def again() -> list[Operation]:
            read = replace(x.images(shape), has_tangent=False)
            return list(
                step.layer.bind(self.forward.site([read], normalized.images(), plain, still=step.layer.still))
            )

        def bind() -> list[Operation]:
            return [
                self.device.kernels.channel_sums.bind(
                    self.threads,
                    batch=self.batch,
                    x=normalized.images(one_a_part=False),
                    delta=delta.images(one_a_part=False),
                    scale=self.target(parameters["scale"].name),
                    shift=self.target(parameters["shift"].name),
                    onto=self.onto,
                )
            ]

        self.forward.add([x], [normalized], again, True)
        self.forward.add([normalized, delta], [], bind)

    def function(self, step: Step, units: Sequence[Units]) -> None:
        """Append the tasks for the error signals δ of a function layer and the gradients of its parameters."""
        self._along(step, self._signals(step, units))

    def function_output(self, observer: Observer, step: Step) -> None:
        """Append the gradients of a function layer whose output the loss reads: δ is the residual."""
        delta = ImageBuffer(self.batch, step.output.shape)

        def bind() -> list[Operation]:
            z = observer.z.images(step.output.shape, one_a_part=False)
            return [self.signals.exact(observer, delta.images(one_a_part=False), z, "identity", None)]

        self.forward.add([observer.z], [delta], bind)
        self._along(step, delta)

    def _along(self, step: Step, delta: ImageBuffer) -> None:
        """Append the gradients of a function layer's parameters: δ times the tangent along each of their entries."""
        layer: Any = step.layer
        parameters, x = self.forward.model.layer_parameters(step.index), self.forward.values[step.inputs[0]]
        shape = step.shapes[0]

        def bind() -> list[Operation]:
            operations = layer.bind_gradient(
                self.isa,
                self.threads,
                still=Perturbation(NONE, 0, self.forward.stream),
                batch=self.batch,
                shape=shape,
                x=x.images(shape, one_a_part=False),
                delta=delta.images(one_a_part=False),
                parameters=parameters,
                targets={name: self.target(p.name) for name, p in parameters.items()},
                onto=self.onto,
            )
            return list(operations)

        self.forward.add([x, delta], [], bind)

    def output(self, observer: Observer, step: Step) -> None:
        """Append the gradient of the layer whose output the loss reads, in closed form."""
        name = step.layer.fused_activation
        if name not in SLOPE_FROM_OUTPUT:
            known = ", ".join(SLOPE_FROM_OUTPUT)
            raise ConfigError(
                f"layer {step.names[0]!r}: activation {name!r} of the output layer; one of {known} is required"
            )
        parameters = self.forward.model.layer_parameters(step.index)
        delta = self._residual(observer, name, parameters.get("bias"))
        x, shape = self.forward.values[step.inputs[0]], step.shapes[0]
        self._outer(parameters["weight"], x, lambda: x.images(shape, one_a_part=False), delta)

    def head(self, observer: Observer) -> None:
        """Append the gradient of a head, in closed form."""
        assert observer.features is not None
        assert observer.read is not None
        heads, name = self.forward.heads, observer.head
        delta = self._residual(observer, "identity", heads[f"{name}.bias"])
        self._outer(heads[f"{name}.weight"], observer.features, observer.read, delta)

    def _residual(self, observer: Observer, rule: str, bias: Parameter | None) -> PanelBuffer:
        (classes,) = observer.z.shape
        delta = self._panels(classes)

        def bind() -> list[Operation]:
            z = observer.z.images((classes,), one_a_part=False)
            target = self.target(bias.name) if bias else None
            return [self.signals.exact(observer, delta.array, z, rule, target)]

        self.forward.add([observer.z], [delta], bind)
        return delta

    def _panels(self, features: int) -> PanelBuffer:
        return PanelBuffer(-(-features // PANEL), round_up(self.batch, PANEL))

    def _outer(self, weight: Parameter, x: ImageBuffer, read: Read, delta: PanelBuffer) -> None:
        """Append the product xᵀ δ, which is the gradient of a dense layer's weight."""
        features, units = weight.shape
        panels = PanelBuffer(-(-self.batch // PANEL), features)
        panel_kernels = self.device.kernels.example_panels

        def bind() -> list[Operation]:
            return [
                panel_kernels.bind_to_panels(
                    self.isa, self.threads, x=read(), panels=panels.array, batch=self.batch
                ),
                panel_kernels.bind_product(
                    "weight-gradient",
                    self.isa,
                    self.threads,
                    a=panels.array,
                    w=delta.array,
                    out=self.target(weight.name),
                    rows=features,
                    terms=self.batch,
                    columns=units,
                    onto=self.onto,
                    multiply_adds=self.batch * features * units,
                ),
            ]

        self.forward.add([x, delta], [panels], bind)
