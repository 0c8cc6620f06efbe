"""Error signals of queries, keys and values on the CPU, from the tangent of attention along noise on them.

If the tangents of queries, keys and values are signs ε, and ȯ is that of attention's output o, of which e is the error
signal, then e_t · ȯ_t is the slope of the loss at position t along ε, and

    d_t = e_t · ȯ_t
    out = d_t ε_t                      for a query t
    out = (Σ_t d_t) ε_s                for a key or a value s; the sum is over the positions t that see s

are estimates of their error signals without a bias: signs are independent, so that all other terms are zero in the
mean. With causal attention, t sees s if t >= s. What one head computes does not depend on the noise of others: head by
head, d_t is taken over the head's own columns, and the estimate has less noise.

Source: J. Werfel, X. Xie, H. S. Seung, Neural Computation 17 (2005), node perturbation.
"""

from typing import Any

import numpy as np
from numba import carray
from numba.extending import register_jitable

from fgnumba.kernels.emit import pointer
from fgnumba.kernels.layout import images
from fgnumba.kernels.layout.images import Images, operands
from fgnumba.kernels.machine.arguments import filled, record
from fgnumba.kernels.machine.compile import kernel
from fgnumba.kernels.machine.program import Operation
from fgnumba.kernels.machine.work import ELEMENT_WORK, parts_for, split
from fgnumba.kernels.ops.attention_noise import Ranges, ranges
from fgnumba.validation.launcher import launcher

_OPERANDS = ("signal", "tangent", "signs", "out")
_ARGUMENTS = record(
    *(field for name in _OPERANDS for field in images.fields(name)),
    *("batch", "length", "causal", *Ranges._fields),
)


@launcher
def bind_estimate(
    threads: int,
    *,
    batch: int,
    signal: Images,
    tangent: Images,
    signs: Images,
    out: Images,
    heads: int,
    key_heads: int,
    causal: bool,
    by_head: bool = True,
) -> Operation:
    """Bind the error signals of queries, keys and values.

    Parameters
    ----------
    threads : int
        Number of threads that may share the work.
    batch : int
        Number of examples B.
    signal, tangent : Images
        e and ȯ: sequences (L, 1, H D), head beside head.
    signs : Images
        ε: sequences (L, 1, (H + 2 G) D), whose columns are the queries of all heads, then keys, then values.
    out : Images
        Written: the error signals, of the same shape as `signs`. It may be the same memory as `signs`.
    heads, key_heads : int
        H, and G, the number of heads of keys and of values. Query head h reads key head h // (H // G).
    causal : bool
        Whether query t sees the keys s <= t alone; else it sees all.
    by_head : bool
        Whether d_t is taken over the columns of each head. Keys and values have the sum over the heads that read them.

    Notes
    -----
    Cost: reads signal, tangent and signs once and writes out once; a multiply-add for each element of signal. Sums over
    positions are float64.
    """
    length, _, columns = signal.shape
    parted = ranges(heads, key_heads, columns // heads, by_head)
    values, memory = operands(signal=signal, tangent=tangent, signs=signs, out=out)
    fields = {**values, **parted._asdict(), "batch": batch, "length": length, "causal": causal}
    units = batch * parted.groups
    parts = parts_for(batch * length * (columns + out.shape[2]) * ELEMENT_WORK, units, threads)
    scratch = length * parted.heads * 4
    entry = kernel("attention-noise", _estimate, 3)
    return Operation(
        "attention-noise", entry, filled(_ARGUMENTS, fields), parts, scratch_bytes=scratch, **memory
    )


def _estimate(arguments: int, part: int, parts: int) -> None:
    a = carray(pointer(arguments, _ARGUMENTS), 1)[0]
    first, last = split(a.batch * a.groups, parts, part)
    slopes = carray(pointer(a.scratch, np.float32), (a.length, a.heads))
    all_queries, all_keys = a.groups * a.heads * a.queries, a.groups * a.keys
    for unit in range(first, last):
        i, group = unit // a.groups, unit % a.groups
        total = 0.0
        for t in range(a.length):
            row, of_tangent = i * a.signal_image + t * a.signal_row, i * a.tangent_image + t * a.tangent_row
            for h in range(a.heads):
                column = (group * a.heads + h) * a.queries
                signal = carray(pointer(a.signal + (row + column) * 4, np.float32), a.queries)
                tangent = carray(pointer(a.tangent + (of_tangent + column) * 4, np.float32), a.queries)
                slopes[t, h] = _product(signal, tangent)
                total += np.float64(slopes[t, h])
        later = 0.0
        for t in range(a.length - 1, -1, -1):
            signs = a.signs + (i * a.signs_image + t * a.signs_row) * 4
            out = a.out + (i * a.out_image + t * a.out_row) * 4
            for h in range(a.heads):
                later += np.float64(slopes[t, h])
                _scale(slopes[t, h], (group * a.heads + h) * a.queries, a.queries, signs, out)
            seen = np.float32(later if a.causal else total)
            _scale(seen, all_queries + group * a.keys, a.keys, signs, out)
            _scale(seen, all_queries + all_keys + group * a.keys, a.keys, signs, out)


@register_jitable(fastmath={"contract", "nsz", "reassoc"})
def _product(x: Any, y: Any) -> np.float32:
    total = np.float32(0)
    for c in range(x.size):
        total += x[c] * y[c]
    return total


@register_jitable
def _scale(factor: np.float32, column: int, columns: int, signs: int, out: int) -> None:
    """Write some columns of a row: signs times a factor."""
    source = carray(pointer(signs + column * 4, np.float32), columns)
    if signs == out:
        for c in range(columns):
            source[c] *= factor
    else:
        target = carray(pointer(out + column * 4, np.float32), columns)
        for c in range(columns):
            target[c] = factor * source[c]
