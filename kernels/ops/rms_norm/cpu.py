"""Root mean square normalisation on the CPU: each pixel (or position, or vector) over its C channels.

    x̂  = r x,  r = 1 / √(mean(x²) + ε)
    y  = s ⊙ x̂
    dy = s ⊙ r (dx - x̂ mean(x̂ dx)) + ds ⊙ x̂

Without a scale, s is 1, and ds is 0.

For the mean of the squares see :mod:`fgnumba.kernels.rules.moments`.

Source: B. Zhang, R. Sennrich, arXiv 1910.07467.
"""

from functools import cache

import numpy as np
from numba import carray

from fgnumba.kernels.emit import pointer
from fgnumba.kernels.emit.vector import InstructionSet
from fgnumba.kernels.layout.images import Images
from fgnumba.kernels.machine.arguments import filled
from fgnumba.kernels.machine.compile import kernel
from fgnumba.kernels.machine.program import Operation
from fgnumba.kernels.rules import moments
from fgnumba.kernels.shared.affine import cpu as affine
from fgnumba.validation.launcher import launcher


@launcher
def bind(
    isa: InstructionSet,
    *,
    batch: int,
    images_a_part: int,
    x: Images,
    y: Images,
    weights: affine.Affine,
    epsilon: float,
) -> Operation:
    """Bind root mean square normalisation to its arrays.

    Parameters
    ----------
    isa : InstructionSet
        The instruction set to bind for.
    batch : int
        Number of examples B.
    images_a_part : int
        Number of examples in a part.
    x, y : Images
        Images of the same shape, which must not overlap.
    weights : Affine
        Scale, without a shift, or neither.
    epsilon : float
        ε, above 0.

    Notes
    -----
    Cost: reads x, x̂ and dx twice each, after the first time from the first-level cache; writes y and dy once.
    """
    fields, scratch, memory = affine.fields(
        isa,
        batch=batch,
        images_a_part=images_a_part,
        x=x,
        y=y,
        affine=weights,
        groups=1,
        epsilon=epsilon,
        work_vectors=1,
    )
    return Operation("rms-norm", _entry(), filled(affine.ARGUMENTS, fields), scratch_bytes=scratch, **memory)


@cache
def _entry() -> int:
    return kernel("rms-norm", _rms_norm, 3)


def _rms_norm(arguments: int, part: int, parts: int) -> None:
    a = carray(pointer(arguments, affine.ARGUMENTS), 1)[0]
    n = min(a.images, a.batch - part * a.images)
    channels, share = a.channels, np.float32(1.0 / a.channels)
    epsilon = np.int32(a.epsilon).view(np.float32)
    scale = carray(pointer(a.scale, np.float32), channels)
    normal = carray(pointer(a.scratch, np.float32), channels)
    affine.draw(a)
    for pixel in range(n * a.height * a.width):
        i, row, column = pixel // (a.height * a.width), pixel // a.width % a.height, pixel % a.width
        x_at = a.x + (part * a.x_part + i * a.x_image + row * a.x_row + column * a.x_pixel) * 4
        y_at = a.y + (part * a.y_part + i * a.y_image + row * a.y_row + column * a.y_pixel) * 4
        y = carray(pointer(y_at, np.float32), channels)
        factor, inverse = moments.scale(x_at, channels, share, epsilon, a.scratch)
        own_factor = moments.tangent_factor(inverse, factor)
        if a.scale:
            for c in range(channels):
                normal[c] = normal[c] * inverse
                y[c] = scale[c] * normal[c]
        else:
            for c in range(channels):
                normal[c] = normal[c] * inverse
                y[c] = normal[c]
        for t in range(a.count):
            ds = carray(pointer(affine.tangents(a, t)[0], np.float32), channels)
            dy = carray(pointer(y_at + (t + 1) * a.y_block * 4, np.float32), channels)
            if a.has_tangent:
                dx_at = x_at + (t + 1) * a.x_block * 4
                dx = carray(pointer(dx_at, np.float32), channels)
                own, dot = moments.project_whole(a.scratch, dx_at, channels, share, own_factor)
                gain = inverse * (factor / own)
                if a.scale:
                    for c in range(channels):
                        dy[c] = (scale[c] * gain) * (dx[c] * own - normal[c] * dot) + ds[c] * normal[c]
                else:
                    for c in range(channels):
                        dy[c] = gain * (dx[c] * own - normal[c] * dot)
            else:
                for c in range(channels):
                    dy[c] = ds[c] * normal[c]
