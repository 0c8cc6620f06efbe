"""Instruction sets, threads and tiling: overrides, their errors, and parts that cover everything exactly once."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

import fgnumba as fg
from fgnumba.kernels.emit import vector
from fgnumba.kernels.machine import threads, work


def test_the_widest_set_is_the_default_and_each_can_be_chosen(monkeypatch):
    monkeypatch.delenv(vector.OVERRIDE, raising=False)
    assert vector.instruction_set().name == vector.executable()[0]
    assert vector.executable()[-1] == "generic"
    for name in vector.executable():
        monkeypatch.setenv(vector.OVERRIDE, name)
        assert vector.instruction_set().name == name
        assert vector.instruction_set("generic").name == "generic"


def test_sets_that_are_unknown_or_not_there(monkeypatch):
    monkeypatch.setenv(vector.OVERRIDE, "avx51")
    with pytest.raises(
        fg.DeviceError, match=r"FGNUMBA_VECTOR: unknown .*'avx51' \(did you mean 'avx512'\?\)"
    ):
        vector.instruction_set()
    for name in set(vector.INSTRUCTION_SETS) - set(vector.executable()):
        with pytest.raises(fg.DeviceError, match=f"cannot execute '{name}'; it has"):
            vector.instruction_set(name)


@pytest.mark.parametrize("isa", vector.INSTRUCTION_SETS.values(), ids=lambda isa: isa.name)
def test_tiles_fit_the_registers(isa):
    assert isa.max_rows >= 1
    for rows in range(1, isa.max_rows + 1):
        vectors = rows * isa.panels(rows) * vector.PANEL // isa.lanes
        assert vectors <= max(isa.accumulators, vector.PANEL // isa.lanes)


def test_threads_are_counted_and_checked(monkeypatch):
    available = threads.most_threads()
    for name in (threads.OVERRIDE, *threads.OPENMP):
        monkeypatch.delenv(name, raising=False)
    assert threads.thread_count() == threads._processors().count <= available
    monkeypatch.setenv(threads.OVERRIDE, "1")
    assert threads.thread_count() == 1
    for text in ("0", "-1", "many", "1.5", str(available + 1)):
        monkeypatch.setenv(threads.OVERRIDE, text)
        with pytest.raises(
            fg.DeviceError, match=f"FGNUMBA_THREADS: '{text}' is not .* from 1 to {available}"
        ):
            threads.thread_count()


@given(st.integers(0, 500), st.integers(1, 20))
def test_ranges_cover_everything_once(n, parts):
    ranges = [work.split(n, parts, part) for part in range(parts)]
    assert [i for low, high in ranges for i in range(low, high)] == list(range(n))
    assert max(high - low for low, high in ranges) - min(high - low for low, high in ranges) <= 1


@given(st.integers(0, 10**9), st.integers(1, 1000), st.integers(1, 64))
def test_work_is_cut_into_as_many_parts_for_every_thread(amount, limit, threads):
    sharing, parts = work.threads_for(amount, limit, threads), work.parts_for(amount, limit, threads)
    assert 1 <= sharing <= parts <= min(limit, threads * work.PARTS_A_THREAD)
    assert parts % sharing == 0
    assert parts == 1 or amount >= (parts - 1) * work.THREAD_WORK


@given(st.integers(1, 500), st.integers(1, 24))
def test_tiles_cover_the_rows_and_their_heights_are_foreseen(rows, tallest):
    count = work.tile_count(rows, tallest)
    sizes = [work.tile_rows(rows, count, tile) for tile in range(count)]
    assert sum(sizes) == rows
    assert max(sizes) <= tallest
    assert set(sizes) == work.heights(rows, tallest)


@given(st.integers(1, 100), st.integers(1, 300), st.integers(1, 16))
def test_grids_have_as_many_pieces_as_asked_for(columns, rows, parts):
    across, down = work.grid(columns, rows, parts)
    assert across * down == parts
