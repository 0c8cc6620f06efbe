"""Layer normalisation on the CPU: each pixel (each example, where it is a vector) over its C channels.

    x̂  = (x - μ) r,  r = 1 / √(σ² + ε)          μ, σ² mean and variance over the channels
    y  = s ⊙ x̂ + b
    dy = s ⊙ r (dx - mean(dx) - x̂ mean(x̂ dx)) + ds ⊙ x̂ + db

Source: J. L. Ba, J. R. Kiros, G. E. Hinton, arXiv 1607.06450.
"""

from functools import cache

import numpy as np
from numba import carray

from fgnumba.kernels import affine
from fgnumba.kernels.arguments import filled
from fgnumba.kernels.compile import kernel
from fgnumba.kernels.emit import pointer
from fgnumba.kernels.images import Images
from fgnumba.kernels.numbers import launcher
from fgnumba.kernels.program import Operation
from fgnumba.kernels.vector import InstructionSet


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
    """Bind layer normalisation to its arrays.

    Parameters
    ----------
    x, y : images of one shape. Must not overlap.
    epsilon : ε, above 0.

    Cost: reads x three times and dx twice, from the first-level cache after the first; writes y and dy once.
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
    return Operation(
        "layer-norm", _entry(), filled(affine.ARGUMENTS, fields), scratch_bytes=scratch, **memory
    )


@cache
def _entry() -> int:
    # Sums over channels may be reassociated, so that they vectorise: a pixel's result depends on nothing else.
    return kernel("layer-norm", _layer_norm, 3, fastmath={"contract", "nsz", "reassoc"})


def _layer_norm(arguments: int, part: int, parts: int) -> None:
    a = carray(pointer(arguments, affine.ARGUMENTS), 1)[0]
    n = min(a.images, a.batch - part * a.images)
    channels, one_over = a.channels, np.float32(1.0 / a.channels)
    epsilon = np.int32(a.epsilon).view(np.float32)
    scale = carray(pointer(a.scale, np.float32), channels)
    shift = carray(pointer(a.shift, np.float32), channels)
    normal = carray(pointer(a.scratch, np.float32), channels)
    affine.draw(a)
    for pixel in range(n * a.height * a.width):
        i, row, column = pixel // (a.height * a.width), pixel // a.width % a.height, pixel % a.width
        x_at = a.x + (part * a.x_part + i * a.x_image + row * a.x_row + column * a.x_pixel) * 4
        y_at = a.y + (part * a.y_part + i * a.y_image + row * a.y_row + column * a.y_pixel) * 4
        x, y = carray(pointer(x_at, np.float32), channels), carray(pointer(y_at, np.float32), channels)
        total = np.float32(0)
        for c in range(channels):
            total += x[c]
        mean, square = total * one_over, np.float32(0)
        for c in range(channels):
            normal[c] = x[c] - mean
            square += normal[c] * normal[c]
        inverse = np.float32(1) / np.sqrt(square * one_over + epsilon)
        for c in range(channels):
            normal[c] *= inverse
            y[c] = scale[c] * normal[c] + shift[c]
        for t in range(a.count):
            ds_at, db_at = affine.tangents(a, t)
            ds = carray(pointer(ds_at, np.float32), channels)
            db = carray(pointer(db_at, np.float32), channels)
            dy = carray(pointer(y_at + (t + 1) * a.y_block * 4, np.float32), channels)
            if a.has_tangent:
                dx = carray(pointer(x_at + (t + 1) * a.x_block * 4, np.float32), channels)
                total, dot = np.float32(0), np.float32(0)
                for c in range(channels):
                    total += dx[c]
                    dot += normal[c] * dx[c]
                total, dot = total * one_over, dot * one_over
                for c in range(channels):
                    centred = dx[c] - total - normal[c] * dot
                    dy[c] = scale[c] * (inverse * centred) + (ds[c] * normal[c] + db[c])
            else:
                for c in range(channels):
                    dy[c] = ds[c] * normal[c] + db[c]
