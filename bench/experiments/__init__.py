"""Experiments of papers, repeated here: each gives our numbers and the paper's, its data, and a figure.

They are those of arXiv 2202.08587, the MNIST row of arXiv 2210.03310 (``local-losses``), and an answer to
arXiv 2506.21833 (``fair-map``).
"""

from fgnumba.bench.experiments.depth import by_depth
from fgnumba.bench.experiments.descent import descent
from fgnumba.bench.experiments.fair_map import at_equal_budgets
from fgnumba.bench.experiments.local import local_losses
from fgnumba.bench.experiments.memory import peak_memory
from fgnumba.bench.experiments.mnist import classifiers
from fgnumba.bench.experiments.monte_carlo import monte_carlo
from fgnumba.bench.measure.result import Comparison, Request, Result

EXPERIMENTS = {
    "figure1": monte_carlo,
    "beale": descent,
    "rosenbrock": descent,
    "logreg": classifiers,
    "mlp": classifiers,
    "cnn": classifiers,
    "depth": by_depth,
    "memory": peak_memory,
    "local-losses": local_losses,
    "fair-map": at_equal_budgets,
}
"""The function of each experiment by its name. It takes a `Request` and returns a `Result`."""

__all__ = ["EXPERIMENTS", "Comparison", "Request", "Result"]
