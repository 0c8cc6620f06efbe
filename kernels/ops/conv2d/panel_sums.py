"""The sums of a panel's channels over the pixels of an image, the gradient of a convolution's bias."""

from functools import cache

from fgnumba.kernels.emit import channel_sums
from fgnumba.kernels.emit.vector import PANEL, InstructionSet
from fgnumba.kernels.machine.compile import kernel


@cache
def panel_sums(isa: InstructionSet) -> int:
    """Return the address of a kernel that sums a panel's channels over the pixels.

    The kernel takes ``(rows, columns, x, row, column, out)``, see :func:`fgnumba.kernels.emit.channel_sums`.
    """
    sums, vectors = channel_sums(isa), PANEL // isa.lanes

    def add_up(rows: int, columns: int, x: int, row: int, column: int, out: int) -> None:
        sums(rows, columns, vectors, x, row, column, out)

    return kernel(f"panel-sums-{isa.vectors}", add_up, 6)
