"""Residuals on the CPU: what the noise of each example says of a loss, from the tangents of what the loss reads.

    copy       ε_t = ȯ_t                          the tangents of the observed outputs
    weigh      r_it = f e_i · ε_it                e_i = ∂f_i/∂o_i; c = μ / (mean_i Σ a'² + B T A)

After a feedback's prediction has been taken from ε, r is what the feedback does not know. c is the gain of a
normalised least-mean-squares filter (``kernels.ops.feedback``) whose matrices are shared by A pixels: the greatest
eigenvalue of a batch's noise is about its denominator, so that any rate μ below 2 is stable.
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
    """Bind the copy of a dual buffer's tangents, `z` (1 + S, B, ld), to `response` (S, B, C); `power` (B,) becomes 0.

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
    """Bind the weights of the noise.

    Parameters
    ----------
    residual : (B, C) e. response : (S, B, C) ε. noise : (S, B), r is written to it. factor : f, 1 / T. draws : T.
    power : (B,), which add up to Σ a'² over all units of all examples that had noise.
    rate : (1,) μ. shares : (L,), A of each layer. coefficients : (L,) ``feedback.COEFFICIENTS``, written.

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
