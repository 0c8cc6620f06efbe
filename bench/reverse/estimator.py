"""Reverse mode as an estimator: the exact gradient, for the same trainer, optimisers and measurements."""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from fgnumba.bench.reverse.plan import ReversePlan
from fgnumba.bench.reverse.through_time import ThroughTime, is_recurrent
from fgnumba.bench.reverse.within_memory import within_memory
from fgnumba.errors import ConfigError
from fgnumba.estimators import Estimate, Estimator, Recipe, Setting
from fgnumba.estimators.blocks.estimator import BlockFeedback
from fgnumba.kernels.devices.device import CPU
from fgnumba.kernels.shared.loss import RESULT
from fgnumba.layers.parameters import Parameter
from fgnumba.model.graph import Graph
from fgnumba.validation import flag, optional, store, whole_number


@dataclass(frozen=True)
class ReverseMode(Estimator):
    """The gradient itself, by reverse accumulation: the baseline of all estimators.

    Parameters
    ----------
    checkpoint : bool
        Whether activations are computed again instead of kept, see :class:`ReversePlan`; in a recurrent model through
        time, see :class:`ThroughTime`.
    memory_limit : int or None
        The most bytes that the buffers of a step may need, ``Estimate.nbytes``. Activations that do not fit are
        computed again, as few as possible; see :mod:`fgnumba.bench.reverse.within_memory`. Not with `checkpoint`, which
        chooses how many are kept. None (the default): there is no limit.
    kept : int or None
        With `checkpoint`, the number of outputs that are kept at a time, see :class:`ReversePlan`. None (the default):
        about 2 √L of L.
    within_blocks : bool
        False (the default): the gradient of the model's loss, through everything. True: each block of a transformer has
        the loss and the head that :class:`fgnumba.BlockFeedback` gives it, and the gradient of that loss within the
        block alone. It is the yardstick of block feedback.

    Raises
    ------
    ConfigError
        There is a limit and `checkpoint`, or `kept` without `checkpoint`; :meth:`bind` raises it where the limit is too
        low, or the model is recurrent and there is a limit or `kept`.

    Notes
    -----
    With a trainer's ``carry_states``, recurrent layers begin with the states that the step before left, and take them
    as constants: truncated backpropagation through time of streams.
    """

    checkpoint: bool = False
    within_blocks: bool = False
    memory_limit: int | None = None
    kept: int | None = None

    name: ClassVar[str] = "reverse-mode"
    carries_states: ClassVar[bool] = True

    def __post_init__(self) -> None:
        store(
            self,
            checkpoint=flag("checkpoint", self.checkpoint),
            within_blocks=flag("within_blocks", self.within_blocks),
            memory_limit=optional(whole_number, "memory_limit", self.memory_limit),
            kept=optional(whole_number, "kept", self.kept),
        )
        if self.kept is not None and not self.checkpoint:
            raise ConfigError(f"kept is {self.kept}; without checkpoint=True, all outputs are kept")
        if self.memory_limit is not None and self.checkpoint:
            raise ConfigError(
                "memory_limit: it chooses what is computed again; checkpoint is True, False is required"
            )

    @property
    def unbiased(self) -> bool:
        """Whether E[g] = ∇f: the gradient is exact, unless it ends where a block begins."""
        return not self.within_blocks

    @property
    def statement(self) -> str:
        """The formula of g."""
        return "g = ∇f, within each block that of its own loss" if self.within_blocks else "g = ∇f"

    def relative_variance(self, parameters: int) -> float:
        """Return 0, since the gradient is exact."""
        whole_number("parameters", parameters)
        return 0.0

    def own_parameters(self, model: Graph, seed: int) -> dict[str, Parameter]:
        """Return the parameters of the blocks' own heads: those that block feedback has with the same seed."""
        return BlockFeedback().own_parameters(model, seed) if self.within_blocks else {}

    def bind(self, setting: Setting) -> "ReverseEstimate":
        """Return the estimate that is bound to a model, a loss and an optimiser."""
        return ReverseEstimate(self, setting)


class ReverseEstimate(Estimate):
    """Reverse mode on B examples. An update that is only θ - η ∇f is fused into the products."""

    def __init__(self, estimator: ReverseMode, setting: Setting) -> None:
        self._setting = setting
        gradients = {} if setting.plain else {name: setting.gradient(name) for name in setting.parameters}
        model, batch, loss = setting.model, setting.batch, setting.loss
        self.plan: ReversePlan | ThroughTime
        states = setting.states
        for name in ("memory_limit", "kept"):
            if getattr(estimator, name) is not None and is_recurrent(model):
                raise ConfigError(
                    f"{name}: the model is recurrent; checkpoint=True alone goes through it in windows"
                )
        if estimator.checkpoint and not estimator.within_blocks and is_recurrent(model):
            self.plan = ThroughTime(
                model, batch, loss, update=setting.plain, gradients=gradients, states=states or None
            )
        else:

            def bind(kept: int | None) -> ReversePlan:
                return ReversePlan(
                    model,
                    batch,
                    loss,
                    update=setting.plain,
                    training=True,
                    checkpoint=estimator.checkpoint or kept is not None,
                    gradients=gradients,
                    states=states,
                    heads=setting.state.parameters if estimator.within_blocks else None,
                    kept=kept,
                )

            limit = estimator.memory_limit
            self.plan = (
                bind(estimator.kept) if limit is None else within_memory(limit, len(model.nodes), bind)
            )
        self.values = np.zeros(1)
        self._result = np.ones(1, RESULT)
        updates = [] if setting.plain else setting.updates(self._result)
        self._updates = CPU.program(updates)
        self.operations = (*self.plan.operations, *self._updates.operations)

    @property
    def nbytes(self) -> int:
        """Number of bytes of buffers and scratch memory."""
        return self.plan.nbytes

    def run(self, x: npt.NDArray[Any], targets: npt.NDArray[Any]) -> bool:
        """Run both passes, and the update if it is not fused. Return False if the loss is not finite."""
        self.plan.stream[...] = self._setting.stream.host
        if self._setting.plain:
            assert self._setting.rates is not None
            self.plan.scale[0] = -self._setting.rates.host["learning_rate"][0]
        if isinstance(self.plan, ReversePlan):
            self.plan.cut()
        value = self.plan.run(x, targets)
        if np.isfinite(value) and not self._setting.plain:
            self._updates.run()
        return self.read()

    @property
    def updates(self) -> int:
        """How many runs that move the parameters have ended: runs of both passes, if the update is fused."""
        return self.plan.runs if self._setting.plain else self._updates.runs

    def read(self) -> bool:
        """Read the loss, and return whether it is finite."""
        self.values[0] = self.plan.value
        return bool(np.isfinite(self.values[0]))


RECIPE = Recipe(
    ReverseMode,
    takes=(),
    learning_rate=3.2e-3,
    rates={"cnn": 2.5e-3, "resnet": 2.5e-3},
    evidence="searched as the estimators: 0.982 held out; convolutional network 0.984",
)
"""The defaults of reverse mode in comparisons."""
