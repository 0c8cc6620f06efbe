"""The losses of examples, and the cotangents of outputs, in example panels or by rows."""

from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import carray
from numba.extending import register_jitable

from fgnumba.kernels.emit import pointer
from fgnumba.kernels.emit.vector import PANEL
from fgnumba.kernels.layout.images import Images
from fgnumba.kernels.machine.arguments import filled, record
from fgnumba.kernels.machine.compile import kernel
from fgnumba.kernels.machine.memory import address
from fgnumba.kernels.machine.program import Operation
from fgnumba.kernels.machine.work import MOVED_WORK, parts_for, split
from fgnumba.kernels.rules.elementary import exp, log
from fgnumba.validation.launcher import launcher

_WRITTEN = ("batch", "width", "scale", "out", "panel", "example", "element", "padding")

LOSS = record("z", "ld", "targets", "losses", *_WRITTEN)
"""Arguments of a loss's reverse pass. It writes `losses`, (B,), and dz times the number `scale`."""

COTANGENT = record("residual", *_WRITTEN)
"""Arguments of the kernel that writes a residual times the number `scale`, divided by B."""

Written = npt.NDArray[np.float32] | Images
"""Where a cotangent is written: example panels (ceil(B / PANEL), at least N, PANEL), or rows, images of one pixel."""


def _written(
    out: Written, batch: int, width: int, scale: npt.NDArray[np.float64], threads: int
) -> tuple[dict[str, int], int, Any]:
    """Return the arguments in ``_WRITTEN``, the number of parts, which have whole panels, and what is kept alive."""
    fields = {"batch": batch, "width": width, "scale": address(scale)}
    if isinstance(out, Images):
        at = {"out": out.fields("x")["x"], "panel": PANEL * out.image, "example": out.image, "element": 1}
        keeps = out.memory
    else:
        at = {
            "out": address(out),
            "panel": out.shape[1] * PANEL,
            "example": 1,
            "element": PANEL,
            "padding": out.shape[1],
        }
        keeps = out
    parts = parts_for(batch * width * MOVED_WORK, -(-batch // PANEL), threads)
    return fields | at, parts, (keeps, scale)


@launcher
def bind_loss(
    entry: int,
    threads: int,
    *,
    z: npt.NDArray[np.float32],
    width: int,
    targets: npt.NDArray[Any],
    scale: npt.NDArray[np.float64],
    out: Written,
    losses: npt.NDArray[np.float64],
) -> Operation:
    """Bind one of the losses below.

    Parameters
    ----------
    entry : int
        Address of the loss's reverse pass.
    threads : int
        Number of threads that may share the work.
    z : array, (B, ld) float32
        The model's outputs.
    width : int
        Number of columns of z that are read.
    targets : array, B examples
        The targets.
    scale : array, (1,) float64
        A factor of dz.
    out : array or Images
        Written: dz. Example panels have zeros in the padding.
    losses : array, (B,) float64
        Written: the losses.
    """
    written, parts, keeps = _written(out, len(z), width, scale, threads)
    fields = {
        **written,
        "z": address(z),
        "ld": z.shape[1],
        "targets": address(targets),
        "losses": address(losses),
    }
    kept = (z, targets, losses, keeps)
    return Operation("loss", entry, filled(LOSS, fields), parts, scratch_bytes=width * 4, keeps=kept)


@launcher
def bind_cotangent(
    threads: int, *, residual: npt.NDArray[np.float32], scale: npt.NDArray[np.float64], out: Written
) -> Operation:
    """Bind dz = e / B, times the scale, where e is the gradient of each example's own loss.

    Parameters
    ----------
    threads : int
        Number of threads that may share the work.
    residual : array, (B, N) float32
        The gradients e.
    scale : array, (1,) float64
        A factor of dz.
    out : array or Images
        Written: dz. Example panels have zeros in the padding.
    """
    written, parts, keeps = _written(out, len(residual), residual.shape[1], scale, threads)
    fields = {**written, "residual": address(residual)}
    entry = kernel("reverse-residual", _cotangent, 3)
    return Operation("loss", entry, filled(COTANGENT, fields), parts, keeps=(residual, keeps))


def _cotangent(arguments: int, part: int, parts: int) -> None:
    a = carray(pointer(arguments, COTANGENT), 1)[0]
    first, last = _examples(a, part, parts)
    residual = carray(pointer(a.residual, np.float32), (a.batch, a.width))
    factor = carray(pointer(a.scale, np.float64), 1)[0] / a.batch
    for i in range(first, last):
        dz = carray(pointer(_place(a, i), np.float32), a.width * a.element)
        for n in range(a.width):
            dz[n * a.element] = factor * np.float64(residual[i, n])


@register_jitable
def _examples(a: Any, part: int, parts: int) -> tuple[int, int]:
    """Return the first and last (exclusive) example of a part, and clear its panels, whose padding stays so."""
    first, last = split((a.batch + PANEL - 1) // PANEL, parts, part)
    values = carray(pointer(a.out, np.float32), last * a.panel)
    for i in range(first * a.panel, last * a.panel if a.padding > 0 else 0):
        values[i] = np.float32(0)
    return first * PANEL, min(last * PANEL, a.batch)


@register_jitable
def _place(a: Any, i: int) -> int:
    """Return the address of the first element of example `i` in the cotangent."""
    return a.out + (i // PANEL * a.panel + i % PANEL * a.example) * 4


@cache
def softmax_cross_entropy() -> int:
    """Return the address of the reverse pass of softmax cross-entropy.

    It computes dz = (softmax(z) - onehot(y)) / B, times the scale. A target out of range makes the loss NaN, and dz 0.
    """
    return kernel("reverse-softmax-cross-entropy", _softmax_cross_entropy, 3)


def _softmax_cross_entropy(arguments: int, part: int, parts: int) -> None:
    a = carray(pointer(arguments, LOSS), 1)[0]
    first, last = _examples(a, part, parts)
    targets = carray(pointer(a.targets, np.int64), a.batch)
    losses = carray(pointer(a.losses, np.float64), a.batch)
    factor = np.float32(carray(pointer(a.scale, np.float64), 1)[0] / a.batch)
    e = carray(pointer(a.scratch, np.float32), a.width)
    for i in range(first, last):
        dz = carray(pointer(_place(a, i), np.float32), a.width * a.element)
        if targets[i] < 0 or targets[i] >= a.width:
            losses[i] = np.nan
            for n in range(a.width):
                dz[n * a.element] = np.float32(0)
            continue
        z = carray(pointer(a.z + i * a.ld * 4, np.float32), a.width)
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
            e[n] = factor * (e[n] / total - np.float32(n == targets[i]))
        for n in range(a.width):
            dz[n * a.element] = e[n]
        apart = np.float64(highest) - np.float64(z[targets[i]])
        losses[i] = np.float64(log(total)) + apart


@cache
def mean_squared_error() -> int:
    """Return the address of the reverse pass of the mean squared error: dz = 2 (z - y) / (B N), times the scale."""
    return kernel("reverse-mean-squared-error", _mean_squared_error, 3)


def _mean_squared_error(arguments: int, part: int, parts: int) -> None:
    a = carray(pointer(arguments, LOSS), 1)[0]
    first, last = _examples(a, part, parts)
    losses = carray(pointer(a.losses, np.float64), a.batch)
    factor = np.float32(2.0 * carray(pointer(a.scale, np.float64), 1)[0] / (a.batch * a.width))
    for i in range(first, last):
        z = carray(pointer(a.z + i * a.ld * 4, np.float32), a.width)
        y = carray(pointer(a.targets + i * a.width * 4, np.float32), a.width)
        dz = carray(pointer(_place(a, i), np.float32), a.width * a.element)
        total = np.float64(0)
        for n in range(a.width):
            difference = np.float64(z[n]) - np.float64(y[n])
            dz[n * a.element] = factor * difference
            total += difference * difference
        losses[i] = total / a.width
