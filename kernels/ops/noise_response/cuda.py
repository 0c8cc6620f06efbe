"""Responses to noise on a GPU: how the loss of each example responds to its noise, from tangents of the outputs.

See ``cpu``.

copy       ε_t = ȯ_t                          the tangents of the observed outputs
weigh      r_it = f e_i · ε_it                e_i = ∂f_i/∂o_i; c = μ / (mean_i Σ a'² + B T A)
"""

import numpy as np

from fgnumba.kernels.cuda.kernel import kernel
from fgnumba.kernels.cuda.layout import THREADS as _THREADS
from fgnumba.kernels.cuda.layout import element, elementwise
from fgnumba.kernels.cuda.memory import DeviceArray
from fgnumba.kernels.cuda.primitives import (
    Address,
    Real,
    Size,
    barrier,
    block_x,
    divide,
    finite,
    lanes_xor_f32,
    load_f32,
    load_f64,
    shared,
    shared_load_f64,
    shared_store_f64,
    store_f32,
    store_f64,
    thread,
)
from fgnumba.kernels.cuda.program import Launch, Operation
from fgnumba.kernels.ops.feedback import COEFFICIENTS
from fgnumba.validation.launcher import launcher

_KEEP, _GAIN = (COEFFICIENTS.fields[name][1] for name in ("keep", "gain"))  # type: ignore[index]
_COEFFICIENTS_BYTES = COEFFICIENTS.itemsize
_ROWS_A_BLOCK = 8
_ZERO, _ONE, _NAN = np.float64(0), np.float64(1), np.float64(np.nan)


@launcher
def bind_copy(z: DeviceArray, response: DeviceArray, power: DeviceArray) -> Operation:
    """Bind the copy of the outputs' tangents, as ``cpu.bind_copy`` does.

    Parameters
    ----------
    z : DeviceArray
        (1 + S, B, ld) float32, a dual buffer of the outputs.
    response : DeviceArray
        (S, B, C) float32, written: ε.
    power : DeviceArray
        (B,) float32, set to 0.

    Returns
    -------
    Operation
        The launch.

    Notes
    -----
    Cost: reads and writes S B C elements.
    """
    slots, batch, classes = response.shape
    n = slots * batch * classes
    arguments = {
        "z": z,
        "z_row": z.shape[2],
        "batch": batch,
        "n": n,
        "classes": classes,
        "response": response,
        "power": power,
    }
    launch = elementwise(_copy, max(n, batch), arguments)
    return Operation("observed", (launch,), keeps=(z, response, power))


@kernel("residual-copy")
def _copy(
    z: Address, z_row: Size, batch: Size, n: Size, classes: Size, response: Address, power: Address
) -> None:
    e = element()
    if e < n:
        # Rows of all slots follow one another, after those of the primal.
        row, c = divide(e, classes)
        store_f32(response + 4 * e, load_f32(z + 4 * ((batch + row) * z_row + c)))
    if e < batch:
        store_f32(power + 4 * e, np.float32(0))


@launcher
def bind_weigh(
    *,
    residual: DeviceArray,
    response: DeviceArray,
    noise: DeviceArray,
    factor: float,
    draws: int,
    power: DeviceArray,
    rate: DeviceArray,
    shares: DeviceArray,
    coefficients: DeviceArray,
) -> Operation:
    """Bind the weights r of the noise, as ``cpu.bind_weigh`` does.

    Everything after a loss runs even where the loss is not finite. Where an r or the power of the noise is not finite,
    the gain c is 0, and feedback stays as it is (``feedback.cuda.bind_weigh``).

    Parameters
    ----------
    residual : DeviceArray
        (B, C) float32, e.
    response : DeviceArray
        (S, B, C) float32, ε.
    noise : DeviceArray
        (S, B) float32, written: r.
    factor : float
        f, 1 / T.
    draws : int
        Number of draws T.
    power : DeviceArray
        (B,) float32, which add up to Σ a'² over all units of all examples that had noise.
    rate : DeviceArray
        (1,) float64, μ.
    shares : DeviceArray
        (L,) float64, the cells A of each layer; of size 0 where no feedback is learned.
    coefficients : DeviceArray
        (L,) ``feedback.COEFFICIENTS``, written.

    Returns
    -------
    Operation
        The launches.

    Notes
    -----
    Cost: S B C multiply-adds, a warp for each r; reads the S B r once more where there are `shares`.
    """
    slots, batch, classes = response.shape
    rows = slots * batch
    weigh = {
        "residual": residual,
        "response": response,
        "noise": noise,
        "batch": batch,
        "rows": rows,
        "factor": float(factor),
        "classes": classes,
    }
    launches = [Launch(_weigh, (-(-rows // _ROWS_A_BLOCK), 1, 1), weigh)]
    if shares.size:
        gains = {
            "noise": noise,
            "rows": rows,
            "power": power,
            "batch": batch,
            "draws": draws,
            "rate": rate,
            "shares": shares,
            "sites": shares.size,
            "coefficients": coefficients,
        }
        launches.append(Launch(_gains, (1, 1, 1), gains))
    keeps = (residual, response, noise, power, rate, shares, coefficients)
    return Operation("weighed", tuple(launches), keeps=keeps)


@kernel("residual-weigh", threads=_THREADS)
def _weigh(
    residual: Address,
    response: Address,
    noise: Address,
    batch: Size,
    rows: Size,
    factor: Real,
    classes: Size,
) -> None:
    row, lane = _ROWS_A_BLOCK * block_x() + (thread() >> 5), thread() & 31
    # All lanes of a warp return, or none: they wait for one another below.
    if row >= rows:
        return
    _, i = divide(row, batch)
    total = np.float32(0)
    for c in range(lane, classes, 32):
        total += load_f32(residual + 4 * (i * classes + c)) * load_f32(response + 4 * (row * classes + c))
    mask = 16
    while mask > 0:
        total += lanes_xor_f32(total, mask)
        mask >>= 1
    if lane == 0:
        store_f32(noise + 4 * row, factor * total)


@kernel("residual-gains", threads=_THREADS)
def _gains(
    noise: Address,
    rows: Size,
    power: Address,
    batch: Size,
    draws: Size,
    rate: Address,
    shares: Address,
    sites: Size,
    coefficients: Address,
) -> None:
    sums = shared(2048)
    total = _ZERO
    for i in range(thread(), batch, _THREADS):
        total += np.float64(load_f32(power + 4 * i))
    for row in range(thread(), rows, _THREADS):
        # Where one r is not finite, the sum is not either.
        if not finite(np.float64(load_f32(noise + 4 * row))):
            total = _NAN
    shared_store_f64(sums + 8 * thread(), total)
    barrier()
    half = _THREADS // 2
    while half > 0:
        if thread() < half:
            total += shared_load_f64(sums + 8 * (thread() + half))
            shared_store_f64(sums + 8 * thread(), total)
        barrier()
        half >>= 1
    total = shared_load_f64(sums)
    for k in range(thread(), sites, _THREADS):
        bound = total / batch + batch * draws * load_f64(shares + 8 * k)
        gain = load_f64(rate) / (bound if bound > _ONE else _ONE)
        at = coefficients + k * _COEFFICIENTS_BYTES
        store_f64(at + _KEEP, _ONE)
        store_f64(at + _GAIN, gain if finite(total) else _ZERO)
