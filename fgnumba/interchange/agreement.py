"""Compare a model with what it was made of, or what was made of it, on a batch of random numbers."""

import numpy as np
import numpy.typing as npt

from fgnumba.device import cpu
from fgnumba.errors import ConfigError
from fgnumba.kernels.emit.precision import FLOAT32
from fgnumba.model.graph import Graph

AGREEMENT = 1e-5
"""The greatest difference of two outputs, relative to the largest of them: what float32 leaves of some 100 sums."""
EXAMPLES, SEED = 4, 0
ROUNDINGS = 4
"""So many times the error that the other side makes in float32 is allowed, where that is more."""

Array = npt.NDArray[np.float32]


def inputs_of(model: Graph) -> Array:
    """Return a batch of inputs (B, *input_shape) drawn from N(0, 1): the same for every model of that shape."""
    generator = np.random.Generator(np.random.Philox(SEED))
    return generator.standard_normal((EXAMPLES, *model.input_shape), np.float32)


def on_cpu(model: Graph) -> Graph:
    """Return the model, or a copy on the CPU, where products in float32 are the same on every machine."""
    if model.device == "cpu" and model.processor.precisions[0] == FLOAT32:
        return model
    parameters = model.parameters()
    return Graph(
        model.nodes,
        model.input_shape,
        model.output,
        model.seed,
        cpu(FLOAT32),
        initial=lambda shapes: parameters,
    )


def difference(found: npt.NDArray[np.floating], expected: npt.NDArray[np.floating]) -> float:
    """Return the largest difference of two arrays, divided by the largest number of the second; NaN is infinite."""
    found, expected = np.asarray(found, np.float64), np.asarray(expected, np.float64)
    scale = float(np.abs(expected).max())
    worst = float(np.abs(found - expected).max())
    if not np.isfinite(worst):
        return float("inf")
    return worst / scale if scale > 0 else worst


def check(
    what: str,
    found: npt.NDArray[np.floating],
    expected: npt.NDArray[np.floating],
    rounded: npt.NDArray[np.floating] | None = None,
) -> float:
    """Return by how much two outputs differ, relative to the largest.

    Parameters
    ----------
    what : str
        What is compared, for the message.
    found : ndarray
        The outputs to check.
    expected : ndarray
        The outputs that are right, of the same shape.
    rounded : ndarray, optional
        The right outputs as float32 gives them. Where they differ more from `expected` than 1e-5, four times their
        difference is allowed: a deep network loses digits whoever computes it. None (the default): 1e-5 is the limit.

    Raises
    ------
    ConfigError
        The shapes differ, or the outputs differ by more than the limit.
    """
    if found.shape != expected.shape:
        raise ConfigError(f"{what}: outputs have shape {found.shape}; {expected.shape} is required")
    apart = difference(found, expected)
    limit = AGREEMENT if rounded is None else max(AGREEMENT, ROUNDINGS * difference(rounded, expected))
    if not apart <= limit:
        raise ConfigError(
            f"{what}: the outputs for random inputs differ by {apart:.2g} of the largest; at most {limit:.1g} is "
            "rounding"
        )
    return apart
