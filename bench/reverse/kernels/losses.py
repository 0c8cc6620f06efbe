"""The losses of examples, and the cotangents of outputs in example panels."""

from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import carray
from numba.extending import register_jitable

from fgnumba.kernels.emit import pointer
from fgnumba.kernels.emit.vector import PANEL
from fgnumba.kernels.machine.arguments import filled, record
from fgnumba.kernels.machine.compile import kernel
from fgnumba.kernels.machine.memory import address
from fgnumba.kernels.machine.program import Operation
from fgnumba.kernels.rules.elementary import exp, log
from fgnumba.validation.launcher import launcher

LOSS = record("z", "ld", "batch", "width", "targets", "scale", "by_examples", "rows", "panels", "losses")
"""Arguments of a loss's reverse pass. It writes `losses`, (B,), and dz times the number `scale` to `by_examples`."""

COTANGENT = record("residual", "batch", "width", "scale", "by_examples", "rows", "panels")
"""Arguments of the kernel that writes a residual to `by_examples`, times the number `scale` and divided by B."""


@launcher
def bind_loss(
    entry: int,
    *,
    z: npt.NDArray[np.float32],
    width: int,
    targets: npt.NDArray[Any],
    scale: npt.NDArray[np.float64],
    by_examples: npt.NDArray[np.float32],
    losses: npt.NDArray[np.float64],
) -> Operation:
    """Bind one of the losses below.

    Parameters
    ----------
    entry : int
        Address of the loss's reverse pass.
    z : array, (B, ld) float32
        The model's outputs.
    width : int
        Number of columns of z that are read.
    targets : array, B examples
        The targets.
    scale : array, (1,) float64
        A factor of dz.
    by_examples : array, (ceil(B / PANEL), at least width, PANEL) float32
        Written: dz in example panels, with zeros in the padding.
    losses : array, (B,) float64
        Written: the losses.
    """
    fields = {
        "z": address(z),
        "ld": z.shape[1],
        "batch": len(z),
        "width": width,
        "targets": address(targets),
        "scale": address(scale),
        "by_examples": address(by_examples),
        "rows": by_examples.shape[1],
        "panels": by_examples.shape[0],
        "losses": address(losses),
    }
    keeps = (z, targets, scale, by_examples, losses)
    return Operation("loss", entry, filled(LOSS, fields), scratch_bytes=width * 4, keeps=keeps)


@launcher
def bind_cotangent(
    *,
    residual: npt.NDArray[np.float32],
    scale: npt.NDArray[np.float64],
    by_examples: npt.NDArray[np.float32],
) -> Operation:
    """Bind dz = e / B, times the scale, where e is the gradient of each example's own loss.

    Parameters
    ----------
    residual : array, (B, N) float32
        The gradients e.
    scale : array, (1,) float64
        A factor of dz.
    by_examples : array, (ceil(B / PANEL), at least N, PANEL) float32
        Written: dz in example panels, with zeros in the padding.
    """
    fields = {
        "residual": address(residual),
        "batch": len(residual),
        "width": residual.shape[1],
        "scale": address(scale),
        "by_examples": address(by_examples),
        "rows": by_examples.shape[1],
        "panels": by_examples.shape[0],
    }
    entry = kernel("reverse-residual", _cotangent, 3)
    return Operation("loss", entry, filled(COTANGENT, fields), keeps=(residual, scale, by_examples))


def _cotangent(arguments: int, part: int, parts: int) -> None:
    a = carray(pointer(arguments, COTANGENT), 1)[0]
    _clear(a)
    residual = carray(pointer(a.residual, np.float32), (a.batch, a.width))
    factor = carray(pointer(a.scale, np.float64), 1)[0] / a.batch
    for i in range(a.batch):
        at = a.by_examples + (i // PANEL * a.rows * PANEL + i % PANEL) * 4
        dz = carray(pointer(at, np.float32), (a.width, PANEL))
        for n in range(a.width):
            dz[n, 0] = factor * np.float64(residual[i, n])


@register_jitable
def _clear(a: Any) -> None:
    """Fill the cotangent with zeros, which remain in its padding."""
    values = carray(pointer(a.by_examples, np.float32), a.panels * a.rows * PANEL)
    for i in range(a.panels * a.rows * PANEL):
        values[i] = np.float32(0)


@cache
def softmax_cross_entropy() -> int:
    """Return the address of the reverse pass of softmax cross-entropy.

    It computes dz = (softmax(z) - onehot(y)) / B, times the scale. A target out of range makes the loss NaN, and dz 0.
    """
    return kernel("reverse-softmax-cross-entropy", _softmax_cross_entropy, 3)


def _softmax_cross_entropy(arguments: int, part: int, parts: int) -> None:
    a = carray(pointer(arguments, LOSS), 1)[0]
    _clear(a)
    targets = carray(pointer(a.targets, np.int64), a.batch)
    losses = carray(pointer(a.losses, np.float64), a.batch)
    factor = np.float32(carray(pointer(a.scale, np.float64), 1)[0] / a.batch)
    e = carray(pointer(a.scratch, np.float32), a.width)
    for i in range(a.batch):
        if targets[i] < 0 or targets[i] >= a.width:
            losses[i] = np.nan
            continue
        z = carray(pointer(a.z + i * a.ld * 4, np.float32), a.width)
        at = a.by_examples + (i // PANEL * a.rows * PANEL + i % PANEL) * 4
        dz = carray(pointer(at, np.float32), (a.width, PANEL))
        highest = z[0]
        for n in range(1, a.width):
            highest = max(highest, z[n])
        for n in range(a.width):
            e[n] = exp(z[n] - highest)
        sums = np.float64(0)
        for n in range(a.width):
            sums += np.float64(e[n])
        total = np.float32(sums)
        for n in range(a.width):
            dz[n, 0] = factor * (e[n] / total - np.float32(n == targets[i]))
        apart = np.float64(highest) - np.float64(z[targets[i]])
        losses[i] = np.float64(log(total)) + apart


@cache
def mean_squared_error() -> int:
    """Return the address of the reverse pass of the mean squared error: dz = 2 (z - y) / (B N), times the scale."""
    return kernel("reverse-mean-squared-error", _mean_squared_error, 3)


def _mean_squared_error(arguments: int, part: int, parts: int) -> None:
    a = carray(pointer(arguments, LOSS), 1)[0]
    _clear(a)
    losses = carray(pointer(a.losses, np.float64), a.batch)
    factor = np.float32(2.0 * carray(pointer(a.scale, np.float64), 1)[0] / (a.batch * a.width))
    for i in range(a.batch):
        z = carray(pointer(a.z + i * a.ld * 4, np.float32), a.width)
        y = carray(pointer(a.targets + i * a.width * 4, np.float32), a.width)
        at = a.by_examples + (i // PANEL * a.rows * PANEL + i % PANEL) * 4
        dz = carray(pointer(at, np.float32), (a.width, PANEL))
        total = np.float64(0)
        for n in range(a.width):
            difference = np.float64(z[n]) - np.float64(y[n])
            dz[n, 0] = factor * difference
            total += difference * difference
        losses[i] = total / a.width
