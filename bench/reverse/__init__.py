"""Reverse mode, to measure forward gradients against: the same register tiles, threads and programs, tuned as hard.

Nothing in ``fgnumba`` or ``fgnumba.kernels`` knows it.
"""

from fgnumba.bench.reverse.estimator import ReverseMode
from fgnumba.bench.reverse.plan import ReversePlan
from fgnumba.bench.reverse.training import ReverseTrainer, value_and_grad

__all__ = ["ReverseMode", "ReversePlan", "ReverseTrainer", "value_and_grad"]
