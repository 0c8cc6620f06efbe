"""Attention on a GPU, primal and tangents in one pass over keys and values; see ``cpu``.

    S  = scale q kᵀ + mask                 p  = softmax(S)
    y  = Σ p m v
    dS = scale (dq kᵀ + q dkᵀ)             dy = Σ p m (dv + dS v) - y Σ p dS         for every direction

``tiles_cuda`` says how threads share the work, ``forward_cuda`` and ``gradients_cuda`` have the kernels.
Source: T. Dao et al., FlashAttention, arXiv 2205.14135.
"""

from typing import Any

from fgnumba.kernels.cuda.layout import blocks_for
from fgnumba.kernels.cuda.memory import DeviceArray
from fgnumba.kernels.cuda.primitives import WARP
from fgnumba.kernels.cuda.program import Launch, Operation
from fgnumba.kernels.layout.heads import Heads, Mask
from fgnumba.kernels.machine.memory import address
from fgnumba.kernels.ops.attention.forward_cuda import DUAL, PRIMAL
from fgnumba.kernels.ops.attention.gradients_cuda import Known, find_dots, to_keys, to_queries
from fgnumba.kernels.ops.attention.loads_cuda import COLUMNS, SIDE, operand, sizes
from fgnumba.kernels.ops.attention.scores_cuda import dropped, seen
from fgnumba.validation.launcher import launcher


@launcher
def bind(
    isa: Any,
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
    stream: Any = None,
    layer: int = 0,
    log_sum_exp: Any = None,
) -> Operation:
    """Bind attention to its arrays, as ``cpu.bind`` does.

    Parameters
    ----------
    isa, threads : object, int
        Not used.
    batch : int
        Number of examples B.
    count : int
        Number of directions T.
    q : Heads
        Queries (H, Lq, D), float32, as all operands are.
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
    stream : DeviceArray, (1,) ``philox.STREAM``, or None
        Seed and step, read when the operation runs. It may be None if `dropout` is 0.
    layer : int
        Number of the layer in the Philox counter.
    log_sum_exp : DeviceArray, (B, H, Lq), or None
        Written, if it is there: the logarithm of the sum of the exponentials of S; -inf where no key is seen.

    Returns
    -------
    Operation
        The launch.

    Notes
    -----
    Cost: for each direction, Lq Lk (3 D + 3 Dv) multiply-adds a head, since each computes the scores again; without
    directions Lq Lk (D + Dv); half of that where attention is causal. Scores are computed again for every 64 columns
    of values. Reads q once and k and v once for every 32 queries, through the second-level cache.
    """
    heads, queries, size = q.shape
    tiles = -(-queries // SIDE)
    arguments = {
        "q": operand(q),
        "k": operand(k),
        "v": operand(v),
        "y": operand(y),
        "n": sizes(q, k, v, y),
        "seen": seen(scale, causal, mask),
        "dropped": dropped(dropout, stream, layer),
        "tiles": tiles,
        "log_sum_exp": address(log_sum_exp),
    }
    blocks = (batch * heads * tiles, max(1, count), -(-v.shape[2] // COLUMNS))
    moved = q.has_tangent or k.has_tangent or v.has_tangent
    return Operation(
        "attention",
        (Launch(DUAL if count else PRIMAL, blocks, arguments),),
        multiply_adds=batch * heads * queries * k.shape[1] * (size + v.shape[2]) * (1 + count * moved),
        keeps=(q.memory, k.memory, v.memory, y.memory, mask, stream, log_sum_exp),
    )


@launcher
def bind_gradients(
    isa: Any,
    threads: int,
    *,
    batch: int,
    q: Heads,
    k: Heads,
    v: Heads,
    y: Heads,
    signal: Heads,
    log_sum_exp: Any,
    dq: Heads,
    dk: Heads,
    dv: Heads,
    scale: float,
    causal: bool = False,
    mask: Mask | None = None,
    dropout: float = 0.0,
    stream: Any = None,
    layer: int = 0,
) -> list[Operation]:
    """Bind attention's slope in closed form, from the error signal of y to those of q, k and v; see ``cpu``.

        D_i = Σ_c signal_ic y_ic        dp = m (signal vᵀ)        dS = p (dp - D)
        dq = scale dS k                 dk = scale dSᵀ q          dv = (p m)ᵀ signal

    Parameters
    ----------
    isa, threads, batch, q, k, v, y, scale, causal, mask, dropout, stream, layer :
        As those of :func:`bind`. Only the primals are read.
    signal : Heads
        The error signal of y, (H, Lq, Dv).
    log_sum_exp : DeviceArray, (B, H, Lq)
        What :func:`bind` wrote.
    dq, dk, dv : Heads
        Written: error signals of q, k and v, with their shapes. Of keys and values that several heads read, the sums.

    Returns
    -------
    list of Operation
        One operation: D, then dq, then dk and dv.

    Notes
    -----
    Cost: Lq Lk (4 D + 3 Dv) multiply-adds a head, since the second and the third launch each compute the scores and
    their error signals; half of that where attention is causal. They do so again for every 64 columns of what they
    write. Memory beside the operands: B H Lq numbers.
    """
    heads, queries, size = q.shape
    groups, keys, _ = k.shape
    memory: Any = q.memory
    dots = DeviceArray.zeros(memory.driver, (batch, heads, queries))
    query_tiles, key_tiles = -(-queries // SIDE), -(-keys // SIDE)
    rows, n = batch * heads * queries, sizes(q, k, v, signal, dq, dk, dv)
    common = {
        "q": operand(q),
        "k": operand(k),
        "v": operand(v),
        "signal": operand(signal),
        "n": n,
        "seen": seen(scale, causal, mask),
        "dropped": dropped(dropout, stream, layer),
        "known": Known(address(log_sum_exp), address(dots)),
    }
    of_dots = {"signal": operand(signal), "y": operand(y), "n": n, "rows": rows, "dots": address(dots)}
    of_queries = {**common, "dq": operand(dq), "tiles": query_tiles}
    of_keys = {**common, "dk": operand(dk), "dv": operand(dv), "tiles": key_tiles}
    launches = (
        Launch(find_dots, (blocks_for(rows, find_dots.threads // WARP), 1, 1), of_dots),
        Launch(to_queries, (batch * heads * query_tiles, 1, -(-size // COLUMNS)), of_queries),
        Launch(to_keys, (batch * groups * key_tiles, 1, -(-max(size, v.shape[2]) // COLUMNS)), of_keys),
    )
    operands = (q, k, v, y, signal, dq, dk, dv)
    return [
        Operation(
            "attention-gradients",
            launches,
            multiply_adds=batch * heads * queries * keys * (3 * size + 2 * v.shape[2]),
            keeps=(*(one.memory for one in operands), mask, stream, log_sum_exp, dots),
        )
    ]
