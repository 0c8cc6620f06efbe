"""What the reverse pass of recurrent layers computes for all positions at once: copies, transposes and sums."""

import numpy as np
import numpy.typing as npt
from numba import carray

from fgnumba.bench.reverse.kernels.scans import clear
from fgnumba.kernels.emit import call, pointer
from fgnumba.kernels.emit.vector import PANEL, InstructionSet
from fgnumba.kernels.layout import images
from fgnumba.kernels.layout.images import Images, operands
from fgnumba.kernels.machine.arguments import filled, record
from fgnumba.kernels.machine.compile import kernel
from fgnumba.kernels.machine.memory import address
from fgnumba.kernels.machine.program import Operation
from fgnumba.kernels.machine.work import ELEMENT_WORK, MOVED_WORK, parts_for, split
from fgnumba.kernels.ops.example_panels.cpu import transpose
from fgnumba.validation.launcher import launcher

_PREVIOUS = record(*images.fields("y"), "batch", "length", "units", "before", "before_row", "out", "out_row")


@launcher
def bind_previous(
    threads: int, *, batch: int, units: int, y: Images, before: tuple[int, int], out: npt.NDArray[np.float32]
) -> Operation:
    """Bind the copy of the states before each position: y, one position later.

    Parameters
    ----------
    threads : int
        Number of threads that may share the work.
    batch, units : int
        Numbers of examples B and of units N.
    y : Images
        The outputs (L, N).
    before : (int, int)
        Address of the first example's state before the first position, and elements to the next one's. 0: zeros.
    out : array, (B L, at least N) float32
        Written: the states before.
    """
    values, memory = operands(y=y)
    fields = {
        **values,
        "batch": batch,
        "length": y.shape[0],
        "units": units,
        "before": before[0],
        "before_row": before[1],
        "out": address(out),
        "out_row": out.shape[-1],
    }
    memory["keeps"] = (memory["keeps"], out)
    parts = parts_for(batch * y.shape[0] * units * ELEMENT_WORK, batch, threads)
    entry = kernel("reverse-previous", _previous, 3)
    return Operation("previous", entry, filled(_PREVIOUS, fields), parts, **memory)


def _previous(arguments: int, part: int, parts: int) -> None:
    a = carray(pointer(arguments, _PREVIOUS), 1)[0]
    first, last = split(a.batch, parts, part)
    for b in range(first, last):
        for position in range(a.length):
            out = carray(pointer(a.out + (b * a.length + position) * a.out_row * 4, np.float32), a.units)
            at = a.y + (b * a.y_image + (position - 1) * a.y_row) * 4
            if position == 0:
                at = a.before + b * a.before_row * 4 if a.before else 0
            if at == 0:
                clear(a.out + b * a.length * a.out_row * 4, a.units)
            else:
                source = carray(pointer(at, np.float32), a.units)
                for j in range(a.units):
                    out[j] = source[j]


_TRANSPOSED = record("weight", "panels", "rows", "out", "out_rows", "first", "transpose")


@launcher
def bind_transposed(
    isa: InstructionSet,
    threads: int,
    *,
    weight: npt.NDArray[np.float32],
    out: npt.NDArray[np.float32],
    first: int = 0,
) -> Operation:
    """Bind the transpose of a packed weight, packed as well.

    Parameters
    ----------
    isa : InstructionSet
        The instruction set to bind for.
    threads : int
        Number of threads that may share the work.
    weight : array, (Q, K, PANEL) float32
        The weight.
    out : array, (ceil(K / PANEL), R, PANEL) float32
        Written: the rows from `first` on, at most Q * PANEL of them, with zeros in the lanes beyond K.
    first : int
        Number of the first row.

    Notes
    -----
    Cost: reads and writes the weight once.
    """
    panels, rows, _ = weight.shape
    fields = {
        "weight": address(weight),
        "panels": panels,
        "rows": rows,
        "out": address(out),
        "out_rows": out.shape[1],
        "first": first,
        "transpose": transpose(isa),
    }
    entry = kernel("reverse-transposed", _transposed, 3)
    parts = parts_for(weight.size * MOVED_WORK, len(out), threads)
    return Operation("transposed", entry, filled(_TRANSPOSED, fields), parts, keeps=(weight, out))


def _transposed(arguments: int, part: int, parts: int) -> None:
    a = carray(pointer(arguments, _TRANSPOSED), 1)[0]
    first, last = split((a.rows + PANEL - 1) // PANEL, parts, part)
    for p in range(first, last):
        for q in range(a.panels):
            columns = min(PANEL, a.out_rows - a.first - q * PANEL)
            source = a.weight + (q * a.rows + p * PANEL) * PANEL * 4
            target = a.out + (p * a.out_rows + a.first + q * PANEL) * PANEL * 4
            lanes = min(PANEL, a.rows - p * PANEL)
            call(a.transpose, (lanes, columns, source, PANEL, target, PANEL))
            for row in range(columns if lanes < PANEL else 0):
                clear(target + (row * PANEL + lanes) * 4, PANEL - lanes)


_BY_POSITION = record("rows", "row", "batch", "length", "panels", "out", "out_rows", "onto")


@launcher
def bind_by_position(
    threads: int, *, batch: int, length: int, rows: Images, out: npt.NDArray[np.float32], onto: bool
) -> Operation:
    """Bind the gradient of a positional embedding: the sums over examples of the cotangents at each position.

    Parameters
    ----------
    threads : int
        Number of threads that may share the work.
    batch, length : int
        Numbers of examples B and of positions L.
    rows : Images
        The cotangents: B L images of one pixel, with room for whole panels.
    out : array, (Q, at least L, PANEL) float32
        Written: the gradient; zeros from row L on.
    onto : bool
        Whether it is added to what `out` holds.

    Notes
    -----
    Cost: reads the cotangents once. A part has whole panels, and adds up the examples in order.
    """
    panels, out_rows, _ = out.shape
    fields = {
        "rows": rows.fields("x")["x"],
        "row": rows.image,
        "batch": batch,
        "length": length,
        "panels": panels,
        "out": address(out),
        "out_rows": out_rows,
        "onto": onto,
    }
    parts = parts_for(batch * length * panels * PANEL * MOVED_WORK, panels, threads)
    entry = kernel("reverse-by-position", _by_position, 3)
    return Operation("by-position", entry, filled(_BY_POSITION, fields), parts, keeps=(rows.memory, out))


def _by_position(arguments: int, part: int, parts: int) -> None:
    a = carray(pointer(arguments, _BY_POSITION), 1)[0]
    first, last = split(a.panels, parts, part)
    for q in range(first, last):
        at = a.out + q * a.out_rows * PANEL * 4
        if not a.onto:
            clear(at, a.out_rows * PANEL)
        for b in range(a.batch):
            for position in range(a.length):
                row = a.rows + ((b * a.length + position) * a.row + q * PANEL) * 4
                source = carray(pointer(row, np.float32), PANEL)
                target = carray(pointer(at + position * PANEL * 4, np.float32), PANEL)
                for lane in range(PANEL):
                    target[lane] += source[lane]


_CLEAR = record("array", "size")


@launcher
def bind_clear(array: npt.NDArray[np.float32]) -> Operation:
    """Bind the clearing of an array."""
    fields = {"array": address(array), "size": array.size}
    return Operation("clear", kernel("reverse-clear", _clear, 3), filled(_CLEAR, fields), keeps=(array,))


def _clear(arguments: int, part: int, parts: int) -> None:
    a = carray(pointer(arguments, _CLEAR), 1)[0]
    clear(a.array, a.size)


_ADD = record("total", "total_row", "term", "term_row", "rows", "units")


@launcher
def bind_add(total: npt.NDArray[np.float32], term: npt.NDArray[np.float32], units: int) -> Operation:
    """Bind the sum of the first `units` columns of two arrays, (B, at least units), which replaces those of `total`."""
    fields = {
        "total": address(total),
        "total_row": total.shape[-1],
        "term": address(term),
        "term_row": term.shape[-1],
        "rows": len(total),
        "units": units,
    }
    return Operation("add", kernel("reverse-add", _add, 3), filled(_ADD, fields), keeps=(total, term))


def _add(arguments: int, part: int, parts: int) -> None:
    a = carray(pointer(arguments, _ADD), 1)[0]
    for b in range(a.rows):
        total = carray(pointer(a.total + b * a.total_row * 4, np.float32), a.units)
        term = carray(pointer(a.term + b * a.term_row * 4, np.float32), a.units)
        for j in range(a.units):
            total[j] += term[j]


_SUMS = record("sheets", "rows", "used", "panels", "out", "onto")


@launcher
def bind_sums(
    threads: int, *, sheets: npt.NDArray[np.float32], used: int, out: npt.NDArray[np.float32], onto: bool
) -> Operation:
    """Bind the sums of the first `used` rows of panels: a bias's gradient.

    Parameters
    ----------
    threads : int
        Number of threads that may share the work.
    sheets : array, (Q, rows, PANEL) float32
        The panels. Rows beyond `used` are set to zero, for the products that follow.
    used : int
        Number of rows that count.
    out : array, (Q * PANEL,) float32
        Written: the sums.
    onto : bool
        Whether they are added to what `out` holds.
    """
    panels, rows, _ = sheets.shape
    fields = {
        "sheets": address(sheets),
        "rows": rows,
        "used": used,
        "panels": panels,
        "out": address(out),
        "onto": onto,
    }
    parts = parts_for(sheets.size * ELEMENT_WORK, panels, threads)
    entry = kernel("reverse-panel-sums", _sums, 3)
    return Operation(
        "sums", entry, filled(_SUMS, fields), parts, scratch_bytes=PANEL * 4, keeps=(sheets, out)
    )


def _sums(arguments: int, part: int, parts: int) -> None:
    a = carray(pointer(arguments, _SUMS), 1)[0]
    first, last = split(a.panels, parts, part)
    total = carray(pointer(a.scratch, np.float32), PANEL)
    for q in range(first, last):
        at = a.sheets + q * a.rows * PANEL * 4
        clear(at + a.used * PANEL * 4, (a.rows - a.used) * PANEL)
        sheet = carray(pointer(at, np.float32), (a.used, PANEL))
        clear(a.scratch, PANEL)
        for i in range(a.used):
            for lane in range(PANEL):
                total[lane] += sheet[i, lane]
        out = carray(pointer(a.out + q * PANEL * 4, np.float32), PANEL)
        for lane in range(PANEL):
            out[lane] = total[lane] + (out[lane] if a.onto else np.float32(0))
