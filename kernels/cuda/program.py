"""Bound operations on a GPU: launches in order, run one by one or replayed as one graph."""

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
"""Of a grid along its second and its third axis."""

_MOST_BLOCKS = (2**31 - 1, MAX_BLOCKS_YZ, MAX_BLOCKS_YZ)


@dataclass
class Launch(Bound):
    """A kernel with its grid and its arguments: numbers, or arrays whose addresses are passed.

    Parameters
    ----------
    blocks : along the three axes of the grid; a launch of no blocks does nothing.
    """

    kernel: Kernel
    blocks: Blocks
    arguments: dict[str, Any]

    def run(self, driver: Driver) -> None:
        """Launch it; DeviceError where the grid is larger than a GPU takes."""
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
    name : for plans that print themselves.
    multiply_adds : products in the operation. executed : share of them that are executed.
    keeps : arrays that must live as long as it does.
    """

    name: str
    launches: tuple[Launch, ...]
    multiply_adds: int = 0
    executed: float = 1.0
    keeps: tuple[Any, ...] = field(default=(), repr=False)
    once: bool = False
    external: tuple[str, ...] = ()

    def renumber(self, first: int) -> bool:
        """Let directions be numbered from `first` on; return whether anything that is bound changed."""
        changed = False
        for launch in self.launches:
            if launch.arguments.get("first", first) != first:
                launch.arguments["first"], changed = first, True
        return changed


class Program(Bound):
    """Operations in order.

    The first run launches one kernel after another: it compiles and loads what is not yet. The second is captured as a
    graph, which later ones replay: one call, however many layers there are. Addresses and sizes are part of a graph;
    what changes from run to run is read from device memory.

    Parameters
    ----------
    graph : False: every run launches one kernel after another.

    Attributes
    ----------
    runs : how often all of it was asked for.

    Raises
    ------
    DeviceError
        Capturing failed, or a launch did.
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
        """Run as if for the first time: what was bound may have changed."""
        self._warm, self._graph = False, None

    def run(self) -> None:
        """Ask for all operations; they may still be under way when this returns."""
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
