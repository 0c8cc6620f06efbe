"""The one module that emits LLVM: the register tile, calls through addresses, the multiply-add peak.

Everything else in ``kernels`` is Python that Numba compiles. Addresses travel as int64.
"""

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from fgnumba.kernels.vector import PANEL, InstructionSet

I32, I64, F32 = ir.IntType(32), ir.IntType(64), ir.FloatType()


def _index(n: int) -> ir.Constant:
    return ir.Constant(I64, n)


class _Vectors:
    """Vector instructions of one width, appended through `builder`."""

    def __init__(self, builder: Any, lanes: int) -> None:
        self.builder, self.lanes = builder, lanes
        self.type = ir.VectorType(F32, lanes)
        self.zero = ir.Constant(self.type, None)

    def load(self, base: Any, offset: Any) -> Any:
        pointer = self.builder.gep(base, [offset])
        value = self.builder.load(self.builder.bitcast(pointer, self.type.as_pointer()))
        value.align = 4
        return value

    def store(self, value: Any, base: Any, offset: Any) -> None:
        pointer = self.builder.gep(base, [offset])
        self.builder.store(value, self.builder.bitcast(pointer, self.type.as_pointer())).align = 4

    def splat(self, scalar: Any) -> Any:
        undefined = ir.Constant(self.type, ir.Undefined)
        first = self.builder.insert_element(undefined, scalar, ir.Constant(I32, 0))
        mask = ir.Constant(ir.VectorType(I32, self.lanes), None)
        return self.builder.shuffle_vector(first, undefined, mask)

    def signs(self, word: Any, first_bit: int) -> Any:
        """+1 where a bit of `word` is 0, -1 where it is 1; lane 0 is bit `first_bit`."""
        shifted = self.builder.lshr(word, ir.Constant(I32, first_bit))
        bits = self.builder.trunc(shifted, ir.IntType(self.lanes))
        mask = self.builder.bitcast(bits, ir.VectorType(ir.IntType(1), self.lanes))
        minus, plus = (ir.Constant(self.type, [value] * self.lanes) for value in (-1.0, 1.0))
        return self.builder.select(mask, minus, plus)

    def multiply_add(self, a: Any, b: Any, c: Any) -> Any:
        """Return a b + c: fused where the target has the instruction, two instructions where it has not."""
        name = f"llvm.fmuladd.v{self.lanes}f32"
        module = self.builder.module
        function = module.globals.get(name) or ir.Function(
            module, ir.FunctionType(self.type, [self.type] * 3), name=name
        )
        return self.builder.call(function, [a, b, c])


def product_tile(
    isa: InstructionSet,
    rows: int,
    panels: int,
    weights: bool,
    entries: str | None,
    width: int = PANEL,
    channelwise: bool = False,
) -> Callable[..., None]:
    """Return the register tile ``out = a W + c V`` for `rows` rows and `panels` panels, as a Numba intrinsic.

    The intrinsic takes ``(segments, offsets, length, a, c, ld, w, w_stride, v, v_stride, out, onto)``, all int64. A
    row of `a` and of `c` is `segments` runs of `length` neighbouring elements, each beginning at one of the
    int64 `offsets`, in elements from the row's address: K = segments * length. `a` and `c` are the addresses of
    row 0, `ld` the elements between rows; `w` is the address of the first weight panel, `w_stride` the elements
    from one panel to the next; the same for V; `out` is the address of (rows, panels * PANEL) float32,
    contiguous; `onto` says whether the sums begin with what `out` holds (0: with zero).

    Parameters
    ----------
    weights : with the term a W, W packed (panels, K, PANEL) float32.
    width : columns of each panel that are computed, a multiple of the lanes; the rest of `out` is left alone.
    entries : ``"float"``: with the term c V, V packed like W. ``"signs"``: V is one uint32 of sign bits for
        a panel's row, (panels, K); a set bit is -1. None: without that term.
    channelwise : column n takes element n of a vector that begins where another tile would read one element:
        out[n] = Σ a_k[n] W[k, n] + c_k[n] V[k, n].

    Cost: rows * panels * PANEL multiply-adds a step of K and term, all sums in registers; each step reads a
    panel row of W and V once and one element (one vector) of each row of a and c. The order of summation over
    K is plain and the same for every tile shape.
    """
    per_panel = width // isa.lanes
    columns = [(n // per_panel, n % per_panel * isa.lanes) for n in range(panels * per_panel)]

    @intrinsic
    def tile(  # type: ignore[no-untyped-def]
        typingctx, segments, offsets, length, a, c, ld, w, w_stride, v, v_stride, out, onto
    ):
        signature = types.void(segments, offsets, length, a, c, ld, w, w_stride, v, v_stride, out, onto)

        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            segments, offsets, length, a, c, ld, w, w_stride, v, v_stride, out, onto = args
            a, c, w, out = (builder.inttoptr(p, F32.as_pointer()) for p in (a, c, w, out))
            v = builder.inttoptr(v, (I32 if entries == "signs" else F32).as_pointer())
            offsets = builder.inttoptr(offsets, I64.as_pointer())
            vectors = _Vectors(builder, isa.lanes)

            entry = builder.block
            resume, segment, loop, following, done = (
                builder.append_basic_block(name) for name in ("resume", "segment", "k", "following", "done")
            )
            out_at = [
                [_index((m * panels + panel) * PANEL + lane) for panel, lane in columns] for m in range(rows)
            ]
            a_row = [builder.gep(a, [builder.mul(ld, _index(m))]) for m in range(rows)]
            c_row = [builder.gep(c, [builder.mul(ld, _index(m))]) for m in range(rows)]
            w_panel = [builder.gep(w, [builder.mul(w_stride, _index(p))]) for p in range(panels)]
            v_panel = [builder.gep(v, [builder.mul(v_stride, _index(p))]) for p in range(panels)]
            builder.cbranch(builder.icmp_signed("==", onto, _index(0)), segment, resume)
            builder.position_at_end(resume)
            before = [[vectors.load(out, at) for at in row] for row in out_at]
            builder.branch(segment)

            builder.position_at_end(segment)
            s, start = builder.phi(I64), builder.phi(I64)
            outer = [[builder.phi(vectors.type) for _ in columns] for _ in range(rows)]
            zeros = [[vectors.zero for _ in columns] for _ in range(rows)]
            for block, values in ((entry, zeros), (resume, before)):
                s.add_incoming(_index(0), block)
                start.add_incoming(_index(0), block)
                _incoming(outer, values, block)
            offset = builder.load(builder.gep(offsets, [s]))
            a_run = [builder.gep(row, [offset]) for row in a_row]
            c_run = [builder.gep(row, [offset]) for row in c_row]
            builder.branch(loop)

            builder.position_at_end(loop)
            i, k = builder.phi(I64), builder.phi(I64)
            i.add_incoming(_index(0), segment)
            k.add_incoming(start, segment)
            sums = [[builder.phi(vectors.type) for _ in columns] for _ in range(rows)]
            _incoming(sums, outer, segment)
            totals = [list(row) for row in sums]

            def entries_of(panel: list[Any]) -> list[Any]:
                at = builder.mul(k, _index(PANEL))
                return [vectors.load(panel[p], builder.add(at, _index(lane))) for p, lane in columns]

            def accumulate(runs: list[Any], operand: list[Any]) -> None:
                for m, base in enumerate(runs):
                    element = None if channelwise else vectors.splat(builder.load(builder.gep(base, [i])))
                    for n, (p, lane) in enumerate(columns):
                        factor = (
                            vectors.load(base, builder.add(i, _index(p * PANEL + lane)))
                            if channelwise
                            else element
                        )
                        totals[m][n] = vectors.multiply_add(factor, operand[n], totals[m][n])

            if weights:
                accumulate(a_run, entries_of(w_panel))
            if entries == "signs":
                words = [builder.load(builder.gep(panel, [k])) for panel in v_panel]
                accumulate(c_run, [vectors.signs(words[p], lane) for p, lane in columns])
            elif entries == "float":
                accumulate(c_run, entries_of(v_panel))
            i_next, k_next = builder.add(i, _index(1)), builder.add(k, _index(1))
            i.add_incoming(i_next, loop)
            k.add_incoming(k_next, loop)
            _incoming(sums, totals, loop)
            builder.cbranch(builder.icmp_signed("<", i_next, length), loop, following)

            builder.position_at_end(following)
            s_next = builder.add(s, _index(1))
            s.add_incoming(s_next, following)
            start.add_incoming(k_next, following)
            _incoming(outer, totals, following)
            builder.cbranch(builder.icmp_signed("<", s_next, segments), segment, done)

            builder.position_at_end(done)
            for row, offsets_out in zip(totals, out_at, strict=True):
                for value, at in zip(row, offsets_out, strict=True):
                    vectors.store(value, out, at)
            return context.get_dummy_value()

        return signature, codegen

    return tile


def _incoming(phis: list[list[Any]], values: list[list[Any]], block: Any) -> None:
    for row, row_values in zip(phis, values, strict=True):
        for phi, value in zip(row, row_values, strict=True):
            phi.add_incoming(value, block)


@intrinsic
def pointer(typingctx, address, like):  # type: ignore[no-untyped-def]
    """Return the int64 `address` as a pointer to the type of `like` (a NumPy scalar type)."""
    target = types.CPointer(like.dtype if isinstance(like, types.DType) else like.instance_type)

    def codegen(context: Any, builder: Any, sig: Any, values: Any) -> Any:
        return builder.inttoptr(values[0], context.get_value_type(target))

    return target(address, like), codegen


@intrinsic
def call(typingctx, address, arguments):  # type: ignore[no-untyped-def]
    """Call the compiled function at `address` with a tuple of int64 `arguments`; it returns nothing."""
    signature = types.void(address, arguments)

    def codegen(context: Any, builder: Any, sig: Any, values: Any) -> Any:
        function_type = ir.FunctionType(ir.VoidType(), [I64] * len(arguments))
        pointer = builder.inttoptr(values[0], function_type.as_pointer())
        builder.call(pointer, [builder.extract_value(values[1], i) for i in range(len(arguments))])
        return context.get_dummy_value()

    return signature, codegen


PHILOX_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
PHILOX_KEY_STEPS = (0x9E3779B9, 0xBB67AE85)


def philox_words(isa: InstructionSet, along_row: bool) -> Callable[..., None]:
    """Return an intrinsic that writes the Philox4x32-10 words of ``isa.lanes`` neighbouring counters.

    It takes ``(c0, c1, c2, c3, k0, k1, out)``, int64, the first six below 2**32.

    Parameters
    ----------
    along_row : False: counters (c0 + i, c1, c2, c3), words interleaved: ``out[4 i + word]``. True: counters
        (c0, c1 + i, c2, c3), one plane a word: ``out[16 word + i]``.

    Values stay in the low halves of 64-bit lanes, which is what the widening multiplication takes.
    """
    half = isa.lanes // 2
    i64s = ir.VectorType(I64, half)
    i32s = ir.VectorType(I32, half)

    def splat(value: int) -> ir.Constant:
        return ir.Constant(i64s, [value] * half)

    @intrinsic
    def words(typingctx, c0, c1, c2, c3, k0, k1, out):  # type: ignore[no-untyped-def]
        signature = types.void(c0, c1, c2, c3, k0, k1, out)

        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            undefined = ir.Constant(i64s, ir.Undefined)
            zeros = ir.Constant(i32s, None)

            def broadcast(scalar: Any) -> Any:
                first = builder.insert_element(undefined, scalar, ir.Constant(I32, 0))
                return builder.shuffle_vector(first, undefined, zeros)

            def low(value: Any) -> Any:
                # Tells LLVM that a 32-bit widening multiplication will do; no instruction comes of it.
                return builder.and_(value, splat(0xFFFFFFFF))

            # Two blocks, round by round in turn: one alone would wait for its own multiplications.
            state = []
            for block in range(2):
                c0, c1, c2, c3 = (broadcast(value) for value in args[:4])
                lane = ir.Constant(i64s, [block * half + i for i in range(half)])
                c0, c1 = (c0, builder.add(c1, lane)) if along_row else (builder.add(c0, lane), c1)
                state.append((c0, c1, c2, c3))
            k0, k1 = args[4:6]
            for _ in range(10):
                for block, (c0, c1, c2, c3) in enumerate(state):
                    p0 = builder.mul(splat(PHILOX_MULTIPLIERS[0]), low(c0))
                    p1 = builder.mul(splat(PHILOX_MULTIPLIERS[1]), low(c2))
                    state[block] = (
                        builder.xor(builder.xor(builder.lshr(p1, splat(32)), c1), broadcast(k0)),
                        p1,
                        builder.xor(builder.xor(builder.lshr(p0, splat(32)), c3), broadcast(k1)),
                        p0,
                    )
                k0 = builder.add(k0, _index(PHILOX_KEY_STEPS[0]))
                k1 = builder.add(k1, _index(PHILOX_KEY_STEPS[1]))

            def low_halves(first: Any, second: Any, order: list[int]) -> Any:
                narrow = ir.VectorType(I32, 2 * half)
                mask = ir.Constant(ir.VectorType(I32, len(order)), order)
                return builder.shuffle_vector(
                    builder.bitcast(first, narrow), builder.bitcast(second, narrow), mask
                )

            out = builder.inttoptr(args[6], I32.as_pointer())

            def store(value: Any, offset: int) -> None:
                at = builder.bitcast(builder.gep(out, [_index(offset)]), value.type.as_pointer())
                builder.store(value, at).align = 4

            if along_row:
                every = list(range(0, 4 * half, 2))
                for word, (first, second) in enumerate(zip(*state, strict=True)):
                    store(low_halves(first, second, every), 16 * word)
            else:
                pairs = [2 * i + 2 * half * which for i in range(half) for which in range(2)]
                order = [
                    2 * i + which + 2 * half * late
                    for i in range(half)
                    for late in (0, 1)
                    for which in (0, 1)
                ]
                mask = ir.Constant(ir.VectorType(I32, 4 * half), order)
                for block, (c0, c1, c2, c3) in enumerate(state):
                    four = builder.shuffle_vector(low_halves(c0, c1, pairs), low_halves(c2, c3, pairs), mask)
                    store(four, 4 * block * half)
            return context.get_dummy_value()

        return signature, codegen

    return words


def multiply_add_peak(isa: InstructionSet) -> Callable[..., float]:
    """Return an intrinsic ``(n) -> float32``: n rounds of independent multiply-adds that touch no memory.

    Each round is ``isa.accumulators`` vector multiply-adds; the time for many rounds is the processor's peak.
    """

    @intrinsic
    def peak(typingctx, rounds):  # type: ignore[no-untyped-def]
        def codegen(context: Any, builder: Any, sig: Any, values: Any) -> Any:
            vectors = _Vectors(builder, isa.lanes)
            entry = builder.block
            loop, done = builder.append_basic_block("round"), builder.append_basic_block("done")
            # Seeds depend on the argument, or the loop would fold to a constant.
            seed = vectors.splat(builder.sitofp(values[0], F32))
            builder.branch(loop)
            builder.position_at_end(loop)
            i = builder.phi(I64)
            i.add_incoming(_index(0), entry)
            sums = [builder.phi(vectors.type) for _ in range(isa.accumulators)]
            for n, phi in enumerate(sums):
                phi.add_incoming(ir.Constant(vectors.type, [float(n)] * isa.lanes), entry)
            half = ir.Constant(vectors.type, [0.5] * isa.lanes)
            totals = [vectors.multiply_add(phi, half, seed) for phi in sums]
            i_next = builder.add(i, _index(1))
            i.add_incoming(i_next, loop)
            for phi, value in zip(sums, totals, strict=True):
                phi.add_incoming(value, loop)
            builder.cbranch(builder.icmp_signed("<", i_next, values[0]), loop, done)
            builder.position_at_end(done)
            total = totals[0]
            for value in totals[1:]:
                total = builder.fadd(total, value)
            return builder.extract_element(total, ir.Constant(I32, 0))

        return types.float32(types.int64), codegen

    return peak
