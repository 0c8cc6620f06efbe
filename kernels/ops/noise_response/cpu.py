"""What the noise of each example says of the loss, on the CPU, from the tangents of the outputs that the loss reads.

    copy       ε_t = ȯ_t                          the tangents of the observed outputs
    weigh      r_it = f e_i · ε_it                e_i = ∂f_i/∂o_i; c = μ / (mean_i Σ a'² + B T A)

Once a feedback matrix's prediction has been subtracted from ε, r is what the feedback does not know. c is the gain of
a normalised least-mean-squares filter (``kernels.ops.feedback``) whose matrix is shared by A pixels, those of one
cell. The largest eigenvalue of a batch's noise is about the denominator of c, so any rate μ below 2 is stable.
"""

from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import carray

from fgnumba.kernels.emit import pointer
from fgnumba.kernels.machine.arguments import filled, record
from fgnumba.kernels.machine.compile import kernel
from fgnumba.kernels.machine.memory import address
from fgnumba.kernels.machine.program import Operation
from fgnumba.kernels.ops.feedback import COEFFICIENTS
from fgnumba.validation.launcher import launcher

_COPY = record("z", "z_block", "z_row", "batch", "slots", "classes", "response", "power")
_WEIGH = record(
    *("residual", "response", "noise", "power", "batch", "slots", "draws", "factor", "classes"),
    *("sites", "shares", "rate", "coefficients"),
)


@launcher
def bind_copy(
    z: npt.NDArray[np.float32], response: npt.NDArray[np.float32], power: npt.NDArray[np.float32]
) -> Operation:
    """Bind the copy of a dual buffer's tangents to ε.

    Parameters
    ----------
    z : array, (1 + S, B, ld) float32
        The dual buffer of the observed outputs.
    response : array, (S, B, C) float32
        Written: ε.
    power : array, (B,) float32
        Filled with zeros.

    Notes
    -----
    Cost: reads and writes S B C elements.
    """
    fields = {
        "z": address(z),
        "z_block": z.shape[1] * z.shape[2],
        "z_row": z.shape[2],
        "batch": z.shape[1],
        "slots": response.shape[0],
        "classes": response.shape[2],
        "response": address(response),
        "power": address(power),
    }
    return Operation("observed", _copy_entry(), filled(_COPY, fields), keeps=(z, response, power))


@cache
def _copy_entry() -> int:
    return kernel("residual-copy", _copy, 3)


def _copy(arguments: int, part: int, parts: int) -> None:
    a = carray(pointer(arguments, _COPY), 1)[0]
    response = carray(pointer(a.response, np.float32), (a.slots, a.batch, a.classes))
    power = carray(pointer(a.power, np.float32), a.batch)
    for i in range(a.batch):
        power[i] = np.float32(0)
        for t in range(a.slots):
            at = a.z + ((1 + t) * a.z_block + i * a.z_row) * 4
            z = carray(pointer(at, np.float32), a.classes)
            for c in range(a.classes):
                response[t, i, c] = z[c]


@launcher
def bind_weigh(
    *,
    residual: npt.NDArray[np.float32],
    response: npt.NDArray[np.float32],
    noise: npt.NDArray[np.float32],
    factor: float,
    draws: int,
    power: npt.NDArray[np.float32],
    rate: npt.NDArray[np.float64],
    shares: npt.NDArray[np.float64],
    coefficients: npt.NDArray[Any],
) -> Operation:
    """Bind r, the weights of the noise, and the coefficients of the feedback matrices.

    Parameters
    ----------
    residual : array, (B, C) float32
        e.
    response : array, (S, B, C) float32
        ε.
    noise : array, (S, B) float32
        Written: r.
    factor : float
        f, which is 1 / T.
    draws : int
        T, the number of draws of noise.
    power : array, (B,) float32
        Σ a'² of each example, over all units that had noise.
    rate : array, (1,) float64
        μ.
    shares : array, (L,) float64
        For each layer with feedback, the number A of pixels that share a matrix.
    coefficients : array, (L,) ``feedback.COEFFICIENTS``
        Written: k = 1 and c of each layer.

    Notes
    -----
    Cost: S B C multiply-adds.
    """
    slots, batch, classes = response.shape
    fields = {
        "residual": address(residual),
        "response": address(response),
        "noise": address(noise),
        "power": address(power),
        "batch": batch,
        "slots": slots,
        "draws": draws,
        "factor": int(np.float32(factor).view(np.int32)),
        "classes": classes,
        "sites": len(shares),
        "shares": address(shares),
        "rate": address(rate),
        "coefficients": address(coefficients),
    }
    keeps = (residual, response, noise, power, rate, shares, coefficients)
    return Operation("weighed", _weigh_entry(), filled(_WEIGH, fields), keeps=keeps)


@cache
def _weigh_entry() -> int:
    return kernel("residual-weigh", _weigh, 3)


def _weigh(arguments: int, part: int, parts: int) -> None:
    a = carray(pointer(arguments, _WEIGH), 1)[0]
    residual = carray(pointer(a.residual, np.float32), (a.batch, a.classes))
    response = carray(pointer(a.response, np.float32), (a.slots, a.batch, a.classes))
    noise = carray(pointer(a.noise, np.float32), (a.slots, a.batch))
    factor = np.int32(a.factor).view(np.float32)
    for t in range(a.slots):
        for i in range(a.batch):
            total = np.float32(0)
            for c in range(a.classes):
                total += residual[i, c] * response[t, i, c]
            noise[t, i] = factor * total
    if a.sites > 0:
        power = carray(pointer(a.power, np.float32), a.batch)
        total_power = np.float64(0)
        for i in range(a.batch):
            total_power += np.float64(power[i])
        shares = carray(pointer(a.shares, np.float64), a.sites)
        rate = carray(pointer(a.rate, np.float64), 1)[0]
        coefficients = carray(pointer(a.coefficients, COEFFICIENTS), a.sites)
        for k in range(a.sites):
            coefficients[k].keep = 1.0
            bound = total_power / a.batch + a.batch * a.draws * shares[k]
            coefficients[k].gain = rate / max(1.0, bound)
