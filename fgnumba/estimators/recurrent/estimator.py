"""Real-time recurrent learning: the exact gradient of a recurrent layer, with no past and no reverse pass."""

from dataclasses import dataclass
from typing import ClassVar

from fgnumba.errors import ConfigError, shown
from fgnumba.estimators.base import Estimator, Setting
from fgnumba.estimators.own_heads import linear_head
from fgnumba.estimators.planned import PlannedEstimate
from fgnumba.estimators.recipes import Recipe
from fgnumba.estimators.recurrent.layout import analyzed
from fgnumba.estimators.recurrent.plan import RecurrentPlan
from fgnumba.layers.parameters import Parameter
from fgnumba.model.graph import Graph
from fgnumba.validation import flag, store

FEEDBACK = ("local", "direct")


@dataclass(frozen=True)
class RealTimeRecurrentLearning(Estimator):
    """Real-time recurrent learning: the derivatives of the states are carried along, forward in time.

        E_t = D_t E_(t-1) + a_t x_t        ∂f/∂w = Σ_t d_t E_t        D_t = ∂c_t/∂c_(t-1), d_t = ∂f/∂c_t

    A trace E is kept for each weight of a recurrent layer and each stream. Nothing of the past is kept beside it, so
    that memory does not grow with the length of a stream, and a gradient reaches back to its beginning. The layers
    are those in which a unit's state depends on its own weights alone: ElementwiseLSTM, MinGRU, LinearRecurrentUnit.
    One Dense without activation at the end reads their states; its gradient and the d_t are computed in closed form.

    A batch is one window of L positions of B streams: example b of a step goes on where example b of the step before
    ended (with ``Trainer(carry_states=False)`` each begins anew, with states and traces of zeros). States and traces
    are carried over, as arrays of the trainer's state, so that checkpoints have them. A trace
    sums derivatives at the parameters with which each of its steps was made. With fixed parameters the gradient of
    every window is therefore exact, whatever the lengths of the windows before it. After an update, older terms are
    those of older parameters, as the state itself is: they differ by what the updates changed, and fade as the state
    forgets.

    Bias: none in a model with one recurrent layer, for the loss of the window given the states at its start. In a
    stack, a layer is not told what its output does to layers above it, but what `feedback` says.

    Cost, for each symbol and unit of an ElementwiseLSTM, in windows of n = 16 steps: n multiply-adds for products of
    the D_t, 4 V / n for the traces of V symbols, and 4 for the symbol's own; with K numbers as the input, 4 K for two
    products in place of that. Memory: B times the size of the layers' parameters.
    Sources: R. J. Williams, D. Zipser, Neural Computation 1 (1989); K. Irie et al., arXiv 2305.19044.

    Parameters
    ----------
    feedback : str, optional
        What tells a recurrent layer its error. ``local`` (the default): a layer that the readout does not read has a
        linear head and a loss of its own, and follows the exact gradient of that loss. ``direct``: every layer follows
        the model's loss through the readout alone, which must read all of them through a Concatenate; what the layer
        does through the layers above is left out.
    traces : bool, optional
        Whether traces are carried. If not, a gradient has the immediate derivatives alone, and leaves out what a state
        owes to states before it. By default True.

    Raises
    ------
    ConfigError
        If an argument is impossible.

    Examples
    --------
    >>> import numpy as np
    >>> import fgnumba as fg
    >>> model = fg.Sequential([fg.ElementwiseLSTM(32, symbols=5), fg.Dense(5)], (8,), device="cpu")
    >>> trainer = fg.Trainer(model, estimator=fg.RealTimeRecurrentLearning(), optimizer=fg.Adam(4e-3))
    >>> text = np.arange(64).reshape(2, 32) % 5
    >>> losses = [trainer.step(text[:, t : t + 8], text[:, t + 1 : t + 9]).loss for t in (0, 8, 16)]
    >>> trainer.estimator.statement
    'E[g] = ∇f in a model with one recurrent layer; in a stack, each layer follows the loss of its own head'
    """

    feedback: str = "local"
    traces: bool = True

    name: ClassVar[str] = "real-time-recurrent-learning"
    carries_states: ClassVar[bool] = True
    streams: ClassVar[bool] = True
    # If an activation saturates, an infinite example leaves the loss finite but makes the traces NaN.
    needs_finite_batches: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not isinstance(self.feedback, str) or self.feedback not in FEEDBACK:
            known = " or ".join(map(repr, FEEDBACK))
            raise ConfigError(f"feedback is {shown(self.feedback)}; {known} is required")
        store(self, traces=flag("traces", self.traces))

    @property
    def unbiased(self) -> bool:
        """Whether E[g] = ∇f for every model: not in stacks of recurrent layers."""
        return False

    @property
    def statement(self) -> str:
        """What E[g] is, as a line of text."""
        if not self.traces:
            return "biased: g leaves out what a state owes to states before it"
        if self.feedback == "direct":
            told = "what a layer does through the layers above is left out"
        else:
            told = "each layer follows the loss of its own head"
        return f"E[g] = ∇f in a model with one recurrent layer; in a stack, {told}"

    def own_parameters(self, model: Graph, seed: int) -> dict[str, Parameter]:
        """Return the weights and biases of the heads of layers that the readout does not read; weights are random.

        A head of zeros would tell its layer nothing. Weights are drawn from N(0, 1/4H), as those of the readout.
        """
        heads: dict[str, Parameter] = {}
        for number, traced in enumerate(analyzed(model, self.feedback == "direct").traced):
            if traced.column is None:
                heads |= linear_head(model, traced.head, traced.width, seed, number)
        return heads

    def bind(self, setting: Setting) -> "RecurrentEstimate":
        """Return the estimator bound to a setting."""
        return RecurrentEstimate(self, setting)


class RecurrentEstimate(PlannedEstimate):
    """Real-time recurrent learning on L positions of B streams."""

    def __init__(self, estimator: RealTimeRecurrentLearning, setting: Setting) -> None:
        model = setting.model
        layout = analyzed(model, estimator.feedback == "direct")
        plan = RecurrentPlan(
            model,
            layout,
            setting.batch,
            setting.loss,
            setting.stream.array,
            heads=setting.state.parameters,
            carried=estimator.traces,
            states=setting.states if setting.carry else None,
            memory=setting.kept_state,
            target=setting.gradient,
            after=lambda plan: setting.updates(plan.result),
        )
        super().__init__(plan)


RECIPES = {
    "rtrl": Recipe(
        RealTimeRecurrentLearning,
        takes=(),
        learning_rate=2e-2,
        general=False,
        evidence="tiny Shakespeare, 65 symbols, 512 units, 32 streams of 64 positions, 2,500 steps of Adam whose rate "
        "falls to a tenth: 1.858 (2,000 steps), 1.725, 1.69 and 1.70 nats a character at 4e-3, 1e-2, 2e-2 and 4e-2",
    )
}
"""The recipe of real-time recurrent learning, by the name that configurations use."""
