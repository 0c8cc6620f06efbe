"""Attention on the CPU, primal and tangents in one pass over keys and values.

    S  = scale q kᵀ + mask                 p  = softmax(S)
    y  = Σ p m v
    dS = scale (dq kᵀ + q dkᵀ)             dy = Σ p m (dv + dS v) - y Σ p dS         for every direction

where m are dropout's factors. A query that sees no key has y = 0 and dy = 0.

A part takes blocks of queries. For each block of keys that one of them sees, the register tile computes S and dS, a row
kernel turns them into p and p dS beside the running maximum, and the tile adds p v, and p dv + (p dS) v, to sums that
are rescaled in its registers. The matrix of scores is never there as a whole: scratch memory does not depend on
lengths. Where causality hides keys, products end with the last key that a tile of queries sees.

Sources: M. N. Rabe, C. Staats, arXiv 2112.05682; T. Dao et al., FlashAttention, arXiv 2205.14135, algorithm 1.
"""

from typing import Any

import numpy.typing as npt

from fgnumba.kernels.emit.vector import InstructionSet
from fgnumba.kernels.layout.heads import Heads, Mask
from fgnumba.kernels.machine.arguments import filled, lay_out
from fgnumba.kernels.machine.program import Operation
from fgnumba.kernels.machine.work import threads_for
from fgnumba.kernels.ops.attention import KEYS
from fgnumba.kernels.ops.attention.dual import ARGUMENTS, entry, rows_kernel
from fgnumba.kernels.ops.attention.moves import scaler, summer
from fgnumba.kernels.ops.attention.plan import Setting, Sizes, check, products
from fgnumba.kernels.ops.attention.slopes import bind_gradients as bind_gradients
from fgnumba.validation.launcher import launcher

SHARES = 32
"""The most parts for each thread. Under causality, blocks differ in their work."""


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
        An operand without tangent is a symbolic zero, whose products are skipped.
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

    Raises
    ------
    ShapeError, ConfigError
        The operands do not fit each other.

    Notes
    -----
    Cost: for each pair of a query and a key that it sees, D + Dv multiply-adds, and for each direction D for each of
    dq and dk that is there, Dv for each of dv and dS. Reads k and v once for each block of queries.
    """
    check(batch, q, k, v, mask, dropout, stream, y=y)
    sizes = Sizes.of(isa, q, k, v, count)
    setting = Setting(scale, causal, mask, dropout, stream, layer, log_sum_exp)
    fields, keeps = setting.fields(isa, sizes, batch, q, k, v)
    size, value_size, item, most = q.shape[2], v.shape[2], sizes.itemsize, 1 + sizes.directions
    strides = {
        "copied": sizes.copied_bytes(sizes.block),
        "turned": sizes.turned_bytes(size),
        "valued": sizes.copied_bytes(KEYS),
        "scored": sizes.scores_bytes(),
        "totals": sizes.block * sizes.lanes * item,
    }
    regions = [
        ("at_queries", most * strides["copied"]),
        ("at_turned", (most if k.has_tangent else 1) * strides["turned"]),
        ("at_values", (most if v.has_tangent else 1) * strides["valued"]),
        ("at_scores", most * strides["scored"]),
        ("at_sums", most * strides["copied"]),
        ("at_tops", sizes.block * item),
        ("at_centres", max(1, sizes.directions) * sizes.block * item),
        ("at_divisors", most * sizes.block * item),
        ("at_scales", (sizes.block + sizes.lanes) * item),
        ("at_totals", most * strides["totals"]),
        *setting.row_bytes(isa, sizes),
    ]
    offsets, end = lay_out(regions)
    blocks = batch * q.shape[0] * -(-q.shape[1] // sizes.block)
    work = batch * q.shape[0] * products(q, k, causal) * _terms(q, k, v, count)
    sharing = threads_for(work, blocks, threads)
    arguments = {
        **q.fields("q"),
        **k.fields("k"),
        **v.fields("v"),
        **y.fields("y"),
        **fields,
        **offsets,
        **strides,
        "count": count,
        "directions": sizes.directions,
        "dq": q.has_tangent,
        "dk": k.has_tangent,
        "dv": v.has_tangent,
        "combine_rows": scaler(sizes.wide, True),
        "lane_sums": summer(sizes.wide),
        "rows": rows_kernel(sizes.wide, mask is not None, dropout > 0),
        "values_tile": sizes.values_tile(isa, sizes.panel),
        "values_last": sizes.values_tile(isa, sizes.last(value_size)),
    }
    return Operation(
        "attention",
        entry(sizes.wide),
        filled(ARGUMENTS, arguments),
        min(blocks, SHARES * sharing) if sharing > 1 else 1,
        scratch_bytes=end,
        multiply_adds=work,
        keeps=(q.arrays, k.arrays, v.arrays, y.arrays, keeps),
    )


def _terms(q: Heads, k: Heads, v: Heads, count: int) -> int:
    """Return the multiply-adds for a pair of a query and a key."""
    size, value_size = q.shape[2], v.shape[2]
    moved = (q.has_tangent + k.has_tangent) * size
    return size + value_size + count * (moved + (moved > 0) * value_size + v.has_tangent * value_size)
