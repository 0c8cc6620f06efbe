"""Arm's instruction that multiplies matrices of bfloat16, ``bfmmla``, and the same arithmetic by ordinary instructions.

The instruction adds to a 2 x 2 matrix of float32 the product of a 2 x 4 and a 4 x 2 matrix of bfloat16. One vector
register holds row 0 and then row 1 of the first factor, another column 0 and then column 1 of the second, and a third
the sums, row by row. For row i and column j it computes, with [ ] for a rounding to float32,

    sum = [ sum + [ [a₀ b₀] + [a₁ b₁] ] ]
    sum = [ sum + [ [a₂ b₂] + [a₃ b₃] ] ]

where a is row i and b is column j.

- A rounding is *to odd*: a number between two neighbouring float32 becomes the one whose last bit is 1. So a sum is
  wrong by up to one unit in the last place, instead of half of one. The product of two bfloat16 has 16 bits, and is
  exact unless it is too large or too small.
- A subnormal number counts as zero, as an operand and as a result, and keeps its sign. Whether a result is subnormal is
  decided before it is rounded, which makes no difference: to odd, nothing is rounded up to the smallest normal number.
- A result of 2^128 or more is infinite. A smaller one is at most the largest float32, whose last bit is 1.
- x - x is +0. Whatever is not a number becomes one NaN, 0x7fc00000.
- Except for that NaN's sign (FPCR.AH, which is 0 unless a program sets it), nothing depends on the control register
  FPCR, its rounding mode and its flushing of subnormal numbers included. No exception is recorded.

Processors with FEAT_EBF16 have another arithmetic beside this one. A program chooses it for itself by the bit FPCR.EBF,
which is 0 at its start. With that bit set, two products and their sum are rounded once together, and that rounding and
the sums follow FPCR. Bits then differ from the twin's. Nothing here sets it, or changes it where a program has.

Source: Arm Architecture Reference Manual for A-profile, DDI 0487: BFMMLA, and the pseudocode of BFMatMulAddH, BFDotAdd,
BFMulH, BFAdd, BFRound and BFUnpack.
"""

from typing import Any

from llvmlite import ir

from fgnumba.kernels.emit.vectors import BFLOAT, F32, F64, I32, I64, declared

LANES = 4
SUMS = ir.VectorType(F32, LANES)
"""The sums: (0, 0), (0, 1), (1, 0), (1, 1)."""
FACTOR = ir.VectorType(ir.IntType(16), 8)
"""A factor, eight bfloat16: four of each row, or of each column."""

_WIDE, _BITS, _WORDS = (ir.VectorType(each, LANES) for each in (F64, I64, I32))

# Bits of float64.
_SIGN = 1 << 63
_INFINITY, _NAN = 0x7FF << 52, 0xFFF << 51
_TOO_LARGE, _SMALLEST = (1023 + 128) << 52, (1023 - 126) << 52
_LAST = 1 << 29
"""The last bit of the significand that a float32 has, too."""

_UNCHANGED = ("arcp",)
"""A flag that means nothing to sums and products. Numba adds what it allows the compiler where there is no flag."""


def bfmmla(builder: Any, sums: Any, a: Any, b: Any) -> Any:
    """Return `sums` + `a` `b`, by the instruction."""
    factor = ir.VectorType(BFLOAT, 8)
    function = declared(builder, "llvm.aarch64.neon.bfmmla", SUMS, [SUMS, factor, factor])
    return builder.call(function, [sums, builder.bitcast(a, factor), builder.bitcast(b, factor)])


def bfmmla_twin(builder: Any, sums: Any, a: Any, b: Any) -> Any:
    """Return the same bits as :func:`bfmmla`, on any machine, by a call of a function of about 150 instructions."""
    name = "bfmmla_twin"
    function = builder.module.globals.get(name)
    if function is None:
        signature = ir.FunctionType(SUMS, [SUMS, FACTOR, FACTOR])
        function = ir.Function(builder.module, signature, name=name)
        function.linkage = "internal"
        function.attributes.add("noinline")
        body = ir.IRBuilder(function.append_basic_block())
        body.ret(_Twin(body).matrix_product(*function.args))
    return builder.call(function, [sums, a, b])


class _Twin:
    """Computes in float64, in which products of bfloat16 are exact, and sums of float32 have a known error.

    No number that occurs is subnormal in float64. So it does not matter how the processor treats those.
    """

    def __init__(self, builder: Any) -> None:
        self.builder = builder

    def matrix_product(self, sums: Any, a: Any, b: Any) -> Any:
        total = self.wide(self.builder.bitcast(sums, _WORDS))
        for k in (0, 2):
            first, second = (
                self.to_float32(self.exactly("fmul", self.entries(a, rows, at), self.entries(b, columns, at)))
                for at in (k, k + 1)
                for rows, columns in [((0, 0, 1, 1), (0, 1, 0, 1))]
            )
            total = self.sum(total, self.sum(first, second))
        return self.builder.fptrunc(total, SUMS)

    def entries(self, factor: Any, lines: tuple[int, ...], at: int) -> Any:
        """Return number `at` of a line, a row or a column, for each lane."""
        order = ir.Constant(_WORDS, [4 * line + at for line in lines])
        halves = self.builder.shuffle_vector(factor, ir.Constant(FACTOR, ir.Undefined), order)
        words = self.builder.zext(halves, _WORDS)
        return self.wide(self.builder.shl(words, ir.Constant(_WORDS, [16] * LANES)))

    def wide(self, words: Any) -> Any:
        """Return float32, of which these are the bits, as float64. Subnormal ones become zero."""
        builder = self.builder
        exponent = builder.and_(words, ir.Constant(_WORDS, [0x7F800000] * LANES))
        sign = builder.and_(words, ir.Constant(_WORDS, [0x80000000] * LANES))
        none = builder.icmp_unsigned("==", exponent, ir.Constant(_WORDS, None))
        return builder.fpext(builder.bitcast(builder.select(none, sign, words), SUMS), _WIDE)

    def sum(self, a: Any, b: Any) -> Any:
        """Return a + b, float32 as float64, rounded to odd."""
        builder, exactly = self.builder, self.exactly
        total = exactly("fadd", a, b)
        # What a sum's rounding leaves is a float64: D. E. Knuth, The art of computer programming 2, 4.2.2, theorem B.
        part = exactly("fsub", total, a)
        rest = exactly("fadd", exactly("fsub", a, exactly("fsub", total, part)), exactly("fsub", b, part))
        bits, left = builder.bitcast(total, _BITS), builder.bitcast(rest, _BITS)
        size = self.magnitude(left)
        # It is NaN where the sum is infinite or NaN.
        inexact = builder.and_(
            builder.icmp_unsigned("!=", size, self.all(0)),
            builder.icmp_unsigned("<", size, self.all(_INFINITY)),
        )
        # Round to odd in float64 first: towards zero, then set the last bit.
        away = builder.lshr(builder.xor(bits, left), self.all(63))
        odd = builder.or_(builder.sub(bits, away), self.all(1))
        return self.to_float32(builder.bitcast(builder.select(inexact, odd, bits), _WIDE))

    def to_float32(self, value: Any) -> Any:
        """Return float64 rounded to odd to the numbers that float32 has."""
        builder = self.builder
        bits = builder.bitcast(value, _BITS)
        sign, size = builder.and_(bits, self.all(_SIGN)), self.magnitude(bits)
        below = builder.and_(size, self.all(_LAST - 1))
        upper = builder.sub(size, below)
        exact = builder.icmp_unsigned("==", below, self.all(0))
        result = builder.select(exact, size, builder.or_(upper, self.all(_LAST)))
        result = builder.select(builder.icmp_unsigned("<", size, self.all(_SMALLEST)), self.all(0), result)
        large = builder.icmp_unsigned(">=", size, self.all(_TOO_LARGE))
        result = builder.or_(builder.select(large, self.all(_INFINITY), result), sign)
        none = builder.icmp_unsigned(">", size, self.all(_INFINITY))
        return builder.bitcast(builder.select(none, self.all(_NAN), result), _WIDE)

    def exactly(self, operation: str, a: Any, b: Any) -> Any:
        """Return the result of one operation of float64, which the compiler may not join with another."""
        return getattr(self.builder, operation)(a, b, flags=_UNCHANGED)

    def magnitude(self, bits: Any) -> Any:
        return self.builder.and_(bits, self.all(_SIGN - 1))

    def all(self, bits: int) -> Any:
        return ir.Constant(_BITS, [bits] * LANES)
