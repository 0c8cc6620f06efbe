"""Error signals: the estimate of ∂f/∂z for every unit of a layer, from noise, feedback or both.

Noise gives an error signal when it is weighed by its effect on the loss. Feedback predicts that signal from the
residual of the outputs, and learns from the part of the response that it did not predict.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fgnumba.estimators.activity.followers import follower, matrix_name
from fgnumba.estimators.activity.forward_tasks import ForwardTasks, Observer
from fgnumba.estimators.activity.layout import Place
from fgnumba.estimators.activity.settings import Feedback
from fgnumba.kernels.devices.precision import for_tangents
from fgnumba.kernels.emit.vector import PANEL
from fgnumba.kernels.layout.images import Images, image_shape
from fgnumba.kernels.machine.interfaces import Operation
from fgnumba.kernels.machine.memory import round_up
from fgnumba.kernels.ops.feedback import COEFFICIENTS
from fgnumba.kernels.shared.perturbed_units.cpu import Perturbed
from fgnumba.kernels.shared.product.product import Weights
from fgnumba.layers.losses import Loss
from fgnumba.layers.parameters import Parameter
from fgnumba.model.tasks import Buffer, ImageBuffer, PanelBuffer

Memory = Callable[[str, tuple[int, ...]], npt.NDArray[np.float32]]
"""A function that returns the same array of an estimator each time it is given the same name; zeros at first."""


@dataclass(eq=False)
class Units:
    """The units of a layer whose noise one observer watches: a group of channels.

    Parameters
    ----------
    place : Place
        The layer, and the tangents that carry its noise.
    source : ImageBuffer
        The values from which the slope a' of the activation is computed.
    rule : str
        The activation.
    first : int
        The first channel.
    count : int
        The number N of channels.
    observer : Observer
        The observer that watches them.
    cells : ndarray, int64
        The number of the cell of each pixel; A is the number of cells.
    scale : device array, (1,) float64
        The factor of its error signals.
    feedback : device array, (ceil(C / PANEL), A N, PANEL) float32, optional
        The feedback matrix B, packed, for C outputs. By default there is no feedback.
    gathered : ImageBuffer, optional
        The noise that was added, summed over each cell. By default None, as without feedback.
    known : ImageBuffer, optional
        The error signal that feedback predicts, e Bᵀ, for each cell. By default None, as without feedback.
    """

    place: Place
    source: ImageBuffer
    rule: str
    first: int
    count: int
    observer: Observer
    cells: npt.NDArray[np.int64]
    scale: npt.NDArray[np.float64]
    feedback: npt.NDArray[np.float32] | None = None
    gathered: ImageBuffer | None = None
    known: ImageBuffer | None = None

    @property
    def by_image(self) -> bool:
        """Whether the units are pixels of images, so that operations take one image at a time."""
        return image_shape(self.place.step.output.shape)[:2] != (1, 1)

    @property
    def width(self) -> int:
        """The number A N of rows of B."""
        return (int(self.cells.max()) + 1) * self.count

    def images(self, one_a_part: bool) -> Images:
        """Return the channels of `source` as the kernels take them."""
        images = self.source.images(self.place.step.output.shape, one_a_part)
        return images.channels_from(self.first, self.count)


class SignalTasks:
    """Appends the tasks that turn observations into error signals to the tasks of a pass.

    Parameters
    ----------
    forward : ForwardTasks
        The forward pass, to whose list of tasks these are appended.
    feedback : Feedback or None
        The learned feedback, if there is any.
    memory : callable
        A function that returns the array in which a feedback matrix is kept, given its name and shape.
    draws : int
        The number of draws of noise T.
    scale : device array, (1,) float64
        The factor by which error signals are multiplied.
    onto : bool
        Whether the gradients of biases are added to their arrays; if not, they replace their content.
    own : mapping of str to Parameter
        The feedback matrices that follow a weight, by name, among other parameters of the estimator.
    """

    def __init__(
        self,
        forward: ForwardTasks,
        feedback: Feedback | None,
        memory: Memory,
        draws: int,
        scale: npt.NDArray[np.float64],
        onto: bool,
        own: Mapping[str, Parameter],
    ) -> None:
        self.forward, self.feedback, self.draws, self.scale, self.onto = forward, feedback, draws, scale, onto
        self._memory, self._own, self.batch = memory, own, forward.batch
        self.isa, self.threads = forward.isa, forward.threads
        self.device = forward.device
        self._feedback = self.device.kernels.feedback

    def units(self, place: Place, watching: Sequence[Observer]) -> list[Units]:
        """Return the units of a layer, one :class:`Units` for each observer that watches the layer."""
        source, rule = self.forward.sources[place.step]
        shape = place.step.output.shape
        size = shape[-1] // len(watching)
        groups = []
        for group, observer in enumerate(watching):
            unit = Units(place, source, rule, group * size, size, observer, _cells(shape, 1), self.scale)
            name, forward = matrix_name(place.step, group), self.forward
            followed = follower(forward.model, forward.layout, place, group, self.feedback, forward.local)
            if followed is not None:
                unit.cells, unit.feedback = followed.cells, self._own[name].packed
                if followed.pixels > 1:
                    unit.scale = self.device.array(np.full(1, 1.0 / (self.batch * followed.pixels)))
            elif self.feedback is not None:
                unit.cells = _cells(shape, self.feedback.cells)
                (classes,) = observer.z.shape
                unit.feedback = self._memory(name, (-(-classes // PANEL), unit.width, PANEL))
            groups.append(unit)
        return groups

    def residual(self, observer: Observer, loss: Loss, targets: npt.NDArray[Any]) -> None:
        """Append the residual e of an observer, and ε, which is the response before any prediction is subtracted."""

        def bind() -> list[Operation]:
            dual = observer.z.dual()
            operations = [loss.bind_residual(self.device, dual[0], targets, observer.residual)]
            if observer.slots:
                operations.append(
                    self.device.kernels.noise_response.bind_copy(dual, observer.response, observer.power)
                )
            return operations

        self.forward.add([observer.z], [], bind)

    def _site(self, unit: Units) -> Perturbed:
        place = unit.place
        return Perturbed(
            self.batch,
            1 if unit.by_image else 0,
            unit.images(unit.by_image),
            unit.rule,
            self.forward.number(place.step),
            self.forward.stream,
            place.slot,
            place.slots,
            unit.first,
        )

    def _dense(
        self, x: Images, y: Images, rows: int, weight: npt.NDArray[np.float32], outputs: int
    ) -> Operation:
        zeros = self.device.zeros((weight.shape[0] * PANEL,))
        return self.device.kernels.dense.bind(
            for_tangents(self.isa),
            self.threads,
            batch=rows,
            x=x,
            y=y,
            outputs=outputs,
            weights=Weights(weight, zeros),
            activation_name="identity",
        )

    def feed_back(self, unit: Units) -> None:
        """Append the error signal e Bᵀ that feedback predicts, and subtract the predicted response from ε."""
        assert self.feedback is not None
        assert unit.feedback is not None
        matrix, observer, slots = unit.feedback, unit.observer, unit.place.slots
        (classes,) = observer.z.shape
        known = unit.known = ImageBuffer(self.batch, (unit.width,))
        turned = PanelBuffer(-(-unit.width // PANEL), classes)
        if slots:
            self._predict(unit)

        def know() -> list[Operation]:
            residual = Images.of_batch(observer.residual.reshape(1, self.batch, classes), (classes,))
            return [
                self._feedback.bind_turn(self.isa, self.threads, feedback=matrix, out=turned.array),
                self._dense(residual, known.images(one_a_part=False), self.batch, turned.array, unit.width),
            ]

        self.forward.add([], [turned, known], know)

    def _predict(self, unit: Units) -> None:
        """Append the noise that was added, gathered by cells, and the response to it that feedback predicts."""
        assert self.feedback is not None
        assert unit.feedback is not None
        matrix, observer, slots = unit.feedback, unit.observer, unit.place.slots
        (classes,) = observer.z.shape
        rows = slots * self.batch
        gathered = unit.gathered = ImageBuffer(rows, (unit.width,))

        def gather() -> list[Operation]:
            return [
                self._feedback.bind_gather(
                    self.isa,
                    self.threads,
                    site=self._site(unit),
                    cells=unit.cells,
                    out=gathered.rows(),
                    power=observer.power,
                )
            ]

        self.forward.add([unit.source], [gathered], gather, unit.by_image, numbered=True)
        if self.feedback.rule == "filter" or self.feedback.control > 0:
            predicted = ImageBuffer(rows, (classes,))

            def predict() -> list[Operation]:
                x, y = gathered.images(one_a_part=False), predicted.images(one_a_part=False)
                return [
                    self._dense(x, y, rows, matrix, classes),
                    self._feedback.bind_subtract(
                        predicted=predicted.rows(),
                        response=observer.response,
                        slot=unit.place.slot,
                        slots=slots,
                    ),
                ]

            self.forward.add([gathered], [predicted], predict)

    def weigh(self, observer: Observer, units: Sequence[Units]) -> dict[Units, npt.NDArray[Any]]:
        """Append the weights of an observer's noise.

        Returns
        -------
        dict of Units to device array
            The coefficients with which the feedback of each of the units learns.
        """
        feedback = self.feedback
        filtered = feedback is not None and feedback.rule == "filter"
        learning_rate = feedback.rate if feedback else 0.0
        initial = np.zeros(max(1, len(units)), COEFFICIENTS)
        if feedback is not None and not filtered:
            initial["keep"] = 1.0 - learning_rate
            initial["gain"] = learning_rate / (self.batch * self.draws)
        shares = self.device.array(
            np.array([len(unit.cells) / (unit.cells.max() + 1) for unit in units if filtered])
        )
        coefficients, rate = self.device.array(initial), self.device.array(np.array([learning_rate]))

        def bind() -> list[Operation]:
            return [
                self.device.kernels.noise_response.bind_weigh(
                    residual=observer.residual,
                    response=observer.response,
                    noise=observer.noise,
                    factor=(feedback.control if feedback else 1.0) / self.draws,
                    draws=self.draws,
                    power=observer.power,
                    rate=rate,
                    shares=shares,
                    coefficients=coefficients,
                )
            ]

        self.forward.add([], [], bind)
        return {unit: coefficients[i : i + 1] for i, unit in enumerate(units)}

    def learn(self, unit: Units, coefficients: npt.NDArray[Any]) -> None:
        """Append a step in which a feedback matrix learns."""
        assert self.feedback is not None
        assert unit.feedback is not None
        assert unit.gathered is not None
        matrix, gathered, observer = unit.feedback, unit.gathered, unit.observer
        slots, rows = unit.place.slots, unit.place.slots * self.batch
        (classes,) = observer.z.shape
        filtered = self.feedback.rule == "filter"
        weighed = PanelBuffer(-(-classes // PANEL), round_up(rows, PANEL))
        panels = PanelBuffer(-(-rows // PANEL), unit.width)

        def bind() -> list[Operation]:
            return [
                self._feedback.bind_weigh(
                    response=observer.response if filtered else observer.z.dual()[1:],
                    slot=unit.place.slot,
                    slots=slots,
                    coefficients=coefficients,
                    feedback=matrix,
                    out=weighed.array,
                    classes=classes,
                ),
                self.device.kernels.example_panels.bind_to_panels(
                    self.isa,
                    self.threads,
                    x=gathered.images(one_a_part=False),
                    panels=panels.array,
                    batch=rows,
                ),
                self.device.kernels.example_panels.bind_product(
                    "feedback-learned",
                    self.isa,
                    self.threads,
                    a=panels.array,
                    w=weighed.array,
                    out=matrix,
                    rows=unit.width,
                    terms=rows,
                    columns=classes,
                    onto=True,
                    multiply_adds=rows * unit.width * classes,
                ),
            ]

        self.forward.add([gathered, observer.z], [weighed, panels], bind)

    def signal(self, unit: Units, out: Any, bias: npt.NDArray[np.float32] | None) -> Operation:
        """Return the operation that writes the error signal δ of units, to images or to panels of features."""
        controlled = unit.place.slots > 0 and (self.feedback is None or self.feedback.control > 0)
        return self.device.kernels.error_signal.bind(
            self.isa,
            self.threads,
            site=self._site(unit),
            out=out,
            scale=unit.scale,
            known=unit.known.rows() if unit.known else None,
            cells=unit.cells if unit.known else None,
            noise=unit.observer.noise if controlled else None,
            bias=bias,
            onto=self.onto,
        )

    def exact(
        self,
        observer: Observer,
        out: Any,
        source: Images,
        rule: str,
        bias: npt.NDArray[np.float32] | None,
    ) -> Operation:
        """Return the operation that writes the exact error signal of units that a loss reads, to images or panels."""
        return self.device.kernels.error_signal.bind(
            self.isa,
            self.threads,
            site=Perturbed(self.batch, 0, source, rule, 0, self.forward.stream),
            out=out,
            scale=self.scale,
            known=observer.residual,
            bias=bias,
            onto=self.onto,
        )

    def reads(self, units: Sequence[Units]) -> list[Buffer]:
        """Return the buffers from which the error signals of units are computed."""
        return [units[0].source, *(unit.known for unit in units if unit.known is not None)]


def _cells(shape: tuple[int, ...], cells: int) -> npt.NDArray[np.int64]:
    """Return the number of the cell of each pixel, with `cells` cells along height and along width (or one a pixel)."""
    height, width, _ = image_shape(shape)
    down, across = min(cells, height), min(cells, width)
    rows, columns = np.arange(height) * down // height, np.arange(width) * across // width
    return np.ascontiguousarray(np.add.outer(rows * across, columns).ravel().astype(np.int64))
