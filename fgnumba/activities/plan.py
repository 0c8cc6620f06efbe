"""Activity perturbation bound to a batch size: noise on what layers compute, and gradients from what it changes."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from fgnumba.activities.layout import Place, lay_out
from fgnumba.activities.settings import Feedback, LocalLosses
from fgnumba.errors import ConfigError
from fgnumba.graph import Graph
from fgnumba.kernels.channel_sums import cpu as channel_sums
from fgnumba.kernels.conv2d import filtered_gradient, filtering, weight_gradient
from fgnumba.kernels.directions import EXPLICIT, NONE
from fgnumba.kernels.elementwise import cpu as elementwise
from fgnumba.kernels.example_panels import cpu as example_panels
from fgnumba.kernels.feedback import cpu as feedback_kernels
from fgnumba.kernels.images import Border, Images, image_shape
from fgnumba.kernels.loss import RESULT
from fgnumba.kernels.memory import aligned, round_up
from fgnumba.kernels.noise import cpu as noise
from fgnumba.kernels.program import Operation, Program
from fgnumba.kernels.residual import cpu as residuals
from fgnumba.kernels.signal import cpu as signal
from fgnumba.kernels.sites import SLOPE_FROM_OUTPUT
from fgnumba.kernels.threads import thread_count
from fgnumba.kernels.vector import PANEL, instruction_set
from fgnumba.layers import Activation, AvgPool2d, Conv2d, Dense, Dropout, Perturbation, Site
from fgnumba.losses import Loss
from fgnumba.parameters import Parameter
from fgnumba.plan import InputRows
from fgnumba.tasks import Buffer, ImageBuffer, InputBuffer, PanelBuffer, Task, place
from fgnumba.wiring import Step, Value, wire

Memory = Callable[[str, tuple[int, ...]], npt.NDArray[np.float32]]
"""Returns an estimator's array of a name, zeros at first: the same one every time."""


@dataclass(eq=False)
class Observer:
    """What noise is observed at: the model's output, or a head's.

    Parameters
    ----------
    z : the output. slots : tangents.
    residual : (B, C) e. response : (S, B, C) ε. noise : (S, B) r. power : (B,).
    """

    z: ImageBuffer
    slots: int
    residual: npt.NDArray[np.float32]
    response: npt.NDArray[np.float32]
    noise: npt.NDArray[np.float32]
    power: npt.NDArray[np.float32]

    @classmethod
    def of(cls, z: ImageBuffer, slots: int, classes: int) -> "Observer":
        """Return the observer of `classes` outputs with their tangents."""
        batch = z.batch
        return cls(
            z,
            slots,
            aligned((batch, classes)),
            aligned((slots, batch, classes)),
            aligned((slots, batch)),
            aligned((batch,)),
        )


@dataclass(eq=False)
class Units:
    """Channels of a layer that one observer watches.

    Parameters
    ----------
    place : where the noise goes in.
    source, rule : what the slope is a function of, and of which activation.
    first, count : channels. observer : of them.
    feedback, cells : B and the cell of each pixel; None without feedback.
    """

    place: Place
    source: ImageBuffer
    rule: str
    first: int
    count: int
    observer: Observer
    feedback: npt.NDArray[np.float32] | None
    cells: npt.NDArray[np.int64] | None

    def images(self, one_a_part: bool) -> Images:
        """Return the source's channels."""
        shape = self.place.step.output.shape
        found = self.source.images(shape, one_a_part)
        return found.channels_from(self.first, self.count)


class ActivityPlan:
    """Loss and gradient estimate of a model on B examples, from noise on its activities.

    Parameters
    ----------
    model, batch, loss : its parameters are read in place.
    stream : (1,) ``kernels.philox.STREAM``.
    draws : T. layerwise : noise goes into one layer at a time, each with tangents of its own.
    feedback, local : None without.
    heads : the parameters of local heads, by name, see :func:`head_shapes`.
    memory : where feedback matrices are kept.
    target : returns where a parameter's gradient goes, by its name.
    onto : gradients are added there.

    Attributes
    ----------
    values : (1 + S,) float64, the loss and the mean derivatives along the noise that the model's output sees.
    result : (1,) ``kernels.loss.RESULT``.
    scale : (1,) float64, what gradients are multiplied by.
    """

    def __init__(
        self,
        model: Graph,
        batch: int,
        loss: Loss,
        stream: npt.NDArray[Any],
        *,
        draws: int,
        layerwise: bool,
        feedback: Feedback | None,
        local: LocalLosses | None,
        heads: Mapping[str, Parameter],
        memory: Memory,
        target: Callable[[str], npt.NDArray[np.float32]],
        onto: bool,
        after: Callable[["ActivityPlan"], Sequence[Operation]] = lambda plan: (),
    ) -> None:
        self.model, self.batch, self.loss = model, batch, loss
        self.isa, self.threads = instruction_set(), thread_count()
        self.stream, self.draws, self.feedback, self.local = stream, draws, feedback, local
        self.heads, self._memory, self._target, self.onto = heads, memory, target, onto
        self.result, self.scale = np.zeros(1, RESULT), np.full(1, 1.0 / batch)
        self.targets = loss.target_buffer(batch, model.outputs)
        steps, source, result = wire(model, tangents=True, training=True)
        if not result.has_tangent:
            raise ConfigError(
                "the model has no parameters that its output depends on: nothing can be trained"
            )
        trained = {
            step
            for step in steps
            if not isinstance(step.layer, Activation) and model.layer_parameters(step.index)
        }
        self.layout = lay_out(steps, result, trained, draws, layerwise, local is not None)
        self._tasks: list[Task] = []
        self._deferred: list[Task] = []
        self._values: dict[Value, ImageBuffer] = {source: InputBuffer(batch, source.shape)}
        self._sources: dict[Step, tuple[ImageBuffer, str]] = {}
        self._panels: dict[tuple[ImageBuffer, int, int], PanelBuffer] = {}
        self._input = InputRows(batch, math.prod(model.input_shape))
        for step in steps:
            self._forward(step)
        observers = self._observe(steps, result)
        self._units = [unit for place in self.layout.places for unit in self._units_of(place, observers)]
        self._second = len(self._tasks)
        self._estimate(observers)
        placed = place(self._tasks, batch, self.threads, self._tasks[self._second])
        self._keeps, self.buffer_nbytes = placed.keeps, placed.nbytes
        self._first = Program(placed.steps[: placed.second])
        self._last = Program([*placed.steps[placed.second :], *after(self)])
        self._readers = placed.readers
        self.operations = (*self._first.operations, *self._last.operations)

    @property
    def nbytes(self) -> int:
        """Bytes of buffers and scratch memory, the copied input included; gradients and state are not."""
        scratch = self._first.scratch.nbytes + self._last.scratch.nbytes
        return self.buffer_nbytes + scratch + self._input.nbytes

    def run(self, x: npt.NDArray[Any], targets: npt.NDArray[Any]) -> bool:
        """Run the pass on checked x (B, ...) and targets; gradients follow only where its loss is finite."""
        self._input.read_by(x, self._readers)
        self.targets[...] = targets
        self._first.run()
        if self.result["finite"][0] != 1:
            return False
        self._last.run()
        return True

    # The forward pass

    def _add(
        self,
        reads: Sequence[Buffer],
        writes: Sequence[Buffer],
        bind: Callable[[], list[Operation]],
        by_image: bool,
        numbered: bool = False,
    ) -> None:
        self._tasks.append(Task(reads, writes, bind, by_image, numbered=numbered))

    def _site(self, step: Step, tangents: int, inputs: Sequence[Images], output: Images) -> Site:
        parameters = self.model.layer_parameters(step.index)
        perturbation = Perturbation(NONE, tangents, self.stream)
        if "scale" in parameters:
            zeros = {p.name: aligned((max(1, tangents), p.packed.size)) for p in parameters.values()}
            perturbation = Perturbation(EXPLICIT, tangents, self.stream, explicit=zeros)
        return self._bare_site(inputs, output, parameters, perturbation, step.index)

    def _bare_site(
        self,
        inputs: Sequence[Images],
        output: Images,
        parameters: Mapping[str, Parameter],
        perturbation: Perturbation,
        index: int = 0,
    ) -> Site:
        return Site(
            isa=self.isa,
            threads=self.threads,
            batch=self.batch,
            images=1,
            index=index,
            inputs=tuple(inputs),
            output=output,
            parameters=parameters,
            perturbation=perturbation,
        )

    def _forward(self, step: Step) -> None:
        layer: Any = step.layer
        value, layout = step.output, self.layout
        incoming, blocks = layout.incoming[step], layout.blocks[value]
        places = [one for one in layout.places if one.carrier is step]
        output = ImageBuffer(self.batch, value.shape, value.border, blocks)
        self._values[value] = output
        name = getattr(layer, "activation", "identity")
        here, apart = output, bool(places) and name not in SLOPE_FROM_OUTPUT
        if apart:
            # The slope is no function of the output: what the activation is applied to is kept beside it.
            here, layer = (
                ImageBuffer(self.batch, value.shape, tangents=blocks),
                replace(layer, activation="identity"),
            )
        inputs = [self._values[v] for v in step.inputs]
        seen = [layout.tangents(v, step) > 0 for v in step.inputs]
        whole = layer.whole_batch

        def bind() -> list[Operation]:
            read = [
                replace(x.images(shape, not whole), has_tangent=has_tangent)
                for x, shape, has_tangent in zip(inputs, step.shapes, seen, strict=True)
            ]
            written = replace(here.images(value.shape, not whole), has_tangent=incoming > 0)
            return list(layer.bind(self._site(step, incoming, read, written)))

        self._add(inputs, [here], bind, not whole, numbered=isinstance(layer, Dropout))
        for one in places:
            self._sources[one.step] = here, name
        if places or value in layout.clear:
            self._noise(
                here, places, "identity" if apart else name, incoming, layout.clear.get(value, (0, 0)), whole
            )
        if apart:
            self._add(
                [here],
                [output],
                lambda: [
                    elementwise.bind(
                        batch=self.batch,
                        images_a_part=1,
                        count=blocks,
                        x=here.images(),
                        y=output.images(),
                        activation_name=name,
                    )
                ],
                True,
            )

    def _noise(
        self,
        buffer: ImageBuffer,
        places: list[Place],
        rule: str,
        there: int,
        clear: tuple[int, int],
        whole: bool,
    ) -> None:
        def bind() -> list[Operation]:
            slot, slots = (places[0].slot, places[0].slots) if places else (0, 0)
            return [
                noise.bind(
                    self.isa,
                    self.threads,
                    batch=self.batch,
                    images_a_part=0 if whole else 1,
                    y=buffer.images(one_a_part=not whole),
                    slot=slot,
                    slots=slots,
                    parameter=self._number(places[0].step) if places else 0,
                    stream=self.stream,
                    activation_name=rule,
                    onto=slot < there,
                    clear=clear,
                )
            ]

        self._add([buffer], [buffer], bind, not whole)

    def _number(self, step: Step) -> int:
        """Return the number of a layer's noise in the counter: that of its first parameter."""
        return min(parameter.index for parameter in self.model.layer_parameters(step.index).values())

    # What is observed

    def _observe(self, steps: list[Step], result: Value) -> list[list[Observer]]:
        """Put the heads and the losses down, and return each block's observers, one a group."""
        observers: list[list[Observer]] = []
        whole: list[Task] = []
        for block, end in enumerate(self.layout.ends):
            observers.append(self._block_heads(block, end, whole))
        self._tasks += whole
        z = self._values[result]
        slots = self.layout.blocks[result]
        classes = self.model.outputs
        self.values = np.zeros(1 + slots)
        main = Observer.of(z, slots, classes)
        observers.append([main])

        def bind() -> list[Operation]:
            dual = z.dual()
            return self.loss.bind(self.threads, dual, classes, self.targets, self.result, self.values)

        self._add([z], [], bind, False)
        return observers

    def _block_heads(self, block: int, end: Step, whole: list[Task]) -> list[Observer]:
        assert self.local is not None
        value, slots = self._values[end.output], self.layout.blocks[end.output]
        found = []
        for group, (first, count) in enumerate(_groups(end, self.local.groups)):
            features, read = self._features(value, end.output.shape, first, count, slots)
            name = head_name(end, group)
            weight = self.heads[f"{name}.weight"]
            z = ImageBuffer(self.batch, (self.model.outputs,), tangents=slots)

            def bind(
                features: ImageBuffer = features,
                read: Callable[[], Images] = read,
                z: ImageBuffer = z,
                name: str = name,
            ) -> list[Operation]:
                parameters = {part: self.heads[f"{name}.{part}"] for part in ("weight", "bias")}
                perturbation = Perturbation(NONE, slots, self.stream)
                return Dense(self.model.outputs).bind(
                    self._bare_site([read()], z.images(one_a_part=False), parameters, perturbation)
                )

            whole.append(Task([features], [z], bind, by_image=False))
            observer = Observer.of(z, slots, weight.shape[1])
            self._head_inputs = getattr(self, "_head_inputs", {})
            self._head_inputs[observer] = (name, features, read)
            found.append(observer)
        return found

    def _features(
        self, value: ImageBuffer, shape: tuple[int, ...], first: int, count: int, slots: int
    ) -> tuple[ImageBuffer, Callable[[], Images]]:
        """Return what a head reads of some channels, and how: images are averaged cell by cell before."""
        assert self.local is not None
        height, width, _ = image_shape(shape)
        pool = AvgPool2d((max(1, height // self.local.cells), max(1, width // self.local.cells)))
        if (height, width) == (1, 1):

            def read() -> Images:
                return value.images(one_a_part=False).channels_from(first, count)

            return value, read
        pooled_shape = pool.output_shape((height, width, count))
        pooled = ImageBuffer(self.batch, pooled_shape, tangents=slots)

        def bind() -> list[Operation]:
            x = value.images(image_shape(shape)).channels_from(first, count)
            perturbation = Perturbation(NONE, slots, self.stream)
            return pool.bind(self._bare_site([x], pooled.images(), {}, perturbation))

        self._add([value], [pooled], bind, True)
        return pooled, lambda: pooled.images((math.prod(pooled_shape),), one_a_part=False)

    def _units_of(self, place: Place, observers: list[list[Observer]]) -> list[Units]:
        source, rule = self._sources[place.step]
        shape = place.step.output.shape
        channels = shape[-1]
        watching = observers[place.block]
        size = channels // len(watching)
        found = []
        for group, observer in enumerate(watching):
            matrix = cells = None
            if self.feedback is not None:
                cells = _cells(shape, self.feedback.cells)
                classes = observer.residual.shape[1]
                matrix = self._memory(
                    f"feedback.{place.step.names[0]}.{group}",
                    (int(cells.max()) + 1, -(-size // PANEL), classes, PANEL),
                )
            found.append(Units(place, source, rule, group * size, size, observer, matrix, cells))
        return found

    # The estimate

    def _estimate(self, observers: list[list[Observer]]) -> None:
        every = [observer for block in observers for observer in block]
        for observer in every:
            self._residual(observer)
        if self.feedback is not None:
            for unit in self._units:
                if self.feedback.rule == "filter" or self.feedback.control:
                    self._predict(unit)
        coefficients = {observer: self._weigh(observer) for observer in every if observer.slots}
        for place in self.layout.places:
            self._gradient(place.step, [unit for unit in self._units if unit.place is place])
        if self.layout.output is not None:
            self._exact(every[-1])
        for observer, (name, features, read) in getattr(self, "_head_inputs", {}).items():
            delta = self._residual_panels(observer, self.heads[f"{name}.bias"])
            self._outer(self.heads[f"{name}.weight"], features, read, delta)
        self._flush()
        if self.feedback is not None:
            for unit in self._units:
                self._learn(unit, coefficients[unit.observer])

    def _residual(self, observer: Observer) -> None:
        def bind() -> list[Operation]:
            dual = observer.z.dual()
            copied = residuals.bind_copy(dual, observer.response, observer.power)
            found = self.loss.bind_residual(self.threads, dual[0], self.targets, observer.residual)
            return [found, copied] if observer.slots else [found]

        self._add([observer.z], [], bind, False)

    def _part(self, unit: Units) -> tuple[bool, dict[str, Any]]:
        """Return whether a layer's operations take an image at a time, and what they all take."""
        by_image = image_shape(unit.place.step.output.shape)[:2] != (1, 1)
        return by_image, {
            "batch": self.batch,
            "images_a_part": 1 if by_image else 0,
            "y": unit.images(by_image),
            "slot": unit.place.slot,
            "slots": unit.place.slots,
            "parameter": self._number(unit.place.step),
            "stream": self.stream,
            "activation_name": unit.rule,
            "first_channel": unit.first,
        }

    def _predict(self, unit: Units) -> None:
        def bind() -> list[Operation]:
            assert unit.feedback is not None
            assert unit.cells is not None
            _, common = self._part(unit)
            return [
                feedback_kernels.bind(
                    False,
                    self.isa,
                    self.threads,
                    **common,
                    feedback=unit.feedback,
                    cells=unit.cells,
                    response=unit.observer.response,
                    power=unit.observer.power,
                )
            ]

        by_image = image_shape(unit.place.step.output.shape)[:2] != (1, 1)
        self._add([unit.source], [], bind, by_image, numbered=True)

    def _weigh(self, observer: Observer) -> dict[Units, npt.NDArray[Any]]:
        """Put the weights of the noise down, and return the coefficients of each layer's learning."""
        units = [unit for unit in self._units if unit.observer is observer and unit.cells is not None]
        filtered = self.feedback is not None and self.feedback.rule == "filter"
        shares = np.array(
            [len(unit.cells) / (unit.cells.max() + 1) for unit in units if unit.cells is not None]
        )
        coefficients = np.zeros(max(1, len(units)), feedback_kernels.COEFFICIENTS)
        rate = np.array([self.feedback.rate if self.feedback else 0.0])
        if self.feedback is not None and not filtered:
            coefficients["keep"] = 1.0 - rate
            coefficients["gain"] = rate / (self.batch * self.draws)

        def bind() -> list[Operation]:
            return [
                residuals.bind_weigh(
                    residual=observer.residual,
                    response=observer.response,
                    noise=observer.noise,
                    draws=self.draws,
                    power=observer.power,
                    rate=rate,
                    shares=shares if filtered else np.zeros(0),
                    coefficients=coefficients,
                )
            ]

        self._add([], [], bind, False)
        return {unit: coefficients[i : i + 1] for i, unit in enumerate(units)}

    def _learn(self, unit: Units, coefficients: dict[Units, npt.NDArray[Any]]) -> None:
        assert self.feedback is not None
        filtered = self.feedback.rule == "filter"

        def bind() -> list[Operation]:
            assert unit.feedback is not None
            assert unit.cells is not None
            _, common = self._part(unit)
            observer = unit.observer
            common |= {"images_a_part": 0, "y": unit.images(False)}
            response = observer.response if filtered else observer.z.dual()[1:]
            return [
                feedback_kernels.bind(
                    True,
                    self.isa,
                    self.threads,
                    **common,
                    feedback=unit.feedback,
                    cells=unit.cells,
                    response=response,
                    coefficients=coefficients[unit],
                )
            ]

        self._add([unit.source, unit.observer.z], [], bind, False)

    def _signal(self, unit: Units, out: Any, bias: npt.NDArray[np.float32] | None) -> Operation:
        """Bind the signal of a group's channels to images, or to panels of features."""
        _, common = self._part(unit)
        controlled = self.feedback is None or self.feedback.control
        return signal.bind(
            self.isa,
            self.threads,
            **common,
            out=out,
            scale=self.scale,
            residual=unit.observer.residual,
            noise=unit.observer.noise if controlled else None,
            feedback=unit.feedback,
            cells=unit.cells,
            bias=bias,
            onto=self.onto,
        )

    def _gradient(self, step: Step, units: list[Units]) -> None:
        """Put the signals of a layer and the gradients of its parameters down."""
        parameters = self.model.layer_parameters(step.index)
        x, shape = self._values[step.inputs[0]], step.shapes[0]
        source = units[0].source
        if isinstance(step.layer, Dense):
            bias = parameters.get("bias")
            delta = self._feature_panels(step.layer.units)

            def bind() -> list[Operation]:
                return [
                    self._signal(
                        unit,
                        delta.array[unit.first // PANEL : -(-(unit.first + unit.count) // PANEL)],
                        self._target(bias.name)[unit.first :] if bias else None,
                    )
                    for unit in units
                ]

            self._add([source], [delta], bind, False)
            self._outer(parameters["weight"], x, lambda: x.images(shape, one_a_part=False), delta)
            return
        self._image_gradient(step, units, parameters, x, source)

    def _image_gradient(
        self,
        step: Step,
        units: list[Units],
        parameters: Mapping[str, Parameter],
        x: ImageBuffer,
        source: ImageBuffer,
    ) -> None:
        shape, out_shape = step.shapes[0], step.output.shape
        layer: Any = step.layer
        height, width, outputs = image_shape(out_shape)
        convolution = isinstance(layer, Conv2d)
        filtered = convolution and filtering.fits(
            layer.geometry(image_shape(shape)), image_shape(shape), outputs
        )
        border = Border(0, height % 2, 0, width % 2) if filtered else Border()
        delta = ImageBuffer(self.batch, out_shape, border)
        by_image = (height, width) != (1, 1)

        def bind() -> list[Operation]:
            images = delta.images(one_a_part=by_image)
            return [self._signal(unit, images.channels_from(unit.first, unit.count), None) for unit in units]

        self._add([source], [delta], bind, by_image)
        if not convolution:
            self._norm_gradient(step, parameters, x, delta)
            return
        weight, bias = parameters["weight"], parameters.get("bias")
        products = layer.multiply_adds(step.shapes) * self.batch
        kernel = filtered_gradient.bind if filtered else weight_gradient.bind

        def gradient() -> list[Operation]:
            return [
                kernel(
                    self.isa,
                    self.threads,
                    batch=self.batch,
                    x=x.images(image_shape(shape), one_a_part=False),
                    dz=delta.images(one_a_part=False),
                    geometry=layer.geometry(image_shape(shape)),
                    out=self._target(weight.name),
                    bias=self._target(bias.name) if bias else None,
                    onto=self.onto,
                    multiply_adds=products,
                )
            ]

        self._deferred.append(Task([x, delta], [], gradient, by_image=False, sums=by_image))
        self._flush()

    def _norm_gradient(
        self, step: Step, parameters: Mapping[str, Parameter], x: ImageBuffer, delta: ImageBuffer
    ) -> None:
        """Compute x̂ again, the layer without scale and shift, and sum δ x̂ and δ over pixels and examples."""
        unit = {
            name: Parameter.create(name, 0, np.full(p.shape, float(name == "scale"), np.float32))
            for name, p in parameters.items()
        }
        normalized = ImageBuffer(self.batch, step.output.shape)
        shape = step.shapes[0]

        def again() -> list[Operation]:
            perturbation = Perturbation(NONE, 0, self.stream)
            x_images = replace(x.images(shape), has_tangent=False)
            return list(step.layer.bind(self._bare_site([x_images], normalized.images(), unit, perturbation)))

        def bind() -> list[Operation]:
            return [
                channel_sums.bind(
                    self.threads,
                    batch=self.batch,
                    x=normalized.images(one_a_part=False),
                    delta=delta.images(one_a_part=False),
                    scale=self._target(parameters["scale"].name),
                    shift=self._target(parameters["shift"].name),
                    onto=self.onto,
                )
            ]

        self._add([x], [normalized], again, True)
        self._add([normalized, delta], [], bind, False)

    def _flush(self) -> None:
        self._tasks += self._deferred
        self._deferred.clear()

    def _feature_panels(self, features: int) -> PanelBuffer:
        return PanelBuffer(-(-features // PANEL), round_up(self.batch, PANEL))

    def _exact(self, observer: Observer) -> None:
        """Put the gradient of the layer that the loss reads down, in closed form."""
        step = self.layout.output
        assert step is not None
        parameters = self.model.layer_parameters(step.index)
        value, name = step.output, getattr(step.layer, "activation", "identity")
        if name not in SLOPE_FROM_OUTPUT:
            raise ConfigError(
                f"layer {step.names[0]!r}: the output layer's activation is {name}; identity or relu is required"
            )
        delta = self._residual_panels(observer, parameters.get("bias"), self._values[value], name)
        x, shape = self._values[step.inputs[0]], step.shapes[0]
        self._outer(parameters["weight"], x, lambda: x.images(shape, one_a_part=False), delta)

    def _residual_panels(
        self,
        observer: Observer,
        bias: Parameter | None,
        source: ImageBuffer | None = None,
        rule: str = "identity",
    ) -> PanelBuffer:
        classes = observer.residual.shape[1]
        delta = self._feature_panels(classes)
        read = source or observer.z

        def bind() -> list[Operation]:
            return [
                signal.bind(
                    self.isa,
                    self.threads,
                    batch=self.batch,
                    images_a_part=0,
                    y=read.images((classes,), one_a_part=False),
                    parameter=0,
                    stream=self.stream,
                    activation_name=rule,
                    out=delta.array,
                    scale=self.scale,
                    residual=observer.residual,
                    exact=True,
                    bias=self._target(bias.name) if bias else None,
                    onto=self.onto,
                )
            ]

        self._add([read], [delta], bind, False)
        return delta

    def _outer(
        self, weight: Parameter, x: ImageBuffer, read: Callable[[], Images], delta: PanelBuffer
    ) -> None:
        """Put xᵀ δ down, the gradient of a dense layer's weight."""
        features, units = weight.shape
        panels = PanelBuffer(-(-self.batch // PANEL), features)

        def transpose() -> list[Operation]:
            found = read()
            return [
                example_panels.bind_to_panels(
                    self.isa, self.threads, x=found, panels=panels.array, batch=self.batch
                )
            ]

        def product() -> list[Operation]:
            return [
                example_panels.bind_product(
                    "weight-gradient",
                    self.isa,
                    self.threads,
                    a=panels.array,
                    w=delta.array,
                    out=self._target(weight.name),
                    rows=features,
                    terms=self.batch,
                    columns=units,
                    onto=self.onto,
                    multiply_adds=self.batch * features * units,
                )
            ]

        self._add([x], [panels], transpose, False)
        self._add([panels, delta], [], product, False)


def _cells(shape: tuple[int, ...], cells: int) -> npt.NDArray[np.int64]:
    """Return the cell of each pixel, for so many cells in each direction."""
    height, width, _ = image_shape(shape)
    down, across = min(cells, height), min(cells, width)
    rows, columns = np.arange(height) * down // height, np.arange(width) * across // width
    return np.ascontiguousarray(np.add.outer(rows * across, columns).ravel().astype(np.int64))


def _groups(end: Step, groups: int) -> list[tuple[int, int]]:
    """Return the first channel of each group, and how many it has."""
    channels = end.output.shape[-1]
    if channels % groups or (groups > 1 and channels // groups % PANEL):
        raise ConfigError(
            f"layer {end.names[0]!r}: {channels} channels cannot be cut into {groups} groups of a multiple of {PANEL}"
        )
    size = channels // groups
    return [(group * size, size) for group in range(groups)]


def head_name(end: Step, group: int) -> str:
    """Return the name of the head at the end of a block, of one group."""
    return f"head.{end.names[0]}.{group}"


def head_shapes(model: Graph, draws: int, local: LocalLosses) -> dict[str, tuple[int, int]]:
    """Return the shape of each local head's weight, by its name."""
    steps, _, result = wire(model, tangents=True, training=True)
    trained = {s for s in steps if not isinstance(s.layer, Activation) and model.layer_parameters(s.index)}
    layout = lay_out(steps, result, trained, draws, False, True)
    shapes = {}
    for end in layout.ends:
        height, width, _ = image_shape(end.output.shape)
        for group, (_, count) in enumerate(_groups(end, local.groups)):
            pool = AvgPool2d((max(1, height // local.cells), max(1, width // local.cells)))
            features = (
                count if (height, width) == (1, 1) else math.prod(pool.output_shape((height, width, count)))
            )
            shapes[head_name(end, group)] = (features, model.outputs)
    return shapes
