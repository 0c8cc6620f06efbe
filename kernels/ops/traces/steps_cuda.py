"""What a step of each recurrence hands to the traces on a GPU: factors and immediate derivatives.

They are written to memory (sets, B L, Hp): the factor D_t = ∂c_t/∂c_(t-1), in two sets where it is complex, then the
immediate derivatives in the order of ``emit.FORMULAS``. The traces of every input read them.
"""

from typing import Any, NamedTuple

import numpy as np

from fgnumba.kernels.cuda.kernel import Kernel, device_function, kernel
from fgnumba.kernels.cuda.layout import BlockImages, element
from fgnumba.kernels.cuda.primitives import Address, Size, divide, load_f32, store_f32
from fgnumba.kernels.rules.recurrence import decay
from fgnumba.kernels.rules.trigonometric import sin_and_cos

_ZERO, _ONE = np.float32(0), np.float32(1)


class Window(NamedTuple):
    """The sizes of a window, and what a forward pass has left of it.

    Parameters
    ----------
    number : Size
        Units of all positions, B L H.
    units : Size
        Number of units H.
    padded : Size
        H rounded up to whole panels, Hp.
    length : Size
        Number of positions L.
    carried : Size
        Whether factors are computed; else they are zeros.
    gates : Address
        Address of the gates: a row for each position, Hp elements from one gate to the next.
    gate_row : Size
        Elements from one row of gates to the next.
    before : Address
        Address of the states before the first position.
    before_row : Size
        Elements from one stream's state there to the next one's.
    out : Address
        Address of the sets that are written.
    out_set : Size
        Elements from one set to the next.
    """

    number: Size
    units: Size
    padded: Size
    length: Size
    carried: Size
    gates: Address
    gate_row: Size
    before: Address
    before_row: Size
    out: Address
    out_set: Size


@device_function
def _place(w: Window, y: BlockImages, e: int) -> tuple[int, int, int, int, int]:
    """Return a unit, addresses of its first gate, its state before and its first set, and bytes to imaginary parts."""
    row, h = divide(e, w.units)
    b, t = divide(row, w.length)
    state, apart = w.before + 4 * (b * w.before_row + h), 4 * w.padded
    if t > 0:
        state, apart = y.address + 4 * (b * y.image + (t - 1) * y.row + h), 4 * w.units
    return h, w.gates + 4 * (row * w.gate_row + h), state, w.out + 4 * (row * w.padded + h), apart


@device_function
def _factor(w: Window, value: np.float32) -> np.float32:
    return value if w.carried else _ZERO


@kernel("traces-steps-elementwise-lstm")
def _elementwise_lstm(w: Window, y: BlockImages, own: Address, other: Address) -> None:
    e = element()
    if e >= w.number:
        return
    h, gates, state, out, _ = _place(w, y, e)
    z, f, c = load_f32(gates), load_f32(gates + 4 * w.padded), load_f32(state)
    wz, wf = load_f32(own + 4 * h), load_f32(own + 4 * (w.padded + h))
    of_z, of_f = (_ONE - f) * (_ONE - z * z), (c - z) * (f * (_ONE - f))
    store_f32(out, _factor(w, f + (of_z * wz + of_f * wf)))
    store_f32(out + 4 * w.out_set, of_z)
    store_f32(out + 8 * w.out_set, of_f)
    store_f32(out + 12 * w.out_set, of_z * c)
    store_f32(out + 16 * w.out_set, of_f * c)


@kernel("traces-steps-min-gru")
def _min_gru(w: Window, y: BlockImages, own: Address, other: Address) -> None:
    e = element()
    if e >= w.number:
        return
    _, gates, state, out, _ = _place(w, y, e)
    candidate, z, h = load_f32(gates), load_f32(gates + 4 * w.padded), load_f32(state)
    store_f32(out, _factor(w, _ONE - z))
    store_f32(out + 4 * w.out_set, z)
    store_f32(out + 8 * w.out_set, (candidate - h) * (z * (_ONE - z)))


@kernel("traces-steps-linear")
def _linear(w: Window, y: BlockImages, own: Address, other: Address) -> None:
    e = element()
    if e >= w.number:
        return
    i, gates, state, out, _ = _place(w, y, e)
    size, gamma, rate, gamma_slope = decay(load_f32(own + 4 * i))
    store_f32(out, _factor(w, size))
    store_f32(out + 4 * w.out_set, gamma)
    store_f32(out + 8 * w.out_set, rate * size * load_f32(state) + gamma_slope * load_f32(gates))


@kernel("traces-steps-complex-linear")
def _complex_linear(w: Window, y: BlockImages, own: Address, other: Address) -> None:
    e = element()
    if e >= w.number:
        return
    i, gates, state, out, apart = _place(w, y, e)
    size, gamma, rate, gamma_slope = decay(load_f32(own + 4 * i))
    sine, cosine = sin_and_cos(load_f32(other + 4 * i))
    real, imaginary = size * cosine, size * sine
    a, b = load_f32(state), load_f32(state + apart)
    turned, turned_imaginary = real * a - imaginary * b, real * b + imaginary * a
    store_f32(out, _factor(w, real))
    store_f32(out + 4 * w.out_set, _factor(w, imaginary))
    store_f32(out + 8 * w.out_set, gamma)
    store_f32(out + 12 * w.out_set, -gamma)
    store_f32(out + 16 * w.out_set, rate * turned + gamma_slope * load_f32(gates))
    of_imaginary = rate * turned_imaginary + gamma_slope * load_f32(gates + 4 * w.padded)
    store_f32(out + 20 * w.out_set, of_imaginary)
    store_f32(out + 24 * w.out_set, -turned_imaginary)
    store_f32(out + 28 * w.out_set, turned)


STEPS: dict[str, tuple[Kernel, int, dict[str, Any]]] = {
    "elementwise_lstm": (_elementwise_lstm, 5, {"weight": 1, "recurrent": 3, "bias": 1}),
    "min_gru": (_min_gru, 3, {"weight": 1, "bias": 1}),
    "linear": (_linear, 3, {"weight": 1, "nu": 2}),
    "complex_linear": (_complex_linear, 8, {"weight": 2, "nu": 4, "theta": 6}),
}
"""The recurrences: the kernel, the number of sets that it writes, and the first immediate derivative of each parameter.

The immediate derivative of a complex recurrence's weight is real, and those of its other parameters take two sets.
"""
