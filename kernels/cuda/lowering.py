"""The instructions, LLVM or PTX, of each primitive of GPU kernels; its Python twin is in ``primitives``."""

from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir

from fgnumba.kernels.cuda import primitives as p
from fgnumba.kernels.cuda.target import Codegen, cgutils, generic, primitive, signature, types
from fgnumba.kernels.machine import scalar

_I32, _I64 = ir.IntType(32), ir.IntType(64)
_F32, _F64, _VOID = ir.FloatType(), ir.DoubleType(), ir.VoidType()
_GLOBAL, _SHARED = 1, 3

_LLVM = {types.float32: _F32, types.float64: _F64, types.int64: _I64, types.uint32: _I32}


def _floats(count: int) -> Any:
    return types.UniTuple(types.float32, count)


def _pack(builder: Any, values: Sequence[Any]) -> Any:
    return cgutils.pack_array(builder, values)


def _unpack(builder: Any, values: Any, count: int) -> list[Any]:
    return [builder.extract_value(values, i) for i in range(count)]


def _special(name: str) -> Codegen:
    def codegen(builder: Any, args: Sequence[Any]) -> Any:
        kind = ir.FunctionType(_I32, ())
        function = cgutils.get_or_insert_function(builder.module, kind, f"llvm.nvvm.read.ptx.sreg.{name}")
        return builder.zext(builder.call(function, ()), _I64)

    return codegen


for _function, _name in (
    (p.thread, "tid.x"),
    (p.block_x, "ctaid.x"),
    (p.block_y, "ctaid.y"),
    (p.block_z, "ctaid.z"),
):
    primitive(_function, types.int64)(_special(_name))


@primitive(p.barrier, types.void)
def _barrier(builder: Any, args: Sequence[Any]) -> Any:
    kind = ir.FunctionType(_VOID, ())
    builder.call(cgutils.get_or_insert_function(builder.module, kind, "llvm.nvvm.barrier0"), ())


def _pointer(builder: Any, address: Any, element: Any, space: int) -> Any:
    return builder.inttoptr(address, ir.PointerType(element, addrspace=space))


def _load(kind: Any, space: int, count: int = 1) -> Codegen:
    element = _LLVM[kind]
    size = (8 if kind in (types.float64, types.int64) else 4) * count

    def codegen(builder: Any, args: Sequence[Any]) -> Any:
        read = element if count == 1 else ir.VectorType(element, count)
        value = builder.load(_pointer(builder, args[0], read, space), align=size)
        if count == 1:
            return value
        return _pack(builder, [builder.extract_element(value, _I32(i)) for i in range(count)])

    return codegen


def _store(kind: Any, space: int, count: int = 1) -> Codegen:
    element = _LLVM[kind]
    size = (8 if kind in (types.float64, types.int64) else 4) * count

    def codegen(builder: Any, args: Sequence[Any]) -> Any:
        value = args[1]
        if count > 1:
            vector = ir.VectorType(element, count)
            parts, value = _unpack(builder, value, count), ir.Constant(vector, ir.Undefined)
            for i, part in enumerate(parts):
                value = builder.insert_element(value, part, _I32(i))
        builder.store(value, _pointer(builder, args[0], value.type, space), align=size)

    return codegen


for _load_twin, _store_twin, _kind, _space in (
    (p.load_f32, p.store_f32, types.float32, _GLOBAL),
    (p.load_f64, p.store_f64, types.float64, _GLOBAL),
    (p.load_i64, p.store_i64, types.int64, _GLOBAL),
    (p.shared_load_f32, p.shared_store_f32, types.float32, _SHARED),
    (p.shared_load_f64, p.shared_store_f64, types.float64, _SHARED),
    (p.shared_load_u32, p.shared_store_u32, types.uint32, _SHARED),
):
    _address = types.int64 if _space == _GLOBAL else types.int32
    primitive(_load_twin, _kind, _address)(_load(_kind, _space))
    primitive(_store_twin, types.void, _address, _kind)(_store(_kind, _space))

primitive(p.shared_load_f32x2, _floats(2), types.int32)(_load(types.float32, _SHARED, 2))
primitive(p.load_f32x4, _floats(4), types.int64)(_load(types.float32, _GLOBAL, 4))
primitive(p.store_f32x4, types.void, types.int64, _floats(4))(_store(types.float32, _GLOBAL, 4))
primitive(p.shared_load_f32x4, _floats(4), types.int32)(_load(types.float32, _SHARED, 4))
primitive(p.shared_store_f32x4, types.void, types.int32, _floats(4))(_store(types.float32, _SHARED, 4))


@primitive(p.load_u8, types.int64, types.int64)
def _load_u8(builder: Any, args: Sequence[Any]) -> Any:
    byte = builder.load(_pointer(builder, args[0], ir.IntType(8), _GLOBAL), align=1)
    return builder.zext(byte, _I64)


def _literal(value: Any) -> bool:
    return isinstance(value, types.IntegerLiteral)


@generic(p.shared, lambda n: signature(types.int32, n) if _literal(n) else None)
def _shared(context: Any, builder: Any, sig: Any, args: Sequence[Any]) -> Any:
    kind = ir.ArrayType(ir.IntType(8), sig.args[0].literal_value)
    block = cgutils.add_global_variable(builder.module, kind, "shared", addrspace=_SHARED)
    block.align, block.linkage, block.initializer = 16, "internal", ir.Constant(kind, ir.Undefined)
    return builder.ptrtoint(block, _I32)


def _assembly(builder: Any, text: str, constraints: str, result: Any, args: Sequence[Any]) -> Any:
    kind = ir.FunctionType(result, [one.type for one in args])
    # Convergent: what a warp does together may not be moved to where some of its lanes are.
    assembly = ir.InlineAsm(kind, text, constraints, side_effect=True)
    return builder.call(assembly, args, attrs=("convergent",))


def _copy(cached: str, size: int) -> Codegen:
    def codegen(builder: Any, args: Sequence[Any]) -> Any:
        text = f"cp.async.{cached}.shared.global [$0], [$1], {size}, $2;"
        _assembly(builder, text, "r,l,r,~{memory}", _VOID, args)

    return codegen


# .cg keeps what one block reads out of the first-level cache; 4 bytes can only go through it.
primitive(p.copy16, types.void, types.int32, types.int64, types.int32)(_copy("cg", 16))
primitive(p.copy4, types.void, types.int32, types.int64, types.int32)(_copy("ca", 4))


@primitive(p.commit_copies, types.void)
def _commit(builder: Any, args: Sequence[Any]) -> Any:
    _assembly(builder, "cp.async.commit_group;", "~{memory}", _VOID, ())


@generic(p.wait_copies, lambda n: signature(types.void, n) if _literal(n) else None)
def _wait(context: Any, builder: Any, sig: Any, args: Sequence[Any]) -> Any:
    _assembly(builder, f"cp.async.wait_group {sig.args[0].literal_value};", "~{memory}", _VOID, ())
    return context.get_dummy_value()


def _shuffled(builder: Any, word: Any, mask: Any) -> Any:
    return _assembly(builder, "shfl.sync.bfly.b32 $0, $1, $2, 31, -1;", "=r,r,r", _I32, (word, mask))


@primitive(p.lanes_xor_f32, types.float32, types.float32, types.int32)
def _xor_f32(builder: Any, args: Sequence[Any]) -> Any:
    return builder.bitcast(_shuffled(builder, builder.bitcast(args[0], _I32), args[1]), _F32)


@primitive(p.lanes_xor_f64, types.float64, types.float64, types.int32)
def _xor_f64(builder: Any, args: Sequence[Any]) -> Any:
    bits = builder.bitcast(args[0], _I64)
    low = _shuffled(builder, builder.trunc(bits, _I32), args[1])
    high = _shuffled(builder, builder.trunc(builder.lshr(bits, _I64(32)), _I32), args[1])
    both = builder.or_(builder.zext(low, _I64), builder.shl(builder.zext(high, _I64), _I64(32)))
    return builder.bitcast(both, _F64)


@primitive(p.mul_hi_lo, types.UniTuple(types.uint32, 2), types.uint32, types.uint32)
def _mul_hi_lo(builder: Any, args: Sequence[Any]) -> Any:
    product = builder.mul(*(builder.zext(one, _I64) for one in args))
    halves = builder.trunc(builder.lshr(product, _I64(32)), _I32), builder.trunc(product, _I32)
    return _pack(builder, halves)


@primitive(p.add_u32, types.uint32, types.uint32, types.uint32)
def _add_u32(builder: Any, args: Sequence[Any]) -> Any:
    return builder.add(*args)


def _fused(builder: Any, *args: Any) -> Any:
    kind = ir.FunctionType(_F32, [_F32] * 3)
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, "llvm.fma.f32"), args)


@primitive(p.fma, types.float32, types.float32, types.float32, types.float32)
def _fma(builder: Any, args: Sequence[Any]) -> Any:
    return _fused(builder, *args)


@primitive(scalar.rounded_product, types.float32, types.float32, types.float32)
def _rounded_product(builder: Any, args: Sequence[Any]) -> Any:
    kind = ir.FunctionType(_F32, [_F32] * 2)
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, "llvm.nvvm.mul.rn.ftz.f"), args)


@primitive(p.bits_of, types.uint32, types.float32)
def _bits_of(builder: Any, args: Sequence[Any]) -> Any:
    return builder.bitcast(args[0], _I32)


@primitive(p.float_of, types.float32, types.uint32)
def _float_of(builder: Any, args: Sequence[Any]) -> Any:
    return builder.bitcast(args[0], _F32)


@primitive(p.finite, types.boolean, types.float64)
def _finite(builder: Any, args: Sequence[Any]) -> Any:
    exponent = builder.and_(builder.bitcast(args[0], _I64), _I64(0x7FF0000000000000))
    return builder.icmp_unsigned("!=", exponent, _I64(0x7FF0000000000000))


@primitive(p.divide, types.UniTuple(types.int64, 2), types.int64, types.int64)
def _divide(builder: Any, args: Sequence[Any]) -> Any:
    a, b = (builder.trunc(one, _I32) for one in args)
    return _pack(builder, [builder.zext(one, _I64) for one in (builder.udiv(a, b), builder.urem(a, b))])


@primitive(p.narrow, types.int32, types.int64)
def _narrow(builder: Any, args: Sequence[Any]) -> Any:
    return builder.trunc(args[0], _I32)


@generic(p.zeros, lambda n: signature(_floats(n.literal_value), n) if _literal(n) else None)
def _zeros(context: Any, builder: Any, sig: Any, args: Sequence[Any]) -> Any:
    return _pack(builder, [ir.Constant(_F32, 0.0)] * sig.return_type.count)


def _outer_signature(total: Any, x: Any, w: Any) -> Any:
    return signature(total, total, x, w) if total.count == x.count * w.count else None


@generic(p.fma_outer, _outer_signature)
def _fma_outer(context: Any, builder: Any, sig: Any, args: Sequence[Any]) -> Any:
    total, xs, ws = (_unpack(builder, one, kind.count) for one, kind in zip(args, sig.args, strict=True))
    pairs = ((x, w) for x in xs for w in ws)
    return _pack(builder, [_fused(builder, x, w, old) for (x, w), old in zip(pairs, total, strict=True)])


def _columns_signature(address: Any, stride: Any, rows: Any) -> Any:
    if not _literal(rows):
        return None
    return signature(types.UniTuple(_floats(rows.literal_value), 4), types.int32, types.int32, rows)


@generic(p.shared_columns, _columns_signature)
def _shared_columns(context: Any, builder: Any, sig: Any, args: Sequence[Any]) -> Any:
    rows, vector = sig.args[2].literal_value, ir.VectorType(_F32, 4)
    found = []
    for i in range(rows):
        at = builder.add(args[0], builder.mul(args[1], _I32(i)))
        found.append(builder.load(_pointer(builder, at, vector, _SHARED), align=16))
    columns = [_pack(builder, [builder.extract_element(row, _I32(j)) for row in found]) for j in range(4)]
    return _pack(builder, columns)


@primitive(p.round_tf32, types.uint32, types.float32)
def _round_tf32(builder: Any, args: Sequence[Any]) -> Any:
    return _assembly(builder, "cvt.rna.tf32.f32 $0, $1;", "=r,f", _I32, args)


@primitive(p.pack_bf16, types.uint32, types.float32, types.float32)
def _pack_bf16(builder: Any, args: Sequence[Any]) -> Any:
    return _assembly(builder, "cvt.rn.bf16x2.f32 $0, $2, $1;", "=r,f,f", _I32, args)


def _tensor_core(shape: str, kind: str) -> Callable[..., Any]:
    text = (
        f"mma.sync.aligned.{shape}.row.col.f32.{kind}.{kind}.f32 "
        "{$0,$1,$2,$3}, {$4,$5,$6,$7}, {$8,$9}, {$10,$11,$12,$13};"
    )
    constraints = ",".join(["=f"] * 4 + ["r"] * 6 + ["f"] * 4)
    result = ir.LiteralStructType([_F32] * 4)

    def codegen(context: Any, builder: Any, sig: Any, args: Sequence[Any]) -> Any:
        total, a, b = (_unpack(builder, one, kind.count) for one, kind in zip(args, sig.args, strict=True))
        across, found = len(b) // 2, []
        for tile in range(len(total) // 4):
            down, right = divmod(tile, across)
            words = [
                *a[4 * down : 4 * down + 4],
                *b[2 * right : 2 * right + 2],
                *total[4 * tile : 4 * tile + 4],
            ]
            found += _unpack(builder, _assembly(builder, text, constraints, result, words), 4)
        return _pack(builder, found)

    return codegen


def _tensor_core_signature(total: Any, a: Any, b: Any) -> Any:
    return signature(total, total, a, b) if total.count * 2 == a.count * b.count else None


generic(p.mma_tf32, _tensor_core_signature)(_tensor_core("m16n8k8", "tf32"))
generic(p.mma_bf16, _tensor_core_signature)(_tensor_core("m16n8k16", "bf16"))


@generic(p.shared_store_rows, lambda at, by, values: signature(types.void, types.int32, types.int32, values))
def _store_rows(context: Any, builder: Any, sig: Any, args: Sequence[Any]) -> Any:
    address, stride, values = args
    for i in range(sig.args[2].count // 4):
        four = _pack(builder, [builder.extract_value(values, 4 * i + j) for j in range(4)])
        at = builder.add(address, builder.mul(stride, _I32(i)))
        _store(types.float32, _SHARED, 4)(builder, (at, four))
    return context.get_dummy_value()


def _fragments_signature(address: Any, stride: Any, across: Any, values: Any) -> Any:
    if not _literal(across):
        return None
    return signature(types.void, types.int32, types.int32, across, values)


@generic(p.shared_store_fragments, _fragments_signature)
def _store_fragments(context: Any, builder: Any, sig: Any, args: Sequence[Any]) -> Any:
    address, stride, _, values = args
    across = sig.args[2].literal_value
    for tile in range(sig.args[3].count // 4):
        for half in range(2):
            row = builder.mul(stride, _I32(16 * (tile // across) + 8 * half))
            at = builder.add(builder.add(address, row), _I32(32 * (tile % across)))
            two = _pack(builder, [builder.extract_value(values, 4 * tile + 2 * half + j) for j in range(2)])
            _store(types.float32, _SHARED, 2)(builder, (at, two))
    return context.get_dummy_value()
