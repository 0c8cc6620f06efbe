"""Emits the loop that goes back through time over an elementwise recurrence, for the units of one example.

It reads what the forward pass kept, and computes nothing but sums and products. Numba would not vectorise it, because
it cannot tell that the arrays do not overlap.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from fgnumba.bench.reverse.kernels.recurrences import RECURRENCES, Recurrence
from fgnumba.kernels.emit.vector import PANEL, InstructionSet
from fgnumba.kernels.emit.vectors import F32, I32, I64, Vectors, index

FRAME = (
    *(
        "length",
        "panels",
        "units",
        "y",
        "y_row",
        "y_part",
        "before",
        "state_part",
        "dy",
        "dy_row",
        "carry",
        "fed",
    ),
    *("gates", "gates_row", "gates_part", "extra", "extra_row", "rows", "rows_row", "rows_part"),
    *("sheets", "sheet", "sheets_part", "symbols", "weight", "weight_part", "vocabulary"),
    *("parameters", "sums", "vector_part"),
)
"""What the loop is told, int64 each: addresses, distances in elements, and numbers.

- ``length`` positions of ``panels`` panels, in which there are ``units`` units, and padding;
- ``y``: the states, which are the layer's outputs, and ``before``, the state before the first;
- ``carry``: the cotangent of the last state from what comes after, replaced by that of ``before``; ``fed``: a further
  share of it, from a product with all units;
- ``extra``: a vector that only a cell of a full recurrence reads;
- ``rows`` and ``sheets``: the cotangents of the gates' sums, by rows, and in panels ``sheet`` elements apart;
- ``symbols``: the inputs, if they are symbols. The cotangents are then added to the rows of ``weight`` instead, unless
  the number is no symbol;
- ``parameters`` and ``sums``: vectors at a distance of ``vector_part``.

Any other ``part`` is the distance between the parts of a state, or between gates.
"""


@dataclass(frozen=True)
class _Number:
    """A vector, written as a number: its sums and products append instructions. Products may be fused with sums."""

    vectors: Vectors
    value: Any

    def _other(self, other: Any) -> Any:
        if isinstance(other, _Number):
            return other.value
        return ir.Constant(self.vectors.type, [float(other)] * self.vectors.lanes)

    def _with(self, name: str, left: Any, right: Any) -> "_Number":
        made = getattr(self.vectors.builder, name)(left, right, flags=("contract", "nsz"))
        return _Number(self.vectors, made)

    def __add__(self, other: Any) -> "_Number":
        return self._with("fadd", self.value, self._other(other))

    def __sub__(self, other: Any) -> "_Number":
        return self._with("fsub", self.value, self._other(other))

    def __rsub__(self, other: Any) -> "_Number":
        return self._with("fsub", self._other(other), self.value)

    def __mul__(self, other: Any) -> "_Number":
        return self._with("fmul", self.value, self._other(other))


class _Loop:
    """Loads and stores of the loop's vectors, of which the lanes of the padding are zeros."""

    def __init__(self, builder: Any, isa: InstructionSet, frame: Any) -> None:
        self.builder, self.vectors = builder, Vectors(builder, isa.lanes)
        memory = builder.inttoptr(frame, I64.as_pointer())
        self.frame = {name: builder.load(builder.gep(memory, [index(i)])) for i, name in enumerate(FRAME)}

    def at(self, unit: Any) -> None:
        """Begin the code of the vector whose first unit is `unit`."""
        builder, kind = self.builder, ir.VectorType(I32, self.vectors.lanes)
        lanes, undefined = ir.Constant(kind, list(range(self.vectors.lanes))), ir.Constant(kind, ir.Undefined)
        units = builder.trunc(builder.sub(self.frame["units"], unit), I32)
        first = builder.insert_element(undefined, units, ir.Constant(I32, 0))
        all_lanes = builder.shuffle_vector(first, undefined, ir.Constant(kind, None))
        self.mask = builder.icmp_signed("<", lanes, all_lanes)
        self.unit = unit
        self.panel = builder.sdiv(unit, index(PANEL))
        self.lane = builder.srem(unit, index(PANEL))

    def address(self, base: Any, *offsets: tuple[Any, Any]) -> Any:
        """Return `base` plus 4 bytes for each of the products `offsets`."""
        for number, distance in offsets:
            base = self.builder.add(base, self.builder.mul(self.builder.mul(number, distance), index(4)))
        return base

    def part(self, name: str, of: str, i: int, *offsets: tuple[Any, Any]) -> Any:
        """Return the address of the vector in part i of what the frame calls `name`; parts are `of` apart."""
        own = (index(i), self.frame[of]), (self.unit, index(1))
        return self.address(self.frame[name], *own, *offsets)

    def panel_part(self, name: str, of: str, i: int, distance: Any, row: Any) -> Any:
        """Return the address of the vector in a row of part i of panels, which are `distance` elements apart."""
        own = (index(i), self.frame[of]), (self.panel, distance), (self.lane, index(1))
        return self.address(self.frame[name], *own, (row, index(PANEL)))

    def load(self, address: Any) -> _Number:
        base = self.builder.inttoptr(address, F32.as_pointer())
        loaded = self.vectors.load(base, index(0))
        return _Number(self.vectors, self.builder.select(self.mask, loaded, self.vectors.zero))

    def store(self, number: _Number, address: Any) -> None:
        self.vectors.store(number.value, self.builder.inttoptr(address, F32.as_pointer()), index(0))


@cache
def reverse_scan(isa: InstructionSet, recurrence: str, symbols: bool) -> Callable[[int], None]:
    """Return a Numba intrinsic that takes the address of a `FRAME`, and goes back through time.

    Parameters
    ----------
    isa : InstructionSet
        The instruction set whose vectors are used.
    recurrence : str
        Name of the recurrence in `RECURRENCES`.
    symbols : bool
        Whether the inputs are symbols.

    Notes
    -----
    Cost: a position reads y, dy and the gates once, and writes the cotangents of the gates' sums. The loop goes through
    all units of a position before it goes to the next, so that memory is read in order; what is carried stays in the
    first-level cache.
    """

    @intrinsic
    def scan(typingctx, frame):
        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            _emit(_Loop(builder, isa, args[0]), RECURRENCES[recurrence], symbols)
            return context.get_dummy_value()

        return types.void(frame), codegen

    return scan


def _emit(loop: _Loop, recurrence: Recurrence, symbols: bool) -> None:
    builder, frame = loop.builder, loop.frame
    units = builder.mul(frame["panels"], index(PANEL))
    entry = builder.block
    outer, inner, following, done = (
        builder.append_basic_block(name) for name in ("position", "vector", "following", "done")
    )
    some = builder.and_(
        builder.icmp_signed(">", frame["length"], index(0)), builder.icmp_signed(">", units, index(0))
    )
    builder.cbranch(some, outer, done)

    builder.position_at_end(outer)
    after = builder.phi(I64)
    after.add_incoming(frame["length"], entry)
    position = builder.sub(after, index(1))
    builder.branch(inner)

    builder.position_at_end(inner)
    unit = builder.phi(I64)
    unit.add_incoming(index(0), outer)
    loop.at(unit)
    _position(loop, recurrence, symbols, position)
    next_unit = builder.add(unit, index(loop.vectors.lanes))
    unit.add_incoming(next_unit, inner)
    builder.cbranch(builder.icmp_signed("<", next_unit, units), inner, following)

    builder.position_at_end(following)
    after.add_incoming(position, following)
    builder.cbranch(builder.icmp_signed(">", position, index(0)), outer, done)
    builder.position_at_end(done)


def _position(loop: _Loop, recurrence: Recurrence, symbols: bool, position: Any) -> None:
    """Emit one position of one vector of units."""
    builder, frame = loop.builder, loop.frame
    previous = builder.sub(position, index(1))
    is_first = builder.icmp_signed("==", position, index(0))
    carries = [loop.part("carry", "state_part", i) for i in range(recurrence.states)]
    sums = [loop.part("sums", "vector_part", i) for i in range(recurrence.sums)]
    parameters = [loop.load(loop.part("parameters", "vector_part", i)) for i in range(recurrence.parameters)]
    g, before = [], []
    for i, at in enumerate(carries):
        total = loop.load(at)
        if i < recurrence.outputs:
            total = total + loop.load(loop.part("dy", "y_part", i, (position, frame["dy_row"])))
        if recurrence.full and i == 0:
            total = total + loop.load(loop.part("fed", "state_part", 0))
        g.append(total)
        inside = loop.part("y", "y_part", i, (previous, frame["y_row"]))
        outside = loop.part("before", "state_part", i)
        before.append(loop.load(builder.select(is_first, outside, inside)))
    gates = [
        loop.load(loop.part("gates", "gates_part", i, (position, frame["gates_row"])))
        for i in range(recurrence.gates)
    ]
    if recurrence.full:
        gates.append(loop.load(loop.part("extra", "state_part", 0, (position, frame["extra_row"]))))
    back, cotangents, terms = recurrence.step(g, before, gates, parameters)
    for at, number in zip(carries, back, strict=True):
        loop.store(number, at)
    for at, number in zip(sums, terms, strict=True):
        loop.store(loop.load(at) + number, at)
    if symbols:
        _add_to_symbol(loop, position, cotangents)
        return
    for i, number in enumerate(cotangents):
        loop.store(number, loop.part("rows", "rows_part", i, (position, frame["rows_row"])))
        loop.store(number, loop.panel_part("sheets", "sheets_part", i, frame["sheet"], position))


def _add_to_symbol(loop: _Loop, position: Any, cotangents: Sequence[_Number]) -> None:
    """Emit the sum of the cotangents and the row of the weight's gradient that belongs to the symbol at a position."""
    builder, frame, vectors = loop.builder, loop.frame, loop.vectors
    at = builder.inttoptr(loop.address(frame["symbols"], (position, index(1))), F32.as_pointer())
    number = builder.load(at)
    low = builder.fcmp_ordered(">=", number, ir.Constant(F32, 0.0))
    high = builder.fcmp_ordered("<", number, builder.sitofp(frame["vocabulary"], F32))
    known = builder.and_(low, high)
    symbol = builder.fptosi(builder.select(known, number, ir.Constant(F32, 0.0)), I64)
    panel = builder.mul(frame["vocabulary"], index(PANEL))
    for i, cotangent in enumerate(cotangents):
        row = loop.panel_part("weight", "weight_part", i, panel, symbol)
        added = _Number(vectors, builder.select(known, cotangent.value, vectors.zero))
        loop.store(loop.load(row) + added, row)
