"""What models of sequences can do beside others: take sequences of other lengths, and streams that never end."""

from importlib import import_module
from typing import TYPE_CHECKING, Any, cast

from fgnumba.errors import ConfigError, ShapeError
from fgnumba.layers import Shape
from fgnumba.model.described import Described
from fgnumba.model.stream import Stream, unstreamed
from fgnumba.validation import whole_number

if TYPE_CHECKING:
    from fgnumba.model.graph import Graph


class SequenceModel(Described):
    """The part of a model that is about sequences: a base of :class:`Graph`."""

    symbols: int | None
    _learner: Any

    def _where(self, index: int) -> str:
        """Return the name of node `index` in messages."""
        raise NotImplementedError

    def _resized(self, input_shape: Shape) -> "Graph":
        """Return a view of the model for another input shape, with the same parameters."""
        raise NotImplementedError

    def at_length(self, length: int) -> "Graph":
        """Return the model for sequences of another length: a view, with the same parameters.

        Parameters
        ----------
        length : int
            The number of positions of its input, at least 1.

        Raises
        ------
        ConfigError
            If the model's input is no sequence.
        ShapeError
            If the shape of a parameter depends on the length.
        """
        length = whole_number("length", length)
        if not self.takes_sequences:
            raise ConfigError(f"the model's input has shape {self.input_shape}; a sequence is required")
        if length == self.input_shape[0]:
            return cast("Graph", self)
        view = self._resized((length, *self.input_shape[1:]))
        for index, node in enumerate(view.nodes):
            needed = node.layer.parameter_shapes(view.input_shapes(index))
            if needed != node.layer.parameter_shapes(self.input_shapes(index)):
                raise ShapeError(
                    f"{self._where(index)}: its parameters depend on the length of the sequence, which is "
                    f"{self.input_shape[0]} and cannot be {length}"
                )
        return view

    def stream(self, batch: int = 1) -> Stream:
        """Return the model's passes over B streams, such as texts, whose windows come one after the other.

        The state of recurrent layers is carried from each call to the next. A call of the model itself begins with
        states of zeros.

        Parameters
        ----------
        batch : int, optional
            The number of streams B. By default 1.

        Raises
        ------
        ConfigError
            If `batch` is no whole number of at least 1, or the model does not turn sequences into sequences.

        Examples
        --------
        >>> import numpy as np
        >>> import fgnumba as fg
        >>> model = fg.Sequential([fg.Dense(8, "tanh"), fg.Dense(3)], input_shape=(16, 4), device="cpu")
        >>> stream = model.stream(batch=2)
        >>> stream(np.zeros((2, 5, 4))).shape
        (2, 5, 3)
        """
        return Stream(cast("Graph", self), batch)

    def learn_one(self, x: Any, y: Any) -> Any:
        """Take one position of a stream, and learn from it: a step of a learner with the default arguments.

        The states of recurrent layers are carried from one position to the next, and so are the traces of real-time
        recurrent learning. :class:`fgnumba.OnlineLearner` takes another loss, estimator or optimiser.

        Parameters
        ----------
        x : array, (C,), or int
            The position's numbers, or its symbol.
        y : array, (N,), or int
            The position's target: real numbers, or for a model of symbols the next symbol.

        Returns
        -------
        StepResult
            The loss before the step.

        Raises
        ------
        ShapeError, DtypeError, DatasetError, DivergenceError, ConfigError
            As for :meth:`fgnumba.OnlineLearner.learn_one`.

        Examples
        --------
        >>> import fgnumba as fg
        >>> model = fg.Sequential([fg.ElementwiseLSTM(32, symbols=3), fg.Dense(3)], (8,), device="cpu")
        >>> for t in range(300):
        ...     result = model.learn_one(t % 3, (t + 1) % 3)
        >>> int(model.predict_one(0).argmax())
        1
        """
        return self._online().learn_one(x, y)

    def predict_one(self, x: Any) -> Any:
        """Return the outputs (N,) at the next position of the stream of :meth:`learn_one`, which stays as it is.

        Parameters
        ----------
        x : array, (C,), or int
            The position's numbers, or its symbol.

        Raises
        ------
        ShapeError, DtypeError, DatasetError, ConfigError
            If `x` is nothing of this kind, or the model does not turn sequences into sequences.
        """
        return self._online().predict_one(x)

    def _online(self) -> Any:
        if self._learner is None:
            # Training is above models, which must not import it; but this is where people look for it.
            self._learner = import_module("fgnumba.training.online").learner_of(self)
        return self._learner

    @property
    def reads_windows(self) -> bool:
        """Whether a layer mixes the positions of a sequence, as attention does, or counts them from its beginning.

        Such a model has no streams. It learns a text from windows of as many symbols as its input has positions.
        """
        return unstreamed(cast("Graph", self)) is not None

    @property
    def takes_sequences(self) -> bool:
        """Whether an example is a sequence: (L, C) numbers, or (L,) symbols."""
        return len(self.input_shape) == (2 if self.symbols is None else 1)
