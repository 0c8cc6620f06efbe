"""Group normalisation on a GPU: each example over the pixels and channels of a group; see ``cpu``.

x̂  = (x - μ) r,  r = 1 / √(σ² + ε)          μ, σ² mean and variance over a group
y  = s ⊙ x̂ + b                              s, b by channel
dy = s ⊙ r (dx - mean(dx) - x̂ mean(x̂ dx)) + ds ⊙ x̂ + db
"""

from typing import Any

from fgnumba.kernels.cuda.program import Operation
from fgnumba.kernels.layout.images import Images
from fgnumba.kernels.shared.affine import cpu as affine
from fgnumba.kernels.shared.normalization import cuda as normalization
from fgnumba.validation.launcher import launcher


@launcher
def bind(
    isa: Any,
    *,
    batch: int,
    images_a_part: int,
    x: Images,
    y: Images,
    groups: int,
    weights: affine.Affine,
    epsilon: float,
) -> Operation:
    """Bind group normalisation to its arrays, as ``cpu.bind`` does.

    Parameters
    ----------
    isa : Any
        Not used.
    batch : int
        Number of examples B.
    images_a_part : int
        Not used: a GPU takes the whole batch at once.
    x : Images
        Input.
    y : Images
        Output, written. It must not overlap `x`.
    groups : int
        Number of groups of the channels.
    weights : Affine
        s and b, and the directions along which they move.
    epsilon : float
        ε, above 0.

    Returns
    -------
    Operation
        The launches.

    Notes
    -----
    Cost: see :func:`fgnumba.kernels.shared.normalization.cuda.bind`, with a unit for each group of each example.
    """
    return normalization.bind(
        "group-norm", batch=batch, x=x, y=y, groups=groups, by_pixel=False, weights=weights, epsilon=epsilon
    )
