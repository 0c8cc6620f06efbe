"""The feedback matrices of a model: which there are, what each predicts, and how all of them learn."""

from collections.abc import Callable, Mapping
from typing import Any

from fgnumba.estimators.blocks.feedback import Feedback, Memory
from fgnumba.estimators.blocks.layout import Block, Branch, Layout
from fgnumba.estimators.blocks.workshop import Workshop
from fgnumba.kernels.emit.vector import PANEL
from fgnumba.kernels.layout.images import Images
from fgnumba.kernels.machine.interfaces import Operation
from fgnumba.kernels.machine.memory import leading
from fgnumba.kernels.shared.product.product import Weights
from fgnumba.layers.parameters import Parameter
from fgnumba.model.graph import Graph
from fgnumba.model.wiring import Step
from fgnumba.objects.bound import Bound

Respond = Callable[[Images], Any]

MEAN_RATE = 0.1
"""The share of the rate at which a matrix learns a response that differs from position to position, to average it."""


class Matrices(Bound):
    """All feedback matrices of a model.

    Parameters
    ----------
    workshop : Workshop
        Where arrays and operations are made.
    model : Graph
        The model.
    layout : Layout
        Its stream.
    settings : BlockFeedback
        The estimator, for its settings.
    heads : mapping of str to Parameter
        The parameters of the blocks' own heads.
    memory : callable
        A function that returns the array of a matrix, given its name and shape.

    Attributes
    ----------
    heads : dict of Block to Feedback
        From the outputs of a block's head to what it reads.
    inner : dict of Branch to Feedback
        From the sum to the hidden units of a branch, or to the mean values of its attention.
    outer : dict of Branch to Feedback
        From the first layer of a branch, or from the sum, to the input of the branch: of those branches only whose
        input is told.
    """

    def __init__(
        self,
        workshop: Workshop,
        model: Graph,
        layout: Layout,
        settings: Any,
        heads: Mapping[str, Parameter],
        memory: Memory,
    ) -> None:
        self._w, self._model, self._settings, self._memory = workshop, model, settings, memory
        self._responses: list[tuple[Feedback, float, Respond]] = []
        self.heads: dict[Block, Feedback] = {}
        self.inner: dict[Branch, Feedback] = {}
        self.outer: dict[Branch, Feedback] = {}
        self._rows = min(settings.noise, workshop.count)
        for block in layout.blocks:
            readout = layout.readout if block.last else None
            weight = self._weight(readout, "weight") if readout else heads[f"{block.head}.weight"]
            self.heads[block] = self._of_weight(weight)
            for each in block.sums:
                for branch in each.branches:
                    self._add(branch, each.add.output.shape[-1], layout.tells_before(block, each))

    @property
    def relayed(self) -> bool:
        """Whether the input of dense layers is told through their hidden units."""
        return bool(self._settings.relayed)

    @property
    def numbers(self) -> int:
        """The number of numbers by which the noise of matrices is told apart: the first that others may take."""
        return len(self._responses)

    @property
    def all(self) -> list[Feedback]:
        """All matrices."""
        return [matrix for matrix, _, _ in self._responses]

    def _add(self, branch: Branch, channels: int, before: bool) -> None:
        """Add the matrices of a branch of a stream with that many channels; `before`: its input is told its error."""
        last = (
            self._weight(branch.project, "weight") if branch.project else self._weight(branch.first, "output")
        )
        self.inner[branch] = self._of_weight(last)
        if not before and not has_parameters(self._model, branch.norm):
            return
        if branch.project and not self._settings.relayed:
            name = f"feedback.{branch.first.names[0]}.branch"
            matrix = self._new(name, channels, channels)
            rate = MEAN_RATE * self._settings.rate
            self._responses.append((matrix, rate, lambda noise: self._through(branch, noise)))
            self.outer[branch] = matrix
        else:
            self.outer[branch] = self._of_weight(self._weight(branch.first, "weight"), panels=True)

    def _weight(self, step: Step, name: str) -> Parameter:
        return self._model.layer_parameters(step.index)[name]

    def _new(self, name: str, inputs: int, outputs: int, panels: bool = False) -> Feedback:
        array = self._memory(name, (-(-outputs // PANEL), inputs, PANEL))
        return Feedback(self._w, array, outputs, panels)

    def _of_weight(self, weight: Parameter, panels: bool = False) -> Feedback:
        """Return a new matrix that predicts the response of a weight (K, N)."""
        inputs, outputs = weight.shape
        matrix = self._new(f"feedback.{weight.name}", inputs, outputs, panels)

        def respond(noise: Images) -> tuple[Any, list[Operation]]:
            response = self._w.lent("response", 1, self._rows, leading(outputs))
            y = Images.of_batch(response, (outputs,))
            return response, [self._w.product(noise, weight.packed, y, rows=self._rows)]

        self._responses.append((matrix, self._settings.rate, respond))
        return matrix

    def _through(self, branch: Branch, noise: Images) -> tuple[Any, list[Operation]]:
        """Return the response of dense layers to noise at the first positions of the batch: a pass with a tangent."""
        assert branch.project is not None
        source = self._inputs[branch]
        layers: list[Any] = [branch.first.layer, branch.project.layer]
        dual = self._w.lent("response of a branch", 2, self._rows, leading(noise.shape[2]))
        x = Images.of_batch(dual, noise.shape[2:], True)
        copies = [(source, dual[:1]), (noise, dual[1:])]
        operations: list[Operation] = [
            self._w.device.kernels.elementwise.bind(
                batch=self._rows,
                images_a_part=self._rows,
                count=0,
                x=before,
                y=Images.of_batch(block, noise.shape[2:]),
            )
            for before, block in copies
        ]
        for number, (step, layer) in enumerate(zip((branch.first, branch.project), layers, strict=True)):
            parameters = self._model.layer_parameters(step.index)
            weight, bias = parameters["weight"], parameters.get("bias")
            zeros = self._w.lent("no bias", weight.packed.shape[0] * PANEL)
            array = self._w.lent(f"response {number}", 2, self._rows, leading(layer.units))
            y = Images.of_batch(array, (layer.units,), True)
            operations.append(
                self._w.device.kernels.dense.bind(
                    *self._w.bound_for,
                    batch=self._rows,
                    x=x,
                    y=y,
                    outputs=layer.units,
                    weights=Weights(
                        weight.packed, bias.packed if bias else zeros, count=1, stream=self._w.stream
                    ),
                    activation_name=str(layer.activation),
                )
            )
            x = y
        return array[1:], operations

    def learn(self, inputs: Mapping[Branch, Images]) -> list[Operation]:
        """Return the operations by which all matrices learn from new noise.

        Parameters
        ----------
        inputs : mapping of Branch to Images
            The rows that the first layer of each branch reads.
        """
        self._inputs = inputs
        return [
            operation
            for number, (matrix, rate, respond) in enumerate(self._responses)
            for operation in matrix.learn(number, self._rows, rate, respond)
        ]


def has_parameters(model: Graph, norm: Step | None) -> bool:
    """Return whether a normalisation has parameters, which must be told their error."""
    return norm is not None and bool(model.layer_parameters(norm.index))
