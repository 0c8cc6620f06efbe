"""The choice of a register tile by a trial: stored, given by name, damaged, after a fork, in several processes."""

import json
import os
import subprocess
import sys

import pytest

import fgnumba as fg
from fgnumba.kernels.devices import tuning
from fgnumba.kernels.emit import vector
from fgnumba.kernels.emit.vector import INSTRUCTION_SETS
from tests.places import ROOT

AVX512 = INSTRUCTION_SETS["avx512"]
NAMES = list(tuning.tiles(AVX512))


@pytest.fixture
def trials(tmp_path, monkeypatch):
    """Return the list of trials, which say that the second tile is fastest; an empty cache folder and memory."""
    monkeypatch.delenv(tuning.OVERRIDE, raising=False)
    monkeypatch.setenv("FGNUMBA_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(tuning, "_chosen", {})
    done = []

    def trial(candidates):
        done.append([isa.tile for isa in candidates])
        return [1.0, 0.5, 0.75]

    monkeypatch.setattr(tuning, "trial", trial)
    return done


def forget(monkeypatch):
    """Stand for another process."""
    monkeypatch.setattr(tuning, "_chosen", {})


def files(tmp_path):
    return sorted((tmp_path / "cache").glob("*"))


def test_a_trial_is_made_once_and_its_choice_is_stored(trials, tmp_path, monkeypatch):
    assert "not measured yet" in tuning.described(AVX512)
    assert tuning.tuned(AVX512).tile == NAMES[1]
    assert tuning.tuned(AVX512).tile == NAMES[1]
    forget(monkeypatch)
    assert tuning.tuned(AVX512) == tuning.tiles(AVX512)[NAMES[1]]
    assert trials == [NAMES]
    (path,) = files(tmp_path)
    assert json.loads(path.read_bytes()) == dict(zip(NAMES, [1.0, 0.5, 0.75], strict=True))
    assert tuning.described(AVX512).startswith(f"{NAMES[1]} (chosen by a trial: ")


def test_the_first_stays_unless_another_is_clearly_faster():
    def fastest(*seconds):
        return tuning.fastest(dict(zip(NAMES, seconds, strict=True)))

    assert fastest(1.0, 0.99, 1.0) == NAMES[0]
    assert fastest(1.0, 1.0, 0.97) == NAMES[2]
    assert fastest(1.0, 0.96, 0.97) == NAMES[1]


def test_sets_with_one_tile_have_no_trial(trials):
    for isa in INSTRUCTION_SETS.values():
        if len(tuning.tiles(isa)) == 1:
            assert tuning.tuned(isa) == isa
            assert tuning.described(isa) == isa.tile
    assert trials == []


def test_the_first_of_a_sets_tiles_is_its_own():
    for isa in INSTRUCTION_SETS.values():
        assert next(iter(tuning.tiles(isa).values())) == isa


def test_the_environment_chooses_without_a_trial(trials, monkeypatch):
    for name in NAMES:
        monkeypatch.setenv(tuning.OVERRIDE, name)
        assert tuning.tuned(AVX512).tile == name
        assert tuning.described(AVX512) == f"{name} (FGNUMBA_TILE)"
    assert trials == []
    monkeypatch.setenv(tuning.OVERRIDE, "13x33")
    with pytest.raises(
        fg.DeviceError, match=r"FGNUMBA_TILE: avx512 has no tile '13x33'.*it has 13x32\+48, 13x32\+8, "
    ):
        tuning.tuned(AVX512)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\x00",
        b"[" * 100_000,
        b"[1.0, 2.0, 3.0]",
        b'"13x32"',
        json.dumps(dict.fromkeys(NAMES[:2], 1.0)).encode(),
        json.dumps(dict.fromkeys([*NAMES, "7x7"], 1.0)).encode(),
        json.dumps(dict.fromkeys(NAMES, 0.0)).encode(),
        json.dumps(dict.fromkeys(NAMES, "1.0")).encode(),
        json.dumps(dict.fromkeys(NAMES, float("nan"))).encode(),
    ],
    ids=lambda content: str(content[:20]),
)
def test_a_damaged_file_counts_as_absent_and_is_replaced(content, trials, tmp_path, monkeypatch):
    tuning.tuned(AVX512)
    (path,) = files(tmp_path)
    whole = path.read_bytes()
    path.write_bytes(content)
    forget(monkeypatch)
    assert tuning.tuned(AVX512).tile == NAMES[1]
    assert len(trials) == 2
    assert files(tmp_path) == [path]
    assert path.read_bytes() == whole


def test_a_folder_that_cannot_be_written_is_done_without(trials, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("FGNUMBA_CACHE_DIR", str(tmp_path / "file" / "cache"))
    assert tuning.tuned(AVX512).tile == NAMES[1]
    assert tuning.tuned(AVX512).tile == NAMES[1]
    assert len(trials) == 1


def test_of_two_processes_both_take_what_was_stored_first(trials, monkeypatch):
    def slower(candidates):
        # While this one measures, another stores that the third is fastest.
        tuning._store(tuning._path("tile-avx512"), dict(zip(NAMES, [1.0, 0.75, 0.5], strict=True)))
        return [1.0, 0.5, 0.75]

    monkeypatch.setattr(tuning, "trial", slower)
    assert tuning.tuned(AVX512).tile == NAMES[2]
    forget(monkeypatch)
    assert tuning.tuned(AVX512).tile == NAMES[2]


def test_another_processor_has_a_choice_of_its_own(trials, tmp_path, monkeypatch):
    tuning.tuned(AVX512)
    forget(monkeypatch)
    monkeypatch.setattr(tuning, "processor_name", lambda: "another")
    tuning.tuned(AVX512)
    assert len(trials) == len(files(tmp_path)) == 2


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_forked_child_measures_nothing_and_waits_for_no_lock(trials, tmp_path):
    script = (
        "import os; from fgnumba.kernels.devices import tuning\n"
        "from fgnumba.kernels.emit.vector import INSTRUCTION_SETS\n"
        "isa = INSTRUCTION_SETS['avx512']\n"
        "tuning.trial = lambda candidates: os._exit(3)\n"
        "tuning._lock.acquire()\n"
        "child = os.fork()\n"
        "if child == 0:\n"
        "    os._exit(0 if tuning.tuned(isa) == isa else 1)\n"
        "print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))\n"
    )
    environment = {**os.environ, "FGNUMBA_CACHE_DIR": str(tmp_path / "child")}
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=60,
    )
    assert (done.stdout, done.stderr) == ("0\n", "")
    assert not (tmp_path / "child").exists()


def test_a_trial_measures_every_tile_and_soon_ends():
    isa = vector.instruction_set()
    candidates = list(tuning.tiles(isa).values())
    tuning.trial(candidates)
    seconds = tuning.trial(candidates)
    assert len(seconds) == len(candidates)
    # 64 x 1024 x 1024 multiply-adds in less than a second, whatever the machine and its neighbours.
    assert all(0 < each * 64 < 1 for each in seconds)


def test_a_trial_ends_where_the_machine_is_slow(monkeypatch):
    calls = []
    monkeypatch.setattr(tuning, "_operation", lambda isa, weight, batch: (lambda: calls.append(isa), 1))
    monkeypatch.setattr(tuning, "SECONDS", -1.0)
    tuning.trial([AVX512, AVX512])
    assert len(calls) == 2 * (1 + tuning.LEAST_ROUNDS)


@pytest.mark.skipif("avx512" not in vector.executable(), reason="the host has one tile")
def test_info_names_the_tile(fgtrain, monkeypatch):
    monkeypatch.setenv(vector.OVERRIDE, "avx512")
    monkeypatch.setenv(tuning.OVERRIDE, NAMES[2])
    assert fgtrain("info", "--json").json()["tile"] == f"{NAMES[2]} (FGNUMBA_TILE)"
