"""Reverse mode of long sequences, window by window: exact with checkpoints of the states, or truncated.

Both go through a sequence in windows of w positions, with a plan for one window. Truncated backpropagation through time
takes each window's gradient as if the state before it were a constant. The exact gradient takes two sweeps: the first
keeps the state before each window and nothing else; the second goes from the last window to the first, computes each
again, and hands on the cotangent of the state before it. With w = √L, memory grows with √L.

Source: P. J. Werbos, Proceedings of the IEEE 78 (10), 1990; T. Chen et al., arXiv 1604.06174.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from fgnumba.bench.reverse.plan import ReversePlan, state_arrays
from fgnumba.errors import ConfigError
from fgnumba.kernels.machine.memory import aligned
from fgnumba.kernels.rules.directions import NONE
from fgnumba.kernels.rules.philox import STREAM
from fgnumba.layers import Dropout, Perturbation
from fgnumba.layers.losses import Loss
from fgnumba.model.graph import Graph
from fgnumba.model.plan import Plan
from fgnumba.model.sizes import checked_batch
from fgnumba.model.stream import states_of
from fgnumba.validation import flag, whole_number


def is_recurrent(model: Graph) -> bool:
    """Whether a model has a layer that carries a state from position to position."""
    return bool(states_of(model, 1))


class ThroughTime:
    """Value and gradient of a model's loss on B sequences of L positions, in windows.

    Parameters
    ----------
    model : Graph
        The model, whose output is a sequence.
    batch : int
        Number of examples B.
    loss : Loss
        The loss.
    window : int or None
        Number of positions of a window w. None: about √L.
    truncated : bool
        True: the gradient of truncated backpropagation through time, which takes the state before each window as a
        constant. False: the exact gradient.
    update : bool
        Whether the gradient times `scale` is added to the parameters after the last window.
    gradients : dict or None
        Arrays to write the gradient to, instead of new ones.
    states : mapping of int to array (1, B, S), or None
        The states with which recurrent layers begin, and which they replace by their last ones; see
        :func:`fgnumba.bench.reverse.plan.state_arrays`. None: they begin at zeros.

    Attributes
    ----------
    scale : array, (1,) float64
        The factor of the gradient in an update.
    stream : array, (1,) ``kernels.rules.philox.STREAM``
        Seed and step of dropout's masks, of which there are none here.
    gradients : dict of arrays
        The gradient by parameter name, packed like the parameters.
    operations : tuple of Operation
        The operations of a window.
    value : float
        The loss of the last run.
    runs : int
        How many runs have ended.

    Raises
    ------
    ConfigError
        A layer has no reverse pass, the model has no recurrent layer or an output that is no sequence.
    """

    def __init__(
        self,
        model: Graph,
        batch: int,
        loss: Loss,
        window: int | None = None,
        truncated: bool = False,
        update: bool = False,
        gradients: dict[str, npt.NDArray[np.float32]] | None = None,
        states: Mapping[int, npt.NDArray[np.float32]] | None = None,
    ) -> None:
        if not is_recurrent(model):
            raise ConfigError("the model has no recurrent layer; windows of a sequence need one")
        self.length = model.input_shape[0]
        if not model.takes_sequences or len(model.output_shape) != 2:
            raise ConfigError(
                f"the model makes {model.output_shape} of {model.input_shape}; windows need an output at each position"
            )
        square = max(1, round(math.sqrt(self.length)))
        self.window = square if window is None else whole_number("window", window, 1, self.length)
        self.truncated, self._update = flag("truncated", truncated), flag("update", update)
        if update:
            check_no_dropout(model)
        self._states, batch = states, checked_batch(batch, model.input_shape)
        self._model, self.scale, self.stream = model, np.ones(1), np.zeros(1, STREAM)
        self.gradients = gradients or {
            name: aligned(p.packed.shape) for name, p in model.packed_parameters.items()
        }
        rest = self.length % self.window
        self._plans = {
            length: ReversePlan(
                model.at_length(length),
                batch,
                loss,
                gradients=self.gradients,
                states=state_arrays(model, batch),
                accumulate=True,
            )
            for length in {self.window, rest or self.window}
        }
        self.operations = self._plans[self.window].operations
        whole = self._plans[self.window]
        starts = range(0, self.length, self.window)
        self._windows = [slice(start, min(start + self.window, self.length)) for start in starts]
        self._forward: Plan | None = None
        self._before: list[dict[int, npt.NDArray[np.float32]]] = []
        if not self.truncated:
            self._forward = Plan(
                model.at_length(self.window),
                batch,
                Perturbation(NONE, 0, self.stream),
                states={index: states.last for index, states in whole.states.items()},
            )
            self._before = [
                {index: np.zeros_like(states.before) for index, states in whole.states.items()}
                for _ in self._windows
            ]
        self.value, self.runs = math.nan, 0

    @property
    def nbytes(self) -> int:
        """Number of bytes of buffers, scratch memory and kept states, without gradients and parameters."""
        kept = sum(array.nbytes for states in self._before for array in states.values())
        forward = self._forward.nbytes if self._forward else 0
        return kept + forward + sum(plan.nbytes for plan in self._plans.values())

    def run(self, x: npt.NDArray[Any], targets: npt.NDArray[Any]) -> float:
        """Run all windows on the checked input x (B, L, ...) and its targets, and return the loss."""
        y = targets.reshape(len(x), self.length, *targets.shape[1:])
        for gradient in self.gradients.values():
            gradient[...] = 0
        for plan in self._plans.values():
            for index, states in plan.states.items():
                states.last[...], states.carry[...] = 0 if self._states is None else self._states[index], 0
        whole = self._plans[self.window].states
        if self._forward is not None:
            for window, before in zip(self._windows[:-1], self._before, strict=False):
                for index, states in whole.items():
                    before[index][...] = states.last[0]
                self._forward.run(np.ascontiguousarray(x[:, window]))
            for index, states in whole.items():
                self._before[-1][index][...] = states.last[0]
        total = 0.0
        order = range(len(self._windows))
        for number in order if self.truncated else reversed(order):
            total += self._window(number, x, y)
        if self._update and math.isfinite(total):
            rate = np.float32(self.scale[0])
            for name, parameter in self._model.packed_parameters.items():
                parameter.packed[...] += rate * self.gradients[name]
        self.value, self.runs = total, self.runs + 1
        return total

    def _window(self, number: int, x: npt.NDArray[Any], y: npt.NDArray[Any]) -> float:
        """Run one window, and return its share of the loss."""
        window = self._windows[number]
        plan, whole = self._plans[window.stop - window.start], self._plans[self.window]
        share = (window.stop - window.start) / self.length
        for index, states in plan.states.items():
            if self.truncated:
                states.last[...], states.carry[...] = whole.states[index].last, 0
            else:
                states.last[0] = self._before[number][index]
        plan.scale[0] = share
        targets = np.ascontiguousarray(y[:, window]).reshape(-1, *y.shape[2:])
        value = plan.run(np.ascontiguousarray(x[:, window]), targets) * share
        if number == len(self._windows) - 1 and self._states is not None:
            for index, states in plan.states.items():
                self._states[index][...] = states.last
        if plan is not whole and not self.truncated:
            for index, states in plan.states.items():
                whole.states[index].carry[...] = states.carry
        return value


def check_no_dropout(model: Graph) -> None:
    """Raise ConfigError if a model drops units: each window would drop the same ones."""
    for node in model.nodes:
        if isinstance(node.layer, Dropout):
            raise ConfigError(
                f"layer {node.name!r}: Dropout; reverse mode in windows trains models without it"
            )
