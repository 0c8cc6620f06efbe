"""Slopes of normalisations on the CPU: each row's signal, times the transposed Jacobian J(x) of its normalisation.

    x̂   = (x - μ) r,  r = 1 / √(σ² + ε)           layer normalisation
    x̂   = r x,        r = 1 / √(mean(x²) + ε)      root mean square normalisation
    d   = s ⊙ signal
    out = base + r (d - mean(d) - x̂ mean(x̂ d))     mean(d): layer normalisation alone; means over a row's C numbers

J is symmetric, so that Jᵀ d has the formula of the tangent J d. For the mean and variance see
:mod:`fgnumba.kernels.rules.moments`.

Sources: J. L. Ba, J. R. Kiros, G. E. Hinton, arXiv 1607.06450; B. Zhang, R. Sennrich, arXiv 1910.07467.
"""

import numpy as np
import numpy.typing as npt
from numba import carray

from fgnumba.errors import ConfigError
from fgnumba.kernels.emit import pointer
from fgnumba.kernels.emit.vector import PANEL, InstructionSet
from fgnumba.kernels.layout import images
from fgnumba.kernels.layout.images import Images, operands
from fgnumba.kernels.machine.arguments import filled, record
from fgnumba.kernels.machine.compile import kernel
from fgnumba.kernels.machine.memory import address, round_up
from fgnumba.kernels.machine.program import Operation
from fgnumba.kernels.machine.work import ELEMENT_WORK, parts_for, split
from fgnumba.kernels.ops.normalization_slope import KINDS, LAYER_NORM
from fgnumba.kernels.rules import moments
from fgnumba.validation.launcher import launcher

_OPERANDS = ("x", "signal", "out", "base", "normalized")
_ARGUMENTS = record(
    *(field for name in _OPERANDS for field in images.fields(name)),
    *("batch", "channels", "epsilon", "scale", "padded", "has_base", "in_place", "keeps_normalized"),
)

ROW_WORK = 4 * ELEMENT_WORK
"""Multiply-adds that take as long as an element of a row: it is read and written four times, mostly in the cache."""


@launcher
def bind(
    isa: InstructionSet,
    threads: int,
    *,
    batch: int,
    kind: str,
    x: Images,
    signal: Images,
    out: Images,
    base: Images | None = None,
    scale: npt.NDArray[np.float32] | None = None,
    epsilon: float,
    normalized: Images | None = None,
) -> Operation:
    """Bind the slope of a normalisation to its arrays.

    Parameters
    ----------
    isa : InstructionSet
        The instruction set to bind for.
    threads : int
        Number of threads that may share the work.
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
    scale : array, (at least C,) float32, or None
        s. None: ones.
    epsilon : float
        ε, above 0.
    normalized : Images or None
        Written: x̂. None: it is not kept.

    Raises
    ------
    ConfigError
        There is no such kind.

    Notes
    -----
    Cost: reads x, signal and base once from memory and writes out (and x̂) once; what is read again is in the
    first-level cache.
    """
    if kind not in KINDS:
        raise ConfigError(f"kind is {kind!r}; one of {', '.join(KINDS)} is required")
    channels = x.shape[2]
    given = {"x": x, "signal": signal, "out": out, "base": base, "normalized": normalized}
    values, memory = operands(**{name: one or out for name, one in given.items()})
    padded = round_up(channels, PANEL)
    fields = {
        **values,
        "batch": batch,
        "channels": channels,
        "epsilon": int(np.float32(epsilon).view(np.int32)),
        "scale": address(scale),
        "padded": padded,
        "has_base": base is not None,
        "in_place": base is not None and values["base"] == values["out"],
        "keeps_normalized": normalized is not None,
    }
    memory["keeps"] = (memory["keeps"], scale)
    return Operation(
        f"{kind.replace('_', '-')}-slope",
        _entry(kind),
        filled(_ARGUMENTS, fields),
        parts_for(batch * channels * ROW_WORK, batch, threads),
        scratch_bytes=2 * padded * 4,
        **memory,
    )


def _entry(kind: str) -> int:
    centred = kind == LAYER_NORM

    def slope(arguments: int, part: int, parts: int) -> None:
        a = carray(pointer(arguments, _ARGUMENTS), 1)[0]
        first, last = split(a.batch, parts, part)
        channels, share = a.channels, np.float32(1.0 / a.channels)
        epsilon = np.int32(a.epsilon).view(np.float32)
        normals, moved_at = a.scratch, a.scratch + a.padded * 4
        normal = carray(pointer(normals, np.float32), channels)
        moved = carray(pointer(moved_at, np.float32), channels)
        scale = carray(pointer(a.scale, np.float32), channels)
        for row in range(first, last):
            x_at = a.x + row * a.x_image * 4
            signal = carray(pointer(a.signal + row * a.signal_image * 4, np.float32), channels)
            out = carray(pointer(a.out + row * a.out_image * 4, np.float32), channels)
            offset = np.float32(0)
            if centred:
                factor, left, inverse = moments.centre(x_at, channels, share, epsilon, normals)
                offset = left * inverse
            else:
                factor, inverse = moments.scale(x_at, channels, share, epsilon, normals)
            own_factor = moments.tangent_factor(inverse, factor)
            for c in range(channels):
                normal[c] = normal[c] * inverse - offset
            if a.keeps_normalized:
                kept = carray(pointer(a.normalized + row * a.normalized_image * 4, np.float32), channels)
                for c in range(channels):
                    kept[c] = normal[c]
            if a.scale:
                for c in range(channels):
                    moved[c] = scale[c] * signal[c]
            else:
                for c in range(channels):
                    moved[c] = signal[c]
            # Where out is base, a loop over both would not become vector code: they overlap.
            if centred:
                own, high, low, dot = moments.project(normals, moved_at, channels, share, own_factor)
                gain = inverse * (factor / own)
                for c in range(channels):
                    moved[c] = gain * (moments.centred(moved[c], own, high, low) - normal[c] * dot)
            else:
                own, dot = moments.project_whole(normals, moved_at, channels, share, own_factor)
                gain = inverse * (factor / own)
                for c in range(channels):
                    moved[c] = gain * (moved[c] * own - normal[c] * dot)
            if a.in_place:
                for c in range(channels):
                    out[c] += moved[c]
            elif a.has_base:
                base = carray(pointer(a.base + row * a.base_image * 4, np.float32), channels)
                for c in range(channels):
                    out[c] = base[c] + moved[c]
            else:
                for c in range(channels):
                    out[c] = moved[c]

    return kernel(f"{kind.replace('_', '-')}-slope", slope, 3)
