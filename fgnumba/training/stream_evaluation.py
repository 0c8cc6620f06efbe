"""Evaluation of a model on one stream of symbols: it reads each, and predicts the next.

The state of a recurrent model is carried from the first symbol to the last; a model that has no streams reads windows
of the stream. Either way the stream goes through the model piece by piece, so that its length does not change the
memory.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fgnumba.datasets.texts import Alphabet
from fgnumba.layers.losses import Loss
from fgnumba.model.graph import Graph
from fgnumba.model.stream import WINDOW
from fgnumba.training.scoring import METRICS, Metric, scored
from fgnumba.training.text_metrics import text_metrics
from fgnumba.training.window_evaluation import checked_stride, window_outputs


class Totals:
    """Sums over the windows of a stream.

    Parameters
    ----------
    loss : Loss
        The loss.
    alphabet : Alphabet
        The alphabet of the symbols.
    kept : int
        The number of symbols of which predictions are kept, for metrics that need them all; 0 keeps none.
    """

    def __init__(self, loss: Loss, alphabet: Alphabet, kept: int) -> None:
        self._loss, self._alphabet = loss, alphabet
        self._sum = 0.0
        self._right = self.symbols = self.characters = 0
        self.predictions = np.empty(kept, alphabet.dtype)

    def add(self, outputs: npt.NDArray[np.float32], targets: npt.NDArray[np.int64]) -> None:
        """Add the outputs (l, V) of a window and the symbols (l,) that followed."""
        self._sum += self._loss.value(outputs, targets) * len(targets)
        predictions = self._loss.predictions(outputs)
        self._right += int((predictions == targets).sum())
        self.characters += int(self._alphabet.begins[targets].sum())
        end = self.symbols + len(targets)
        if len(self.predictions):
            self.predictions[self.symbols : end] = predictions
        self.symbols = end

    @property
    def loss(self) -> float:
        """The mean loss of a symbol."""
        return self._sum / self.symbols

    @property
    def accuracy(self) -> float:
        """The fraction of symbols that were predicted."""
        return self._right / self.symbols


def stream_values(
    model: Graph,
    loss: Loss,
    metrics: Sequence[Metric],
    symbols: npt.NDArray[Any],
    following: npt.NDArray[Any],
    alphabet: Alphabet,
    stride: int | None = None,
) -> tuple[float, dict[str, float]]:
    """Return the mean loss of a symbol of a stream, and all metrics by name.

    Parameters
    ----------
    model : Graph
        The model, (L,) symbols to (L, V) outputs.
    loss : Loss
        The loss.
    metrics : sequence of Metric
        Metrics beside those of each text; others than the accuracy are given all targets and predictions.
    symbols : ndarray, (N,) of whole numbers
        The stream.
    following : ndarray, (N,) of whole numbers
        The symbol that follows each.
    alphabet : Alphabet
        What the numbers stand for.
    stride : int, optional
        The distance between windows of a model of windows. None (the default): they lie side by side.
    """
    step = checked_stride(model, stride)
    own = [metric for metric in metrics if metric.function is not METRICS["accuracy"]]
    totals = Totals(loss, alphabet, len(following) if own else 0)
    pieces = _stream_outputs(model, symbols) if step is None else window_outputs(model, symbols, step)
    # The outputs of a model that has diverged are not finite, of which NumPy must not warn.
    with np.errstate(invalid="ignore", over="ignore"):
        for outputs in pieces:
            begin = totals.symbols
            totals.add(outputs, following[begin : begin + len(outputs)].astype(np.int64))
    values = {metric.name: totals.accuracy for metric in metrics if metric not in own}
    values |= text_metrics(totals.loss, totals.symbols, totals.characters)
    if own:
        values |= scored(own, following.astype(np.int64), totals.predictions.astype(np.int64))
    return totals.loss, values


def _stream_outputs(model: Graph, symbols: npt.NDArray[Any]) -> Iterator[npt.NDArray[np.float32]]:
    """Yield the outputs of a text's symbols in pieces (l, V) that follow one another, with the state carried on."""
    stream = model.stream(batch=1)
    for start in range(0, len(symbols), WINDOW):
        piece = symbols[np.newaxis, start : start + WINDOW]
        yield np.asarray(stream(piece)).reshape(piece.shape[1], -1)
