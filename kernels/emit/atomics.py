"""Words that threads share, waiting, time, and what a processor does with subnormal numbers.

Every access is sequentially consistent: there are a few of them a part, and the order that all threads agree
on is what the sleeping and waking of workers rests upon.
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
"""Bits of the floating-point mode under which subnormal operands and results count as zero: FTZ and DAZ of
MXCSR on x86, FZ of FPCR on Arm. Elsewhere the mode is left as it is."""


_BYTES = BYTE.as_pointer()

if _ARM:
    # What LLVM has no name for is written as assembly.
    llvm.initialize_native_asmparser()


def _word(builder: Any, address: Any) -> Any:
    return builder.inttoptr(address, I64.as_pointer())


def _assembly(builder: Any, result: Any, text: str, constraints: str, arguments: list[Any]) -> Any:
    """Append one instruction that LLVM may neither drop nor move past another of its kind."""
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
    """Write the int64 `value` at `address`."""

    def codegen(context: Any, builder: Any, sig: Any, values: Any) -> Any:
        builder.store_atomic(values[1], _word(builder, values[0]), "seq_cst", 8)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), codegen


@intrinsic
def add(typingctx, address, value):  # type: ignore[no-untyped-def]
    """Add the int64 `value` to that at `address`, and return what was there."""

    def codegen(context: Any, builder: Any, sig: Any, values: Any) -> Any:
        return builder.atomic_rmw("add", _word(builder, values[0]), values[1], "seq_cst")

    return types.int64(types.int64, types.int64), codegen


@intrinsic
def compare_exchange(typingctx, address, expected, value):  # type: ignore[no-untyped-def]
    """Write `value` at `address` where `expected` stands there; return what stood there."""

    def codegen(context: Any, builder: Any, sig: Any, values: Any) -> Any:
        found = builder.cmpxchg(_word(builder, values[0]), values[1], values[2], "seq_cst", "seq_cst")
        return builder.extract_value(found, 0)

    return types.int64(types.int64, types.int64, types.int64), codegen


@intrinsic
def relax(typingctx):  # type: ignore[no-untyped-def]
    """Wait for some tens of cycles, and leave the core's units to whoever shares them."""

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
    """Return the processor's clock, which runs at one rate on all cores; see ``workers.ticks_a_second``."""

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
    """Set this thread's floating-point mode to what :func:`floating_point_mode` returned, or to that with `FLUSH`."""

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
    """Let subnormal operands and results count as zero in this thread; return its mode before."""
    mode = floating_point_mode()
    set_floating_point_mode(mode | FLUSH)
    return mode
