"""Precisions of a CPU's products: what ``auto`` stands for."""

import pytest

import fgnumba as fg
from fgnumba.kernels.devices import precision
from fgnumba.kernels.devices.device import CPU, Cpu
from fgnumba.kernels.emit import vector

TWIN = "avx512bf16-twin"


def test_the_environment_says_what_auto_stands_for(monkeypatch):
    monkeypatch.setenv(vector.OVERRIDE, TWIN)
    monkeypatch.setenv(precision.OVERRIDE, "bf16x2")
    assert (CPU.isa.precision, CPU.isa.tangent_precision) == ("bf16x2", "bf16x2")
    named = Cpu("bf16", "auto").isa
    assert (named.precision, named.tangent_precision) == ("bf16", "bf16x2")
    assert Cpu("float32").isa.tangent_precision == "float32"
    for nothing in ("", "auto"):
        monkeypatch.setenv(precision.OVERRIDE, nothing)
        assert CPU.isa.precision == precision.automatic(vector.instruction_set())


def test_the_environment_names_an_unknown_precision(monkeypatch):
    monkeypatch.setenv(precision.OVERRIDE, "bf16x")
    with pytest.raises(
        fg.ConfigError, match=r"FGNUMBA_PRECISION is 'bf16x' \(did you mean 'bf16(x[23])?'\?\)"
    ):
        _ = CPU.isa
