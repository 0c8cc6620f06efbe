"""Normalisation of units on a GPU; a unit is some pixels and channels of an example. See ``layer_norm.cpu``.

    x̂  = (x - μ) r,  r = 1 / √(σ² + ε)          μ, σ² mean and variance over the unit
    y  = s ⊙ x̂ + b                              s, b by channel
    dy = s ⊙ r (dx - mean(dx) - x̂ mean(x̂ dx)) + ds ⊙ x̂ + db

A team of threads takes a unit: a warp takes a small one, a block a large one. Neighbouring threads take neighbouring
channels, and a thread takes the same channels at every pixel. Each thread sums its own elements, then sums are added up
over the team, always in the same order. ``kernels.rules.moments`` says how units with a large mean, and units whose
squares overflow, are treated.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from fgnumba.kernels.cuda.kernel import Kernel, device_function, kernel
from fgnumba.kernels.cuda.layout import THREADS, DualPixels, blocks_for, images
from fgnumba.kernels.cuda.primitives import (
    WARP,
    Address,
    Real,
    Size,
    barrier,
    block_x,
    block_y,
    divide,
    lanes_xor_f32,
    load_f32,
    shared,
    shared_load_f32x2,
    shared_store_f32,
    store_f32,
    thread,
)
from fgnumba.kernels.cuda.program import Launch, Operation
from fgnumba.kernels.layout.images import Images
from fgnumba.kernels.machine.memory import address
from fgnumba.kernels.rules.moments import (
    MOST_VARIANCE,
    SHRUNK,
    TANGENT_SHRUNK,
    inverse_deviation,
    mean_of,
    tangent_factor,
)
from fgnumba.kernels.shared.affine import cuda as affine
from fgnumba.kernels.shared.affine.cpu import Affine
from fgnumba.validation.launcher import launcher

Pair = tuple[np.float32, np.float32]

_WARPS = THREADS // WARP
_STEPS = 5
_HALF_WARP = WARP // 2
SLOT = 8 * _WARPS
"""Bytes of the two sums of each warp. There are two slots, so that one barrier a sum is enough: a thread that writes
into a slot has passed the barrier of the other slot, and so has every thread that read what the slot held before."""

_MOST = np.float32(np.finfo(np.float32).max)

SMALL_UNIT = 512
"""Number of elements of the largest unit that a warp takes."""


class Units(NamedTuple):
    """Units of images, and how a team of threads walks over one of them.

    Parameters
    ----------
    number : Size
        Number of units.
    inner : Size
        Number of units of an example.
    x_step, y_step : Size
        Elements from one unit of an example to the next, in x and in y.
    first_step : Size
        Channels from one unit of an example to the next.
    pixels, channels : Size
        Pixels and channels of a unit.
    lanes : Size
        Number of threads side by side along the channels.
    rows : Size
        Number of pixels that a team reads at once.
    share : Real
        One over the number of elements of a unit.
    """

    number: Size
    inner: Size
    x_step: Size
    y_step: Size
    first_step: Size
    pixels: Size
    channels: Size
    lanes: Size
    rows: Size
    share: Real


class Scales(NamedTuple):
    """The weights of a normalisation, and their directions.

    Parameters
    ----------
    scale, shift : Address
        Addresses of s and b.
    v_scale, v_shift : Address
        Addresses of their first direction.
    padded : Size
        Elements from one direction to the next.
    """

    scale: Address
    shift: Address
    v_scale: Address
    v_shift: Address
    padded: Size


@launcher
def bind(
    name: str,
    *,
    batch: int,
    x: Images,
    y: Images,
    groups: int,
    by_pixel: bool,
    weights: Affine,
    epsilon: float,
) -> Operation:
    """Bind a normalisation to its arrays.

    Parameters
    ----------
    name : str
        Name of the operation.
    batch : int
        Number of examples B.
    x, y : Images
        Images of one shape. They must not overlap.
    groups : int
        Number of groups of channels; the channels of a group are a unit.
    by_pixel : bool
        Whether each pixel is a unit of its own; else all pixels of an image belong to one.
    weights : Affine
        s and b, and the directions along which they move, or neither.
    epsilon : float
        ε, above 0.

    Returns
    -------
    Operation
        The launches.

    Notes
    -----
    Cost: reads x three times, and x and dx twice a direction, all but once from caches where a unit is small; writes y
    and dy once. Where there are few units, several teams share the directions of one.
    """
    height, width, channels = x.shape
    each, pixels = channels // groups, height * width
    assert groups == 1 or not by_pixel
    inner = pixels if by_pixel else groups
    units, size = batch * inner, each * (1 if by_pixel else pixels)
    chosen, team = (_BY_WARP, WARP) if size <= SMALL_UNIT else (_BY_BLOCK, THREADS)
    lanes = min(each, team)
    memory: Any = x.memory
    weights = affine.filled(weights, memory.driver, channels, x.has_tangent)
    scale: Any = weights.scale
    share: Any = np.float32(1 / size)
    v_scale, v_shift, draw = affine.tangents(weights)
    blocks = blocks_for(units, THREADS // team)
    slices = max(1, min(weights.count, -(-2 * scale.driver.processors // blocks)))
    arguments = {
        "x": images(DualPixels, x),
        "y": images(DualPixels, y),
        "units": Units(
            number=units,
            inner=inner,
            x_step=x.pixel if by_pixel else each,
            y_step=y.pixel if by_pixel else each,
            first_step=0 if by_pixel else each,
            pixels=1 if by_pixel else pixels,
            channels=each,
            lanes=lanes,
            rows=team // lanes,
            share=share,
        ),
        "epsilon": np.float32(epsilon),
        "scales": Scales(
            scale=address(weights.scale),
            shift=address(weights.shift),
            v_scale=address(v_scale),
            v_shift=address(v_shift),
            padded=scale.size,
        ),
        "count": weights.count,
        "tangent": int(x.has_tangent and weights.count > 0),
        "slices": slices,
    }
    launch = Launch(chosen, (blocks, slices, 1), arguments)
    return Operation(name, (*draw, launch), keeps=(x.memory, y.memory, weights, v_scale, v_shift))


@device_function
def warp_sums(first: np.float32, second: np.float32, at: int) -> Pair:
    """Return two sums over the threads of a warp; no shared memory is needed."""
    for step in range(_STEPS):
        first = first + lanes_xor_f32(first, _HALF_WARP >> step)
        second = second + lanes_xor_f32(second, _HALF_WARP >> step)
    return first, second


@device_function
def block_sums(first: np.float32, second: np.float32, at: int) -> Pair:
    """Return two sums over the threads of a block, through a slot of shared memory at `at`."""
    first, second = warp_sums(first, second, at)
    if thread() % WARP == 0:
        shared_store_f32(at + 8 * (thread() // WARP), first)
        shared_store_f32(at + 8 * (thread() // WARP) + 4, second)
    barrier()
    first, second = np.float32(0), np.float32(0)
    for warp in range(_WARPS):
        one, other = shared_load_f32x2(at + 8 * warp)
        first, second = first + one, second + other
    return first, second


def _kernel(
    name: str, team: int, resident: int, sums: Callable[[np.float32, np.float32, int], Pair]
) -> Kernel:
    teams = THREADS // team

    @kernel(name, resident=resident)
    def normalize(
        x: DualPixels,
        y: DualPixels,
        units: Units,
        epsilon: Real,
        scales: Scales,
        count: Size,
        tangent: Size,
        slices: Size,
    ) -> None:
        slots = shared(128)
        unit = block_x() * teams + thread() // team
        if unit >= units.number:
            # All threads of a team return, or none.
            return
        pixels, channels, lanes, rows, share = (
            units.pixels,
            units.channels,
            units.lanes,
            units.rows,
            units.share,
        )
        i, j = divide(unit, units.inner)
        row, lane = divide(thread() % team, lanes)
        # Threads beyond the rows have no channel, but take part in sums.
        begin = lane if row < rows else channels
        source = x.address + 4 * (i * x.image + j * units.x_step)
        out = y.address + 4 * (i * y.image + j * units.y_step)
        first = 4 * j * units.first_step
        zero, one = np.float32(0), np.float32(1)

        factor, again = one, True
        high, low, inverse = zero, zero, zero
        while again:
            pivot, total = load_f32(source) * factor, zero
            c = begin
            while c < channels:
                p = row
                while p < pixels:
                    total += load_f32(source + 4 * (p * x.pixel + c)) * factor - pivot
                    p += rows
                c += lanes
            total, _ = sums(total, zero, slots)
            high, low = mean_of(pivot, total * share)

            total, square = zero, zero
            c = begin
            while c < channels:
                p = row
                while p < pixels:
                    d = (load_f32(source + 4 * (p * x.pixel + c)) * factor - high) - low
                    total += d
                    square += d * d
                    p += rows
                c += lanes
            total, square = sums(total, square, slots + SLOT)
            left = total * share
            variance = square * share - left * left
            low += left
            inverse = inverse_deviation(variance, np.float32(epsilon), factor)
            again = factor == one and not variance <= MOST_VARIANCE
            if again:
                factor = SHRUNK

        if block_y() == 0:
            c = begin
            while c < channels:
                s, b = load_f32(scales.scale + first + 4 * c), load_f32(scales.shift + first + 4 * c)
                p = row
                while p < pixels:
                    d = (load_f32(source + 4 * (p * x.pixel + c)) * factor - high) - low
                    store_f32(out + 4 * (p * y.pixel + c), s * (d * inverse) + b)
                    p += rows
                c += lanes

        t, slot = block_y(), 0
        while t < count:
            dx, dy = source + 4 * (t + 1) * x.block, out + 4 * (t + 1) * y.block
            direction = first + 4 * t * scales.padded
            own, again = tangent_factor(inverse, factor), tangent > 0
            own_high, own_low, dot = zero, zero, zero
            while again:
                pivot, total, dot = load_f32(dx) * own, zero, zero
                c = begin
                while c < channels:
                    p = row
                    while p < pixels:
                        at = 4 * (p * x.pixel + c)
                        e = load_f32(dx + at) * own - pivot
                        d = (load_f32(source + at) * factor - high) - low
                        total += e
                        dot += d * inverse * e
                        p += rows
                    c += lanes
                total, dot = sums(total, dot, slots + slot)
                slot = SLOT - slot
                own_high, own_low = mean_of(pivot, total * share)
                dot = dot * share
                again = bool(own > TANGENT_SHRUNK) and not (abs(own_high) <= _MOST and abs(dot) <= _MOST)
                if again:
                    own = TANGENT_SHRUNK
            gain = inverse * (factor / own)
            c = begin
            while c < channels:
                s = load_f32(scales.scale + first + 4 * c) * gain
                ds = load_f32(scales.v_scale + direction + 4 * c)
                db = load_f32(scales.v_shift + direction + 4 * c)
                p = row
                while p < pixels:
                    at = 4 * (p * x.pixel + c)
                    normal = ((load_f32(source + at) * factor - high) - low) * inverse
                    value = ds * normal + db
                    if tangent:
                        e = (load_f32(dx + at) * own - own_high) - own_low
                        value += s * (e - normal * dot)
                    store_f32(dy + 4 * (p * y.pixel + c), value)
                    p += rows
                c += lanes
            t += slices

    return normalize


# As many resident blocks as there are registers for, without spilling any.
_BY_WARP = _kernel("normalization-by-warp", WARP, 5, warp_sums)
_BY_BLOCK = _kernel("normalization-by-block", THREADS, 4, block_sums)
