"""Code for other processors: it is compiled for them, has its own cache, and is refused where it cannot run."""

import subprocess
import sys

import llvmlite.binding
import pytest

from tests import processors
from tests.places import ROOT

ASKED = """
import os
from llvmlite import binding
from numba import config
from fgnumba.kernels.emit.vector import instruction_set
cached = os.listdir(os.environ["FGNUMBA_CACHE_DIR"])
print(config.CPU_NAME, config.CPU_FEATURES.count("+"), instruction_set().name, cached)
raise SystemExit(7)
"""


def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "tests.processors", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
    )


@pytest.mark.parametrize("name", processors.PROCESSORS)
def test_a_process_compiles_for_another_processor(name):
    if not processors.executable(name):
        pytest.skip("this processor does not execute that one's code")
    instruction_set, features = processors.PROCESSORS[name]
    done = run(name, "-c", ASKED)
    assert done.stdout == f"{name} {len(features)} {instruction_set} []\n", done.stderr
    assert done.returncode == 7


def test_what_cannot_be_is_refused(monkeypatch, capsys):
    for arguments in ([], ["rocketlake"], ["rocketlak", "-c", "pass"]):
        assert processors.main(arguments) == 2
        assert "usage: python -m tests.processors {rocketlake,haswell,x86-64}" in capsys.readouterr().err
    monkeypatch.setattr(llvmlite.binding, "get_host_cpu_features", dict)
    assert processors.main(["haswell", "-c", "pass"]) == 2
    assert capsys.readouterr().err == "this processor does not execute code for haswell\n"


def test_features_are_known_to_llvm():
    known = llvmlite.binding.get_host_cpu_features()
    if not known:
        pytest.skip("LLVM does not say what this processor has")
    if "sse2" not in known:
        pytest.skip("no processor of that architecture")
    for name, (_, features) in processors.PROCESSORS.items():
        assert not set(features) - known.keys(), name
        assert len(features) == len(set(features))
