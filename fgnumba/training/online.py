"""Learning from a stream, one position at a time."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from fgnumba.errors import ConfigError, ShapeError
from fgnumba.estimators import Estimator
from fgnumba.layers.losses import Loss
from fgnumba.model.graph import Graph
from fgnumba.objects.bound import Bound
from fgnumba.optimizers import Optimizer
from fgnumba.training.records import StepResult
from fgnumba.training.trainer import Trainer
from fgnumba.validation.arrays import as_array


class OnlineLearner(Bound):
    """A model that learns from a stream, one position at a time, and predicts in between.

    The states of recurrent layers are carried from position to position, and with real-time recurrent learning their
    traces, so that every step follows the whole past in memory that does not grow. ``Graph.learn_one`` makes a learner
    with the default arguments.

    Parameters
    ----------
    model : Graph
        The model, which turns sequences (L, ...) into sequences (L, N), for any L. Its parameters are moved.
    loss : Loss, callable or str, optional
        The loss, as for :class:`fgnumba.Trainer`. None (the default): :class:`fgnumba.SoftmaxCrossEntropy` for a model
        of symbols, else :class:`fgnumba.MeanSquaredError`.
    estimator : Estimator or str, optional
        The gradient estimator. By default ``rtrl``; for models with LSTM and GRU layers, ``WeightPerturbation``.
    optimizer : Optimizer or str, optional
        How a step follows the estimate. By default ``adam``, with the rate of the estimator.
    seed : int, optional
        The seed of the directions. By default 0.

    Raises
    ------
    ConfigError
        If the model does not turn sequences into sequences, or an argument does not suit it.

    Examples
    --------
    >>> import fgnumba as fg
    >>> model = fg.Sequential([fg.ElementwiseLSTM(32, symbols=3), fg.Dense(3)], (8,), device="cpu")
    >>> learner = fg.OnlineLearner(model, optimizer=fg.Adam(0.02))
    >>> losses = [learner.learn_one(t % 3, (t + 1) % 3).loss for t in range(100)]
    >>> int(learner.predict_one(0).argmax())
    1
    """

    def __init__(
        self,
        model: Graph,
        loss: Loss | Callable[..., Any] | str | None = None,
        estimator: Estimator | str = "rtrl",
        optimizer: Optimizer | str = "adam",
        seed: int = 0,
    ) -> None:
        self.model, self._one = model, model.at_length(1)
        self._stream = self._one.stream()
        if loss is None:
            loss = "mse" if model.symbols is None else "cross-entropy"
        self.trainer = Trainer(
            self._one, loss=loss, estimator=estimator, optimizer=optimizer, seed=seed, carry_states=True
        )

    def learn_one(self, x: Any, y: Any) -> StepResult:
        """Take one position, and learn from it.

        Parameters
        ----------
        x : array, (C,), or int
            The position's numbers, or its symbol.
        y : array, (N,), or int
            The position's target, as the loss takes it.

        Returns
        -------
        StepResult
            The loss before the step, and the directional derivatives.

        Raises
        ------
        ShapeError, DtypeError, DatasetError, DivergenceError
            As for ``Trainer.step``. After any but the last, nothing is changed.
        """
        result = self.trainer.step(self._position(x), np.asarray(as_array("y", y))[None, None])
        self.model.version = object()
        return result

    def predict_one(self, x: Any) -> npt.NDArray[np.float32]:
        """Return the outputs (N,) at the next position, if its numbers or its symbol are `x`. The state stays as it is.

        Parameters
        ----------
        x : array, (C,), or int
            The position's numbers, or its symbol.

        Raises
        ------
        ShapeError, DtypeError, DatasetError
            If `x` is nothing of this kind.
        """
        position = self._position(x)
        with self.model.lock:
            self._stream.load_state(self._carried())
            return self._stream(position)[0, 0]

    def reset(self) -> None:
        """Begin a new stream: states and traces are zeros. What was learned stays."""
        state = self.trainer.state
        with self.model.lock:
            for name, array in state.arrays.items():
                if name.startswith(("state.", "trace.")):
                    state.device.assign(array, 0.0)

    def _position(self, x: Any) -> npt.NDArray[Any]:
        position = np.asarray(as_array("x", x))
        if position.shape != self._one.input_shape[1:]:
            raise ShapeError(
                f"x has shape {position.shape}; that of one position, {self._one.input_shape[1:]}, is required"
            )
        return position[None, None]

    def _carried(self) -> dict[str, npt.NDArray[np.float32]]:
        """Return the states that the trainer has carried so far, as a stream names them."""
        arrays, state = self.trainer.state.arrays, self._stream.state
        for name in state:
            if name in arrays:
                state[name] = np.array(self.trainer.state.device.values(arrays[name])[0])
        return state


def learner_of(model: Graph) -> OnlineLearner:
    """Return a learner with the default arguments: real-time recurrent learning if the model's layers allow it."""
    try:
        return OnlineLearner(model)
    except ConfigError:
        return OnlineLearner(model, estimator="weight-perturbation")
