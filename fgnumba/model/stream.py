"""A model's passes over streams that go on from call to call, such as texts."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fgnumba.errors import ConfigError, ShapeError
from fgnumba.kernels.rules.directions import NONE
from fgnumba.kernels.rules.philox import STREAM
from fgnumba.layers import Perturbation
from fgnumba.layers.parameters import checked
from fgnumba.model.plan import Plan
from fgnumba.model.recent import Recent
from fgnumba.model.sizes import checked_batch
from fgnumba.objects.bound import Bound
from fgnumba.validation.arrays import as_array, as_tensor

if TYPE_CHECKING:
    from fgnumba.model.graph import Graph
    from fgnumba.model.nodes import WiredNode

WINDOW = 512
"""The most positions that a pass takes, so that the memory does not grow with the length of what a call is given."""


def states_of(model: "Graph", batch: int) -> dict[int, tuple[str, tuple[int, int, int]]]:
    """Return the names and the shapes (1, B, S) of the states of a model's layers, by the numbers of the nodes.

    Parameters
    ----------
    model : Graph
        The model.
    batch : int
        The number of streams B.
    """
    widths = {
        index: node.layer.state_width(model.input_shapes(index)) for index, node in enumerate(model.nodes)
    }
    return {
        index: (f"state.{model.nodes[index].name}", (1, batch, width))
        for index, width in widths.items()
        if width
    }


def unstreamed(model: "Graph") -> "tuple[WiredNode, str] | None":
    """Return the first node because of which a model has no streams, and what it does; None if it has streams.

    Parameters
    ----------
    model : Graph
        The model.
    """
    for index, node in enumerate(model.nodes):
        counts = node.layer.counts_positions and "counts the positions of a sequence from its beginning"
        mixes = node.layer.mixes_positions and "reads all positions of a sequence at once"
        if (mixes or counts) and len(model.input_shapes(index)[0]) == 2:
            return node, str(mixes or counts)
    return None


class Stream(Bound):
    """B streams through a model, whose recurrent layers carry their state from call to call.

    It reads the parameters as they are at the time of a call. :meth:`fgnumba.Graph.stream` returns one.

    Parameters
    ----------
    model : Graph
        The model, which turns sequences (L, ...) into sequences (L, N).
    batch : int
        The number of streams B.

    Raises
    ------
    ConfigError
        If `batch` is no whole number of at least 1, or the model does not turn sequences into sequences.
    """

    def __init__(self, model: "Graph", batch: int = 1) -> None:
        self.model, self.batch = model, checked_batch(batch, model.input_shape)
        shape = model.output_shape
        if not model.takes_sequences or len(shape) != 2 or shape[0] != model.input_shape[0]:
            raise ConfigError(
                f"the model turns {model.input_shape} into {model.output_shape}; a stream requires one that turns "
                "sequences (L, ...) into sequences (L, N)"
            )
        bound = unstreamed(model)
        if bound is not None:
            node, why = bound
            raise ConfigError(
                f"layer {node.name!r}: {node.layer.kind} {why}; a stream requires layers that take each position by "
                "itself, or carry a state"
            )
        self._named = states_of(model, self.batch)
        self._states = {index: model.processor.zeros(shape) for index, (_, shape) in self._named.items()}
        self._plans: Recent[int, Plan] = Recent()
        self._views: Recent[int, Graph] = Recent()

    def __call__(self, x: Any) -> npt.NDArray[np.float32]:
        """Return the outputs (B, L, N) of the next L positions of each stream, for any L of at least 1.

        Parameters
        ----------
        x : array
            (B, L, C) real numbers, or (B, L) symbols.

        Raises
        ------
        ShapeError, DtypeError, DatasetError
            If `x` is no such array. The state is not changed.
        """
        x = as_array("x", as_tensor(x)) if isinstance(x, list | tuple) else x
        shape = np.shape(x)
        length = int(shape[1] if len(shape) > 1 and shape[1] else self.model.input_shape[0])
        inputs = self._view(length).checked_input(x)
        if len(inputs) != self.batch:
            raise ShapeError(f"x has {len(inputs)} streams; {self.batch} are required")
        if not isinstance(inputs, np.ndarray):
            inputs = self.model.processor.values(inputs)
        outputs = np.empty((self.batch, length, self.model.outputs), np.float32)
        with self.model.lock:
            for start in range(0, length, WINDOW):
                window = inputs[:, start : start + WINDOW]
                plan = self._plan(window.shape[1])
                plan.run(np.ascontiguousarray(window))
                rows = self.model.processor.values(plan.output[0])[:, : self.model.outputs]
                outputs[:, start : start + WINDOW] = rows.reshape(self.batch, window.shape[1], -1)
        return outputs

    def _view(self, length: int) -> "Graph":
        # A text is continued symbol by symbol: the shapes of the model must not be found anew for each.
        return self._views.of(length, lambda: self.model.at_length(length))

    def _plan(self, length: int) -> Plan:
        def bind() -> Plan:
            still = Perturbation(NONE, 0, self.model.processor.zeros((1,), STREAM))
            return Plan(self._view(length), self.batch, still, states=self._states)

        return self._plans.of(length, bind)

    @property
    def state(self) -> dict[str, npt.NDArray[np.float32]]:
        """Copies of the states (B, S) by name, ``state.`` and the name of the layer, as the kernels lay them out."""
        return {
            self._named[index][0]: np.array(self.model.processor.values(array)[0])
            for index, array in self._states.items()
        }

    def load_state(self, state: Mapping[str, npt.ArrayLike]) -> None:
        """Go on from a state that :attr:`state` returned. An error changes nothing.

        Raises
        ------
        ShapeError, DtypeError, ConfigError
            If a name or a shape does not fit, or a number is not finite in float32.
        """
        arrays = checked({name: shape[1:] for name, shape in self._named.values()}, state, "state")
        with self.model.lock:
            for index, array in self._states.items():
                self.model.processor.assign(array, arrays[self._named[index][0]][None])

    def reset(self) -> None:
        """Begin all streams anew: all states are zeros."""
        with self.model.lock:
            for array in self._states.values():
                self.model.processor.assign(array, 0.0)
