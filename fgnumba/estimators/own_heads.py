"""Heads of estimators: linear layers that predict the targets from the middle of a model, and are trained beside it."""

import numpy as np

from fgnumba.layers.parameters import Parameter
from fgnumba.model.graph import Graph


def linear_head(model: Graph, name: str, width: int, seed: int, number: int) -> dict[str, Parameter]:
    """Return the weight (C, N) and the bias (N,) of a head by name; the weight is drawn from N(0, 1/4C).

    A head of zeros would tell nothing to the layers that it reads.

    Parameters
    ----------
    model : Graph
        The model, which has N outputs.
    name : str
        The name of the head.
    width : int
        The number C of what it reads.
    seed, number : int
        The seed, and the number by which this head's weight differs from that of others.
    """
    drawn = np.random.default_rng([seed, number]).standard_normal((width, model.outputs), np.float32)
    values = {
        f"{name}.weight": drawn * np.float32(0.5 / np.sqrt(width)),
        f"{name}.bias": np.zeros(model.outputs, np.float32),
    }
    return {key: Parameter.create(key, 0, array, device=model.processor) for key, array in values.items()}
