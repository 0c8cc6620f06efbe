"""Philox4x32-10, the random number generator, computed for several counters at a time."""

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from fgnumba.kernels.emit.vector import InstructionSet, of_vectors
from fgnumba.kernels.emit.vectors import I32, I64, index

PHILOX_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
PHILOX_KEY_STEPS = (0x9E3779B9, 0xBB67AE85)


@of_vectors
def philox_words(isa: InstructionSet, along_row: bool) -> Callable[..., None]:
    """Return a Numba intrinsic that writes the Philox4x32-10 words of ``isa.lanes`` neighbouring counters.

    The intrinsic takes ``(c0, c1, c2, c3, k0, k1, out)``, all int64: the counter and the key, each below 2**32, and the
    address of the words. Values stay in the low halves of 64-bit lanes, because the widening multiplication reads them
    there.

    Parameters
    ----------
    isa : InstructionSet
        The instruction set whose vectors are used.
    along_row : bool
        False: the counters are (c0 + i, c1, c2, c3), and the four words of a counter lie side by side: ``out[4 i +
        word]``. True: the counters are (c0, c1 + i, c2, c3), and equal words lie side by side: ``out[16 word + i]``.
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
                # The mask tells LLVM that a 32-bit widening multiplication is enough; it generates no instruction.
                return builder.and_(value, splat(0xFFFFFFFF))

            # Two blocks take turns round by round. One block alone would wait for its own multiplications.
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
                k0 = builder.add(k0, index(PHILOX_KEY_STEPS[0]))
                k1 = builder.add(k1, index(PHILOX_KEY_STEPS[1]))

            def low_halves(first: Any, second: Any, order: list[int]) -> Any:
                narrow = ir.VectorType(I32, 2 * half)
                mask = ir.Constant(ir.VectorType(I32, len(order)), order)
                return builder.shuffle_vector(
                    builder.bitcast(first, narrow), builder.bitcast(second, narrow), mask
                )

            out = builder.inttoptr(args[6], I32.as_pointer())

            def store(value: Any, offset: int) -> None:
                at = builder.bitcast(builder.gep(out, [index(offset)]), value.type.as_pointer())
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
