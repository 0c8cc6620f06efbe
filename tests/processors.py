"""Run Python with code compiled for another processor: ``python -m tests.processors NAME ARGUMENT...``.

    python -m tests.processors rocketlake -m pytest tests/training/test_trainer.py

This starts the present Python with the arguments. Depending on the processor, LLVM chooses the width of loops and which
products and sums are fused. So losses differ in their last bits, with the same consequences as on that processor. Speed
is not the same as there, nor are bits that NumPy's own code computes.
"""

import os
import subprocess
import sys
import tempfile

import llvmlite.binding

_X86_64 = ("64bit", "cmov", "cx8", "sse", "sse2")
_HASWELL = (*_X86_64, "sse4.2", "popcnt", "avx", "avx2", "fma", "bmi", "bmi2", "f16c")
_ROCKETLAKE = (
    *(
        *_HASWELL,
        "adx",
        "aes",
        "cx16",
        "fsgsbase",
        "fxsr",
        "gfni",
        "lzcnt",
        "movbe",
        "pclmul",
        "rdrnd",
        "rdseed",
    ),
    *(
        "sahf",
        "sha",
        "sse3",
        "sse4.1",
        "ssse3",
        "vaes",
        "vpclmulqdq",
        "xsave",
        "xsavec",
        "xsaveopt",
        "xsaves",
    ),
    *("avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl", "avx512ifma", "avx512vbmi", "avx512vbmi2"),
    *("avx512vnni", "avx512bitalg", "avx512vpopcntdq"),
)

PROCESSORS = {
    "rocketlake": ("avx512", _ROCKETLAKE),
    "haswell": ("avx2", _HASWELL),
    "x86-64": ("generic", _X86_64),
}
"""Instruction set of ours and features, by LLVM's name of a processor. The last does not fuse multiply-adds."""


def executable(name: str) -> bool:
    """Return whether this processor executes the code of another."""
    here = llvmlite.binding.get_host_cpu_features()
    return all(here.get(feature, False) for feature in PROCESSORS[name][1])


def is_this(name: str) -> bool:
    """Return whether code is compiled for that processor here anyway."""
    return bool(llvmlite.binding.get_host_cpu_name() == name)


def environment(name: str, cache: str) -> dict[str, str]:
    """Return the environment in which a process compiles for a processor, and keeps its code in the folder `cache`."""
    instruction_set, features = PROCESSORS[name]
    return {
        **os.environ,
        "NUMBA_CPU_NAME": name,
        "NUMBA_CPU_FEATURES": ",".join(f"+{feature}" for feature in features),
        "FGNUMBA_VECTOR": instruction_set,
        "FGNUMBA_CACHE_DIR": cache,
    }


def main(arguments: list[str]) -> int:
    """Run this Python for a processor, and return its exit status; 2 where that cannot be."""
    if len(arguments) < 2 or arguments[0] not in PROCESSORS:
        print(f"usage: python -m tests.processors {{{','.join(PROCESSORS)}}} ARGUMENT...", file=sys.stderr)
        return 2
    name, *rest = arguments
    if not executable(name):
        print(f"this processor does not execute code for {name}", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as cache:
        return subprocess.run([sys.executable, *rest], env=environment(name, cache), check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
