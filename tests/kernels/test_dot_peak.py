"""The peaks of instructions that multiply bfloat16: what is compiled for each processor, and that the host's run."""

import re

import numpy as np
import pytest
from llvmlite import binding as llvm
from llvmlite import ir
from numba import njit

from fgnumba.kernels.emit import dot_peak, dots_a_round, vector
from fgnumba.kernels.emit.dot_peak import rounds_of_dots
from fgnumba.kernels.emit.vector import INSTRUCTION_SETS, MULTIPLYING, TWINS
from fgnumba.kernels.emit.vectors import F32, I64

X86, ARM = "x86_64-unknown-linux-gnu", "aarch64-unknown-linux-gnu"
PROCESSORS = {
    "amx": (X86, "sapphirerapids", "tdpbf16ps", 4),
    "avx512bf16": (X86, "znver4", "vdpbf16ps", 26),
    "bfmmla": (ARM, "neoverse-v1", "bfmmla", 24),
}
"""The triple and the name of a processor that has the set, its instruction, and how many of them are a round."""


def assembly(name):
    """Return what LLVM makes of a set's peak for a processor that has the set."""
    triple, processor, *_ = PROCESSORS[name]
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    module = ir.Module()
    module.triple = triple
    function = ir.Function(module, ir.FunctionType(F32, [I64]), "peak")
    builder = ir.IRBuilder(function.append_basic_block("entry"))
    builder.ret(rounds_of_dots(INSTRUCTION_SETS[name], builder, function.args[0]))
    machine = llvm.Target.from_triple(triple).create_target_machine(cpu=processor, opt=3)
    parsed = llvm.parse_assembly(str(module))
    parsed.verify()
    passes = llvm.create_pass_builder(machine, llvm.create_pipeline_tuning_options(speed_level=3))
    passes.getModulePassManager().run(parsed, passes)
    return machine.emit_assembly(parsed)


def test_every_set_that_multiplies_bfloat16_has_a_peak():
    assert set(PROCESSORS) == set(MULTIPLYING)


@pytest.mark.parametrize("name", PROCESSORS)
def test_a_round_is_its_instructions_and_no_memory(name):
    instruction, count = PROCESSORS[name][2:]
    code = assembly(name)
    found = re.search(r"^\S*BB0_\d+:.*\n((?:.*\n)*?.*\b(?:jl|jg|jne|b\.\w+)\b.*)", code, re.M)
    assert found
    rounds = found[1]
    assert len(re.findall(rf"\b{instruction}\b", rounds)) == count
    assert "[" not in rounds
    assert "(%" not in rounds


def test_tiles_are_configured_before_they_are_used_and_released_at_the_end():
    found = re.findall(r"\b(ldtilecfg|tilezero|tdpbf16ps|tilerelease)\b", assembly("amx"))
    assert found == ["ldtilecfg", *["tilezero"] * 8, *["tdpbf16ps"] * 4, "tilerelease"]
    sums = re.findall(r"tdpbf16ps\s+%tmm(\d), %tmm(\d), %tmm(\d)", assembly("amx"))
    assert sorted(third for *_, third in sums) == ["0", "1", "2", "3"]
    assert {first for first, *_ in sums} | {second for _, second, _ in sums} == {"4", "5", "6", "7"}


def test_multiply_adds_of_a_round():
    # 4 tiles of 16 x 16 sums of 32; 26 vectors of 16 sums of 2; 24 vectors of 4 sums of 4.
    found = {name: dots_a_round(INSTRUCTION_SETS[name]) for name in MULTIPLYING}
    assert found == {"amx": 4 * 16 * 16 * 32, "avx512bf16": 26 * 16 * 2, "bfmmla": 24 * 4 * 4}
    assert dots_a_round(TWINS["amx-twin"]) == found["amx"]


@pytest.mark.parametrize("name", [name for name in MULTIPLYING if name in vector.executable()])
def test_the_peak_runs(name):
    emitted = dot_peak(INSTRUCTION_SETS[name])

    @njit
    def peak(rounds):
        return emitted(rounds)

    assert np.isfinite(peak(3))
