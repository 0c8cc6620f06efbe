"""Atomic loads and stores, a short wait, the processor's clock, and its floating-point mode.

Worker threads share int64 words through these loads and stores. Every access is sequentially consistent, which costs
little because each part of an operation makes only a few of them. All threads then see the accesses in the same order,
and the protocol by which workers sleep and are woken relies on that order.
"""

import platform
from typing import Any

import llvmlite.binding as llvm
from llvmlite import ir
from numba import types
from numba.extending import intrinsic, register_jitable

from fgnumba.kernels.emit.vectors import BYTE, I32, I64

_MACHINE = platform.machine().lower()
_X86 = _MACHINE in ("x86_64", "amd64", "i386", "i686", "x86")
_ARM = _MACHINE in ("aarch64", "arm64")

FLUSH = 0x8040 if _X86 else 1 << 24 if _ARM else 0
"""Bits of the floating-point mode that make subnormal operands and results count as zero.

These are FTZ and DAZ of MXCSR on x86, and FZ of FPCR on Arm. Other processors have none, and keep their mode.
"""


_BYTES = BYTE.as_pointer()

if _ARM:
    # LLVM has no names for the Arm instructions below, so they are written as assembly.
    llvm.initialize_native_asmparser()


def _word(builder: Any, address: Any) -> Any:
    return builder.inttoptr(address, I64.as_pointer())


def _assembly(builder: Any, result: Any, text: str, constraints: str, arguments: list[Any]) -> Any:
    """Append one assembly instruction that LLVM may neither drop nor move past another one of this kind."""
    signature = ir.FunctionType(result, [argument.type for argument in arguments])
    return builder.call(ir.InlineAsm(signature, text, constraints, side_effect=True), arguments)


def _x86(builder: Any, name: str, *arguments: Any) -> Any:
    signature = ir.FunctionType(ir.VoidType(), arguments)
    return builder.module.declare_intrinsic(f"llvm.x86.{name}", (), signature)


@intrinsic
def load(typingctx, address):  # type: ignore[no-untyped-def]
    """Return the int64 at `address`."""

    def codegen(context: Any, builder: Any, sig: Any, values: Any) -> Any:
        return builder.load_atomic(_word(builder, values[0]), "seq_cst", 8)

    return types.int64(types.int64), codegen


@intrinsic
def store(typingctx, address, value):  # type: ignore[no-untyped-def]
    """Write the int64 `value` to `address`."""

    def codegen(context: Any, builder: Any, sig: Any, values: Any) -> Any:
        builder.store_atomic(values[1], _word(builder, values[0]), "seq_cst", 8)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), codegen


@intrinsic
def add(typingctx, address, value):  # type: ignore[no-untyped-def]
    """Add the int64 `value` to the int64 at `address`, and return the sum's old value."""

    def codegen(context: Any, builder: Any, sig: Any, values: Any) -> Any:
        return builder.atomic_rmw("add", _word(builder, values[0]), values[1], "seq_cst")

    return types.int64(types.int64, types.int64), codegen


@intrinsic
def compare_exchange(typingctx, address, expected, value):  # type: ignore[no-untyped-def]
    """Write `value` to `address` if the int64 there equals `expected`; return the int64 that was there before."""

    def codegen(context: Any, builder: Any, sig: Any, values: Any) -> Any:
        previous = builder.cmpxchg(_word(builder, values[0]), values[1], values[2], "seq_cst", "seq_cst")
        return builder.extract_value(previous, 0)

    return types.int64(types.int64, types.int64, types.int64), codegen


@intrinsic
def relax(typingctx):  # type: ignore[no-untyped-def]
    """Wait for some tens of cycles, during which another thread on the same core may use its execution units."""

    def codegen(context: Any, builder: Any, sig: Any, values: Any) -> Any:
        if _X86:
            builder.call(_x86(builder, "sse2.pause"), [])
        elif _ARM:
            # Arm's own `yield` does nothing on most cores; this takes about as long as x86's `pause`.
            _assembly(builder, ir.VoidType(), "isb", "~{memory}", [])
        return context.get_dummy_value()

    return types.void(), codegen


@intrinsic
def ticks(typingctx):  # type: ignore[no-untyped-def]
    """Return the processor's clock, which runs at the same rate on all cores; see ``workers.ticks_a_second``."""

    def codegen(context: Any, builder: Any, sig: Any, values: Any) -> Any:
        if _ARM:
            return _assembly(builder, I64, "mrs $0, cntvct_el0", "=r", [])
        counter = builder.module.declare_intrinsic("llvm.readcyclecounter", (), ir.FunctionType(I64, []))
        return builder.call(counter, [])

    return types.int64(), codegen


@intrinsic
def floating_point_mode(typingctx):  # type: ignore[no-untyped-def]
    """Return this thread's floating-point mode: MXCSR on x86, FPCR on Arm, 0 elsewhere."""

    def codegen(context: Any, builder: Any, sig: Any, values: Any) -> Any:
        if _ARM:
            return _assembly(builder, I64, "mrs $0, fpcr", "=r", [])
        if not _X86:
            return ir.Constant(I64, 0)
        slot = builder.alloca(I32)
        builder.call(_x86(builder, "sse.stmxcsr", _BYTES), [builder.bitcast(slot, _BYTES)])
        return builder.zext(builder.load(slot), I64)

    return types.int64(), codegen


@intrinsic
def set_floating_point_mode(typingctx, mode):  # type: ignore[no-untyped-def]
    """Set this thread's floating-point mode, an integer as :func:`floating_point_mode` returns it."""

    def codegen(context: Any, builder: Any, sig: Any, values: Any) -> Any:
        if _ARM:
            _assembly(builder, ir.VoidType(), "msr fpcr, $0", "r,~{memory}", [values[0]])
        elif _X86:
            slot = builder.alloca(I32)
            builder.store(builder.trunc(values[0], I32), slot)
            builder.call(_x86(builder, "sse.ldmxcsr", _BYTES), [builder.bitcast(slot, _BYTES)])
        return context.get_dummy_value()

    return types.void(types.int64), codegen


@register_jitable
def flush_subnormals() -> int:
    """Make subnormal operands and results count as zero in this thread, and return its previous mode."""
    mode = floating_point_mode()
    set_floating_point_mode(mode | FLUSH)
    return mode
