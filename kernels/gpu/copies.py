"""Copies on a GPU: rows into a buffer whose rows are further apart, gathered by number where that is wanted."""

from typing import Any

from fgnumba.kernels.gpu.kernel import kernel
from fgnumba.kernels.gpu.layout import element, elementwise
from fgnumba.kernels.gpu.memory import DeviceArray
from fgnumba.kernels.gpu.primitives import Address, Size, divide, load_f32, load_i64, store_f32, store_i64
from fgnumba.kernels.gpu.program import Launch


def copy_rows(source: DeviceArray, target: DeviceArray) -> Launch:
    """Return the copy of (B, K) to (B, N), the narrower of the two; or of (B,) to (B,): float32 or int64."""
    width = source.shape[-1]
    return gather_rows(source.reshape(-1, width), target.reshape(-1, target.shape[-1]), 0, 0)


def gather_rows(source: DeviceArray, target: DeviceArray, order: Any, first: Any) -> Launch:
    """Return the copy of rows (n, K) to (B, ld): row order[first + i] goes to row i.

    Parameters
    ----------
    source, target : float32, or int64.
    order : (n,) int64 on the GPU, or 0: rows as they lie. first : where an int64 on the GPU says it, or 0.
    """
    assert source.dtype == target.dtype
    arguments = {
        "source": source,
        "target": target,
        "order": order,
        "first": first,
        "n": len(target) * min(source.shape[-1], target.shape[-1]),
        "width": min(source.shape[-1], target.shape[-1]),
        "source_width": source.shape[-1],
        "target_width": target.shape[-1],
    }
    whole = _gather_i64 if source.dtype.itemsize == 8 else _gather_f32
    return elementwise(whole, arguments["n"], arguments)


@kernel("gather-f32")
def _gather_f32(
    source: Address,
    target: Address,
    order: Address,
    first: Address,
    n: Size,
    width: Size,
    source_width: Size,
    target_width: Size,
) -> None:
    e = element()
    if e >= n:
        return
    row, column = divide(e, width)
    chosen = row
    if order:
        chosen = load_i64(order + 8 * (load_i64(first) + row))
    store_f32(
        target + 4 * (row * target_width + column), load_f32(source + 4 * (chosen * source_width + column))
    )


@kernel("gather-i64")
def _gather_i64(
    source: Address,
    target: Address,
    order: Address,
    first: Address,
    n: Size,
    width: Size,
    source_width: Size,
    target_width: Size,
) -> None:
    e = element()
    if e >= n:
        return
    row, column = divide(e, width)
    chosen = row
    if order:
        chosen = load_i64(order + 8 * (load_i64(first) + row))
    store_i64(
        target + 8 * (row * target_width + column), load_i64(source + 8 * (chosen * source_width + column))
    )
