"""Gram matrices on a GPU, G = VᵀV of directions drawn again, and coefficients c of g = Σ_t c_t v_t; see ``cpu``.

A block takes 16 x 16 pairs of directions, one pair a thread, and some of the panels. It draws a few rows of its
directions into shared memory, where each row serves 16 pairs. Padding adds nothing: its signs are all equal, so that
words do not differ there, and its numbers are zeros.
"""

import numpy as np

from fgnumba.kernels.cuda.kernel import device_function, kernel
from fgnumba.kernels.cuda.layout import THREADS, element, elementwise
from fgnumba.kernels.cuda.memory import DeviceArray
from fgnumba.kernels.cuda.primitives import (
    Address,
    Double,
    Size,
    add_u32,
    barrier,
    block_x,
    block_y,
    block_z,
    divide,
    load_f64,
    mul_hi_lo,
    shared,
    shared_load_f32x4,
    shared_load_u32,
    shared_store_f32,
    shared_store_u32,
    store_f64,
    thread,
)
from fgnumba.kernels.cuda.program import Launch, Operation
from fgnumba.kernels.cuda.sums import SLOT, block_sum
from fgnumba.kernels.emit.vector import PANEL
from fgnumba.kernels.machine.memory import address
from fgnumba.kernels.ops.gram import DEPENDENT
from fgnumba.kernels.rules.directions import GAUSSIAN, RANK1
from fgnumba.kernels.rules.directions.cuda import sign_words
from fgnumba.kernels.rules.philox import ENTRY, LEFT, RIGHT
from fgnumba.kernels.shared.cholesky import cuda as cholesky
from fgnumba.kernels.shared.drawn.cpu import Drawn
from fgnumba.kernels.shared.drawn.cuda import PAIRS, arguments, counter, gaussian_quad, lanes, layout
from fgnumba.validation.launcher import launcher

_TILE = 16
_BLOCKS = 512  # enough to fill a GPU

_WORD_ROWS = 32  # rows of signs at a time
# One word more than the rows: what the threads of a warp read lies in different banks.
_WORD_STRIDE = 4 * (_WORD_ROWS + 1)
_WORD_BYTES = 2 * _TILE * _WORD_STRIDE

_ENTRIES = 4 * PANEL  # of a Gaussian at a time: four rows of a panel
_ENTRY_STRIDE = 4 * (_ENTRIES + 4)
_ENTRY_BYTES = 2 * _TILE * _ENTRY_STRIDE

_ZERO = np.float32(0)
_NO_WORD, _ALL = np.uint32(0), np.uint32(0xFFFFFFFF)


def shares(directions: Drawn) -> int:
    """Return the number of matrices that a parameter adds to G."""
    if directions.kind == RANK1:
        return 1
    tiles = -(-directions.count // _TILE)
    return max(1, min(directions.panels, -(-2 * _BLOCKS // (tiles * (tiles + 1)))))


@launcher
def bind(
    isa: object,
    threads: int,
    *,
    directions: Drawn,
    gram: DeviceArray,
) -> Operation:
    """Bind one parameter's share of G, as ``cpu.bind`` does.

    Parameters
    ----------
    isa, threads : object, int
        Not used.
    directions : Drawn
        The parameter's directions.
    gram : DeviceArray
        (``shares(directions)``, T, T) float64; the lower triangles are written, and ``combine`` adds them up.

    Cost: of rank 1 T² (K + N) / 32 words, else T² / 2 words of 32 signs or T² / 2 multiply-adds an entry. The
    directions are drawn T / 16 times.
    """
    assert len(gram) == shares(directions)
    tiles = -(-directions.count // _TILE)
    blocks = (tiles, tiles, len(gram))
    common = {**arguments(directions), "gram": gram, "shares": len(gram)}
    entries = directions.columns * (1 if directions.vector else directions.rows)
    places = layout(directions)
    if directions.kind == GAUSSIAN:
        launches = [Launch(_gaussians, blocks, {**common, **places})]
    elif directions.kind != RANK1:
        sums = {"purpose": ENTRY, "signs": entries, "times": 0}
        launches = [Launch(_signs, blocks, {**common, **places, **sums})]
    else:
        words = -(-directions.rows // PANEL)
        left = {"panels": 1, "rows": words, "by_row": 1, "width": directions.rows, "period": words}
        right = {**places, "panels": 1, "rows": directions.panels, "by_row": 1}
        launches = [
            Launch(_signs, blocks, {**common, **left, "purpose": LEFT, "signs": directions.rows, "times": 0}),
            Launch(
                _signs, blocks, {**common, **right, "purpose": RIGHT, "signs": directions.columns, "times": 1}
            ),
        ]
    return Operation("gram", tuple(launches), keeps=(directions, gram))


@device_function
def _ones(word: np.uint32) -> int:
    """Return the number of set bits of a word."""
    pairs = np.uint32(np.uint32(word >> np.uint32(1)) & np.uint32(0x55555555))
    word = np.uint32(word - pairs)
    fours = np.uint32(np.uint32(word >> np.uint32(2)) & np.uint32(0x33333333))
    word = add_u32(np.uint32(word & np.uint32(0x33333333)), fours)
    word = np.uint32(add_u32(word, np.uint32(word >> np.uint32(4))) & np.uint32(0x0F0F0F0F))
    return int(np.uint32(mul_hi_lo(word, np.uint32(0x01010101))[1] >> np.uint32(24)))


@device_function
def _kept(word: np.uint32, row: int, rows: int, count: int) -> np.uint32:
    """Return a row's word of signs, with 0 bits for its padding."""
    if row >= rows:
        return _NO_WORD
    return np.uint32(word & np.uint32(_ALL >> np.uint32(PANEL - count)))


@device_function
def _direction_of(member: int) -> int:
    """Return the direction in a row of shared memory: 16 first ones of the pairs, then 16 second ones."""
    if member < _TILE:
        return block_x() * _TILE + member
    return block_y() * _TILE + member - _TILE


@device_function
def _second_of() -> int:
    """Return the row of shared memory where second directions begin; on the diagonal, they are the first."""
    return 0 if block_x() == block_y() else _TILE


@kernel("gram-signs")
def _signs(
    gram: Address,
    shares: Size,
    count: Size,
    first: Address,
    parameter: Size,
    stream: Address,
    panels: Size,
    rows: Size,
    by_row: Size,
    width: Size,
    period: Size,
    purpose: Size,
    signs: Address,
    times: Size,
) -> None:
    words = shared(_WORD_BYTES)
    if block_y() > block_x():
        return
    second = _second_of()
    member, quad = thread() // 8, thread() % 8
    drawn = _direction_of(member)
    ours = words + thread() // _TILE * _WORD_STRIDE
    theirs = words + (second + thread() % _TILE) * _WORD_STRIDE
    differing = 0
    for panel in range(block_z(), panels, shares):
        for start in range(0, rows, _WORD_ROWS):
            row = start + 4 * quad
            if member < second + _TILE and drawn < count:
                four = sign_words(stream, row >> 2, panel, purpose, counter(first, drawn, parameter))
                for i in range(4):
                    found = lanes(row + i if by_row else panel, width, period)
                    word = four[0] if i == 0 else (four[1] if i == 1 else (four[2] if i == 2 else four[3]))
                    at = words + member * _WORD_STRIDE + 4 * (4 * quad + i)
                    shared_store_u32(at, _kept(word, row + i, rows, found))
            barrier()
            for i in range(_WORD_ROWS):
                differing += _ones(np.uint32(shared_load_u32(ours + 4 * i) ^ shared_load_u32(theirs + 4 * i)))
            barrier()
    t, s = block_x() * _TILE + thread() // _TILE, block_y() * _TILE + thread() % _TILE
    if t < count and s <= t:
        at = gram + 8 * ((block_z() * count + t) * count + s)
        # Where all signs agree, their products add up to their number, which the first share counts.
        total = np.float64((signs if block_z() == 0 else 0) - 2 * differing)
        store_f64(at, load_f64(at) * total if times else total)


@kernel("gram-gaussian")
def _gaussians(
    gram: Address,
    shares: Size,
    count: Size,
    first: Address,
    parameter: Size,
    stream: Address,
    panels: Size,
    rows: Size,
    by_row: Size,
    width: Size,
    period: Size,
) -> None:
    entries = shared(_ENTRY_BYTES)
    if block_y() > block_x():
        return
    second = _second_of()
    j = thread() % PAIRS
    ours = entries + thread() // _TILE * _ENTRY_STRIDE
    theirs = entries + (second + thread() % _TILE) * _ENTRY_STRIDE
    total = np.float64(0)
    for panel in range(block_z(), panels, shares):
        for row in range(0, rows, 4):
            for member in range(thread() // PAIRS, second + _TILE, THREADS // PAIRS):
                drawn = _direction_of(member)
                if drawn < count:
                    v = gaussian_quad(stream, row >> 2, panel, j, counter(first, drawn, parameter))
                    at = entries + member * _ENTRY_STRIDE + 4 * j
                    _store_row(at, v[0], v[1], row, rows, j, row if by_row else panel, width, period)
                    at += 4 * PANEL
                    _store_row(at, v[2], v[3], row + 1, rows, j, row + 1 if by_row else panel, width, period)
                    at += 4 * PANEL
                    _store_row(at, v[4], v[5], row + 2, rows, j, row + 2 if by_row else panel, width, period)
                    at += 4 * PANEL
                    _store_row(at, v[6], v[7], row + 3, rows, j, row + 3 if by_row else panel, width, period)
            barrier()
            dot = _ZERO
            for at in range(0, 4 * _ENTRIES, 16):
                a, b = shared_load_f32x4(ours + at), shared_load_f32x4(theirs + at)
                dot = dot + a[0] * b[0]
                dot = dot + a[1] * b[1]
                dot = dot + a[2] * b[2]
                dot = dot + a[3] * b[3]
            total = total + np.float64(dot)
            barrier()
    t, s = block_x() * _TILE + thread() // _TILE, block_y() * _TILE + thread() % _TILE
    if t < count and s <= t:
        store_f64(gram + 8 * ((block_z() * count + t) * count + s), total)


@device_function
def _store_row(
    at: int,
    low: np.float32,
    high: np.float32,
    row: int,
    rows: int,
    j: int,
    place: int,
    width: int,
    period: int,
) -> None:
    """Write two entries of a row to shared memory, and zeros in its padding."""
    count = lanes(place, width, period) if row < rows else 0
    shared_store_f32(at, low if j < count else _ZERO)
    shared_store_f32(at + 4 * PAIRS, high if PAIRS + j < count else _ZERO)


@launcher
def bind_combine(
    *,
    values: DeviceArray,
    clip: float,
    out: DeviceArray,
    projections: DeviceArray | None = None,
    grams: DeviceArray | None = None,
    parameters: int = 0,
) -> Operation:
    """Bind T c_t in place of d_t, as ``cpu.bind_combine`` does, for ``descent``, which divides by T.

    Parameters
    ----------
    values, out : DeviceArray
        (1 + T,) float64: the loss and d_t; written, the loss and T c_t.
    clip : float
        Largest allowed |x_t|.
    projections : DeviceArray or None
        (n, T) float64, which add up to h · v_t.
    grams : DeviceArray or None
        (m, T, T) float64, which add up to G. None: the mean over directions, without G.
    parameters : int
        Number of parameters P.

    Cost: T³ / 6 multiply-adds with G, by one block, one column of the triangle after another.
    """
    count = len(values) - 1
    clipped = {
        "values": values,
        "count": count,
        "clip": float(clip),
        "projections": address(projections),
        "projected": 0 if projections is None else len(projections),
        "out": out,
    }
    launches = [Launch(_clip, (count, 1, 1), clipped)]
    work = None
    if grams is not None:
        work = DeviceArray.zeros(values.driver, (cholesky.work_size(count),), np.float64)
        added = {"grams": grams, "number": len(grams), "count": count, "work": work}
        solved = {"count": count, "parameters": float(parameters), "work": work, "out": out}
        launches += [
            elementwise(_add, count * count, added),
            Launch(_solve, (1, 1, 1), solved),
        ]
    return Operation("combine", tuple(launches), keeps=(values, projections, grams, work, out))


@kernel("combine-clip")
def _clip(
    values: Address, count: Size, clip: Double, projections: Address, projected: Size, out: Address
) -> None:
    slot = shared(SLOT)
    t, along = block_x(), np.float64(0)
    for k in range(thread(), projected, THREADS):
        along = along + load_f64(projections + 8 * (k * count + t))
    along = block_sum(along, slot)
    if thread() == 0:
        x = load_f64(values + 8 * (1 + t)) - along
        # NaN stays NaN.
        if x > clip:
            x = np.float64(clip)
        elif x < -clip:
            x = np.float64(-clip)
        store_f64(out + 8 * (1 + t), x)
        if t == 0:
            store_f64(out, load_f64(values))


@kernel("combine-add")
def _add(grams: Address, number: Size, count: Size, work: Address) -> None:
    """Write G_ts to row s, column t of `work`."""
    t, s = divide(element(), count)
    if t >= count or s > t:
        return
    total = np.float64(0)
    for k in range(number):
        total = total + load_f64(grams + 8 * ((k * count + t) * count + s))
    store_f64(cholesky.entry(work, count, s, t), total)


@kernel("combine-solve")
def _solve(count: Size, parameters: Double, work: Address, out: Address) -> None:
    """Solve G c = x, where x is in `out`, and write c there, times P T over the rank of G."""
    for s in range(thread(), count, THREADS):
        store_f64(cholesky.entry(work, count, s, count), load_f64(out + 8 * (1 + s)))
    barrier()
    rank = cholesky.factor(work, count, DEPENDENT)
    scale = parameters * np.float64(count) / np.float64(rank if rank > 1 else 1)
    cholesky.substitute(work, count, scale, out + 8)
