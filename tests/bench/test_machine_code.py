"""What is read in the output of CUDA's compilers, and how many blocks a multiprocessor holds."""

from collections import Counter

import pytest

from fgnumba.bench.cuda import machine_code
from fgnumba.errors import ConfigError

PTXAS = """ptxas info    : 72 bytes gmem, 72 bytes cmem[4]
ptxas info    : Compiling entry function '_Z5apply' for 'sm_90'
ptxas info    : Function properties for _Z5apply
    16 bytes stack frame, 24 bytes spill stores, 40 bytes spill loads
ptxas info    : Function properties for _Z5slowly
    8 bytes stack frame, 0 bytes spill stores, 4 bytes spill loads
ptxas info    : Used 42 registers, used 1 barriers, 24 bytes cumulative stack size, 2048 bytes smem, 456 bytes cmem[0]
"""

SASS = """
\t.section\t.text._Z5apply,"ax",@progbits
        /*0000*/                   LDC R1, c[0x0][0x28] ;
        /*0010*/              @!P0 LDG.E.128.CONSTANT R4, desc[UR4][R2.64] ;
        /*0020*/             @!UPT UIADD3 URZ, URZ, URZ, URZ ;
        /*0030*/                   LDGSTS.E.BYPASS.128.ZFILL [R17], desc[UR4][R2.64], P1 ;
        /*0040*/                   LDG.E R4, desc[UR4][R2.64] ;
.L_x_1:
        /*0050*/                   BRA `(.L_x_1);
        /*0060*/                   NOP;
        /*0070*/                   NOP;
        /*0010*/ \t.byte\t0xff, 0xff, 0xff, 0xff
"""


def test_resources_are_those_of_the_kernel_and_of_functions_that_it_calls():
    assert machine_code.resources(PTXAS) == {
        **{"registers": 42, "barriers": 1, "shared": 2048},
        **{"stack": 24, "spill_stores": 24, "spill_loads": 44},
    }
    plain = "Used 8 registers\n 0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads"
    assert machine_code.resources(plain) == {
        **{"registers": 8, "barriers": 0, "shared": 0},
        **{"stack": 0, "spill_stores": 0, "spill_loads": 0},
    }
    with pytest.raises(ConfigError, match="no registers: nothing"):
        machine_code.resources("nothing")


def test_opcodes_are_counted_without_predicates_data_and_padding():
    found = machine_code.opcodes(SASS)
    assert found == Counter(
        ("LDC", "LDG.E.128.CONSTANT", "UIADD3", "LDGSTS.E.BYPASS.128.ZFILL", "LDG.E", "BRA")
    )
    wanted = {"LDG": 2, "LDG.E.128": 1, "LDG.E.64": 0, "LDGSTS": 1, "LDGSTS.128": 1, "LD": 0}
    assert {name: machine_code.occurrences(found, name) for name in wanted} == wanted


# As NVIDIA's occupancy calculator has them.
@pytest.mark.parametrize(
    ("arch", "threads", "registers", "nbytes", "blocks"),
    [
        ("sm_90", 256, 32, 0, 8),
        ("sm_90", 256, 33, 0, 6),
        ("sm_90", 256, 64, 0, 4),
        ("sm_90", 256, 65, 0, 3),
        ("sm_90", 128, 255, 0, 2),
        ("sm_90", 1024, 64, 0, 1),
        ("sm_90", 1024, 65, 0, 0),
        ("sm_90", 32, 16, 0, 32),
        ("sm_90", 33, 16, 0, 32),
        ("sm_90", 32, 88, 0, 20),
        ("sm_80", 64, 16, 48 * 1024, 3),
        ("sm_90", 64, 16, 48 * 1024, 4),
        ("sm_80", 64, 16, 40 * 1024, 4),
        ("sm_80", 64, 16, 40 * 1024 + 1, 3),
    ],
)
def test_blocks_that_a_processor_holds(arch, threads, registers, nbytes, blocks):
    assert machine_code.resident_blocks(arch, threads, registers, nbytes) == blocks
