"""Experiments of arXiv 2202.08587, run again: numbers beside the paper's, data, a figure."""

from fgnumba.bench.experiments.depth import depth
from fgnumba.bench.experiments.descent import descent
from fgnumba.bench.experiments.memory import memory
from fgnumba.bench.experiments.mnist import mnist
from fgnumba.bench.experiments.monte_carlo import monte_carlo
from fgnumba.bench.experiments.result import Comparison, Request, Result

EXPERIMENTS = {
    "figure1": monte_carlo,
    "beale": descent,
    "rosenbrock": descent,
    "logreg": mnist,
    "mlp": mnist,
    "cnn": mnist,
    "depth": depth,
    "memory": memory,
}
"""Functions of a request by the names of the experiments."""

__all__ = ["EXPERIMENTS", "Comparison", "Request", "Result"]
