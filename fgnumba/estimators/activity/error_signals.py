"""What a layer's units are told: noise weighed by what it did, and feedback that learns to predict it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fgnumba.estimators.activity.forward_tasks import ForwardTasks, Observer
from fgnumba.estimators.activity.layout import Place
from fgnumba.estimators.activity.settings import Feedback
from fgnumba.kernels.emit.vector import PANEL
from fgnumba.kernels.layout.images import Images, image_shape
from fgnumba.kernels.machine.interfaces import Operation
from fgnumba.kernels.machine.memory import round_up
from fgnumba.kernels.ops.feedback import COEFFICIENTS
from fgnumba.kernels.shared.perturbed_units.cpu import Perturbed
from fgnumba.kernels.shared.product.product import Weights
from fgnumba.layers.losses import Loss
from fgnumba.model.tasks import Buffer, ImageBuffer, PanelBuffer

Memory = Callable[[str, tuple[int, ...]], npt.NDArray[np.float32]]
"""Returns an estimator's array of a name, zeros at first: the same one every time."""


@dataclass(eq=False)
class Units:
    """Channels of a layer that one observer watches.

    Parameters
    ----------
    place : where the noise goes in.
    source, rule : what the slope is a function of, and of which activation.
    first, count : channels. observer : of them.
    cells : of each pixel. feedback : B, packed (ceil(C / PANEL), A N, PANEL); None without feedback.
    gathered, known : what noise was put in, and what feedback says, cell by cell.
    """

    place: Place
    source: ImageBuffer
    rule: str
    first: int
    count: int
    observer: Observer
    cells: npt.NDArray[np.int64]
    feedback: npt.NDArray[np.float32] | None = None
    gathered: ImageBuffer | None = None
    known: ImageBuffer | None = None

    @property
    def by_image(self) -> bool:
        """Whether operations take an image at a time."""
        return image_shape(self.place.step.output.shape)[:2] != (1, 1)

    @property
    def width(self) -> int:
        """A N, the rows of B."""
        return (int(self.cells.max()) + 1) * self.count

    def images(self, one_a_part: bool) -> Images:
        """Return the source's channels."""
        found = self.source.images(self.place.step.output.shape, one_a_part)
        return found.channels_from(self.first, self.count)


class SignalTasks:
    """Puts down what turns observations into signals.

    Parameters
    ----------
    forward : the pass that comes before; its list of tasks goes on.
    feedback : None without.
    memory : where feedback matrices are kept.
    draws : T.
    scale : (1,) float64, what signals are multiplied by.
    onto : biases' gradients are added to their targets.
    """

    def __init__(
        self,
        forward: ForwardTasks,
        feedback: Feedback | None,
        memory: Memory,
        draws: int,
        scale: npt.NDArray[np.float64],
        onto: bool,
    ) -> None:
        self.forward, self.feedback, self.draws, self.scale, self.onto = forward, feedback, draws, scale, onto
        self._memory, self.batch = memory, forward.batch
        self.isa, self.threads = forward.isa, forward.threads
        self.device = forward.device
        self._feedback = self.device.kernels.feedback

    def units(self, place: Place, watching: Sequence[Observer]) -> list[Units]:
        """Return the units of a layer, one a group."""
        source, rule = self.forward.sources[place.step]
        shape = place.step.output.shape
        size = shape[-1] // len(watching)
        found = []
        for group, observer in enumerate(watching):
            unit = Units(place, source, rule, group * size, size, observer, _cells(shape, 1))
            if self.feedback is not None:
                unit.cells = _cells(shape, self.feedback.cells)
                (classes,) = observer.z.shape
                unit.feedback = self._memory(
                    f"feedback.{place.step.names[0]}.{group}", (-(-classes // PANEL), unit.width, PANEL)
                )
            found.append(unit)
        return found

    def residual(self, observer: Observer, loss: Loss, targets: npt.NDArray[Any]) -> None:
        """Put down e, and ε as far as nothing is predicted."""

        def bind() -> list[Operation]:
            dual = observer.z.dual()
            found = [loss.bind_residual(self.device, dual[0], targets, observer.residual)]
            if observer.slots:
                found.append(
                    self.device.kernels.noise_response.bind_copy(dual, observer.response, observer.power)
                )
            return found

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
            self.isa,
            self.threads,
            batch=rows,
            x=x,
            y=y,
            outputs=outputs,
            weights=Weights(weight, zeros),
            activation_name="identity",
        )

    def feed_back(self, unit: Units) -> None:
        """Put down what feedback says, h, and what it predicts of the noise, which is taken from ε."""
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
        """Put down the noise that went in, and what feedback predicts of its response."""
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
        """Put down the weights of an observer's noise, and return the coefficients of each layer's learning."""
        feedback = self.feedback
        filtered = feedback is not None and feedback.rule == "filter"
        chosen = feedback.rate if feedback else 0.0
        initial = np.zeros(max(1, len(units)), COEFFICIENTS)
        if feedback is not None and not filtered:
            initial["keep"] = 1.0 - chosen
            initial["gain"] = chosen / (self.batch * self.draws)
        shares = self.device.array(
            np.array([len(unit.cells) / (unit.cells.max() + 1) for unit in units if filtered])
        )
        coefficients, rate = self.device.array(initial), self.device.array(np.array([chosen]))

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
        """Put down a step of learning a feedback matrix."""
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
        """Bind the signal of units to images, or to panels of features."""
        controlled = self.feedback is None or self.feedback.control > 0
        return self.device.kernels.error_signal.bind(
            self.isa,
            self.threads,
            site=self._site(unit),
            out=out,
            scale=self.scale,
            known=unit.known.rows() if unit.known else None,
            cells=unit.cells if unit.known else None,
            noise=unit.observer.noise if controlled else None,
            bias=bias,
            onto=self.onto,
        )

    def exact(
        self,
        observer: Observer,
        out: npt.NDArray[np.float32],
        source: Images,
        rule: str,
        bias: npt.NDArray[np.float32] | None,
    ) -> Operation:
        """Bind the signal of the units that a loss reads, which is their residual, to panels of features."""
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
        """Return the buffers that the signals of units are computed from."""
        return [units[0].source, *(unit.known for unit in units if unit.known is not None)]


def _cells(shape: tuple[int, ...], cells: int) -> npt.NDArray[np.int64]:
    """Return the cell of each pixel, for so many cells in each direction."""
    height, width, _ = image_shape(shape)
    down, across = min(cells, height), min(cells, width)
    rows, columns = np.arange(height) * down // height, np.arange(width) * across // width
    return np.ascontiguousarray(np.add.outer(rows * across, columns).ravel().astype(np.int64))
