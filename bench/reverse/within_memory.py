"""Reverse mode within a limit of memory: the plan that computes the fewest layers again and still fits."""

from collections.abc import Callable

from fgnumba.bench.reverse.plan import ReversePlan
from fgnumba.errors import ConfigError


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
        The plan that keeps one output at a time does not fit either.
    """
    plan = bind(None)
    if plan.nbytes <= limit:
        return plan
    best: ReversePlan | None = None
    low, high = 1, max(1, steps - 2)
    while low <= high:
        middle = (low + high) // 2
        plan = bind(middle)
        if plan.nbytes <= limit:
            best, low = plan, middle + 1
        else:
            high = middle - 1
    if best is None:
        # The last one that was tried keeps one output.
        raise ConfigError(f"memory_limit is {limit}; reverse mode needs {plan.nbytes} bytes or more here")
    return best
