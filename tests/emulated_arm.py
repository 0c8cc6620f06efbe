"""Runs functions that LLVM compiles for 64-bit Arm, in QEMU's emulation of such a processor under Linux.

A program is made without a linker: the function's machine code, a few instructions that call it and write its result to
the standard output, and its data, at fixed addresses.
"""

import shutil
import struct
import subprocess

import llvmlite.binding as llvm
from llvmlite import ir

TRIPLE = "aarch64-unknown-linux-gnu"
QEMU = shutil.which("qemu-aarch64") or shutil.which("qemu-aarch64-static")

CODE, DATA = 0x400000, 0x10000000
_HEADERS = 64 + 2 * 56


def machine():
    """Return LLVM's machine with bfloat16, or None where this LLVM was built without Arm."""
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    try:
        target = llvm.Target.from_triple(TRIPLE)
    except RuntimeError:
        return None
    return target.create_target_machine(cpu="neoverse-n2", features="+bf16", opt=3)


def optimised(emit, arguments):
    """Return the compiled module of a function called ``entry``, whose int64 arguments are numbers.

    ``emit(builder, arguments)`` appends its instructions. The numbers are read from the program's data, one after the
    other.
    """
    module = ir.Module()
    module.triple = TRIPLE
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), []), name="entry")
    builder, word = ir.IRBuilder(function.append_basic_block()), ir.IntType(64)
    places = [ir.Constant(word, DATA + 8 * n).inttoptr(word.as_pointer()) for n in range(arguments)]
    emit(builder, [builder.load(place) for place in places])
    builder.ret_void()
    parsed = llvm.parse_assembly(str(module))
    parsed.verify()
    passes = llvm.create_pass_builder(machine(), llvm.create_pipeline_tuning_options(speed_level=3))
    passes.getModulePassManager().run(parsed, passes)
    return parsed


def run(emit, values, data, result, nbytes, folder):
    """Return what a function leaves in memory.

    Parameters
    ----------
    emit : appends its instructions, see :func:`optimised`.
    values : its arguments.
    data : bytes that lie behind the arguments, from the address ``DATA + 8 * len(values)``.
    result, nbytes : address and size of what it leaves.
    folder : where the program is written.
    """
    assert QEMU is not None
    text = _text(machine().emit_object(optimised(emit, len(values))))
    stub = struct.pack(
        "<11I",
        0x94000000 | 11,  # bl: call what follows these instructions
        *_number(1, result),
        *_number(2, nbytes),
        0xD2800020,  # mov x0, 1: the standard output
        0xD2800808,  # mov x8, 64: write
        0xD4000001,  # svc 0
        0xD2800000,  # mov x0, 0
        0xD2800BA8,  # mov x8, 93: exit
        0xD4000001,  # svc 0
    )
    code, memory = stub + text, struct.pack(f"<{len(values)}q", *values) + data
    header = struct.pack(
        *(
            "<16sHHIQQQIHHHHHH",
            b"\x7fELF\x02\x01\x01",
            2,
            183,
            1,
            CODE + _HEADERS,
            64,
            0,
            0,
            64,
            56,
            2,
            0,
            0,
            0,
        )
    )
    size = _HEADERS + len(code)
    start = -(-size // 4096) * 4096
    for place, offset, length in ((CODE, 0, size), (DATA, start, len(memory))):
        header += struct.pack("<IIQQQQQQ", 1, 7, offset, place, place, length, length, 4096)
    program = folder / "program"
    program.write_bytes((header + code).ljust(start, b"\0") + memory)
    program.chmod(0o755)
    done = subprocess.run([QEMU, "-cpu", "max", str(program)], capture_output=True, check=True)
    return done.stdout


def _number(register, value):
    """Return two instructions that put a number below 2**32 into a register."""
    low, high = value & 0xFFFF, value >> 16
    return 0xD2800000 | low << 5 | register, 0xF2A00000 | high << 5 | register


def _text(elf):
    """Return the machine code of an object file, which must not refer to anything outside of it."""
    (table,) = struct.unpack_from("<Q", elf, 40)
    size, count, names = struct.unpack_from("<HHH", elf, 58)
    sections = [struct.unpack_from("<IIQQQQIIQQ", elf, table + n * size) for n in range(count)]
    start = sections[names][4]
    found = {}
    for name, _, _, _, offset, length, *_ in sections:
        at = start + name
        found[elf[at : elf.index(b"\0", at)].decode()] = elf[offset : offset + length]
    assert not {".rela.text", ".rodata"} & set(found), list(found)
    return found[".text"]
