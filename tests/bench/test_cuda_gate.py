"""The gate of GPU kernels: how it reads the compilers' output, and which kernels it refuses."""

import json
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pytest
from click.testing import CliRunner

from fgnumba.bench.cuda import gate, machine_code
from fgnumba.bench.cuda.machine_code import Row
from fgnumba.errors import ConfigError
from fgnumba.kernels.cuda import kernel as kernels
from fgnumba.kernels.cuda.kernel import kernel
from fgnumba.kernels.cuda.primitives import (
    Address,
    Size,
    barrier,
    fma_outer,
    load_f32,
    load_f32x4,
    shared,
    shared_load_f32,
    shared_store_f32,
    store_f32,
    store_f32x4,
    thread,
    zeros,
)
from fgnumba.kernels.rules.activations.rules import RULES as ACTIVATIONS

GOOD = Row("good", "sm_90", 40, 1024, 1, 100, {"FFMA": 8}, "13.0.88")


PROJECT = kernels.KERNELS

RULES_OF_ACTIVATIONS = ("elementwise", "feedback-gather", "feedback-power", "noise", "signal")
"""Kernels of which there is one for each activation."""


@pytest.fixture(autouse=True)
def _registry(monkeypatch):
    """Begin with an empty list of kernels, in place of the project's."""
    found: dict[str, kernels.Kernel] = {}
    monkeypatch.setattr(kernels, "KERNELS", found)
    for module in (gate, machine_code):
        monkeypatch.setattr(module, "KERNELS", found)


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Return what runs the gate on a test's kernels, with a table of its own."""
    for name in ("ptxas", "nvdisasm"):
        try:
            gate.tool(name)
        except ConfigError as error:
            pytest.skip(str(error))
    monkeypatch.setattr(gate, "TABLE", tmp_path / "table.json")
    monkeypatch.setattr(gate, "load", list)
    return lambda *arguments: CliRunner().invoke(gate.command, ["--arch", "sm_90", *arguments])


def declared(name="good", **options):
    """Return a kernel that does nothing."""

    @kernel(name, **options)
    def nothing() -> None:
        """Do nothing."""

    return nothing


def twice(name="twice", **options):
    """List a kernel that doubles what it reads."""

    @kernel(name, **options)
    def apply(x: Address, y: Address, n: Size) -> None:
        if thread() < n:
            store_f32(y + 4 * thread(), load_f32(x + 4 * thread()) * np.float32(2))


def test_every_kernel_or_its_family_has_a_row_for_every_architecture(monkeypatch):
    monkeypatch.setattr(kernels, "KERNELS", PROJECT)
    assert gate.load() == []
    # Other tests list kernels of their own.
    ours = {one.row for one in PROJECT.values() if one.function.__module__.startswith("fgnumba.")}
    expected = {(row, arch) for row in ours for arch in gate.SHARED_A_PROCESSOR}
    assert gate.read().keys() == expected


def test_an_activation_needs_no_row_of_its_own(monkeypatch):
    monkeypatch.setattr(kernels, "KERNELS", PROJECT)
    gate.load()
    for name in ACTIVATIONS:
        rows = {one.row for one in PROJECT.values() if one.name.endswith(f"-{name}")}
        assert rows == {f"{rule}-{{activation}}" for rule in RULES_OF_ACTIVATIONS}


@pytest.mark.parametrize(
    ("change", "options", "fault"),
    [
        ({"spill_stores": 4}, {}, "spills registers: 4 bytes stored, 0 bytes loaded"),
        ({"spill_loads": 4}, {}, "spills registers: 0 bytes stored, 4 bytes loaded"),
        ({"stack": 16}, {}, "a stack frame of 16 bytes"),
        ({"opcodes": {"LDL": 1, "STL": 2}}, {}, "3 accesses to local memory"),
        ({"shared": 48 * 1024 + 4}, {}, "49156 bytes of shared memory, 49152 is the most"),
        (
            {"registers": 81},
            {"resident": 3},
            "a processor holds 2 of its blocks, 3 are wanted: 256 threads, 81",
        ),
        ({"shared": 40 * 1024}, {"resident": 6}, "holds 5 of its blocks, 6 are wanted"),
        ({}, {"opcodes": ("FFMA", "HMMA")}, "no HMMA, which it declares"),
        ({"plain": 3}, {}, "3 float32 instructions without .ftz"),
    ],
)
def test_kernels_are_refused_for_what_they_are(change, options, fault):
    one = declared(**options)
    (found,) = gate.faults(replace(GOOD, **change), one)
    assert fault in found


def test_a_good_kernel_has_no_faults():
    assert not gate.faults(GOOD, declared(resident=6, opcodes=("FFMA",)))


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"registers": 49}, "49 registers, 40 in"),
        ({"shared": 1028}, "1028 bytes of shared memory, 1024 in"),
        ({"opcodes": {"FFMA": 8, "DMUL": 1, "DADD": 2}}, "3 float64 instructions"),
    ],
)
def test_kernels_are_refused_that_grew(change, fault):
    (found,) = gate.growth(replace(GOOD, **change), GOOD)
    assert found.startswith(fault)
    newer = gate.growth(replace(GOOD, **change, ptxas="13.1.1"), GOOD)
    assert newer[1:] == ["ptxas 13.1.1, the table is of 13.0.88"]


def test_other_compilers_may_take_a_few_registers_more():
    better = replace(GOOD, registers=30, shared=0, instructions=50, opcodes={})
    for row in (GOOD, replace(GOOD, registers=48), replace(GOOD, ptxas="13.1.1"), better):
        assert not gate.growth(row, GOOD)
    before = replace(GOOD, opcodes={"DADD": 1})
    assert not gate.growth(replace(GOOD, opcodes={"DADD": 4}), before)


def test_a_row_of_a_family_has_the_largest_numbers_of_its_members():
    for name in ("one-a", "one-b"):
        declared(name=name, family="one-{letter}")
    declared(name="alone")
    first = replace(GOOD, kernel="one-a", registers=30, opcodes={"FFMA": 8, "LDG": 1})
    second = replace(GOOD, kernel="one-b", instructions=200, opcodes={"FFMA": 9})
    alone = replace(GOOD, kernel="alone")
    found = gate.bounds([first, second, alone])
    largest = replace(GOOD, kernel="one-{letter}", instructions=200, opcodes={"FFMA": 9, "LDG": 1})
    assert found == {largest.key: largest, alone.key: alone}


def test_a_row_of_a_family_has_the_float64_instructions_of_the_member_with_the_fewest():
    for name in ("one-a", "one-b", "one-c"):
        declared(name=name, family="one-{letter}")
    most = replace(GOOD, kernel="one-a", opcodes={"FFMA": 8, "DADD": 1, "DMUL": 2})
    fewest = replace(GOOD, kernel="one-b", opcodes={"FFMA": 9, "DSETP": 1})
    none = replace(GOOD, kernel="one-c", opcodes={"FFMA": 7})
    for members in ([most, fewest], [fewest, most]):
        (row,) = gate.bounds(members).values()
        assert row.opcodes == {"FFMA": 9, "DSETP": 1}
        assert not gate.growth(fewest, row)
    for members in ([most, none], [none, most], [most, fewest, none]):
        (row,) = gate.bounds(members).values()
        assert not row.opcodes.keys() & set(machine_code.DOUBLES)
        (fault,) = gate.growth(most, row)
        assert fault.startswith("3 float64 instructions, none in")


def test_members_of_a_family_are_held_against_its_row(run):
    twice(family="{number}")
    assert run("--update").exit_code == 0
    (row,) = gate.read().values()
    assert row.kernel == "{number}"
    # A member that is new has a row already; one that is larger than all others is refused.
    twice(name="thrice", family="{number}")
    assert run().exit_code == 0
    gate.write([replace(row, registers=2)])
    refused = run("--kernel", "thrice")
    assert f"refused: thrice sm_90: {row.registers} registers, 2 in table.json" in refused.stderr


def test_the_row_of_a_family_is_updated_from_all_members(run):
    twice(family="{number}")
    twice(name="thrice", family="{number}")
    updated = run("--update", "--kernel", "thrice")
    assert updated.exit_code == 0
    assert "2 kernels for sm_90" in updated.stdout
    assert run().exit_code == 0


def test_a_kernel_goes_through_as_it_came(run, tmp_path):
    twice(opcodes=("LDG", "FADD"))
    updated = run("--update", "--markdown", "--json", str(tmp_path / "found.json"))
    assert updated.exit_code == 0
    assert "| twice | sm_90 |" in updated.stdout
    assert "1 kernels for sm_90" in updated.stdout
    found = json.loads((tmp_path / "found.json").read_text(encoding="utf-8"))
    assert found["refused"] == []
    assert found["rows"][0]["opcodes"]["LDG"] == 1
    again = run()
    assert (again.exit_code, again.stderr) == (0, "")
    assert run("--kernel", "tw*").exit_code == 0
    unknown = run("--kernel", "twize")
    assert (unknown.exit_code, unknown.stdout) == (2, "")
    assert "unknown kernel 'twize'" in unknown.stderr


def test_a_kernel_is_refused_that_is_not_in_the_table(run):
    twice()
    refused = run()
    assert refused.exit_code == 1
    assert "refused: twice sm_90: not in table.json" in refused.stderr


def test_a_kernel_is_refused_that_takes_more_registers_than_it_did(run):
    twice()
    run("--update")
    (row,) = gate.read().values()
    gate.write([replace(row, registers=2)])
    refused = run()
    assert refused.exit_code == 1
    assert f"refused: twice sm_90: {row.registers} registers, 2 in table.json" in refused.stderr
    # Accepted, where that is meant.
    assert run("--update").exit_code == 0
    assert run().exit_code == 0


def test_rows_of_kernels_that_are_gone_are_refused_and_go_with_the_update(run, monkeypatch):
    twice()
    # Of an architecture that was asked for, and of all: rows are looked through when everything is.
    monkeypatch.setattr(gate, "SHARED_A_PROCESSOR", {"sm_90": 233472})
    gate.write([GOOD])
    refused = CliRunner().invoke(gate.command, [])
    assert refused.exit_code == 1
    assert "refused: good sm_90: in table.json, but there is no such kernel" in refused.stderr
    assert run("--update").exit_code == 0
    assert [row.kernel for row in gate.read().values()] == ["twice"]


def test_an_operation_without_kernels_is_refused(run, monkeypatch):
    twice()
    run("--update")
    monkeypatch.setattr(gate, "load", lambda: ["dense"])
    refused = run()
    assert refused.exit_code == 1
    assert "refused: dense: kernels/ops/dense/cuda.py does not exist" in refused.stderr
    assert run("--kernel", "twice").exit_code == 0


def test_a_kernel_that_spills_is_refused_and_gets_no_row(run):
    # 32 sums in 32 registers: what two blocks of 1024 threads leave a thread.
    @kernel("spilling", threads=1024, resident=2)
    def apply(x: Address, y: Address, n: Size) -> None:
        total = zeros(32)
        for k in range(n):
            at = x + 64 * k + 1024 * thread()
            total = fma_outer(total, load_f32x4(at), load_f32x4(at + 16) + load_f32x4(at + 32))
        out = y + 1024 * thread()
        store_f32x4(out, total[0:4])
        store_f32x4(out + 16, total[4:8])
        store_f32x4(out + 32, total[8:12])
        store_f32x4(out + 48, total[12:16])
        store_f32x4(out + 64, total[16:20])
        store_f32x4(out + 80, total[20:24])
        store_f32x4(out + 96, total[24:28])
        store_f32x4(out + 112, total[28:32])

    refused = run("--update")
    assert refused.exit_code == 1
    assert "refused: spilling sm_90: spills registers" in refused.stderr
    assert not gate.read()


def test_a_kernel_with_an_array_of_its_own_is_refused(run):
    cuda = pytest.importorskip("numba.cuda")

    @kernel("array")
    def apply(x: Address, y: Address, n: Size) -> None:
        values = cuda.local.array(64, np.float32)
        for i in range(64):
            values[(i * n) % 64] = load_f32(x + 4 * i)
        store_f32(y + 4 * thread(), values[thread() % 64])

    refused = run("--update")
    assert refused.exit_code == 1
    assert "refused: array sm_90: a stack frame of 256 bytes" in refused.stderr
    assert "accesses to local memory (LDL, STL)" in refused.stderr


def test_a_kernel_is_refused_whose_literal_made_it_float64(run):
    twice()
    run("--update")
    kernels.KERNELS.clear()

    @kernel("twice")
    def apply(x: Address, y: Address, n: Size) -> None:
        if thread() < n:
            store_f32(y + 4 * thread(), load_f32(x + 4 * thread()) * 0.1)

    refused = run()
    assert refused.exit_code == 1
    # The product, and what flushes it where it becomes a float32 again.
    assert "refused: twice sm_90: 2 float64 instructions, none in table.json" in refused.stderr


class Rows(NamedTuple):
    address: Address
    row: Size


def test_a_bundle_compiles_to_the_code_of_its_numbers(run):
    @kernel("numbers")
    def numbers(x: Address, x_row: Size, y: Address, y_row: Size) -> None:
        store_f32(y + 4 * thread() * y_row, load_f32(x + 4 * thread() * x_row))

    @kernel("bundles")
    def bundles(x: Rows, y: Rows) -> None:
        store_f32(y.address + 4 * thread() * y.row, load_f32(x.address + 4 * thread() * x.row))

    assert run("--update").exit_code == 0
    found = gate.read()
    assert found["bundles", "sm_90"] == replace(found["numbers", "sm_90"], kernel="bundles")


def test_shared_memory_and_barriers_are_in_the_row(run):
    @kernel("turned")
    def apply(x: Address, y: Address) -> None:
        block = shared(1024)
        shared_store_f32(block + 4 * thread(), load_f32(x + 4 * thread()))
        barrier()
        store_f32(y + 4 * thread(), shared_load_f32(block + 4 * (255 - thread())))

    assert run("--update").exit_code == 0
    (row,) = gate.read().values()
    assert (row.shared, row.barriers) == (1024, 1)
    assert {"BAR", "LDG", "LDS", "STG", "STS"} <= row.opcodes.keys()


def test_a_kernel_that_does_not_compile_is_refused_and_the_others_looked_at(run):
    twice()

    @kernel("broken")
    def apply(x: Address) -> None:
        load_f32(x, x)  # type: ignore[call-arg]

    refused = run("--update")
    assert refused.exit_code == 1
    assert "refused: broken sm_90: TypingError" in refused.stderr
    assert [row.kernel for row in gate.read().values()] == ["twice"]


def test_the_gate_says_what_it_needs(run, monkeypatch):
    gate.TABLE.write_text("{}?")
    unreadable = run()
    assert unreadable.exit_code == 2
    assert "not a table of this gate's" in unreadable.stderr

    def missing(name):
        raise ConfigError(f"{name} is not installed: pip install -e '.[gate]'")

    monkeypatch.setattr(gate, "tool", missing)
    told = run()
    assert (told.exit_code, told.stderr) == (2, "Error: ptxas is not installed: pip install -e '.[gate]'\n")
