"""Root mean square normalisation on a GPU: each pixel, or position, over its C channels; see ``cpu``.

x̂  = r x,  r = 1 / √(mean(x²) + ε)
y  = s ⊙ x̂
dy = s ⊙ r (dx - x̂ mean(x̂ dx)) + ds ⊙ x̂

As in ``shared.normalization.cuda``, a warp takes a pixel of few channels, a block one of many.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from fgnumba.kernels.cuda.kernel import Kernel, kernel
from fgnumba.kernels.cuda.layout import THREADS, DualPixels, blocks_for, images
from fgnumba.kernels.cuda.primitives import (
    WARP,
    Address,
    Real,
    Size,
    block_x,
    block_y,
    divide,
    load_f32,
    shared,
    store_f32,
    thread,
)
from fgnumba.kernels.cuda.program import Launch, Operation
from fgnumba.kernels.layout.images import Images
from fgnumba.kernels.machine.memory import address
from fgnumba.kernels.rules.directions import EXPLICIT
from fgnumba.kernels.rules.moments import (
    MOST_VARIANCE,
    SHRUNK,
    TANGENT_SHRUNK,
    inverse_deviation,
    tangent_factor,
)
from fgnumba.kernels.shared.affine.cpu import Affine
from fgnumba.kernels.shared.affine.cuda import filled
from fgnumba.kernels.shared.drawn.vectors_cuda import drawn_vectors
from fgnumba.kernels.shared.normalization.cuda import SLOT, SMALL_UNIT, Pair, block_sums, warp_sums
from fgnumba.validation.launcher import launcher

_MOST = np.float32(np.finfo(np.float32).max)


class Pixels(NamedTuple):
    """How many pixels there are.

    Parameters
    ----------
    number : Size
        Number of pixels of all examples.
    inner : Size
        Number of pixels of an example.
    channels : Size
        Number of channels C.
    share : Real
        1 / C.
    """

    number: Size
    inner: Size
    channels: Size
    share: Real


@launcher
def bind(
    isa: Any,
    *,
    batch: int,
    images_a_part: int,
    x: Images,
    y: Images,
    weights: Affine,
    epsilon: float,
) -> Operation:
    """Bind root mean square normalisation to its arrays, as ``cpu.bind`` does.

    Parameters
    ----------
    isa : object
        Not used.
    batch : int
        Number of examples B.
    images_a_part : int
        Not used: a GPU takes the whole batch at once.
    x : Images
        Input.
    y : Images
        Output, written. It must not overlap `x`.
    weights : Affine
        The scale s, and the directions along which it moves, or none: ones. There is no shift.
    epsilon : float
        ε, above 0.

    Returns
    -------
    Operation
        The launches.

    Notes
    -----
    Cost: reads x twice, and x and dx twice a direction, all but once from caches where a pixel is small; writes y and
    dy once. Where there are few pixels, several teams share the directions of one.
    """
    height, width, channels = x.shape
    pixels = batch * height * width
    chosen, team = (_BY_WARP, WARP) if channels <= SMALL_UNIT else (_BY_BLOCK, THREADS)
    memory: Any = x.memory
    weights = filled(weights, memory.driver, channels, x.has_tangent)
    scale: Any = weights.scale
    share: Any = np.float32(1 / channels)
    directions: Any = weights.v_scale
    draw: tuple[Launch, ...] = ()
    if weights.kind != EXPLICIT and weights.count:
        drawn, draw = drawn_vectors(
            scale.driver,
            scale.size,
            (weights.scale_parameter,),
            kind=weights.kind,
            count=weights.count,
            first=weights.first,
            stream=weights.stream,
        )
        directions = drawn[0]
    blocks = blocks_for(pixels, THREADS // team)
    slices = max(1, min(weights.count, -(-2 * scale.driver.processors // blocks)))
    arguments = {
        "x": images(DualPixels, x),
        "y": images(DualPixels, y),
        "pixels": Pixels(pixels, height * width, channels, share),
        "epsilon": np.float32(epsilon),
        "scale": address(weights.scale),
        "v_scale": address(directions),
        "padded": scale.size,
        "count": weights.count,
        "tangent": int(x.has_tangent and weights.count > 0),
        "slices": slices,
    }
    launch = Launch(chosen, (blocks, slices, 1), arguments)
    return Operation("rms-norm", (*draw, launch), keeps=(x.memory, y.memory, weights, directions))


def _kernel(
    name: str, team: int, resident: int, sums: Callable[[np.float32, np.float32, int], Pair]
) -> Kernel:
    teams = THREADS // team

    @kernel(name, resident=resident)
    def normalize(
        x: DualPixels,
        y: DualPixels,
        pixels: Pixels,
        epsilon: Real,
        scale: Address,
        v_scale: Address,
        padded: Size,
        count: Size,
        tangent: Size,
        slices: Size,
    ) -> None:
        slots = shared(128)
        pixel, lane = block_x() * teams + thread() // team, thread() % team
        if pixel >= pixels.number:
            # All threads of a team return, or none.
            return
        i, j = divide(pixel, pixels.inner)
        channels = pixels.channels
        source = x.address + 4 * (i * x.image + j * x.pixel)
        out = y.address + 4 * (i * y.image + j * y.pixel)
        zero, one = np.float32(0), np.float32(1)

        # There are two slots, as in other normalisations: one barrier a sum is enough.
        slot, factor, again = 0, one, True
        inverse = zero
        while again:
            square = zero
            for c in range(lane, channels, team):
                value = load_f32(source + 4 * c) * factor
                square += value * value
            square, _ = sums(square, zero, slots + slot)
            slot = SLOT - slot
            mean = square * pixels.share
            inverse = inverse_deviation(mean, np.float32(epsilon), factor)
            again = factor == one and not mean <= MOST_VARIANCE
            if again:
                factor = SHRUNK

        if block_y() == 0:
            for c in range(lane, channels, team):
                normal = load_f32(source + 4 * c) * factor * inverse
                store_f32(out + 4 * c, load_f32(scale + 4 * c) * normal)

        t = block_y()
        while t < count:
            dx, dy = source + 4 * (t + 1) * x.block, out + 4 * (t + 1) * y.block
            own, again, dot = tangent_factor(inverse, factor), tangent > 0, zero
            while again:
                dot = zero
                for c in range(lane, channels, team):
                    normal = load_f32(source + 4 * c) * factor * inverse
                    dot += normal * (load_f32(dx + 4 * c) * own)
                dot, _ = sums(dot, zero, slots + slot)
                slot = SLOT - slot
                dot = dot * pixels.share
                again = bool(own > TANGENT_SHRUNK) and not abs(dot) <= _MOST
                if again:
                    own = TANGENT_SHRUNK
            gain = inverse * (factor / own)
            for c in range(lane, channels, team):
                normal = load_f32(source + 4 * c) * factor * inverse
                value = load_f32(v_scale + 4 * (t * padded + c)) * normal
                if tangent:
                    s = load_f32(scale + 4 * c) * gain
                    value += s * (load_f32(dx + 4 * c) * own - normal * dot)
                store_f32(dy + 4 * c, value)
            t += slices

    return normalize


# As many resident blocks as there are registers for, without spilling any.
_BY_WARP = _kernel("rms-norm-by-warp", WARP, 4, warp_sums)
_BY_BLOCK = _kernel("rms-norm-by-block", THREADS, 4, block_sums)
