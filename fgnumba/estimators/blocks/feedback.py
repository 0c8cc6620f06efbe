"""Learned feedback: matrices that carry an error from a layer's output to its input.

Noise ε at the input of a layer changes its output by the *response* ε W, which is the tangent of the layer along ε. A
matrix F learns to predict it, as a least-mean-squares filter:

    F ← F + c Σ_r ε_r ⊗ (response_r - ε_r F)        c = rate / (R + K)

for R rows of noise with K signs each. With rate 1 the squared distance of F from what it predicts shrinks on average by
R (R + K + 1) / (R + K)², a little more than R / (R + K), in a step. No rate below 1 diverges, since the greatest
eigenvalue of Σ ε ⊗ ε is about (√R + √K)² ≤ 2 (R + K). An error signal δ of the output then tells the input δ Fᵀ, and F
follows the weight as it is trained.

Sources: B. Widrow, M. E. Hoff, 1960; M. Akrout et al., arXiv 1904.05391, where it is called a weight mirror.
"""

from collections.abc import Callable
from typing import Any

from fgnumba.estimators.blocks.workshop import Workshop
from fgnumba.kernels.emit.vector import PANEL
from fgnumba.kernels.layout.images import Images
from fgnumba.kernels.machine.interfaces import Operation
from fgnumba.kernels.machine.memory import leading, round_up
from fgnumba.objects.bound import Bound

Memory = Callable[[str, tuple[int, ...]], Any]
"""A function that returns an array that lives from step to step, given its name and shape."""


class Feedback(Bound):
    """A learned matrix F (K, N), which predicts how the N outputs of something respond to its K inputs.

    Parameters
    ----------
    workshop : Workshop
        Where arrays and operations are made.
    array : device array, (ceil(N / PANEL), K, PANEL) float32
        F, packed like a weight.
    outputs : int
        The number N.

    panels : bool
        Whether errors of the outputs come in feature panels; else in rows.
    """

    def __init__(self, workshop: Workshop, array: Any, outputs: int, panels: bool) -> None:
        self._workshop, self._array, self._panels = workshop, array, panels
        self.inputs, self.outputs = int(array.shape[1]), outputs
        # A product with panels reads whole ones: what lies in them beyond N stays zeros.
        rows = round_up(outputs, PANEL) if panels else outputs
        self._turned = workshop.zeros(-(-self.inputs // PANEL), rows, PANEL)

    def turn(self) -> Operation:
        """Return the operation that transposes F."""
        workshop = self._workshop
        bound: Operation = workshop.device.kernels.feedback.bind_turn(
            *workshop.bound_for, feedback=self._array, out=self._turned, classes=self.outputs
        )
        return bound

    def told(self, delta: Any, out: Images) -> list[Any]:
        """Return out = δ Fᵀ, as rows: what an error δ of the outputs, rows or feature panels, tells the inputs."""
        if not self._panels:
            return [self._workshop.product(delta, self._turned, out)]
        columns = self._workshop.feature_panels("told", self.inputs)
        product = self._workshop.device.kernels.example_panels.bind_product(
            "told",
            *self._workshop.bound_for,
            a=delta,
            w=self._turned,
            out=columns,
            rows=self._workshop.count,
            terms=self.outputs,
            columns=self.inputs,
            onto=False,
            multiply_adds=self._workshop.count * self.inputs * self.outputs,
        )
        return [product, *self._workshop.from_feature_panels(columns, out)]

    def learn(self, number: int, rows: int, rate: float, respond: Callable[[Images], Any]) -> list[Operation]:
        """Return the operations by which F learns from new noise.

        Parameters
        ----------
        number : int
            The number of the matrix, by which its noise differs from that of others.
        rows : int
            The number R of rows of noise.
        rate : float
            The rate of learning.
        respond : callable
            A function that returns the response to rows of noise (1, R, N), and the operations that compute it.
        """
        workshop, kernels = self._workshop, self._workshop.device.kernels
        k, n = self.inputs, self.outputs
        signs = workshop.lent("signs", 1, rows, leading(k))
        panels = workshop.lent("signs in panels", -(-rows // PANEL), k, PANEL)
        predicted = workshop.lent("predicted", 1, rows, leading(n))
        error = workshop.lent("unpredicted", -(-n // PANEL), round_up(rows, PANEL), PANEL)
        noise = Images.of_batch(signs, (k,))
        response, operations = respond(noise)
        return [
            kernels.signs.bind(
                *workshop.bound_for,
                rows=rows,
                columns=k,
                out=signs[0],
                panels=panels,
                stream=workshop.stream,
                number=number,
            ),
            *operations,
            workshop.product(noise, self._array, Images.of_batch(predicted, (n,)), rows=rows),
            kernels.least_mean_squares.bind(
                workshop.device.threads,
                response=response[0],
                predicted=predicted[0],
                out=error,
                rows=rows,
                columns=n,
                gain=rate / (rows + k),
            ),
            kernels.example_panels.bind_product(
                "feedback-learning",
                *workshop.bound_for,
                a=panels,
                w=error,
                out=self._array,
                rows=k,
                terms=rows,
                columns=n,
                onto=True,
                multiply_adds=rows * k * n,
            ),
        ]
