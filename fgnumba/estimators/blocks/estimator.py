"""Block feedback: transformers trained by a loss at each block, and by errors that learned matrices carry into it."""

from collections.abc import Generator
from dataclasses import dataclass
from typing import ClassVar

from fgnumba.errors import ConfigError, shown
from fgnumba.estimators.base import Estimator, Setting
from fgnumba.estimators.blocks.layout import analyzed
from fgnumba.estimators.blocks.plan import BlockPlan
from fgnumba.estimators.own_heads import linear_head
from fgnumba.estimators.planned import PlannedEstimate, primal_pass
from fgnumba.estimators.recipes import Recipe
from fgnumba.layers.parameters import Parameter
from fgnumba.model.graph import Graph
from fgnumba.model.inspection import Inspection
from fgnumba.validation import flag, real_number, store, whole_number

ATTENTION = ("closed-form", "noise")


@dataclass(frozen=True)
class BlockFeedback(Estimator):
    """A loss at each block of a transformer, and learned feedback from it to every site of the block.

    A block reads the residual stream and adds to it: attention, and dense layers. A linear head at its end (the last
    block has the model's own) predicts the targets, and its error e is the block's alone: no error passes from a block
    to the one before. Within a block, with δ for the error of a sum of the stream,

        δ  = J(x)ᵀ (e Fᵀ)                at the end, J the slope of the normalisation that the head reads
        δz = a'(z) ⊙ (δ Fᵀ)              for hidden units
        δo = δ Fᵀ                        for attention's mean values; then queries, keys and values by the closed form
                                         of attention's own slope
        δ' = δ + J(x')ᵀ (δz Fᵀ)          for the sum before, which attention wrote

    and the gradient of each weight is xᵀ δ at its own output. The embedding is told as δ' is, through the first block's
    attention and hidden units. Every F is a matrix of its own that starts at zeros and learns from noise, forward in
    time, how a layer's output responds to its input (``fgnumba/estimators/blocks/feedback.py``): no pass runs
    backwards through the weights, and nothing is kept for one.

    Bias: none for the loss of a block, as soon as the matrices have learned its weights; against the model's own loss,
    what a block does for later blocks is left out. Once F is learned, δ equals what reverse mode within the block
    would find: see ``docs/concepts/transformers.md`` for what was measured, and what is and is not forward here.

    Cost, in products the size of a forward pass: 1 forward, 1 for the weights' gradients, about 0.7 for feedback, and
    3 R / (B L) for learning it.
    Sources: M. Akrout et al., arXiv 1904.05391; A. Nøkland, L. H. Eidnes, arXiv 1901.06656 (local losses).

    Parameters
    ----------
    relayed : bool, optional
        How the sum before the dense layers of a block is told. True (the default): through the hidden units, which are
        told first. False: from the block's end by one matrix, which predicts the mean response of the block's dense
        layers to their input.
    attention : str, optional
        How queries, keys and values are told. ``closed-form`` (the default): by the slope of attention itself, a local
        vector-Jacobian product of this one operation. ``noise``: from a second pass of attention with random signs as
        tangents, unbiased, and so noisy that it is there for comparison.
    noise : int, optional
        The number R of rows of noise, in each step, from which each matrix learns; at most the positions of a batch are
        used. By default 64.
    rate : float, optional
        The rate at which the matrices learn, above 0 and at most 1. By default 1.

    Raises
    ------
    ConfigError
        If an argument is impossible.

    Examples
    --------
    >>> import numpy as np
    >>> import fgnumba as fg
    >>> layers = [fg.Embedding(5, 16), fg.TransformerBlock(heads=2), fg.Dense(5)]
    >>> model = fg.Sequential(layers, (8,), device="cpu")
    >>> trainer = fg.Trainer(model, estimator=fg.BlockFeedback(), optimizer=fg.Adam(1e-3))
    >>> text = np.arange(65) % 5
    >>> loss = trainer.step(text[:-1].reshape(8, 8), text[1:].reshape(8, 8)).loss
    """

    relayed: bool = True
    attention: str = "closed-form"
    noise: int = 64
    rate: float = 1.0

    name: ClassVar[str] = "block-feedback"
    # While the matrices learn, the curvature along a step falls by a factor of 150 in 64 steps: the rate that follows
    # is 15 times the searched one, and text is predicted worse by 0.08 nats a character after 200 steps.
    steady: ClassVar[bool] = False
    needs_finite_batches: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not isinstance(self.attention, str) or self.attention not in ATTENTION:
            known = " or ".join(map(repr, ATTENTION))
            raise ConfigError(f"attention is {shown(self.attention)}; {known} is required")
        rate = real_number("rate", self.rate, above_zero=True)
        if rate > 1:
            raise ConfigError(f"rate is {self.rate!r}; at most 1 is required")
        store(self, relayed=flag("relayed", self.relayed), noise=whole_number("noise", self.noise), rate=rate)

    @property
    def unbiased(self) -> bool:
        """Whether E[g] = ∇f for every model: it is not."""
        return False

    @property
    def statement(self) -> str:
        """What E[g] is, as a line of text."""
        if self.relayed:
            return "biased: each block follows the loss of its own head, once its feedback is learned"
        return "biased: each block follows the loss of its own head, by the mean response of its dense layers"

    def own_parameters(self, model: Graph, seed: int) -> dict[str, Parameter]:
        """Return the weights and biases of the blocks' own heads; weights are drawn from N(0, 1/4C)."""
        heads: dict[str, Parameter] = {}
        for number, block in enumerate(analyzed(model).blocks):
            if not block.last:
                heads |= linear_head(model, block.head, block.result.shape[-1], seed, number)
        return heads

    def bind(self, setting: Setting) -> "BlockEstimate":
        """Return the estimator bound to a setting."""
        return BlockEstimate(self, setting)


class BlockEstimate(PlannedEstimate):
    """Block feedback on a batch of sequences."""

    def __init__(self, estimator: BlockFeedback, setting: Setting) -> None:
        self._setting = setting
        plan = BlockPlan(
            setting.model,
            analyzed(setting.model),
            setting.batch,
            setting.loss,
            setting.stream.array,
            heads=setting.state.parameters,
            settings=estimator,
            memory=setting.state.array,
            target=setting.gradient,
            after=lambda plan: setting.updates(plan.result),
        )
        super().__init__(plan)

    def read(self) -> bool:
        """Read the model's loss of the last run; return whether those of all blocks were finite."""
        return super().read() and bool(self._plan.finite)

    def inspections(self) -> Generator[Inspection, None, None]:
        """Yield the forward pass of the last run."""
        return primal_pass(self._setting)


RECIPES = {
    "block-feedback": Recipe(
        BlockFeedback,
        takes=(),
        learning_rate=3e-3,
        general=False,
        evidence="tiny Shakespeare, four blocks of 128 units, windows of 64, batches of 12, 400 steps of Adam whose "
        "rate falls to a tenth: 2.17 and 2.14 nats a character at 2e-3 and 4e-3; 1.74 after 6,000 steps at 3e-3",
    )
}
"""The recipe of block feedback, by the name that configurations use."""
