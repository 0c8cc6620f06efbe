"""Attention on the CPU, primal and tangents in one pass over keys and values.

    S  = scale q kᵀ + mask                 p  = softmax(S)
    y  = Σ p m v
    dS = scale (dq kᵀ + q dkᵀ)             dy = Σ p m (dv + dS v) - y Σ p dS         for every direction

where m are dropout's factors. A query that sees no key has y = 0 and dy = 0.
"""

from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import carray
from numba.extending import register_jitable

from fgnumba.kernels.emit import philox_words, pointer
from fgnumba.kernels.emit.vector import InstructionSet
from fgnumba.kernels.layout import heads
from fgnumba.kernels.layout.heads import MASK_FIELDS, Heads, Mask
from fgnumba.kernels.machine.arguments import filled, lay_out, record
from fgnumba.kernels.machine.compile import kernel
from fgnumba.kernels.machine.memory import address
from fgnumba.kernels.machine.program import Operation
from fgnumba.kernels.machine.work import parts_for, split
from fgnumba.kernels.ops.attention import HEAD_SHIFT, KEY_BITS, QUERY_BITS, QUERY_SHIFT
from fgnumba.kernels.rules.philox import ATTENDED, PURPOSE_SHIFT, STREAM
from fgnumba.validation.launcher import launcher

_SHARED = (
    *("batch", "count", "groups", "query_heads", "queries", "keys", "size", "value_size"),
    *("scale", "causal", *MASK_FIELDS, "dropout", "threshold", "kept", "stream", "layer", "log_sum_exp"),
)
_ARGUMENTS = record(
    *heads.fields("q"),
    *heads.fields("k"),
    *heads.fields("v"),
    *heads.fields("y"),
    *_SHARED,
    *("dq", "dk", "dv", "at_sums", "at_weights", "at_slopes", "at_words"),
)
_GRADIENTS = record(
    *(name for operand in ("q", "k", "v", "y", "signal", "dq", "dk", "dv") for name in heads.fields(operand)),
    *_SHARED,
    "at_words",
)


@launcher
def bind(
    isa: InstructionSet,
    threads: int,
    *,
    batch: int,
    count: int,
    q: Heads,
    k: Heads,
    v: Heads,
    y: Heads,
    scale: float,
    causal: bool = False,
    mask: Mask | None = None,
    dropout: float = 0.0,
    stream: npt.NDArray[Any] | None = None,
    layer: int = 0,
    log_sum_exp: npt.NDArray[Any] | None = None,
) -> Operation:
    """Bind attention to its arrays.

    Parameters
    ----------
    isa : InstructionSet
        The instruction set to bind for.
    threads : int
        Number of threads that may share the work.
    batch : int
        Number of examples B.
    count : int
        Number of directions T.
    q : Heads
        Queries (H, Lq, D), float32 or float64, as all operands are.
    k, v : Heads
        Keys (G, Lk, D) and values (G, Lk, Dv). H is a multiple of G: query head h reads key head h // (H // G).
    y : Heads
        Written: (H, Lq, Dv), and its T tangents. It must not overlap the other operands.
    scale : float
        What scores are multiplied by.
    causal : bool
        Whether query i sees only keys up to i + Lk - Lq, so that the last query sees the last key.
    mask : Mask or None
        Which keys are seen, or what is added to the scores.
    dropout : float
        The share of p that is replaced by zero, at least 0 and below 1.
    stream : array, (1,) ``philox.STREAM``
        Seed and step, read when the operation runs. It may be None if `dropout` is 0.
    layer : int
        Number of the layer in the Philox counter.
    log_sum_exp : array, (B, H, Lq), or None
        Written, if it is there: the logarithm of the sum of the exponentials of S; -inf where no key is seen.
    """
    values, keeps = _shared(q, k, v, scale, causal, mask, dropout, stream, layer, log_sum_exp)
    dtype = q.memory.dtype
    n_heads, queries, _ = q.shape
    size, keys = v.shape[2], v.shape[1]
    tangents = count if q.has_tangent or k.has_tangent or v.has_tangent else 0
    offsets, end = lay_out(
        [
            ("at_sums", (1 + count) * size * dtype.itemsize),
            ("at_weights", count * dtype.itemsize),
            ("at_slopes", count * dtype.itemsize),
            ("at_words", 4 * isa.lanes * 4),
        ]
    )
    fields = {
        **q.fields("q"),
        **k.fields("k"),
        **v.fields("v"),
        **y.fields("y"),
        **values,
        **offsets,
        "batch": batch,
        "count": count,
        "dq": q.has_tangent,
        "dk": k.has_tangent,
        "dv": v.has_tangent,
    }
    work = batch * n_heads * queries * keys * (q.shape[2] + size) * (1 + tangents)
    return Operation(
        "attention",
        _entry(isa, dtype.name),
        filled(_ARGUMENTS, fields),
        parts_for(work, batch * n_heads * queries, threads),
        scratch_bytes=end,
        multiply_adds=work,
        keeps=(q.memory, k.memory, v.memory, y.memory, *keeps),
    )


def _shared(
    q: Heads,
    k: Heads,
    v: Heads,
    scale: float,
    causal: bool,
    mask: Mask | None,
    dropout: float,
    stream: npt.NDArray[Any] | None,
    layer: int,
    log_sum_exp: npt.NDArray[Any] | None,
) -> tuple[dict[str, int], tuple[Any, ...]]:
    """Return the arguments that both kernels have, and what must be kept alive."""
    dtype = q.memory.dtype
    kept = 1 / (1 - dropout) if dropout else 1.0
    values = {
        "groups": k.shape[0],
        "query_heads": q.shape[0],
        "queries": q.shape[1],
        "keys": k.shape[1],
        "size": q.shape[2],
        "value_size": v.shape[2],
        "scale": bits(scale, dtype),
        "causal": causal,
        **(mask.fields() if mask else {}),
        "dropout": dropout > 0,
        "threshold": round(dropout * 2**32),
        "kept": bits(kept, dtype),
        "stream": address(stream) if stream is not None else 0,
        "layer": layer,
        "log_sum_exp": address(log_sum_exp) if log_sum_exp is not None else 0,
    }
    return values, (mask, stream, log_sum_exp)


def bits(value: float, dtype: np.dtype[Any]) -> int:
    """Return the bits of a number of `dtype`, which a record of arguments holds."""
    return int(dtype.type(value).view(np.int32 if dtype.itemsize == 4 else np.int64))


@cache
def _entry(isa: InstructionSet, dtype: str) -> int:
    element, number = np.dtype(dtype).itemsize, np.dtype(dtype).type
    score, factor, number_of = _score(isa, dtype), _factor(isa, dtype), _number_of(dtype)

    @register_jitable
    def values(at: int, n: int) -> Any:
        return carray(pointer(at, number), n)

    @register_jitable
    def row(operand: int, block: int, example: int, head: int, row_: int, n: int) -> Any:
        return carray(pointer(operand + (block + example + head + row_) * element, number), n)

    def attention(arguments: int, part: int, parts: int) -> None:
        a = carray(pointer(arguments, _ARGUMENTS), 1)[0]
        first, last = split(a.batch * a.query_heads * a.queries, parts, part)
        scale = number_of(a.scale)
        sums = carray(pointer(a.scratch + a.at_sums, number), (1 + a.count, a.value_size))
        weights = values(a.scratch + a.at_weights, a.count)
        for index in range(first, last):
            i, rest = index // (a.query_heads * a.queries), index % (a.query_heads * a.queries)
            h, r = rest // a.queries, rest % a.queries
            g = h // (a.query_heads // a.groups)
            q = row(a.q, 0, i * a.q_example, h * a.q_head, r * a.q_row, a.size)
            top, total = number(-np.inf), number(0)
            for t in range(1 + a.count):
                for c in range(a.value_size):
                    sums[t, c] = number(0)
            for t in range(a.count):
                weights[t] = number(0)
            seen = 0
            for j in range(a.keys):
                k = row(a.k, 0, i * a.k_example, g * a.k_head, j * a.k_row, a.size)
                visible, s = score(a, i, h, r, j, q, k, scale)
                if not visible:
                    continue
                seen += 1
                new = max(s, top)
                old = number(1) if new == top else number(np.exp(top - new))
                p, m = number(np.exp(s - new)), factor(a, i, h, r, j)
                top, total = new, total * old + p
                v = row(a.v, 0, i * a.v_example, g * a.v_head, j * a.v_row, a.value_size)
                for c in range(a.value_size):
                    sums[0, c] = sums[0, c] * old + p * m * v[c]
                for t in range(a.count):
                    ds = number(0)
                    if a.dq:
                        dq = row(a.q, (t + 1) * a.q_block, i * a.q_example, h * a.q_head, r * a.q_row, a.size)
                        for c in range(a.size):
                            ds += dq[c] * k[c]
                    if a.dk:
                        dk = row(a.k, (t + 1) * a.k_block, i * a.k_example, g * a.k_head, j * a.k_row, a.size)
                        for c in range(a.size):
                            ds += q[c] * dk[c]
                    slope = p * (scale * ds)
                    weights[t] = weights[t] * old + slope
                    for c in range(a.value_size):
                        sums[t + 1, c] = sums[t + 1, c] * old + slope * m * v[c]
                    if a.dv:
                        dv = row(
                            a.v, (t + 1) * a.v_block, i * a.v_example, g * a.v_head, j * a.v_row, a.value_size
                        )
                        for c in range(a.value_size):
                            sums[t + 1, c] += p * m * dv[c]
            over = number(1) / total if seen else number(0)
            for t in range(1 + a.count):
                y = row(a.y, t * a.y_block, i * a.y_example, h * a.y_head, r * a.y_row, a.value_size)
                for c in range(a.value_size):
                    y[c] = sums[t, c] * over
                    if t > 0:
                        y[c] -= sums[0, c] * over * (weights[t - 1] * over)
            if a.log_sum_exp != 0:
                out = values(a.log_sum_exp, a.batch * a.query_heads * a.queries)
                out[index] = top + number(np.log(total)) if seen else number(-np.inf)

    return kernel(f"attention-{dtype}-{isa.name}", attention, 3)


def _number_of(dtype: str) -> Any:
    wide = np.dtype(dtype).itemsize == 8

    @register_jitable
    def number_of(bits: int) -> Any:
        return np.int64(bits).view(np.float64) if wide else np.int32(bits).view(np.float32)

    return number_of


def _score(isa: InstructionSet, dtype: str) -> Any:
    number = np.dtype(dtype).type

    @register_jitable
    def score(a: Any, i: int, h: int, r: int, j: int, q: Any, k: Any, scale: Any) -> Any:
        if a.causal and j > r + a.keys - a.queries:
            return False, number(0)
        s, added = number(0), number(0)
        if a.mask != 0:
            at = i * a.mask_example + h * a.mask_head + r * a.mask_row + j
            if a.mask_boolean:
                if carray(pointer(a.mask, np.uint8), at + 1)[at] == 0:
                    return False, number(0)
            else:
                added = carray(pointer(a.mask, number), at + 1)[at]
                if added == number(-np.inf):
                    return False, number(0)
        for c in range(a.size):
            s += q[c] * k[c]
        return True, s * scale + added

    return score


def _factor(isa: InstructionSet, dtype: str) -> Any:
    number, words = np.dtype(dtype).type, philox_words(isa, along_row=False)
    number_of = _number_of(dtype)

    @register_jitable
    def factor(a: Any, i: int, h: int, r: int, j: int) -> Any:
        if not a.dropout:
            return number(1)
        stream = carray(pointer(a.stream, STREAM), 1)[0]
        out = a.scratch + a.at_words
        words(
            ((r & ((1 << QUERY_BITS) - 1)) << KEY_BITS) + j // 4,
            (ATTENDED << PURPOSE_SHIFT) + i,
            ((r >> QUERY_BITS) << QUERY_SHIFT) + (h << HEAD_SHIFT) + a.layer,
            stream.step,
            stream.key_low,
            stream.key_high,
            out,
        )
        kept = number_of(a.kept)
        return kept if np.int64(carray(pointer(out, np.uint32), 4)[j % 4]) >= a.threshold else number(0)

    return factor


@launcher
def bind_gradients(
    isa: InstructionSet,
    threads: int,
    *,
    batch: int,
    q: Heads,
    k: Heads,
    v: Heads,
    y: Heads,
    signal: Heads,
    log_sum_exp: npt.NDArray[Any],
    dq: Heads,
    dk: Heads,
    dv: Heads,
    scale: float,
    causal: bool = False,
    mask: Mask | None = None,
    dropout: float = 0.0,
    stream: npt.NDArray[Any] | None = None,
    layer: int = 0,
) -> list[Operation]:
    """Bind attention's slope in closed form, from the error signal of y to those of q, k and v.

        D_i = Σ_c signal_ic y_ic        dp = m (signal vᵀ)        dS = p (dp - D)
        dq = scale dS k                 dk = scale dSᵀ q          dv = (p m)ᵀ signal

    Parameters
    ----------
    isa, threads, batch, q, k, v, y, scale, causal, mask, dropout, stream, layer :
        As those of :func:`bind`. Only the primals are read.
    signal : Heads
        The error signal of y, (H, Lq, Dv).
    log_sum_exp : array, (B, H, Lq)
        What :func:`bind` wrote.
    dq, dk, dv : Heads
        Written: error signals of q, k and v, with their shapes. Of keys and values that several heads read, the sums.
    """
    values, keeps = _shared(q, k, v, scale, causal, mask, dropout, stream, layer, log_sum_exp)
    operands = {"q": q, "k": k, "v": v, "y": y, "signal": signal, "dq": dq, "dk": dk, "dv": dv}
    places = {key: value for name, operand in operands.items() for key, value in operand.fields(name).items()}
    offsets, end = lay_out([("at_words", 4 * isa.lanes * 4)])
    n_heads, queries, size = q.shape
    work = batch * n_heads * queries * k.shape[1] * (3 * size + 2 * v.shape[2])
    return [
        Operation(
            "attention-gradients",
            _gradients_entry(isa, q.memory.dtype.name),
            filled(_GRADIENTS, places | values | offsets | {"batch": batch}),
            parts_for(work, batch * k.shape[0], threads),
            scratch_bytes=end,
            multiply_adds=work,
            keeps=(*(operand.memory for operand in operands.values()), *keeps),
        )
    ]


@cache
def _gradients_entry(isa: InstructionSet, dtype: str) -> int:
    element, number = np.dtype(dtype).itemsize, np.dtype(dtype).type
    score, factor, number_of = _score(isa, dtype), _factor(isa, dtype), _number_of(dtype)

    @register_jitable
    def row(operand: int, example: int, head: int, row_: int, n: int) -> Any:
        return carray(pointer(operand + (example + head + row_) * element, number), n)

    def gradients(arguments: int, part: int, parts: int) -> None:
        a = carray(pointer(arguments, _GRADIENTS), 1)[0]
        first, last = split(a.batch * a.groups, parts, part)
        scale = number_of(a.scale)
        each = a.query_heads // a.groups
        sums = carray(pointer(a.log_sum_exp, number), a.batch * a.query_heads * a.queries)
        for index in range(first, last):
            i, g = index // a.groups, index % a.groups
            for j in range(a.keys):
                dk = row(a.dk, i * a.dk_example, g * a.dk_head, j * a.dk_row, a.size)
                dv = row(a.dv, i * a.dv_example, g * a.dv_head, j * a.dv_row, a.value_size)
                for c in range(a.size):
                    dk[c] = number(0)
                for c in range(a.value_size):
                    dv[c] = number(0)
            for h in range(g * each, (g + 1) * each):
                for r in range(a.queries):
                    q = row(a.q, i * a.q_example, h * a.q_head, r * a.q_row, a.size)
                    dq = row(a.dq, i * a.dq_example, h * a.dq_head, r * a.dq_row, a.size)
                    y = row(a.y, i * a.y_example, h * a.y_head, r * a.y_row, a.value_size)
                    signal = row(
                        a.signal, i * a.signal_example, h * a.signal_head, r * a.signal_row, a.value_size
                    )
                    whole = number(0)
                    for c in range(a.value_size):
                        whole += signal[c] * y[c]
                    for c in range(a.size):
                        dq[c] = number(0)
                    for j in range(a.keys):
                        k = row(a.k, i * a.k_example, g * a.k_head, j * a.k_row, a.size)
                        visible, s = score(a, i, h, r, j, q, k, scale)
                        if not visible:
                            continue
                        v = row(a.v, i * a.v_example, g * a.v_head, j * a.v_row, a.value_size)
                        dk = row(a.dk, i * a.dk_example, g * a.dk_head, j * a.dk_row, a.size)
                        dv = row(a.dv, i * a.dv_example, g * a.dv_head, j * a.dv_row, a.value_size)
                        p = number(np.exp(s - sums[(i * a.query_heads + h) * a.queries + r]))
                        m = factor(a, i, h, r, j)
                        dp = number(0)
                        for c in range(a.value_size):
                            dp += signal[c] * v[c]
                            dv[c] += p * m * signal[c]
                        ds = scale * (p * (dp * m - whole))
                        for c in range(a.size):
                            dq[c] += ds * k[c]
                            dk[c] += ds * q[c]

    return kernel(f"attention-gradients-{dtype}-{isa.name}", gradients, 3)
