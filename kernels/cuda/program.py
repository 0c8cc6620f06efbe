"""Bound operations on a GPU: their launches run one by one in order, or are replayed as one graph."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from fgnumba.errors import DeviceError
from fgnumba.kernels.cuda.driver import Blocks, Driver
from fgnumba.kernels.cuda.kernel import Kernel
from fgnumba.kernels.cuda.memory import DeviceArray
from fgnumba.objects.bound import Bound
from fgnumba.uninterrupted import Uninterrupted

MAX_BLOCKS_YZ = 65_535
"""Most blocks of a grid along its second axis, and along its third."""

_MOST_BLOCKS = (2**31 - 1, MAX_BLOCKS_YZ, MAX_BLOCKS_YZ)


@dataclass
class Launch(Bound):
    """A kernel with its grid and its arguments.

    Parameters
    ----------
    kernel : Kernel
        The kernel.
    blocks : tuple of int
        Number of blocks along the three axes of the grid. A launch of no blocks does nothing.
    arguments : dict
        The kernel's arguments by name: numbers, bundles of numbers, and arrays, whose addresses are passed.
    """

    kernel: Kernel
    blocks: Blocks
    arguments: dict[str, Any]

    def run(self, driver: Driver) -> None:
        """Launch the kernel.

        Parameters
        ----------
        driver : Driver
            The GPU's driver.

        Raises
        ------
        DeviceError
            The grid is larger than a GPU takes, or an argument does not fit into 32 bits.
        """
        if any(have > most for have, most in zip(self.blocks, _MOST_BLOCKS, strict=True)):
            raise DeviceError(
                f"{self.kernel.name}: {self.blocks} blocks are too many; a smaller batch is required"
            )
        if min(self.blocks) > 0:
            found = {name: _addressed(value) for name, value in self.arguments.items()}
            driver.launch(self.kernel, self.blocks, self.kernel.values(found))


def _addressed(value: Any) -> Any:
    return value.address if isinstance(value, DeviceArray) else value


@dataclass
class Operation(Bound):
    """An operation bound to its arrays, as ``kernels.machine.program.Operation`` is on a CPU.

    Parameters
    ----------
    name : str
        Name by which a plan prints the operation.
    launches : tuple of Launch
        Launches in the order in which they run.
    multiply_adds : int
        Number of multiply-adds of the operation's products.
    executed : float
        Share of those that the GPU executes.
    keeps : tuple
        Arrays that must live as long as the operation does.
    once : bool
        Not used on a GPU; on a CPU, whether the operation runs once before the stage that it belongs to.
    external : tuple of str
        Not used on a GPU, where the input is copied to one place; on a CPU, arguments that hold the input's address.
    """

    name: str
    launches: tuple[Launch, ...]
    multiply_adds: int = 0
    executed: float = 1.0
    keeps: tuple[Any, ...] = field(default=(), repr=False)
    once: bool = False
    external: tuple[str, ...] = ()

    def renumber(self, first: int) -> bool:
        """Let the directions be numbered from `first` on.

        Parameters
        ----------
        first : int
            Number of the first direction.

        Returns
        -------
        bool
            Whether an argument of a launch changed.
        """
        changed = False
        for launch in self.launches:
            if launch.arguments.get("first", first) != first:
                launch.arguments["first"], changed = first, True
        return changed


class Program(Bound):
    """Operations that run in order.

    The first run launches one kernel after another, and compiles and loads kernels that are not loaded yet. The second
    run is captured as a graph, and later runs replay it: one call, however many layers there are. Addresses and sizes
    are part of the graph; what changes from run to run is read from device memory.

    Parameters
    ----------
    driver : Driver
        The GPU's driver.
    operations : sequence of Operation
        The operations.
    graph : bool
        Whether runs are replayed as a graph; else every run launches one kernel after another.

    Attributes
    ----------
    operations : tuple of Operation
        The operations.
    runs : int
        Number of runs so far.

    Raises
    ------
    DeviceError
        A kernel cannot be loaded, a launch failed, or a graph cannot be captured.
    """

    scratch_nbytes = 0

    def __init__(self, driver: Driver, operations: Sequence[Operation], graph: bool = True) -> None:
        self.operations = tuple(operations)
        self._driver, self._graphed = driver, graph
        self._launches = [launch for operation in operations for launch in operation.launches]
        self._warm, self._graph = False, None
        self.runs = 0
        for launch in self._launches:
            driver.load(launch.kernel)

    def forget(self) -> None:
        """Run the next time as if for the first time, because an argument of a launch may have changed."""
        self._warm, self._graph = False, None

    def run(self) -> None:
        """Ask the GPU for all operations; they may still be running when this returns."""
        with Uninterrupted():
            self._run()
            self.runs += 1

    def _run(self) -> None:
        if not self._graphed or not self._warm:
            self._launch_all()
            self._warm = True
            return
        if self._graph is None:
            try:
                self._graph = self._driver.capture(self._launch_all)
            except DeviceError as error:
                raise DeviceError(f"{error}; while a graph was captured: graph=False runs without") from None
        self._driver.replay(self._graph)

    def _launch_all(self) -> None:
        for launch in self._launches:
            launch.run(self._driver)
