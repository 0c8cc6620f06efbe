"""How attention is cut into blocks: sizes, the register tiles that compute them, and the scratch memory they lie in.

A block is a few queries of one head, and up to ``KEYS`` keys. Its operands are copied into scratch memory, at distances
that do not depend on the sizes, so that the tiles are compiled once. With C the distance of rows there,

    queries    (1 + T, block, C)            scale q, then scale dq of each direction
    turned     (1 + T, panels, D, panel)    keys, one column each
    values     (1 + T, KEYS, C)
    scores     (1 + T, block, ``SCORE_ROW``)
    sums       (1 + T, block, C)            Σ p v, then what y's tangents are made of

The size of all of it depends on no length.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fgnumba.errors import ConfigError, ShapeError
from fgnumba.kernels.emit import panel_product
from fgnumba.kernels.emit.rows import LANES
from fgnumba.kernels.emit.vector import PANEL, InstructionSet
from fgnumba.kernels.layout.heads import MASK_FIELDS, Heads, Mask
from fgnumba.kernels.machine.compile import kernel
from fgnumba.kernels.machine.memory import address, round_up
from fgnumba.kernels.ops.attention import KEYS, MOST_EXAMPLES, MOST_HEADS, MOST_KEYS, MOST_QUERIES, SCORE_ROW
from fgnumba.kernels.ops.attention.moves import scaler, transpose
from fgnumba.kernels.ops.attention.visible import draw_words

DISTANCES = (80, 272)
"""Elements from one row of a copy to the next: the first that is long enough, also odd numbers of cache lines."""

QUERIES = 130
"""The most queries of a block: with T = 1 and heads of 64, scratch memory is then half a second-level cache or less."""

MOST_DIRECTIONS = 7
"""The most directions that a block takes at a time. With more, scores are computed again for the next ones."""

FIELDS = (
    *("batch", "groups", "query_heads", "queries", "keys", "size", "value_size", "numbers", "causal"),
    *(*MASK_FIELDS, "dropout", "threshold", "stream", "layer", "log_sum_exp"),
    *("block", "height", "distance", "panel", "lanes", "item", "transpose", "scale_rows", "words"),
    *("scores_tile", "rows", "at_finite", "at_bias", "at_factors", "at_words"),
)
"""The names of the arguments that both kernels have."""


HEIGHTS = (1, 2, 4, 7, 10)
"""Heights of tiles, beside the tallest: few, because each is compiled when it is first needed."""

TILE_START = 2
"""Rows that could be multiplied in the time that a tile takes to begin and to end."""


def tile_height(isa: InstructionSet, rows: int) -> int:
    """Return the height of the tiles that take `rows` rows in the least time."""
    heights = [height for height in HEIGHTS if height < isa.max_rows]
    return min((isa.max_rows, *heights), key=lambda height: -(-rows // height) * (height + TILE_START))


@dataclass(frozen=True)
class Sizes:
    """Sizes of the blocks of one operation.

    Parameters
    ----------
    wide : bool
        Whether numbers are float64.
    panel, lanes : int
        Elements of a panel, and of a vector of scores.
    directions : int
        The most directions that a block takes at a time.
    height, block : int
        Queries of a tile, and of a block, which is a whole number of tiles.
    distance : int
        Elements from one row of a copy to the next.
    """

    wide: bool
    panel: int
    lanes: int
    directions: int
    height: int
    block: int
    distance: int

    @classmethod
    def of(cls, isa: InstructionSet, q: Heads, k: Heads, v: Heads, count: int) -> "Sizes":
        """Return the sizes for queries `q`, values `v` and `count` directions."""
        itemsize = q.memory.dtype.itemsize
        panel = PANEL * 4 // itemsize
        widest = round_up(max(q.shape[2], v.shape[2]), panel)
        distance = next(each for each in DISTANCES if each >= widest)
        most = max(1, (1 + MOST_DIRECTIONS) * DISTANCES[0] * 4 // (distance * itemsize) - 1)
        directions = min(count, most)
        target = max(isa.max_rows, min(QUERIES, 4 * QUERIES // (1 + directions)))
        queries = max(1, q.shape[1])
        each = -(-queries // -(-queries // target))
        height = tile_height(isa, each)
        block = round_up(each, height)
        return cls(itemsize == 8, panel, LANES[itemsize], directions, height, block, distance)

    @property
    def itemsize(self) -> int:
        return 8 if self.wide else 4

    def tile(
        self,
        isa: InstructionSet,
        width: int,
        rows: int,
        *,
        a_row: int,
        a_term: int,
        w_term: int,
        out_row: int,
    ) -> int:
        """Return the address of a register tile, whose arguments ``emit.panel_product`` describes."""
        steps = {"a_row": a_row, "a_term": a_term, "w_term": w_term, "out_row": out_row}
        emitted = panel_product(isa, self.wide, rows, width, **steps)

        def product(length: int, a: int, w: int, c: int, v: int, scales: int, out: int) -> None:
            emitted(length, a, w, c, v, scales, out)

        places = "-".join(str(step) for step in steps.values())
        return kernel(f"panel-product-{isa.vectors}-{8 * self.itemsize}-{rows}x{width}-{places}", product, 7)

    def scores_tile(self, isa: InstructionSet) -> int:
        """Return the tile that multiplies copied rows by a panel of turned keys."""
        steps = {"a_row": self.distance, "a_term": 1, "w_term": self.panel, "out_row": SCORE_ROW}
        return self.tile(isa, self.panel, self.height, **steps)

    def values_tile(self, isa: InstructionSet, columns: int) -> int:
        """Return the tile that multiplies scores by `columns` columns of copied rows."""
        steps = {"a_row": SCORE_ROW, "a_term": 1, "w_term": self.distance, "out_row": self.distance}
        return self.tile(isa, self.width(isa, columns), self.height, **steps)

    def key_height(self, isa: InstructionSet, k: Heads) -> int:
        """Return the keys of a tile whose rows are keys."""
        return tile_height(isa, max(1, min(KEYS, k.shape[1])))

    def turned_tile(self, isa: InstructionSet, height: int, columns: int) -> int:
        """Return the tile that multiplies scores, turned so that rows are keys, by `columns` columns of copied rows."""
        steps = {"a_row": 1, "a_term": SCORE_ROW, "w_term": self.distance, "out_row": self.distance}
        return self.tile(isa, self.width(isa, columns), height, **steps)

    def width(self, isa: InstructionSet, columns: int) -> int:
        """Return the columns of a tile that computes at least `columns`: whole vectors."""
        return round_up(columns, isa.lanes * 4 // self.itemsize)

    def last(self, columns: int) -> int:
        """Return how many of `columns` columns are in the last panel."""
        return (columns - 1) % self.panel + 1

    def turned_bytes(self, size: int) -> int:
        """Return the bytes of a block of keys, or values, of which each is a column."""
        return KEYS * size * self.itemsize

    def copied_bytes(self, rows: int) -> int:
        """Return the bytes of copied rows."""
        return rows * self.distance * self.itemsize

    def scores_bytes(self) -> int:
        """Return the bytes of a block of scores."""
        return self.block * SCORE_ROW * self.itemsize


def check(
    batch: int, q: Heads, k: Heads, v: Heads, mask: Mask | None, dropout: float, stream: Any, **same: Heads
) -> None:
    """Raise ShapeError or ConfigError unless operands fit each other; those in `same` must have q's dtype."""
    if q.shape[0] % k.shape[0] or k.shape[0] != v.shape[0]:
        raise ShapeError(
            f"attention: {q.shape[0]} heads of queries, {k.shape[0]} of keys, {v.shape[0]} of values; "
            "must be as many values as keys, and a multiple of that of queries"
        )
    if q.shape[2] != k.shape[2] or k.shape[1] != v.shape[1] or not 1 <= q.shape[2] <= 256 >= v.shape[2] >= 1:
        raise ShapeError(
            f"attention: queries {q.shape}, keys {k.shape}, values {v.shape}; "
            "must be (H, Lq, D), (G, Lk, D) and (G, Lk, Dv), D and Dv from 1 to 256"
        )
    for name, operand in {"k": k, "v": v, **same}.items():
        if operand.memory.dtype != q.memory.dtype:
            raise ConfigError(
                f"attention: {name} is {operand.memory.dtype}, q {q.memory.dtype}; must be the same"
            )
    if mask is not None and not mask.boolean and mask.memory.dtype != q.memory.dtype:
        raise ConfigError(
            f"attention: the mask is {mask.memory.dtype}; must be {q.memory.dtype}, or bytes that say what is seen"
        )
    if not 0 <= dropout < 1 or (dropout and stream is None):
        raise ConfigError(
            f"attention: dropout {dropout}; must be at least 0, below 1, and come with a stream"
        )
    counted = (
        (k.shape[1], MOST_KEYS),
        (q.shape[1], MOST_QUERIES),
        (q.shape[0], MOST_HEADS),
        (batch, MOST_EXAMPLES),
    )
    if dropout and any(n > most for n, most in counted):
        raise ConfigError(
            f"attention: dropout with {batch} examples, queries {q.shape}, keys {k.shape}; at most "
            f"{MOST_EXAMPLES} examples, {MOST_HEADS} heads, {MOST_QUERIES} queries and {MOST_KEYS} keys are possible"
        )


@dataclass(frozen=True)
class Setting:
    """What is computed beside the operands, with the names of ``cpu.bind``'s parameters."""

    scale: float
    causal: bool
    mask: Mask | None
    dropout: float
    stream: npt.NDArray[Any] | None
    layer: int
    log_sum_exp: npt.NDArray[Any] | None

    def fields(
        self, isa: InstructionSet, sizes: Sizes, batch: int, q: Heads, k: Heads, v: Heads
    ) -> tuple[dict[str, int], tuple[Any, ...]]:
        """Return the values of ``FIELDS`` other than places in scratch memory, and what must be kept alive."""
        numbers = np.array([self.scale, 1 / (1 - self.dropout), 1], q.memory.dtype)
        fields = {
            "batch": batch,
            "groups": k.shape[0],
            "query_heads": q.shape[0],
            "queries": q.shape[1],
            "keys": k.shape[1],
            "size": q.shape[2],
            "value_size": v.shape[2],
            "numbers": address(numbers),
            "causal": self.causal,
            **(self.mask.fields() if self.mask else {}),
            "dropout": self.dropout > 0,
            "threshold": round(self.dropout * 2**32),
            "stream": address(self.stream) if self.stream is not None else 0,
            "layer": self.layer,
            "log_sum_exp": address(self.log_sum_exp) if self.log_sum_exp is not None else 0,
            "block": sizes.block,
            "height": sizes.height,
            "distance": sizes.distance,
            "panel": sizes.panel,
            "lanes": sizes.lanes,
            "item": sizes.itemsize,
            "transpose": transpose(isa, sizes.wide),
            "scale_rows": scaler(sizes.wide, False),
            "words": draw_words(isa) if self.dropout else 0,
            "scores_tile": sizes.scores_tile(isa),
        }
        return fields, (numbers, self.mask, self.stream, self.log_sum_exp)

    def row_bytes(self, isa: InstructionSet, sizes: Sizes) -> list[tuple[str, int]]:
        """Return the bytes of what :func:`visible.prepare_row` writes."""
        words = round_up(KEYS, 4 * isa.lanes) * 4
        each = sizes.height * SCORE_ROW * sizes.itemsize
        return [
            ("at_finite", 8),
            ("at_bias", each if self.mask else 0),
            ("at_factors", each if self.dropout else 0),
            ("at_words", words if self.dropout else 0),
        ]


def products(q: Heads, k: Heads, causal: bool) -> int:
    """Return how many pairs of a query and a key there are in each head, without those that causality hides."""
    queries, keys = q.shape[1], k.shape[1]
    if not causal:
        return queries * keys
    shift = keys - queries
    # Query i sees i + 1 + shift keys, if that is positive.
    first, last = max(0, -shift), queries
    return sum((first + 1 + shift, last + shift)) * (last - first) // 2 if last > first else 0
