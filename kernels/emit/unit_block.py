"""Rows of a block of units that lie side by side, a few vectors of which are computed at a time."""

from typing import Any

from fgnumba.kernels.emit.vector import InstructionSet
from fgnumba.kernels.emit.vectors import Vectors, index, loop


class UnitBlock:
    """Rows of a block of units, `count` vectors of which are computed at a time, from column `c` on."""

    def __init__(self, isa: InstructionSet, builder: Any, width: int, most: int) -> None:
        self.vectors, self.builder, self.width = Vectors(builder, isa.lanes), builder, width
        each = width // isa.lanes
        self.count = next(n for n in (8, 4, 2, 1) if each % n == 0 and n <= max(1, most))
        self.passes = each // self.count
        self.c: Any = index(0)

    def columns(self) -> Any:
        """Append a loop over the block's columns, `count` vectors at a time."""
        return loop(self.builder, "columns", index(self.passes), [])

    def enter(self, number: Any) -> None:
        self.c = self.builder.mul(number, index(self.count * self.vectors.lanes))

    def _places(self, row: Any, stride: Any) -> list[Any]:
        first = self.builder.add(self.builder.mul(row, stride), self.c)
        return [self.builder.add(first, index(i * self.vectors.lanes)) for i in range(self.count)]

    def load(self, base: Any, row: Any, stride: Any = None) -> list[Any]:
        stride = index(self.width) if stride is None else stride
        return [self.vectors.load(base, at) for at in self._places(row, stride)]

    def store(self, values: list[Any], base: Any, row: Any, stride: Any = None) -> None:
        stride = index(self.width) if stride is None else stride
        for value, at in zip(values, self._places(row, stride), strict=True):
            self.vectors.store(value, base, at)

    def same(self, value: float) -> list[Any]:
        return [self.vectors.type([value] * self.vectors.lanes)] * self.count

    def fma(self, a: list[Any], b: list[Any], c: list[Any]) -> list[Any]:
        return [self.vectors.multiply_add(*terms) for terms in zip(a, b, c, strict=True)]

    def minus_product(self, a: list[Any], b: list[Any], c: list[Any]) -> list[Any]:
        """Return c - a b."""
        return self.fma([self.builder.fneg(value) for value in a], b, c)

    def multiply(self, a: list[Any], b: list[Any]) -> list[Any]:
        return [self.builder.fmul(x, y) for x, y in zip(a, b, strict=True)]

    def subtract(self, a: list[Any], b: list[Any]) -> list[Any]:
        return [self.builder.fsub(x, y) for x, y in zip(a, b, strict=True)]

    def complex_product(self, a: list[list[Any]], b: list[list[Any]]) -> list[list[Any]]:
        (ar, ai), (br, bi) = a, b
        return [
            self.minus_product(ai, bi, self.multiply(ar, br)),
            self.fma(ar, bi, self.multiply(ai, br)),
        ]
