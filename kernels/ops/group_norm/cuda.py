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
    """Bind group normalisation to its arrays, as ``cpu.bind`` does; the whole batch at once, whatever `images_a_part`.

    Cost: see :func:`fgnumba.kernels.shared.normalization.cuda.bind`, a unit for each group of each example.
    """
    return normalization.bind(
        "group-norm", batch=batch, x=x, y=y, groups=groups, by_pixel=False, weights=weights, epsilon=epsilon
    )
