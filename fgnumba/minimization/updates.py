"""The optimisers' rules in float64, for a vector of variables; see :mod:`fgnumba.optimizers`."""

import numpy as np

from fgnumba.errors import ConfigError
from fgnumba.kernels.ops import optimizer as rules
from fgnumba.minimization.variables import Vector
from fgnumba.optimizers import FrankWolfe, Optimizer


class Update:
    """The steps of an optimiser on a vector, with the moments that it keeps.

    The formulas are those of the optimiser's docstring, computed in float64; the trainer's kernels compute them in
    float32.

    Parameters
    ----------
    optimizer : Optimizer
        The optimiser.
    size : int
        Number of elements n.

    Attributes
    ----------
    moments : ndarray
        (k, n) float64: the arrays that the rule keeps from step to step.

    Raises
    ------
    ConfigError
        The optimiser is no rule, but has kernels of its own.
    """

    def __init__(self, optimizer: Optimizer, size: int) -> None:
        kind = type(optimizer)
        if kind.bind not in (Optimizer.bind, FrankWolfe.bind) or kind.updates is not Optimizer.updates:
            raise ConfigError(
                f"optimizer: {kind.__name__} binds kernels of its own; SGD, Adam, AdamW or FrankWolfe is required"
            )
        self._optimizer, self._rates = optimizer, optimizer.new_rates()
        self.moments: Vector = np.zeros((optimizer.number_of_moments, size))

    def step(self, x: Vector, gradient: Vector, step: int) -> float:
        """Move `x` along a gradient in place, and return the learning rate.

        Parameters
        ----------
        x : ndarray
            (n,) float64, written.
        gradient : ndarray
            (n,) float64.
        step : int
            Number of the step, counted from 0.
        """
        rate = self._optimizer.set_rates(self._rates, step)
        # An update that overflows is found in the function's next value.
        with np.errstate(all="ignore"):
            self._move(x, gradient, rate)
        return rate

    def _move(self, x: Vector, gradient: Vector, rate: float) -> None:
        r, rule = self._rates[0], self._optimizer.rule
        if rule in (rules.BALL_L2, rules.BALL_LINF):
            (m,) = self.moments
            m += (1.0 - r["momentum"]) * (gradient - m)
            norm = np.linalg.norm(m)
            towards = m / norm if rule == rules.BALL_L2 and norm > 0 else np.sign(m)
            x -= rate * (r["radius"] * towards + x)
            return
        norm = np.linalg.norm(gradient)
        factor = min(1.0, r["clip_norm"] / norm) if norm > 0 else 1.0
        g = factor * gradient + r["weight_decay"] * x
        if rule == rules.SGD:
            x -= rate * g
        elif rule == rules.ADAM:
            m, v = self.moments
            m += (1.0 - r["momentum"]) * (g - m)
            v += (1.0 - r["beta2"]) * (g * g - v)
            shrink = rate * r["decoupled_decay"] * x
            x -= rate * (m / r["correction"]) / (np.sqrt(v / r["correction2"]) + r["epsilon"]) + shrink
        else:
            (m,) = self.moments
            m *= r["momentum"]
            m += g
            x -= rate * (m if rule == rules.MOMENTUM else g + r["momentum"] * m)
