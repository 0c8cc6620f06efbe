"""Reverse mode within a limit of memory: the plan that computes the fewest steps again and still fits."""

from collections.abc import Callable

from fgnumba.bench.reverse.plan import ReversePlan
from fgnumba.errors import ConfigError

FEW = 8
"""Numbers of kept outputs up to this one are all tried before a limit is refused."""


def within_memory(limit: int, steps: int, bind: Callable[[int | None], ReversePlan]) -> ReversePlan:
    """Return the plan that keeps as many outputs as fit into a limit; all of them, if they do.

    Parameters
    ----------
    limit : int
        The most bytes that the plan may need, ``ReversePlan.nbytes``.
    steps : int
        Number of the model's steps L.
    bind : callable
        Returns the plan that keeps a number of outputs at a time; given None, the plan that keeps all.

    Raises
    ------
    ConfigError
        No plan fits; the message names the smallest.
    """
    plan = bind(None)
    if plan.nbytes <= limit:
        return plan
    best: ReversePlan | None = None
    least, tried = plan.nbytes, set[int]()

    def fitting(kept: int) -> bool:
        nonlocal best, least
        one = bind(kept)
        tried.add(kept)
        least = min(least, one.nbytes)
        if one.nbytes <= limit:
            best = one
        return one.nbytes <= limit

    low, high = 1, max(1, steps - 2)
    while low <= high:
        middle = (low + high + 1) // 2
        if fitting(middle):
            low = middle + 1
        else:
            high = middle - 1
    if best is None:
        # A cut within a residual block keeps the block's input as well, so that fewer outputs may need more bytes.
        any(fitting(kept) for kept in range(min(FEW, steps - 2), 0, -1) if kept not in tried)
    if best is None:
        raise ConfigError(f"memory_limit is {limit}; reverse mode needs {least} bytes or more here")
    return best
