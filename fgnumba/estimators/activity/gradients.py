"""Gradients of parameters from the signals of pre-activations, as tasks."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from fgnumba.errors import ConfigError
from fgnumba.estimators.activity.error_signals import SignalTasks, Units
from fgnumba.estimators.activity.forward_tasks import ForwardTasks, Observer, Read
from fgnumba.kernels.emit.vector import PANEL
from fgnumba.kernels.layout.images import Border, image_shape
from fgnumba.kernels.machine.interfaces import Operation
from fgnumba.kernels.machine.memory import round_up
from fgnumba.kernels.shared.perturbed_units import SLOPE_FROM_OUTPUT
from fgnumba.layers import Conv2d, Dense
from fgnumba.layers.parameters import Parameter
from fgnumba.model.tasks import ImageBuffer, PanelBuffer, Task
from fgnumba.model.wiring import Step

Target = Callable[[str], npt.NDArray[np.float32]]
"""Returns where a parameter's gradient goes, by its name."""


class GradientTasks:
    """Puts the gradients down.

    Parameters
    ----------
    forward, signals : the passes before; the list of tasks goes on.
    target : of the gradients. onto : they are added there.
    """

    def __init__(self, forward: ForwardTasks, signals: SignalTasks, target: Target, onto: bool) -> None:
        self.forward, self.signals, self.target, self.onto = forward, signals, target, onto
        self.batch, self.device = forward.batch, forward.device
        self.isa, self.threads = forward.isa, forward.threads

    def layer(self, step: Step, units: Sequence[Units]) -> None:
        """Put the signals of a layer and the gradients of its parameters down."""
        parameters = self.forward.model.layer_parameters(step.index)
        x, shape = self.forward.values[step.inputs[0]], step.shapes[0]
        if not isinstance(step.layer, Dense):
            self._of_images(step, units, parameters, x)
            return
        bias = parameters.get("bias")
        delta = self._panels(step.layer.units)

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

    def _of_images(
        self, step: Step, units: Sequence[Units], parameters: Mapping[str, Parameter], x: ImageBuffer
    ) -> None:
        layer: Any = step.layer
        shape = image_shape(step.shapes[0])
        outputs = step.output.shape[-1]
        convolution = isinstance(layer, Conv2d)
        kernels = self.device.kernels.conv2d
        border = kernels.gradient_border(layer.geometry(shape), shape, outputs) if convolution else Border()
        delta = ImageBuffer(self.batch, step.output.shape, border)
        by_image = units[0].by_image

        def bind() -> list[Operation]:
            images = delta.images(one_a_part=by_image)
            return [
                self.signals.signal(unit, images.channels_from(unit.first, unit.count), None)
                for unit in units
            ]

        self.forward.add(self.signals.reads(units), [delta], bind, by_image)
        if not convolution:
            self._norm(step, parameters, x, delta)
            return
        weight, bias = parameters["weight"], parameters.get("bias")

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

        self.forward.tasks.append(Task([x, delta], [], gradient, by_image=False, sums=by_image))

    def _norm(
        self, step: Step, parameters: Mapping[str, Parameter], x: ImageBuffer, delta: ImageBuffer
    ) -> None:
        """Compute x̂ again, the layer without scale and shift, and sum δ x̂ and δ over pixels and examples."""
        plain = {
            name: Parameter.create(
                p.name, 0, np.full(p.shape, float(name == "scale"), np.float32), device=self.device
            )
            for name, p in parameters.items()
        }
        normalized, shape = ImageBuffer(self.batch, step.output.shape), step.shapes[0]

        def again() -> list[Operation]:
            read = replace(x.images(shape), has_tangent=False)
            return list(step.layer.bind(self.forward.site([read], normalized.images(), plain)))

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

    def output(self, observer: Observer, step: Step) -> None:
        """Put the gradient of the layer that the loss reads down, in closed form."""
        name = getattr(step.layer, "activation", "identity")
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
        """Put the gradient of a head down, in closed form."""
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
        """Put xᵀ δ down, the gradient of a dense layer's weight."""
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
