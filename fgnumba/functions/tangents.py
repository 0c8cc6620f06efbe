"""Several tangents of one number as a vector, which one instruction of the processor adds or multiplies.

A number x with T tangents is a float and a vector of T floats. An array of n numbers is an array of n floats and an
array of n such vectors: whatever Numba does with an array (views, slices, reshaping, copies), it does with both.

In Python the vectors of an array of shape (..., n) are an array of floats of shape (..., n, T), in C order.
"""

import operator
from typing import Any

from llvmlite import ir as llvm
from numba.core import cgutils, types
from numba.core.imputils import lower_builtin, lower_cast
from numba.core.typeconv import Conversion
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import intrinsic, models, register_model


class Tangents(types.Type):
    """Type of a vector of tangents.

    Parameters
    ----------
    dtype : numba.types.Float
        Type of each.
    count : int
        Number of lanes: T, or T + 1 where collapsed.
    collapsed : bool
        Whether lane 0 is the sum over the other lanes' directions of the second derivatives.
    """

    def __init__(self, dtype: types.Float, count: int, collapsed: bool = False) -> None:
        self.dtype, self.count, self.collapsed = dtype, count, collapsed
        super().__init__(name=f"{'Collapsed' if collapsed else 'Tangents'}({dtype} x {count})")

    @property
    def key(self) -> Any:
        return self.dtype, self.count, self.collapsed

    def with_dtype(self, dtype: types.Float) -> "Tangents":
        """Return the type of vectors of as many floats of another type."""
        return Tangents(dtype, self.count, self.collapsed)

    def unify(self, context: Any, other: Any) -> Any:
        """Return the wider of two types of vectors."""
        if isinstance(other, Tangents) and (other.count, other.collapsed) == (self.count, self.collapsed):
            return self if self.dtype.bitwidth >= other.dtype.bitwidth else other
        return None

    def can_convert_to(self, context: Any, other: Any) -> Any:
        """Return how safely Numba may convert this type to another."""
        if isinstance(other, Tangents) and (other.count, other.collapsed) == (self.count, self.collapsed):
            return Conversion.promote if other.dtype.bitwidth >= self.dtype.bitwidth else Conversion.unsafe
        return None


@register_model(Tangents)
class _TangentsModel(models.PrimitiveModel):
    """A vector in registers; in memory its floats one after another, at any place where a float may be.

    Arrays begin at multiples of 8 or 32 bytes, where whole vectors would have to begin at multiples of their size.
    """

    def __init__(self, manager: Any, kind: Tangents) -> None:
        element = llvm.FloatType() if kind.dtype == types.float32 else llvm.DoubleType()
        self.bytes = kind.dtype.bitwidth // 8
        self.floats = llvm.ArrayType(element, kind.count)
        super().__init__(manager, kind, llvm.VectorType(element, kind.count))

    def get_data_type(self) -> Any:
        return self.floats

    def as_data(self, builder: Any, value: Any) -> Any:
        result = llvm.Constant(self.floats, llvm.Undefined)
        for index in range(self.floats.count):
            part = builder.extract_element(value, cgutils.int32_t(index))
            result = builder.insert_value(result, part, index)
        return result

    def from_data(self, builder: Any, value: Any) -> Any:
        result = llvm.Constant(self.get_value_type(), llvm.Undefined)
        for index in range(self.floats.count):
            part = builder.extract_value(value, index)
            result = builder.insert_element(result, part, cgutils.int32_t(index))
        return result

    def load_from_data_pointer(self, builder: Any, ptr: Any, align: Any = None) -> Any:
        vector = builder.bitcast(ptr, self.get_value_type().as_pointer())
        return builder.load(vector, align=self.bytes)


def tangents_array(array: types.Array, kind: Tangents) -> types.Array:
    """Return the type of the array of tangents beside an array."""
    # Arrays begin at any multiple of eight bytes, where whole vectors would have to begin at multiples of their size.
    return types.Array(kind.with_dtype(array.dtype), array.ndim, array.layout, aligned=False)


def spread(context: Any, builder: Any, scalar: Any, kind: Tangents) -> Any:
    """Return a vector all of whose lanes are `scalar`."""
    vector = context.get_value_type(kind)
    undefined = llvm.Constant(vector, llvm.Undefined)
    first = builder.insert_element(undefined, scalar, cgutils.int32_t(0))
    mask = llvm.Constant(llvm.VectorType(cgutils.int32_t, kind.count), [0] * kind.count)
    return builder.shuffle_vector(first, undefined, mask)


@lower_cast(Tangents, Tangents)
def _cast(context: Any, builder: Any, source: Tangents, target: Tangents, value: Any) -> Any:
    if source.dtype == target.dtype:
        return value
    vector = context.get_value_type(target)
    if target.dtype.bitwidth > source.dtype.bitwidth:
        return builder.fpext(value, vector)
    return builder.fptrunc(value, vector)


def _wider(first: types.Type, second: types.Type) -> types.Float:
    """Return the type of a product: float32 only if both are."""
    both = [kind.dtype if isinstance(kind, Tangents) else kind for kind in (first, second)]
    return types.float32 if all(kind == types.float32 for kind in both) else types.float64


class _Sum(AbstractTemplate):
    def generic(self, arguments: Any, keywords: Any) -> Any:
        if len(arguments) == 2 and all(isinstance(kind, Tangents) for kind in arguments):
            kind = arguments[0].unify(None, arguments[1])
            return None if kind is None else signature(kind, kind, kind)
        return None


class _Product(AbstractTemplate):
    def generic(self, arguments: Any, keywords: Any) -> Any:
        if len(arguments) != 2 or not isinstance(arguments[0], Tangents):
            return None
        if not isinstance(arguments[1], types.Number):
            return None
        dtype = _wider(*arguments)
        kind = arguments[0].with_dtype(dtype)
        return signature(kind, kind, dtype)


class _Negation(AbstractTemplate):
    def generic(self, arguments: Any, keywords: Any) -> Any:
        if len(arguments) == 1 and isinstance(arguments[0], Tangents):
            return signature(arguments[0], arguments[0])
        return None


def _lower(template: type, function: Any, instruction: str) -> None:
    infer_global(function)(type(f"{template.__name__}_{function.__name__}", (template,), {}))
    second = types.Float if template is _Product else Tangents

    @lower_builtin(function, Tangents, second)
    def lowered(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        left, right = arguments
        if template is _Product:
            right = spread(context, builder, right, sig.return_type)
        return getattr(builder, instruction)(left, right)


for _function in (operator.add, operator.iadd):
    _lower(_Sum, _function, "fadd")
for _function in (operator.sub, operator.isub):
    _lower(_Sum, _function, "fsub")
for _function in (operator.mul, operator.imul):
    _lower(_Product, _function, "fmul")
infer_global(operator.neg)(_Negation)


@lower_builtin(operator.neg, Tangents)
def _negation(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
    return builder.fneg(arguments[0])


@intrinsic
def lane(typingctx: Any, tangents: Any, index: Any) -> Any:
    """``lane(tangents, i)``: one tangent of a vector."""
    if not isinstance(tangents, Tangents):
        return None

    def lowered(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        return builder.extract_element(arguments[0], builder.trunc(arguments[1], cgutils.int32_t))

    return signature(tangents.dtype, tangents, types.int64), lowered


@intrinsic
def with_lane(typingctx: Any, tangents: Any, index: Any, value: Any) -> Any:
    """``with_lane(tangents, i, value)``: the vector with one tangent replaced."""
    if not isinstance(tangents, Tangents):
        return None

    def lowered(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        where = builder.trunc(arguments[1], cgutils.int32_t)
        return builder.insert_element(arguments[0], arguments[2], where)

    return signature(tangents, tangents, types.int64, tangents.dtype), lowered


def vector_of(dtype: types.Float, count: int, collapsed: bool = False) -> Any:
    """Return the intrinsic ``zero()`` whose value is the vector of `count` zeros."""
    kind = Tangents(dtype, count, collapsed)

    @intrinsic
    def zero(typingctx: Any) -> Any:
        def lowered(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
            return llvm.Constant(context.get_value_type(kind), None)

        return signature(kind), lowered

    return zero


def view_of(dtype: types.Float, count: int, collapsed: bool = False) -> Any:
    """Return the intrinsic that reads a C-contiguous array (..., n, T) of floats as an array (..., n) of vectors."""
    kind = Tangents(dtype, count, collapsed)

    @intrinsic
    def view(typingctx: Any, floats: Any) -> Any:
        if not isinstance(floats, types.Array) or floats.dtype != dtype or floats.layout != "C":
            return None
        result = types.Array(kind, floats.ndim - 1, "C", aligned=False)
        return signature(result, floats), _lowered_view

    return view


@intrinsic
def as_floats(typingctx: Any, tangents: Any) -> Any:
    """``as_floats(array)``: a C-contiguous array (..., n) of vectors as an array (..., n, T) of floats, a view."""
    if not isinstance(tangents, types.Array) or not isinstance(tangents.dtype, Tangents):
        return None
    if tangents.layout != "C":
        return None
    result = types.Array(tangents.dtype.dtype, tangents.ndim + 1, "C")
    return signature(result, tangents), _lowered_view


def _lowered_view(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
    """Change the number of dimensions by one: an element is a vector, or each of a vector's lanes is one."""
    from numba.np.arrayobj import make_array, populate_array

    source_type, target_type = sig.args[0], sig.return_type
    source = make_array(source_type)(context, builder, arguments[0])
    target = make_array(target_type)(context, builder)
    shape = cgutils.unpack_tuple(builder, source.shape, source_type.ndim)
    strides = cgutils.unpack_tuple(builder, source.strides, source_type.ndim)
    itemsize = context.get_abi_sizeof(context.get_data_type(target_type.dtype))
    if target_type.ndim < source_type.ndim:
        shape, strides = shape[:-1], strides[:-1]
    else:
        count = source_type.dtype.count
        shape = [*shape, context.get_constant(types.intp, count)]
        strides = [*strides, context.get_constant(types.intp, itemsize)]
    populate_array(
        target,
        data=builder.bitcast(source.data, target.data.type),
        shape=shape,
        strides=strides,
        itemsize=context.get_constant(types.intp, itemsize),
        meminfo=source.meminfo,
        parent=source.parent,
    )
    result = target._getvalue()
    if context.enable_nrt:
        context.nrt.incref(builder, target_type, result)
    return result


@intrinsic
def in_any_order(typingctx: Any, array: Any) -> Any:
    """``in_any_order(array)``: the same array, of which Numba assumes no order of its elements."""
    if not isinstance(array, types.Array):
        return None

    def lowered(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        if context.enable_nrt:
            context.nrt.incref(builder, array, arguments[0])
        return arguments[0]

    return signature(array.copy(layout="A"), array), lowered
