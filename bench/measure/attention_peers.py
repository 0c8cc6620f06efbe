"""The JVP of attention in PyTorch, and how far a process grows that computes it there or here.

PyTorch has forward mode for its math path alone, which holds whole matrices of scores. Memory is measured in a process
of its own: the peak of the resident memory above what the process had with its operands and after a short sequence,
without the results.
"""

import ctypes
import importlib.util
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

import fgnumba as fg

HEADS, SIZE = 8, 64
Array = npt.NDArray[np.float32]


def operands(length: int) -> list[Array]:
    """Return q, k, v and their tangents, (1, 8, L, 64) each."""
    rng = np.random.default_rng(0)
    return [rng.standard_normal((1, HEADS, length, SIZE)).astype(np.float32) for _ in range(6)]


def ours(arrays: list[Array]) -> Callable[[], Any]:
    """Return a function that computes attention and its JVP, causally."""
    q, k, v, dq, dk, dv = arrays
    return lambda: fg.attention_jvp(q, k, v, dq, dk, dv, causal=True)


def torchs(arrays: list[Array]) -> Callable[[], Any] | None:
    """Return a function that does the same by ``torch.func.jvp``; None if PyTorch is not installed."""
    if importlib.util.find_spec("torch") is None:
        return None
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel

    tensors = [torch.from_numpy(array) for array in arrays]

    def attention(q: Any, k: Any, v: Any) -> Any:
        return torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)

    def jvp() -> Any:
        with torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
            return torch.func.jvp(attention, tuple(tensors[:3]), tuple(tensors[3:]))

    return jvp


def resident(who: str, length: int) -> int:
    """Return the bytes by which a process grows beside operands and results; Linux only.

    Parameters
    ----------
    who : str
        ``ours`` or ``torchs``.
    length : int
        Number of positions L.
    """
    arguments = [sys.executable, "-m", "fgnumba.bench.measure.attention_peers", who, str(length)]
    return int(subprocess.run(arguments, capture_output=True, text=True, check=True).stdout)


def _kilobytes(field: str) -> int:
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith(field))


def main() -> None:
    """Print the growth of this process, in bytes."""
    make: Any = {"ours": ours, "torchs": torchs}[sys.argv[1]]
    make(operands(256))()
    call = make(operands(int(sys.argv[2])))
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)  # what the short sequence needed is counted again
    before = _kilobytes("VmRSS:")
    # The peak begins again at what is resident now.
    with open("/proc/self/clear_refs", "w") as refs:
        refs.write("5")
    results = sum(x.nbytes for x in call())
    print(max(0, 1024 * (_kilobytes("VmHWM:") - before) - results))


if __name__ == "__main__":
    main()
