"""Slopes of normalisations on a GPU: each row's signal times the transposed Jacobian of its normalisation; see ``cpu``.

x̂   = (x - μ) r, or r x
d   = s ⊙ signal
out = base + r (d - mean(d) - x̂ mean(x̂ d))     mean(d): layer normalisation alone

As in ``shared.normalization.cuda``, a warp takes a row of few channels, a block one of many.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from fgnumba.errors import ConfigError
from fgnumba.kernels.cuda.kernel import Kernel, device_function, kernel
from fgnumba.kernels.cuda.layout import THREADS, blocks_for, first_pixel
from fgnumba.kernels.cuda.memory import DeviceArray
from fgnumba.kernels.cuda.primitives import (
    WARP,
    Address,
    Real,
    Size,
    block_x,
    load_f32,
    shared,
    store_f32,
    thread,
)
from fgnumba.kernels.cuda.program import Launch, Operation
from fgnumba.kernels.layout.images import Images
from fgnumba.kernels.machine.memory import address
from fgnumba.kernels.ops.normalization_slope import KINDS, LAYER_NORM, RMS_NORM
from fgnumba.kernels.rules.moments import (
    MOST_VARIANCE,
    SHRUNK,
    TANGENT_SHRUNK,
    inverse_deviation,
    mean_of,
    tangent_factor,
)
from fgnumba.kernels.shared.normalization.cuda import SLOT, SMALL_UNIT, Pair, block_sums, warp_sums
from fgnumba.validation.launcher import launcher

_MOST = np.float32(np.finfo(np.float32).max)
_ZERO, _ONE = np.float32(0), np.float32(1)


class Rows(NamedTuple):
    """Rows of numbers.

    Parameters
    ----------
    address : Address
        Address of the first number; 0: there are no such rows.
    row : Size
        Numbers from one row to the next.
    """

    address: Address
    row: Size


@launcher
def bind(
    isa: Any,
    threads: int,
    *,
    batch: int,
    kind: str,
    x: Images,
    signal: Images,
    out: Images,
    base: Images | None = None,
    scale: DeviceArray | None = None,
    epsilon: float,
    normalized: Images | None = None,
) -> Operation:
    """Bind the slope of a normalisation to its arrays, as ``cpu.bind`` does.

    Parameters
    ----------
    isa, threads : object, int
        Not used.
    batch : int
        Number of rows.
    kind : str
        "layer_norm" or "rms_norm".
    x, signal : Images
        The normalisation's input, and the error signal of its output: `batch` images of one pixel with C channels.
    out : Images
        Written. It may be the same memory as `signal` or `base`, and must not overlap `x`.
    base : Images or None
        Rows that the slope is added to. None: zeros.
    scale : DeviceArray or None
        (at least C,) float32, s. None: ones.
    epsilon : float
        ε, above 0.
    normalized : Images or None
        Written: x̂. None: it is not kept.

    Returns
    -------
    Operation
        The launch.

    Raises
    ------
    ConfigError
        There is no such kind.

    Notes
    -----
    Cost: reads x four times (root mean square normalisation: three), signal twice and base once, all but once from
    caches where a row is small; writes out (and x̂) once.
    """
    if kind not in KINDS:
        raise ConfigError(f"kind is {kind!r}; one of {', '.join(KINDS)} is required")
    channels = x.shape[2]
    chosen, team = (_BY_WARP, WARP) if channels <= SMALL_UNIT else (_BY_BLOCK, THREADS)
    arguments = {
        "x": _rows(x),
        "signal": _rows(signal),
        "out": _rows(out),
        "base": _rows(base),
        "normalized": _rows(normalized),
        "scale": address(scale),
        "batch": batch,
        "channels": channels,
        "share": np.float32(1 / channels),
        "epsilon": np.float32(epsilon),
    }
    launch = Launch(chosen[kind], (blocks_for(batch, THREADS // team), 1, 1), arguments)
    given = (one.memory for one in (x, signal, out, base, normalized) if one is not None)
    return Operation(f"{kind.replace('_', '-')}-slope", (launch,), keeps=(*given, scale))


def _rows(one: Images | None) -> Rows:
    return Rows(0, 0) if one is None else Rows(first_pixel(one), one.image)


@device_function
def _scaled(signal: int, scale: int, c: int) -> np.float32:
    """Return an element of d."""
    value = load_f32(signal + 4 * c)
    return load_f32(scale + 4 * c) * value if scale else value


def _kernel(
    kind: str, name: str, team: int, resident: int, sums: Callable[[np.float32, np.float32, int], Pair]
) -> Kernel:
    teams, centred = THREADS // team, kind == LAYER_NORM

    @kernel(f"{kind.replace('_', '-')}-slope-{name}", resident=resident)
    def slope(
        x: Rows,
        signal: Rows,
        out: Rows,
        base: Rows,
        normalized: Rows,
        scale: Address,
        batch: Size,
        channels: Size,
        share: Real,
        epsilon: Real,
    ) -> None:
        slots = shared(128)
        row, lane = block_x() * teams + thread() // team, thread() % team
        if row >= batch:
            # All threads of a team return, or none.
            return
        source, told = x.address + 4 * row * x.row, signal.address + 4 * row * signal.row
        part = np.float32(share)

        slot, factor, again = 0, _ONE, True
        high, low, inverse = _ZERO, _ZERO, _ZERO
        while again:
            if centred:
                pivot, total = load_f32(source) * factor, _ZERO
                for c in range(lane, channels, team):
                    total += load_f32(source + 4 * c) * factor - pivot
                total, _ = sums(total, _ZERO, slots + slot)
                slot = SLOT - slot
                high, low = mean_of(pivot, total * part)
            total, square = _ZERO, _ZERO
            for c in range(lane, channels, team):
                d = (load_f32(source + 4 * c) * factor - high) - low
                total += d
                square += d * d
            total, square = sums(total, square, slots + slot)
            slot = SLOT - slot
            variance = square * part
            if centred:
                left = total * part
                variance -= left * left
                low += left
            inverse = inverse_deviation(variance, np.float32(epsilon), factor)
            again = factor == _ONE and not variance <= MOST_VARIANCE
            if again:
                factor = SHRUNK

        own, again = tangent_factor(inverse, factor), True
        own_high, own_low, dot = _ZERO, _ZERO, _ZERO
        while again:
            pivot = _ZERO
            if centred:
                # Every thread gets the first number by a sum: its own thread may overwrite it soon.
                pivot, _ = sums(_scaled(told, scale, 0) * own if lane == 0 else _ZERO, _ZERO, slots + slot)
                slot = SLOT - slot
            total, dot = _ZERO, _ZERO
            for c in range(lane, channels, team):
                e = _scaled(told, scale, c) * own - pivot
                total += e
                dot += ((load_f32(source + 4 * c) * factor - high) - low) * inverse * e
            total, dot = sums(total, dot, slots + slot)
            slot = SLOT - slot
            dot = dot * part
            if centred:
                own_high, own_low = mean_of(pivot, total * part)
            again = bool(own > TANGENT_SHRUNK) and not (abs(own_high) <= _MOST and abs(dot) <= _MOST)
            if again:
                own = TANGENT_SHRUNK

        gain = inverse * (factor / own)
        for c in range(lane, channels, team):
            normal = ((load_f32(source + 4 * c) * factor - high) - low) * inverse
            value = gain * (((_scaled(told, scale, c) * own - own_high) - own_low) - normal * dot)
            if base.address:
                value += load_f32(base.address + 4 * (row * base.row + c))
            store_f32(out.address + 4 * (row * out.row + c), value)
            if normalized.address:
                store_f32(normalized.address + 4 * (row * normalized.row + c), normal)

    return slope


_BY_WARP = {kind: _kernel(kind, "by-warp", WARP, 4, warp_sums) for kind in (LAYER_NORM, RMS_NORM)}
_BY_BLOCK = {kind: _kernel(kind, "by-block", THREADS, 4, block_sums) for kind in (LAYER_NORM, RMS_NORM)}
