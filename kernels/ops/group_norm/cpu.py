"""Group normalisation on the CPU: each example over all pixels and the C / G channels of each of G groups.

    x̂  = (x - μ) r,  r = 1 / √(σ² + ε)          μ, σ²: mean and variance over a group
    y  = s ⊙ x̂ + b                              s, b: one for each channel
    dy = s ⊙ r (dx - mean(dx) - x̂ mean(x̂ dx)) + ds ⊙ x̂ + db

Without scale and shift, s is 1, and b, ds and db are 0.

Whatever the groups, sums run over the pixels for a vector of channels at a time; afterwards a group's channels are
added up. For the mean and variance of a group see :mod:`fgnumba.kernels.rules.moments`.

Source: Y. Wu, K. He, arXiv 1803.08494.
"""

from functools import cache
from typing import Any

import numpy as np
from numba import carray
from numba.extending import register_jitable

from fgnumba.kernels.emit import call, pointer
from fgnumba.kernels.emit.channels import CONSTANT, FACTOR, GAIN, OWN_FACTOR, OWN_GAIN
from fgnumba.kernels.emit.vector import InstructionSet
from fgnumba.kernels.layout.images import Images
from fgnumba.kernels.machine.arguments import filled
from fgnumba.kernels.machine.compile import kernel
from fgnumba.kernels.machine.program import Operation
from fgnumba.kernels.shared.affine import cpu as affine
from fgnumba.kernels.shared.normalization import cpu as passes
from fgnumba.validation.launcher import launcher

_ARGUMENTS = np.dtype([*affine.ARGUMENTS.descr, ("moments", np.int64), ("write", np.int64)])

_ZERO, _ONE = np.float32(0), np.float32(1)


@launcher
def bind(
    isa: InstructionSet,
    *,
    batch: int,
    images_a_part: int,
    x: Images,
    y: Images,
    groups: int,
    weights: affine.Affine,
    epsilon: float,
) -> Operation:
    """Bind group normalisation to its arrays.

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
    groups : int
        G, which divides C.
    weights : Affine
        Scale and shift, or neither.
    epsilon : float
        ε, above 0.

    Notes
    -----
    Cost: reads x three times, and x and dx twice for each direction; writes y and dy once.
    """
    fields, scratch, memory = affine.fields(
        isa,
        batch=batch,
        images_a_part=images_a_part,
        x=x,
        y=y,
        affine=weights,
        groups=groups,
        epsilon=epsilon,
        work_vectors=passes.WORK_VECTORS,
    )
    entries = {"moments": passes.moments_entry(isa), "write": passes.write_entry(isa)}
    arguments = filled(_ARGUMENTS, fields | entries)
    return Operation("group-norm", _entry(), arguments, scratch_bytes=scratch, **memory)


@cache
def _entry() -> int:
    return kernel("group-norm", _group_norm, 3)


def _group_norm(arguments: int, part: int, parts: int) -> None:
    a = carray(pointer(arguments, _ARGUMENTS), 1)[0]
    epsilon = np.int32(a.epsilon).view(np.float32)
    factor, own_factor = passes.vector(a, FACTOR), passes.vector(a, OWN_FACTOR)
    gain, own_gain = passes.vector(a, GAIN), passes.vector(a, OWN_GAIN)
    constant, inverse = passes.vector(a, CONSTANT), passes.vector(a, passes.INVERSE)
    affine.draw(a)
    for i in range(min(a.images, a.batch - part * a.images)):
        x = a.x + (part * a.x_part + i * a.x_image) * 4
        y = a.y + (part * a.y_part + i * a.y_image) * 4
        passes.centre(a, x, epsilon)
        for c in range(a.channels):
            gain[c], constant[c] = (
                _entry_of(a, a.scale, c, _ONE) * inverse[c],
                _entry_of(a, a.shift, c, _ZERO),
            )
        _write(a, x, 0, y)
        for t in range(a.count):
            ds_at, db_at = affine.tangents(a, t)
            dx = x + (t + 1) * a.x_block * 4 if a.has_tangent else 0
            if a.has_tangent:
                dots = passes.project(a, x, dx)
                for c in range(a.channels):
                    scale = _entry_of(a, a.scale, c, _ONE)
                    own_gain[c] = scale * (inverse[c] * (factor[c] / own_factor[c]))
                    # Each product has the size of a term of dy, and overflows, or is subnormal, only if that term is.
                    along = own_gain[c] * (inverse[c] * (inverse[c] * dots[c]))
                    gain[c] = inverse[c] * _entry_of(a, ds_at, c, _ZERO) - along
                    constant[c] = _entry_of(a, db_at, c, _ZERO)
            else:
                for c in range(a.channels):
                    gain[c] = inverse[c] * _entry_of(a, ds_at, c, _ZERO)
                    constant[c] = _entry_of(a, db_at, c, _ZERO)
            _write(a, x, dx, y + (t + 1) * a.y_block * 4)


@register_jitable(forceinline=True)
def _entry_of(a: Any, at: int, c: int, otherwise: np.float32) -> np.float32:
    """Return entry `c` of scale, shift or a tangent, at the address `at`; `otherwise` where there is no scale."""
    return carray(pointer(at, np.float32), a.channels)[c] if a.scale else otherwise


@register_jitable
def _write(a: Any, x: int, dx: int, y: int) -> None:
    """Write gain d + own_gain e + constant for each channel; without the term e if the address dx is 0."""
    stride = a.padded * 4
    call(
        a.write,
        (
            *(a.height, a.width, a.channels, x, dx, a.x_row, a.x_pixel),
            *(y, a.y_row, a.y_pixel, a.scratch, stride),
        ),
    )
