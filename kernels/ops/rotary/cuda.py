"""Rotary embedding on a GPU: pairs of elements of each head are turned, primal and tangents alike; see ``cpu``.

y = R x, dy = R dx:  y_c = cos(φ) x_c - sin(φ) x_{c + d/2},  y_{c + d/2} = sin(φ) x_c + cos(φ) x_{c + d/2}
"""

from typing import Any

from fgnumba.kernels.cuda.kernel import kernel
from fgnumba.kernels.cuda.layout import DualImages, element, elementwise, images
from fgnumba.kernels.cuda.memory import DeviceArray
from fgnumba.kernels.cuda.primitives import Address, Size, divide, load_f32, store_f32
from fgnumba.kernels.cuda.program import Operation
from fgnumba.kernels.layout.images import Images
from fgnumba.kernels.ops.rotary import turns
from fgnumba.validation.launcher import launcher


@launcher
def bind(
    isa: Any,
    threads: int,
    *,
    batch: int,
    count: int,
    x: Images,
    y: Images,
    heads: int,
    base: float,
    inverse: bool = False,
) -> Operation:
    """Bind the rotary embedding to its arrays, as ``cpu.bind`` does.

    Parameters
    ----------
    isa, threads : object, int
        Not used.
    batch : int
        Number of examples B.
    count : int
        Number of directions T.
    x, y : Images
        Sequences (L, 1, heads d) with d even, channel h d + c being element c of head h. y may be x; otherwise they
        must not overlap.
    heads : int
        Number of heads, of which each is turned by the same angles.
    base : float
        The base of the angles.
    inverse : bool
        Whether to turn back: y = Rᵀ x, for error signals.

    Returns
    -------
    Operation
        The launch.

    Notes
    -----
    Cost: reads x once and writes y once. A thread turns one pair of the primal and of all tangents; the L d cosines and
    sines, which are copied to the GPU here, come from caches.
    """
    length, _, channels = x.shape
    memory: Any = x.memory
    angles = turns(length, channels // heads, base, inverse)
    table = DeviceArray.zeros(memory.driver, angles.shape)
    table.upload(angles)
    n = batch * length * channels // 2
    arguments = {
        "x": images(DualImages, x),
        "y": images(DualImages, y),
        "n": n,
        "count": count if x.has_tangent else 0,
        "length": length,
        "pairs": channels // 2,
        "half": channels // heads // 2,
        "table": table,
    }
    return Operation("rotary", (elementwise(_rotary, n, arguments),), keeps=(x.memory, y.memory, table))


@kernel("rotary")
def _rotary(
    x: DualImages,
    y: DualImages,
    n: Size,
    count: Size,
    length: Size,
    pairs: Size,
    half: Size,
    table: Address,
) -> None:
    e = element()
    if e >= n:
        return
    rows, pair = divide(e, pairs)
    i, position = divide(rows, length)
    head, c = divide(pair, half)
    channel = 2 * head * half + c
    angle = table + 4 * (2 * position * half + c)
    cosine, sine = load_f32(angle), load_f32(angle + 4 * half)
    source = x.address + 4 * (i * x.image + position * x.row + channel)
    out = y.address + 4 * (i * y.image + position * y.row + channel)
    for t in range(count + 1):
        first, second = load_f32(source + 4 * t * x.block), load_f32(source + 4 * (t * x.block + half))
        store_f32(out + 4 * t * y.block, cosine * first - sine * second)
        store_f32(out + 4 * (t * y.block + half), sine * first + cosine * second)
