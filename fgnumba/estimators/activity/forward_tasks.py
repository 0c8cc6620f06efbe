"""The forward pass of activity perturbation as tasks: layers, their noise, local heads, and the observed outputs."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from fgnumba.errors import ConfigError
from fgnumba.estimators.activity.layout import Layout, Place
from fgnumba.estimators.activity.settings import LocalLosses
from fgnumba.kernels.devices.device import Device
from fgnumba.kernels.emit.vector import PANEL
from fgnumba.kernels.layout.images import Images, image_shape
from fgnumba.kernels.machine.interfaces import Operation
from fgnumba.kernels.rules.directions import EXPLICIT, NONE
from fgnumba.kernels.shared.perturbed_units import SLOPE_FROM_OUTPUT
from fgnumba.kernels.shared.perturbed_units.cpu import Perturbed
from fgnumba.layers import AvgPool2d, Dense, Perturbation, Shape, Site
from fgnumba.layers.parameters import Parameter
from fgnumba.model.graph import Graph
from fgnumba.model.input_rows import InputRows
from fgnumba.model.tasks import Buffer, ImageBuffer, InputBuffer, Task
from fgnumba.model.wiring import Step, Value

Read = Callable[[], Images]
"""A function that returns images of the whole batch; it is called once their buffer has memory."""


@dataclass(eq=False)
class Observer:
    """An output at which the effect of noise is observed: the model's, or that of a local head.

    Parameters
    ----------
    z : ImageBuffer
        The output, C numbers an example, with its tangents.
    slots : int
        The number S of tangents.
    residual : device array, (B, C) float32
        The residual e, the gradient of each example's loss in z.
    response : device array, (S, B, C) float32
        The response to the noise, from which the predicted response is subtracted: then it is ε.
    noise : device array, (S, B) float32
        The weights r by which the noise is multiplied.
    power : device array, (B,) float32
        The power of each example's noise: Σ a'(z)² over the units that get noise.
    head : str, optional
        The name of the local head. By default the output is the model's.
    features : ImageBuffer, optional
        The buffer that the local head reads. By default None, as for the model's output.
    read : callable, optional
        A function that returns the images in that buffer which the head reads. By default None.
    """

    z: ImageBuffer
    slots: int
    residual: npt.NDArray[np.float32]
    response: npt.NDArray[np.float32]
    noise: npt.NDArray[np.float32]
    power: npt.NDArray[np.float32]
    head: str | None = None
    features: ImageBuffer | None = None
    read: Read | None = None

    @classmethod
    def of(
        cls,
        z: ImageBuffer,
        slots: int,
        device: Device,
        head: str | None = None,
        features: ImageBuffer | None = None,
        read: Read | None = None,
    ) -> "Observer":
        """Return the observer of an output, with arrays allocated on `device`; see the class for the parameters."""
        batch, (classes,) = z.batch, z.shape
        residual, response = device.zeros((batch, classes)), device.zeros((slots, batch, classes))
        noise, power = device.zeros((slots, batch)), device.zeros((batch,))
        return cls(z, slots, residual, response, noise, power, head, features, read)


class ForwardTasks:
    """Lists the tasks of a forward pass, with noise added to the layers of a layout.

    Parameters
    ----------
    model : Graph
        The model.
    batch : int
        The number of examples B.
    stream : device array, (1,) of dtype ``kernels.rules.philox.STREAM``
        The seed and the step from which the noise is drawn.
    layout : Layout
        The layers that get noise, and the tangents that carry it.
    source : Value
        The value of the model's input.
    rows : InputRows
        The rows through which the input is read.
    local : LocalLosses or None
        The local losses, if there are any.
    heads : mapping of str to Parameter
        The parameters of the heads of local losses.

    Attributes
    ----------
    tasks : list of Task
        The tasks so far.
    values : dict of Value to ImageBuffer
        The buffer of each value.
    layers : list of (Step, sequence of Task)
        The tasks of each step, without those of heads.
    sources : dict of Step to (ImageBuffer, str)
        For each layer with noise, the buffer from which the slope of its activation is computed, and the activation.
    """

    def __init__(
        self,
        model: Graph,
        batch: int,
        stream: npt.NDArray[Any],
        layout: Layout,
        source: Value,
        rows: InputRows,
        local: LocalLosses | None,
        heads: Mapping[str, Parameter],
    ) -> None:
        self.model, self.batch, self.stream, self.layout = model, batch, stream, layout
        self.local, self.heads = local, heads
        self.device = model.processor
        self.isa, self.threads = self.device.isa, self.device.threads
        self.tasks: list[Task] = []
        self.layers: list[tuple[Step, Sequence[Task]]] = []
        self.values: dict[Value, ImageBuffer] = {source: InputBuffer(batch, source, rows)}
        self.sources: dict[Step, tuple[ImageBuffer, str]] = {}

    def add(
        self,
        reads: Sequence[Buffer],
        writes: Sequence[Buffer],
        bind: Callable[[], list[Operation]],
        by_image: bool = False,
        numbered: bool = False,
    ) -> None:
        """Append a task; see :class:`Task` for the parameters."""
        self.tasks.append(Task(reads, writes, bind, by_image, numbered=numbered))

    def site(
        self,
        inputs: Sequence[Images],
        output: Images,
        parameters: Mapping[str, Parameter],
        tangents: int = 0,
        index: int = 0,
        still: int = NONE,
        shapes: Sequence[Shape] = (),
    ) -> Site:
        """Return the site at which a layer is bound. Its parameters stand `still`; its inputs have `tangents`."""
        zeros = None
        if still == EXPLICIT:
            zeros = {
                p.name: self.device.zeros((max(1, tangents), p.packed.size)) for p in parameters.values()
            }
        perturbation = Perturbation(still, tangents, self.stream, explicit=zeros)
        return Site(
            device=self.device,
            batch=self.batch,
            images=1,
            index=index,
            inputs=tuple(inputs),
            output=output,
            parameters=parameters,
            perturbation=perturbation,
            shapes=tuple(shapes),
        )

    def number(self, step: Step) -> int:
        """Return the number that stands for a layer's noise in the Philox counter: that of its first parameter."""
        return min(parameter.index for parameter in self.model.layer_parameters(step.index).values())

    def forward(self, steps: Sequence[Step], result: Value) -> list[list[Observer]]:
        """Append the tasks of all steps.

        Returns
        -------
        list of list of Observer
            For each block its observers, one for each group of channels. The last block's is the model's output.
        """
        observers: list[list[Observer]] = []
        heads: list[Task] = []
        for step in steps:
            first = len(self.tasks)
            self._step(step)
            self.layers.append((step, self.tasks[first:]))
            if step in self.layout.ends:
                observers.append(self._heads(step, heads))
        self.tasks += heads
        return [*observers, [Observer.of(self.values[result], self.layout.blocks[result], self.device)]]

    def _step(self, step: Step) -> None:
        layer = step.layer
        value, layout = step.output, self.layout
        incoming, tangents = layout.incoming[step], layout.blocks[value]
        place = next((candidate for candidate in layout.places if candidate.carrier is step), None)
        output = self.values[value] = ImageBuffer(self.batch, value.shape, value.border, tangents)
        here, name = output, layer.fused_activation
        apart = place is not None and name not in SLOPE_FROM_OUTPUT
        if apart:
            # The slope cannot be computed from the output, so the input of the activation is kept in a buffer of its
            # own.
            here = ImageBuffer(self.batch, value.shape, tangents=tangents)
            layer = layer.without_activation()
        inputs = [self.values[v] for v in step.inputs]
        seen = [layout.tangents(v, step) > 0 for v in step.inputs]
        whole = layer.whole_batch

        def bind() -> list[Operation]:
            read = [
                replace(x.images(shape, not whole), has_tangent=has_tangent)
                for x, shape, has_tangent in zip(inputs, step.shapes, seen, strict=True)
            ]
            written = replace(here.images(value.shape, not whole), has_tangent=incoming > 0)
            parameters = self.model.layer_parameters(step.index)
            site = self.site(read, written, parameters, incoming, step.index, layer.still, step.shapes)
            return list(layer.bind(site))

        self.add(inputs, [here], bind, not whole, numbered=layer.numbers_examples)
        if place is not None:
            # An activation that is a layer of its own carries the noise of the layer before it, and gives the slope.
            self.sources[place.step] = here, name
        if (place is not None and place.slots) or value in layout.beyond:
            self._noise(here, place, "identity" if apart else name, step, whole)
        if apart:
            self.add(
                [here],
                [output],
                lambda: [
                    self.device.kernels.elementwise.bind(
                        batch=self.batch,
                        images_a_part=1,
                        count=tangents,
                        x=here.images(),
                        y=output.images(),
                        activation_name=name,
                    )
                ],
                True,
            )

    def _noise(self, buffer: ImageBuffer, place: Place | None, rule: str, step: Step, whole: bool) -> None:
        slot, slots = (place.slot, place.slots) if place else (0, 0)

        def bind() -> list[Operation]:
            return [
                self.device.kernels.noise.bind(
                    self.isa,
                    self.threads,
                    site=Perturbed(
                        self.batch,
                        0 if whole else 1,
                        buffer.images(one_a_part=not whole),
                        rule,
                        self.number(place.step) if place else 0,
                        self.stream,
                        slot,
                        slots,
                    ),
                    onto=slot < self.layout.incoming[step],
                    gap=self.layout.gap.get(step.output, (0, 0)),
                    beyond=self.layout.beyond.get(step.output, (0, 0)),
                )
            ]

        self.add([buffer], [buffer], bind, not whole)

    def _heads(self, end: Step, heads: list[Task]) -> list[Observer]:
        """Append the averages that the heads at the end of a block read, and add the tasks of the heads to `heads`."""
        assert self.local is not None
        value, slots = self.values[end.output], self.layout.blocks[end.output]
        observers = []
        for group, (first, count) in enumerate(groups_of(end, self.local.groups)):
            features, read = self._features(value, end.output.shape, first, count, slots)
            name, z = head_name(end, group), ImageBuffer(self.batch, (self.model.outputs,), tangents=slots)

            def bind(read: Read = read, z: ImageBuffer = z, name: str = name) -> list[Operation]:
                parameters = {part: self.heads[f"{name}.{part}"] for part in ("weight", "bias")}
                return Dense(self.model.outputs).bind(
                    self.site([read()], z.images(one_a_part=False), parameters, slots)
                )

            heads.append(Task([features], [z], bind, by_image=False))
            observers.append(Observer.of(z, slots, self.device, name, features, read))
        return observers

    def _features(
        self, value: ImageBuffer, shape: tuple[int, ...], first: int, count: int, slots: int
    ) -> tuple[ImageBuffer, Read]:
        """Return the buffer that a head reads, for `count` channels from `first` on, and a function that reads it.

        Of images, a head reads means over cells.
        """
        assert self.local is not None
        height, width, _ = image_shape(shape)
        if (height, width) == (1, 1):
            return value, lambda: value.images((shape[-1],), one_a_part=False).channels_from(first, count)
        pool = cell_means(height, width, self.local.cells)
        pooled_shape = pool.output_shape((height, width, count))
        pooled = ImageBuffer(self.batch, pooled_shape, tangents=slots)

        def bind() -> list[Operation]:
            x = value.images(image_shape(shape)).channels_from(first, count)
            return pool.bind(self.site([x], pooled.images(), {}, slots))

        self.add([value], [pooled], bind, True)
        return pooled, lambda: pooled.images((math.prod(pooled_shape),), one_a_part=False)


def cell_means(height: int, width: int, cells: int) -> AvgPool2d:
    """Return the layer that averages an image into at least `cells` by `cells` means, and less than twice that."""
    return AvgPool2d(window(height, width, cells))


def window(height: int, width: int, cells: int) -> tuple[int, int]:
    """Return the height and the width of the windows of :func:`cell_means`."""
    return max(1, height // cells), max(1, width // cells)


def groups_of(end: Step, groups: int) -> list[tuple[int, int]]:
    """Return the first channel and the number of channels of each group.

    Raises
    ------
    ConfigError
        If the channels cannot be cut into groups of a multiple of PANEL channels.
    """
    channels = end.output.shape[-1]
    if channels % groups or (groups > 1 and channels // groups % PANEL):
        raise ConfigError(
            f"layer {end.names[0]!r}: {channels} channels cannot be cut into {groups} groups of a multiple of {PANEL}"
        )
    size = channels // groups
    return [(group * size, size) for group in range(groups)]


def head_name(end: Step, group: int) -> str:
    """Return the name of the head that reads group `group` at the end of a block."""
    return f"head.{end.names[0]}.{group}"
