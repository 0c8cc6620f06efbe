"""Copies on a GPU: rows are copied to a buffer whose rows are further apart, in order or gathered by number."""

from collections.abc import Callable
from typing import Any

from fgnumba.kernels.cuda.kernel import Kernel, kernel
from fgnumba.kernels.cuda.layout import element, elementwise
from fgnumba.kernels.cuda.memory import DeviceArray
from fgnumba.kernels.cuda.primitives import Address, Size, divide, load_f32, load_i64, store_f32, store_i64
from fgnumba.kernels.cuda.program import Launch


def copy_rows(source: DeviceArray, target: DeviceArray) -> Launch:
    """Return the launch that copies rows.

    Parameters
    ----------
    source : DeviceArray
        (B, K) or (B,), float32 or int64.
    target : DeviceArray
        (B, N) or (B,) of the same dtype, written. Where K and N differ, the first min(K, N) columns are copied.

    Returns
    -------
    Launch
        The launch.
    """
    width = source.shape[-1]
    return gather_rows(source.reshape(-1, width), target.reshape(-1, target.shape[-1]), 0, 0)


def gather_rows(source: DeviceArray, target: DeviceArray, order: Any, first: Any) -> Launch:
    """Return the launch that gathers rows: row ``order[first + i]`` of the source goes to row i of the target.

    Parameters
    ----------
    source : DeviceArray
        (n, K), float32 or int64.
    target : DeviceArray
        (B, N) of the same dtype, written. Where K and N differ, the first min(K, N) columns are copied.
    order : DeviceArray or int
        (n,) int64, or 0: row i of the source goes to row i of the target.
    first : DeviceArray or int
        (1,) int64, read when the launch runs; 0 where there is no `order`.

    Returns
    -------
    Launch
        The launch.
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
    return elementwise(_KERNELS[source.dtype.itemsize], arguments["n"], arguments)


def _kernel(name: str, load: Callable[..., Any], store: Callable[..., None], size: int) -> Kernel:
    """Return the kernel that copies elements of `size` bytes."""

    @kernel(name)
    def gather(
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
        value = load(source + size * (chosen * source_width + column))
        store(target + size * (row * target_width + column), value)

    return gather


_KERNELS = {
    4: _kernel("gather-f32", load_f32, store_f32, 4),
    8: _kernel("gather-i64", load_i64, store_i64, 8),
}
"""Kernels by the number of bytes of an element."""
