"""How work is cut: ranges for threads, rows for register tiles. Binding and kernels share these functions."""

from typing import Any

from numba.extending import register_jitable

# Multiply-adds below which a second thread costs more than it saves: to open a stage takes some 0.2 µs, and a worker
# that spins sees it within a microsecond, one that sleeps after some ten; one core does 130 multiply-adds a nanosecond.
THREAD_WORK = 500_000

PARTS_A_THREAD = 4
"""Parts for each thread. A thread that loses its core in a part holds up the others by that part alone."""


@register_jitable
def split(n: int, parts: int, part: int) -> tuple[int, int]:
    """Return first and last (exclusive) of `part` when `n` things are cut into `parts` even ranges."""
    return n * part // parts, n * (part + 1) // parts


@register_jitable
def tile_count(rows: int, tallest: int) -> int:
    """Return the number of tiles that `rows` rows are cut into."""
    return (rows + tallest - 1) // tallest


@register_jitable
def tile_rows(rows: int, count: int, tile: int) -> int:
    """Return the rows of tile number `tile`: as even as they get, the taller first."""
    return rows // count + (1 if tile < rows % count else 0)


def heights(rows: int, tallest: int) -> set[int]:
    """Return the distinct heights of the tiles that `rows` rows are cut into."""
    if rows == 0:
        return set()
    count = tile_count(rows, tallest)
    return {tile_rows(rows, count, 0), tile_rows(rows, count, count - 1)}


def threads_for(work: int, limit: int, threads: int) -> int:
    """Return how many of `threads` threads `work` multiply-adds are worth, given at most `limit` pieces."""
    return max(1, min(threads, limit, 1 + work // THREAD_WORK if work >= THREAD_WORK else 1))


def parts_for(work: int, limit: int, threads: int) -> int:
    """Return how many parts `work` multiply-adds are cut into for `threads` threads, given at most `limit` pieces.

    Every thread gets the same number of parts: `PARTS_A_THREAD`, or fewer where a part would have less than
    `THREAD_WORK`.
    """
    sharing = threads_for(work, limit, threads)
    each = threads_for(work, limit, sharing * PARTS_A_THREAD) // sharing
    return sharing * each if sharing > 1 else 1


def grid(columns: int, rows: int, parts: int) -> tuple[int, int]:
    """Return (column parts, row parts) whose largest piece is smallest; columns first where that is a tie."""

    def largest(shape: tuple[int, int]) -> Any:
        across, down = shape
        return -(-columns // across) * -(-rows // down), down

    shapes = [(across, parts // across) for across in range(1, parts + 1) if parts % across == 0]
    return min(shapes, key=largest)
