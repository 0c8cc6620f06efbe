"""Reverse mode, to compare forward gradients with: the same register tiles, threads and programs, tuned as hard.

Nothing in ``fgnumba`` or ``fgnumba.kernels`` depends on it.
"""

from fgnumba.bench.reverse.estimator import ReverseMode
from fgnumba.bench.reverse.plan import ReversePlan
from fgnumba.bench.reverse.through_time import ThroughTime
from fgnumba.bench.reverse.training import ReverseTrainer, value_and_grad

__all__ = ["ReverseMode", "ReversePlan", "ReverseTrainer", "ThroughTime", "value_and_grad"]
