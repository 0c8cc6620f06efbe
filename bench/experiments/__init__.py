"""Experiments of arXiv 2202.08587, run again: numbers beside the paper's, data, a figure."""

from fgnumba.bench.experiments.descent import descent
from fgnumba.bench.experiments.monte_carlo import monte_carlo
from fgnumba.bench.experiments.result import Comparison, Result

EXPERIMENTS = {"beale": descent, "figure1": monte_carlo, "rosenbrock": descent}
"""Functions ``(name, seed, quick) -> Result`` by the names of the experiments."""

__all__ = ["EXPERIMENTS", "Comparison", "Result"]
