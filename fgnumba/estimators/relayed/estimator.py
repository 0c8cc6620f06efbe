"""Relayed feedback: errors that go from layer to layer through matrices which learn how each layer responds."""

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from fgnumba.errors import ConfigError
from fgnumba.estimators.base import Estimator, Setting
from fgnumba.estimators.planned import PlannedEstimate, primal_pass
from fgnumba.estimators.recipes import Recipe
from fgnumba.estimators.relayed.layout import analyzed
from fgnumba.estimators.relayed.plan import RelayedPlan, matrix_name
from fgnumba.layers.parameters import Parameter
from fgnumba.model.graph import Graph
from fgnumba.model.inspection import Inspection
from fgnumba.validation import real_number, store, whole_number


@dataclass(frozen=True)
class RelayedFeedback(Estimator):
    """Learned feedback from layer to layer: each dense layer's input is told its error by a matrix of its own.

        δz = a'(z) ⊙ δ                    the error of what a layer computes, by the slope of its activation
        δ' = δz Fᵀ                        the error of its input
        g  = xᵀ δz                        the gradient of its weight

    from the residual of the model's own loss at the output. F starts at zeros and learns from noise, forward in time,
    how the layer's output responds to its input (``fgnumba/estimators/blocks/feedback.py``). As F is given the gradient
    g of its weight and has the same optimiser, it follows the weight: what it has learned stays learned.

    Every example's own slopes stand between the layers, so that feedback holds in deep models, where the mean response
    that ``feedback`` learns does not. Weights are read in forward products alone. But the error does go from the last
    layer to the first, as in reverse mode, whose gradient it finds once F has learned the weight.

    Models of vectors: dense layers, activations, sums (residual branches), dropout, LayerNorm and RMSNorm.

    Bias: g is ∇f as soon as the matrices have learned the weights; before that, hidden layers follow another vector.

    Cost, in products the size of x W in a hidden layer: 3, as reverse mode (in the first layer 2), 3 R / (B · every)
    for learning, and the optimiser's pass over F. Memory: F, and the optimiser's moments of it.
    Sources: M. Akrout et al., arXiv 1904.05391 (both ways of learning); J. F. Kolen, J. B. Pollack, 1994.

    Parameters
    ----------
    noise : int, optional
        The number R of rows of noise from which each matrix learns. By default 64.
    rate : float, optional
        The rate at which the matrices learn, above 0 and at most 1. By default 1.
    every : int, optional
        The matrices learn in one of so many steps. By default 16.
    warmup : int, optional
        The number of steps at the beginning in all of which they learn. By default 32.

    Raises
    ------
    ConfigError
        If an argument is out of its range.

    Examples
    --------
    >>> import numpy as np
    >>> import fgnumba as fg
    >>> layers = [fg.Dense(16, "relu"), fg.Dense(16, "relu"), fg.Dense(2)]
    >>> model = fg.Sequential(layers, 3, device="cpu")
    >>> trainer = fg.Trainer(model, estimator=fg.RelayedFeedback(), optimizer=fg.Adam(1e-3))
    >>> loss = trainer.step(np.ones((4, 3)), np.zeros(4, int)).loss
    """

    noise: int = 64
    rate: float = 1.0
    every: int = 16
    warmup: int = 32

    name: ClassVar[str] = "relayed-feedback"
    # If an activation saturates, an infinite example leaves the loss finite but makes the weights' gradient NaN.
    needs_finite_batches: ClassVar[bool] = True

    def __post_init__(self) -> None:
        rate = real_number("rate", self.rate, above_zero=True)
        if rate > 1:
            raise ConfigError(f"rate is {self.rate!r}; at most 1 is required")
        store(
            self,
            rate=rate,
            noise=whole_number("noise", self.noise),
            every=whole_number("every", self.every),
            warmup=whole_number("warmup", self.warmup, 0),
        )

    @property
    def unbiased(self) -> bool:
        """Whether E[g] = ∇f for every model and step: it is not."""
        return False

    @property
    def statement(self) -> str:
        """What E[g] is, as a line of text."""
        return "biased: g is the gradient that learned matrices relay, ∇f once they have learned the weights"

    def learns(self, step: int) -> bool:
        """Return whether the matrices learn in step number `step`, counted from 0."""
        return step < self.warmup or step % self.every == 0

    def own_parameters(self, model: Graph, seed: int) -> dict[str, Parameter]:
        """Return the feedback matrices, which start as zeros."""
        return {
            name: Parameter.create(name, 0, np.zeros(weight.shape, np.float32), device=model.processor)
            for name, weight in ((matrix_name(weight), weight) for weight in _led(model))
        }

    def bind(self, setting: Setting) -> "RelayedEstimate":
        """Return the estimator bound to a setting."""
        return RelayedEstimate(self, setting)


def _led(model: Graph) -> list[Parameter]:
    """Return the weights that feedback matrices follow."""
    return [model.layer_parameters(step.index)["weight"] for step in analyzed(model).told]


class RelayedEstimate(PlannedEstimate):
    """Relayed feedback on a batch."""

    def __init__(self, estimator: RelayedFeedback, setting: Setting) -> None:
        self._estimator, self._setting = estimator, setting
        for weight in _led(setting.model):
            setting.follow(matrix_name(weight), weight.name)
        plan = RelayedPlan(
            setting.model,
            analyzed(setting.model),
            setting.batch,
            setting.loss,
            setting.stream.array,
            noise=estimator.noise,
            rate=estimator.rate,
            own=setting.state.parameters,
            target=setting.gradient,
            after=lambda plan: setting.updates(plan.result),
        )
        super().__init__(plan)

    def run(self, x: npt.NDArray[Any], targets: npt.NDArray[Any]) -> bool:
        """Run a step. If its loss is not finite, parameters and feedback stay as they are."""
        self._plan.run(x, targets, self._estimator.learns(int(self._setting.stream.host["step"][0])))
        return self.read()

    def inspections(self) -> Generator[Inspection, None, None]:
        """Yield the forward pass of the last run."""
        return primal_pass(self._setting)


RECIPES = {
    "relayed-feedback": Recipe(
        RelayedFeedback,
        takes=(),
        learning_rate=3.2e-3,
        general=False,
        evidence="MNIST, 784-1024-1024-10, Adam, nine rates: 0.966 held out after 666 steps, as at 5.6e-3, and there "
        "0.978 after 2,000; six hidden layers of 256 units, 2,000 steps: 0.980, and 0.977 at 1.8e-3",
    )
}
"""The recipe of relayed feedback, by the name that configurations use."""
