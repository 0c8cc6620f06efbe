"""What bound operations and programs have in common on every device.

Layers, losses, optimisers and estimators bind operations and pass them on without knowing the device: they are
annotated with these protocols. ``fgnumba.kernels.machine.program`` has the classes of the CPU,
``fgnumba.kernels.cuda.program`` those of a GPU.
"""

from typing import Any, Protocol


class Operation(Protocol):
    """A kernel, or several that run one after another, bound to arrays.

    Attributes
    ----------
    name : str
        Name for plans that print themselves.
    multiply_adds : int
        Products in the operation, for plans and benchmarks.
    executed : float
        Share of the products that are executed: a filtered convolution needs fewer.
    keeps : tuple
        Arrays that must live as long as the operation does.
    once : bool
        Whether it runs before the stage that it belongs to, on the whole of what it prepares.
    external : tuple of str
        Arguments that hold the address of the model's input.
    """

    name: str
    multiply_adds: int
    executed: float
    keeps: tuple[Any, ...]
    once: bool
    external: tuple[str, ...]

    def renumber(self, first: int) -> bool:
        """Let directions be numbered from `first` on; return whether anything that is bound changed."""


class Program(Protocol):
    """Bound operations in the order in which they run."""

    @property
    def operations(self) -> tuple[Operation, ...]:
        """All operations, in order."""

    @property
    def scratch_nbytes(self) -> int:
        """Bytes of scratch memory."""

    @property
    def runs(self) -> int:
        """Number of runs that reached the end; of a GPU, number of runs that were asked for."""

    def run(self) -> None:
        """Run every operation in order; on a GPU they may still be under way when this returns."""

    def forget(self) -> None:
        """Run as if for the first time: what was bound may have changed."""
