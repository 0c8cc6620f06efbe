"""Calls compiled functions by address, turns addresses into pointers, and prefetches cache lines."""

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from fgnumba.kernels.emit.vectors import I64, prefetch_line


@intrinsic
def pointer(typingctx, address, like):  # type: ignore[no-untyped-def]
    """Return the int64 `address` as a pointer to elements of type `like`, for example ``np.float32``."""
    target = types.CPointer(like.dtype if isinstance(like, types.DType) else like.instance_type)

    def codegen(context: Any, builder: Any, sig: Any, values: Any) -> Any:
        return builder.inttoptr(values[0], context.get_value_type(target))

    return target(address, like), codegen


@intrinsic
def call(typingctx, address, arguments):  # type: ignore[no-untyped-def]
    """Call the compiled function at `address` with a tuple of int64 `arguments`. The function returns nothing."""
    signature = types.void(address, arguments)

    def codegen(context: Any, builder: Any, sig: Any, values: Any) -> Any:
        function_type = ir.FunctionType(ir.VoidType(), [I64] * len(arguments))
        pointer = builder.inttoptr(values[0], function_type.as_pointer())
        builder.call(pointer, [builder.extract_value(values[1], i) for i in range(len(arguments))])
        return context.get_dummy_value()

    return signature, codegen


@intrinsic
def prefetch(typingctx, address):  # type: ignore[no-untyped-def]
    """Load the cache line at the int64 `address` into the second-level cache, because it will be read soon."""

    def codegen(context: Any, builder: Any, sig: Any, values: Any) -> Any:
        prefetch_line(builder, values[0], level=2)
        return context.get_dummy_value()

    return types.void(types.int64), codegen


@intrinsic
def prefetch_to_write(typingctx, address):  # type: ignore[no-untyped-def]
    """Load the cache line at the int64 `address` into the second-level cache, because it will be written soon."""

    def codegen(context: Any, builder: Any, sig: Any, values: Any) -> Any:
        prefetch_line(builder, values[0], level=2, write=True)
        return context.get_dummy_value()

    return types.void(types.int64), codegen
