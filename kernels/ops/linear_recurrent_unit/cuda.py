"""Scan of a linear recurrent unit on a GPU; see ``cpu``.

λ = e^(-e^ν + i θ),  γ = √(1 - |λ|²)          θ = 0 where λ is real
h' = λ h + γ u                                u = x W, the product at a position
dh' = λ dh + dλ h + γ du + dγ u,  dλ = λ (-e^ν dν + i dθ),  dγ = |λ|² e^ν dν / γ
"""

from typing import Any

import numpy as np

from fgnumba.kernels.cuda.kernel import device_function, kernel
from fgnumba.kernels.cuda.layout import DualImages, element
from fgnumba.kernels.cuda.memory import DeviceArray
from fgnumba.kernels.cuda.primitives import Address, Size, block_y, load_f32, store_f32
from fgnumba.kernels.cuda.program import Operation
from fgnumba.kernels.layout.images import Images
from fgnumba.kernels.machine.memory import address
from fgnumba.kernels.rules.recurrence import decay
from fgnumba.kernels.rules.trigonometric import sin_and_cos
from fgnumba.kernels.shared.recurrence.cpu import Vectors
from fgnumba.kernels.shared.recurrence.cuda import (
    Rows,
    Sequences,
    VectorDirections,
    first_entry,
    row_at,
    scan,
    second_entry,
    unit_of,
    vector_directions,
)
from fgnumba.validation.launcher import launcher

_ZERO = np.float32(0)


@launcher
def bind(
    isa: Any,
    threads: int,
    *,
    batch: int,
    units: int,
    product: DeviceArray,
    y: Images,
    state: DeviceArray | None,
    vectors: Vectors,
) -> Operation:
    """Bind the scan to its arrays, as ``cpu.bind`` does.

    Parameters
    ----------
    isa, threads : object, int
        Not used.
    batch, units : int
        Numbers of examples B and of units H.
    product : DeviceArray
        (1 + T, B L, 2 Hp) float32, u = [Re | Im] and its tangents; (1 + T, B L, Hp) where λ is real. It is only read.
    y : Images
        Output (L, 1, 2 H), or (L, 1, H), written.
    state : DeviceArray or None
        (1 or 1 + T, B, 2 Hp or Hp) float32, h before the first position, read, and after the last one, written. None:
        zeros before, and nothing is written.
    vectors : Vectors
        ν and θ, or ν alone where λ is real, and the directions along which they move.

    Returns
    -------
    Operation
        The launches.

    Notes
    -----
    Cost, where λ is complex: the tangents' launch reads four numbers and writes two for each position, unit and
    direction; the primal's reads two and writes two.
    """
    both = len(vectors.values) > 1
    launches = scan(
        _primal,
        _tangents,
        batch=batch,
        units=units,
        count=vectors.count,
        product=product,
        y=y,
        state=state,
        weights={
            "both": int(both),
            "nu": address(vectors.values[0]),
            "theta": address(vectors.values[1]) if both else 0,
        },
        directions={"directions": vector_directions(vectors), "first": vectors.first},
    )
    return Operation("linear-recurrent-unit", launches, keeps=(product, y.memory, state, vectors))


@device_function
def _factor(both: int, size: np.float32, theta: int) -> tuple[np.float32, np.float32]:
    """Return the real and the imaginary part of λ."""
    if not both:
        return size, _ZERO
    sine, cosine = sin_and_cos(load_f32(theta))
    return size * cosine, size * sine


@kernel("linear-recurrent-unit")
def _primal(
    product: Rows, y: DualImages, state: Rows, sizes: Sequences, both: Size, nu: Address, theta: Address
) -> None:
    e = element()
    if e >= sizes.number:
        return
    b, i = unit_of(sizes, e)
    part, out_part = 4 * sizes.padded, 4 * sizes.units
    at, out = row_at(product, sizes, b, 0) + 4 * i, y.address + 4 * (b * y.image + i)
    kept = state.address + 4 * (b * state.row + i)
    size, gamma, _, _ = decay(load_f32(nu + 4 * i))
    real, imaginary = _factor(both, size, theta + 4 * i)
    a = load_f32(kept) if state.address else _ZERO
    c = load_f32(kept + part) if state.address and both else _ZERO
    for _position in range(sizes.length):
        u = load_f32(at)
        w = load_f32(at + part) if both else _ZERO
        a, c = (
            real * a - imaginary * c + gamma * u,
            real * c + imaginary * a + gamma * w,
        )
        store_f32(out, a)
        if both:
            store_f32(out + out_part, c)
        at += 4 * product.row
        out += 4 * y.row
    if state.address:
        store_f32(kept, a)
        if both:
            store_f32(kept + part, c)


@kernel("linear-recurrent-unit-tangents")
def _tangents(
    product: Rows,
    y: DualImages,
    state: Rows,
    sizes: Sequences,
    both: Size,
    nu: Address,
    theta: Address,
    directions: VectorDirections,
    first: Size,
) -> None:
    e, t = element(), block_y()
    if e >= sizes.number:
        return
    b, i = unit_of(sizes, e)
    part, out_part, tangent = 4 * sizes.padded, 4 * sizes.units, 4 * (t + 1) * product.block
    at, out = row_at(product, sizes, b, 0) + 4 * i, y.address + 4 * ((t + 1) * y.block + b * y.image + i)
    kept = state.address + 4 * (b * state.row + i)
    size, gamma, rate, gamma_slope = decay(load_f32(nu + 4 * i))
    real, imaginary = _factor(both, size, theta + 4 * i)
    turn = second_entry(directions, first, t, i) if both else _ZERO
    dnu = first_entry(directions, first, t, i)
    fade, dgamma = rate * dnu, gamma_slope * dnu
    dreal, dimaginary = fade * real - turn * imaginary, fade * imaginary + turn * real
    a = load_f32(kept) if state.address else _ZERO
    c = load_f32(kept + part) if state.address and both else _ZERO
    kept += 4 * (t + 1) * state.block
    da = load_f32(kept) if state.block else _ZERO
    dc = load_f32(kept + part) if state.block and both else _ZERO
    for _position in range(sizes.length):
        u, du = load_f32(at), load_f32(at + tangent)
        w = load_f32(at + part) if both else _ZERO
        dw = load_f32(at + tangent + part) if both else _ZERO
        da, dc = (
            (real * da - imaginary * dc) + (dreal * a - dimaginary * c) + (gamma * du + dgamma * u),
            (real * dc + imaginary * da) + (dreal * c + dimaginary * a) + (gamma * dw + dgamma * w),
        )
        a, c = (
            real * a - imaginary * c + gamma * u,
            real * c + imaginary * a + gamma * w,
        )
        store_f32(out, da)
        if both:
            store_f32(out + out_part, dc)
        at += 4 * product.row
        out += 4 * y.row
    if state.block:
        store_f32(kept, da)
        if both:
            store_f32(kept + part, dc)
