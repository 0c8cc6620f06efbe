"""Writes LLVM instructions on vectors of float32 or float64, all of one width."""

from contextlib import contextmanager
from typing import Any

from llvmlite import ir

BYTE, I32, I64 = ir.IntType(8), ir.IntType(32), ir.IntType(64)
F32, F64 = ir.FloatType(), ir.DoubleType()


class _Bfloat(ir.Type):
    """LLVM's type of a bfloat16, which llvmlite does not have."""

    def _to_string(self) -> str:
        return "bfloat"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Bfloat)

    def __hash__(self) -> int:
        return hash(_Bfloat)


BFLOAT = _Bfloat()


def index(n: int) -> ir.Constant:
    """Return n as an int64 constant."""
    return ir.Constant(I64, n)


def never_unroll(module: ir.Module, branch: Any) -> None:
    """Forbid LLVM to unroll the loop that `branch` closes.

    An unrolled register tile would not keep its sums in registers.
    """
    disable = module.add_metadata([ir.MetaDataString(module, "llvm.loop.unroll.disable")])
    loop = module.add_metadata([disable, disable])
    # LLVM identifies a loop by a metadata node whose first operand is the node itself.
    loop.operands = (loop, disable)
    branch.set_metadata("llvm.loop", loop)


def opaque(builder: Any, value: Any) -> Any:
    """Return the int64 `value` in a form about which the compiler knows nothing."""
    return builder.asm(ir.FunctionType(I64, [I64]), "", "=r,0", [value], False)


def prefetch_line(builder: Any, address: Any, level: int, write: bool = False) -> None:
    """Load the cache line at the int64 `address` into the cache of `level` 1 or 2.

    It will be read soon or, with `write`, written.
    """
    pointer = BYTE.as_pointer()
    signature = ir.FunctionType(ir.VoidType(), [pointer, I32, I32, I32])
    function = builder.module.declare_intrinsic("llvm.prefetch", [pointer], signature)
    # LLVM's number for the nearness is 3 for the first-level cache and 2 for the second.
    purpose, near, data = (ir.Constant(I32, number) for number in (int(write), 4 - level, 1))
    builder.call(function, [builder.inttoptr(address, pointer), purpose, near, data])


@contextmanager
def loop(builder: Any, name: str, n: Any, carried: list[Any]) -> Any:
    """Append a loop of n >= 1 iterations.

    Yields the counter, the carried values, and an empty list, to which the caller appends the next carried values.
    """
    before, body, after = (
        builder.block,
        builder.append_basic_block(name),
        builder.append_basic_block(f"{name}-end"),
    )
    builder.branch(body)
    builder.position_at_end(body)
    i = builder.phi(I64)
    i.add_incoming(index(0), before)
    phis = [builder.phi(value.type) for value in carried]
    for phi, value in zip(phis, carried, strict=True):
        phi.add_incoming(value, before)
    following: list[Any] = []
    yield i, phis, following
    i_next = builder.add(i, index(1))
    end = builder.block
    i.add_incoming(i_next, end)
    for phi, value in zip(phis, following, strict=True):
        phi.add_incoming(value, end)
    builder.cbranch(builder.icmp_signed("<", i_next, n), body, after)
    builder.position_at_end(after)


def declared(builder: Any, name: str, result: Any, arguments: list[Any]) -> Any:
    """Return the function called `name`, which is declared in the module if it isn't yet."""
    module = builder.module
    return module.globals.get(name) or ir.Function(module, ir.FunctionType(result, arguments), name=name)


class Vectors:
    """Appends instructions on vectors of `lanes` float32, or float64, through `builder`."""

    def __init__(self, builder: Any, lanes: int, element: Any = F32) -> None:
        self.builder, self.lanes = builder, lanes
        self.type = ir.VectorType(element, lanes)
        self.zero = ir.Constant(self.type, None)
        self._itemsize = 4 if element == F32 else 8

    def load(self, base: Any, offset: Any) -> Any:
        pointer = self.builder.gep(base, [offset])
        value = self.builder.load(self.builder.bitcast(pointer, self.type.as_pointer()))
        value.align = self._itemsize
        return value

    def store(self, value: Any, base: Any, offset: Any) -> None:
        pointer = self.builder.gep(base, [offset])
        self.builder.store(
            value, self.builder.bitcast(pointer, self.type.as_pointer())
        ).align = self._itemsize

    def splat(self, scalar: Any) -> Any:
        undefined = ir.Constant(self.type, ir.Undefined)
        first = self.builder.insert_element(undefined, scalar, ir.Constant(I32, 0))
        mask = ir.Constant(ir.VectorType(I32, self.lanes), None)
        return self.builder.shuffle_vector(first, undefined, mask)

    def signs(self, word: Any, first_bit: int) -> Any:
        """Return +1 in each lane whose bit of `word` is 0, and -1 where it is 1. Lane 0 reads bit `first_bit`."""
        shifted = self.builder.lshr(word, ir.Constant(I32, first_bit))
        bits = self.builder.trunc(shifted, ir.IntType(self.lanes))
        mask = self.builder.bitcast(bits, ir.VectorType(ir.IntType(1), self.lanes))
        minus, plus = (ir.Constant(self.type, [value] * self.lanes) for value in (-1.0, 1.0))
        return self.builder.select(mask, minus, plus)

    def multiply_add(self, a: Any, b: Any, c: Any) -> Any:
        """Return a b + c: one fused instruction where the target has it, else two instructions."""
        name = f"llvm.fmuladd.v{self.lanes}f{8 * self._itemsize}"
        return self.builder.call(declared(self.builder, name, self.type, [self.type] * 3), [a, b, c])

    def fused_multiply_add(self, a: Any, b: Any, c: Any) -> Any:
        """Return a b + c, rounded once on every target."""
        name = f"llvm.fma.v{self.lanes}f{8 * self._itemsize}"
        return self.builder.call(declared(self.builder, name, self.type, [self.type] * 3), [a, b, c])

    def dot_pairs(self, a: Any, b: Any, c: Any) -> Any:
        """Return c + a₁ b₁ + a₀ b₀ by one instruction, ``vdpbf16ps``.

        Every lane of a and b is a pair of bfloat16, the first in the lower half.
        """
        pairs = ir.VectorType(BFLOAT, 2 * self.lanes)
        name = f"llvm.x86.avx512bf16.dpbf16ps.{32 * self.lanes}"
        function = declared(self.builder, name, self.type, [self.type, pairs, pairs])
        return self.builder.call(
            function, [c, self.builder.bitcast(a, pairs), self.builder.bitcast(b, pairs)]
        )

    def halves(self, pairs: Any) -> tuple[Any, Any]:
        """Return the first and the second bfloat16 of every lane as float32."""
        words = ir.VectorType(I32, self.lanes)
        bits = self.builder.bitcast(pairs, words)
        first = self.builder.shl(bits, ir.Constant(words, [16] * self.lanes))
        second = self.builder.and_(bits, ir.Constant(words, [0xFFFF0000] * self.lanes))
        return self.builder.bitcast(first, self.type), self.builder.bitcast(second, self.type)

    def dot_pairs_twin(self, a: Any, b: Any, c: Any) -> Any:
        """Return what :meth:`dot_pairs` returns, by other instructions.

        The second products are added first, and each sum is rounded once: seen on Zen 4 (bit for bit, in 1.6 million
        sums), and as Intel's manual describes the instruction. It counts subnormal numbers as zero, as kernels do.
        """
        (a_first, a_second), (b_first, b_second) = self.halves(a), self.halves(b)
        return self.fused_multiply_add(a_first, b_first, self.fused_multiply_add(a_second, b_second, c))
