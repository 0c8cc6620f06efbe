"""Runs that were killed and whose folders or data have changed when they are resumed."""

import shutil
import tomllib

import numpy as np
import pytest

import fgnumba as fg
from fgnumba.cli import run as cli_run
from fgnumba.runs import run_folder
from tests.fault_runs import (
    KINDS,
    assert_undisturbed,
    ended,
    in_process,
    killed,
    newest,
    records,
    start,
)

SETTINGS = ("--steps", "1000", "--widths", "16", "--checkpoint-every", "10", "--quiet")


def flipped(content, at):
    return content[:at] + bytes([content[at] ^ 0x80]) + content[at + 1 :]


DAMAGES = {
    "truncated": lambda content: content[: len(content) // 2],
    "flipped": lambda content: flipped(content, len(content) // 2),
    "emptied": lambda content: b"",
}


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """Return a function of kinds: a run that was killed, and one that nothing disturbed."""
    found = {}

    def made(kind, *arguments):
        if kind not in found:
            folder = found[kind] = tmp_path_factory.mktemp(kind)
            arguments = ("train", *SETTINGS, *KINDS[kind])
            assert in_process(*arguments, "--out", folder / "reference")[0] == 0
            assert killed(start(*arguments, "--out", folder / "run", cwd=folder, hold=100))[0] != 0
        return found[kind] / "run", found[kind] / "reference"

    return made


@pytest.fixture
def victim(pair, folder):
    """Return a function of kinds: a copy of a run that was killed, and one that nothing disturbed."""

    def copied(kind):
        run, reference = pair(kind)
        return shutil.copytree(run, folder / "run"), reference

    return copied


def checkpoints(run):
    return sorted(run.glob("checkpoints/step-*.safetensors"), reverse=True)


def damage(path, kind):
    path.write_bytes(DAMAGES[kind](path.read_bytes()))


@pytest.mark.parametrize("kind", DAMAGES)
def test_a_damaged_checkpoint_is_named_and_the_one_before_used(fgtrain, victim, kind):
    run, reference = victim("feedback")
    last = checkpoints(run)[0]
    damage(last, kind)
    done = fgtrain("train", "--resume", run, "--quiet")
    assert done.code == 0
    (line,) = done.err.splitlines()
    assert line.startswith(f"{last} is damaged: ")
    assert line.endswith("the one before it is used")
    assert_undisturbed(run, reference)


def test_without_a_whole_checkpoint_nothing_is_changed(fgtrain, victim):
    run, _ = victim("feedback")
    for path in checkpoints(run):
        damage(path, "flipped")
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    for _ in range(2):
        done = fgtrain("train", "--resume", run, "--quiet")
        assert done.code == 2
        *lines, last = done.err.splitlines()
        assert len(lines) == len(checkpoints(run))
        assert last.startswith(f"fgtrain: error: {run / 'checkpoints'}: no checkpoint is whole; ")
        assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


def test_a_checkpoint_of_another_run_is_refused(fgtrain, victim, pair):
    run, _ = victim("weights")
    other = checkpoints(pair("feedback")[0])[0]
    shutil.copy(other, run / "checkpoints" / "step-000000000999.safetensors")
    error = fgtrain("train", "--resume", run, "--quiet").error
    assert error.startswith(f"{run / 'checkpoints' / 'step-000000000999.safetensors'}: ")
    assert "the trainer that continues has" in error


def continued_without(fgtrain, run, reference, path, kind):
    """Continue a run whose file at `path` is damaged or missing; return the line that says so."""
    path.unlink() if kind == "missing" else damage(path, kind)
    done = fgtrain("train", "--resume", run, "--quiet")
    assert done.code == 0
    (line,) = done.err.splitlines()
    assert (run / "model.safetensors").read_bytes() == (reference / "model.safetensors").read_bytes()
    return line


@pytest.mark.parametrize("kind", [*DAMAGES, "missing"])
def test_damaged_metrics_are_said_and_the_run_goes_on(fgtrain, victim, kind):
    run, reference = victim("feedback")
    path = run / "metrics.jsonl"
    line = continued_without(fgtrain, run, reference, path, kind)
    assert line.startswith(f"{path} is damaged (")
    assert "are lost" in line
    assert all(record in records(reference) for record in records(run))
    assert records(run)[-1] == records(reference)[-1]


@pytest.mark.parametrize("kind", [*DAMAGES, "missing"])
def test_a_damaged_log_of_steps_is_said_and_the_run_goes_on(fgtrain, victim, kind):
    run, reference = victim("weights")
    path = run / "replay.log"
    line = continued_without(fgtrain, run, reference, path, kind)
    assert line.startswith(f"{path} can no longer be written: ")
    assert not path.exists()


@pytest.mark.parametrize("kind", ["truncated", "emptied", "missing"])
def test_compact_checkpoints_without_their_log_are_refused(fgtrain, victim, kind):
    run, _ = victim("compact")
    path = run / "replay.log"
    path.unlink() if kind == "missing" else damage(path, kind)
    done = fgtrain("train", "--resume", run, "--quiet")
    *said, error = done.err.splitlines()
    assert done.code == 2
    assert all("cannot be rebuilt: " in line and str(path) in line for line in said)
    assert error.startswith("fgtrain: error: ")
    assert "no checkpoint is whole" in error
    assert newest(run) > 0


def test_what_a_kill_leaves_half_written_goes(fgtrain, victim):
    run, reference = victim("feedback")
    for left in (
        "checkpoints/.step-000000000900.safetensors.part",
        ".metrics.jsonl.part",
        ".model.safetensors.part",
    ):
        (run / left).write_bytes(b"half")
    for left in (".config.toml.part", ".loss.png.part"):
        (run / left).write_bytes(b"half")
    assert fgtrain("train", "--resume", run, "--quiet").code == 0
    assert_undisturbed(run, reference)


def test_a_run_that_was_killed_before_its_first_checkpoint_begins_again(fgtrain, victim):
    run, reference = victim("weights")
    shutil.rmtree(run / "checkpoints")
    assert fgtrain("train", "--resume", run, "--quiet").code == 0
    assert_undisturbed(run, reference)


def test_all_is_taken_and_the_records_are_gone(fgtrain, victim):
    run, _ = victim("feedback")
    config = (run / "config.toml").read_text(encoding="utf-8")
    step = newest(run)
    (run / "config.toml").write_text(config.replace("steps = 1000", f"steps = {step}"))
    (run / "metrics.jsonl").unlink()
    done = fgtrain("train", "--resume", run)
    assert done.code == 0
    assert (run / "model.safetensors").exists()


def test_finished_runs_and_what_are_none(fgtrain, folder, finished):
    done = fgtrain("train", "--resume", finished)
    assert (done.code, done.out) == (0, "")
    assert done.err == f"{finished} has ended; there is nothing to continue\n"
    assert (
        fgtrain("train", "--resume", "nothing").error == "nothing: no such folder; a run folder is required"
    )
    (folder / "empty").mkdir()
    assert fgtrain("train", "--resume", "empty").error == "empty is not a run folder: config.toml is missing"


@pytest.mark.parametrize(
    "option",
    [("--batch-size", "3"), ("--out", "x"), ("--seed", "1"), ("--config", "x.toml"), ("--telemetry", "2")],
)
def test_a_run_continues_as_it_was_begun(fgtrain, finished, option):
    error = fgtrain("train", "--resume", finished, *option).error
    reason = "a run continues with the settings that it began with"
    assert error == f"{option[0]} and --resume are both given; {reason}"


def test_a_run_remembers_what_it_was_told_when_it_continued(fgtrain, folder, monkeypatch):
    def fail(*_):
        raise fg.RunError("it is interrupted here")

    with monkeypatch.context() as patched:
        patched.setattr(run_folder, "finish", fail)
        fgtrain("train", "--widths", 8, "--steps", 10, "--out", "run", "--checkpoint-every", 2, "--quiet")
        fgtrain("train", "--resume", "run", "--checkpoint-every", "7m", "--keep", 3)
    facts = tomllib.loads((folder / "run" / "config.toml").read_text(encoding="utf-8"))["run"]
    assert (facts["checkpoint_every"], facts["keep"]) == ("7m", 3)
    assert fgtrain("train", "--resume", "run").code == 0


def test_a_run_that_diverged_has_ended(fgtrain, folder):
    diverging = (
        "--estimator",
        "weight-perturbation",
        "--learning-rate",
        "1e3",
        "--widths",
        "16",
        "--out",
        "run",
    )
    assert fgtrain("train", *diverging, "--steps", 500, "--quiet").code == 2
    status, out = in_process("replay", "run", "--quiet")
    assert (status, out.rstrip().endswith("identical to model.safetensors")) == (0, True)
    done = fgtrain("train", "--resume", "run")
    assert done.code == 0
    assert "run has ended: it diverged at step " in done.err


def idx_of(folder, arrays):
    """Write an IDX folder."""
    folder.mkdir()
    for part, name in (("train", "train"), ("test", "t10k")):
        x, y = arrays[f"x_{part}"], arrays[f"y_{part}"]
        images = np.clip(x * 16 + 100, 0, 255).astype(np.uint8).reshape(len(x), 1, -1)
        for kind, array in (("images-idx3", images), ("labels-idx1", y.astype(np.uint8))):
            shape = b"".join(size.to_bytes(4, "big") for size in array.shape)
            content = bytes([0, 0, 8, array.ndim]) + shape + array.tobytes()
            (folder / f"{name}-{kind}-ubyte").write_bytes(content)


@pytest.mark.parametrize("kind", ["npz", "idx"])
def test_data_that_vanish_between_kill_and_resumption(fgtrain, folder, blobs, kind):
    arrays = dict(np.load(blobs))
    data = folder / blobs
    if kind == "idx":
        data = folder / "idx"
        idx_of(data, arrays)
    settings = ("--data", data, *SETTINGS)
    assert fgtrain("train", *settings, "--out", "reference").code == 0
    assert killed(start("train", *settings, "--out", "run", cwd=folder, hold=10))[0] != 0
    aside = data.with_name(f"aside-{data.name}")
    data.rename(aside)
    assert str(data) in fgtrain("train", "--resume", "run", "--quiet").error
    # Other data in its place.
    arrays["y_train"] = arrays["y_train"][::-1]
    np.savez(data, **arrays) if kind == "npz" else idx_of(data, arrays)
    error = fgtrain("train", "--resume", "run", "--quiet").error
    assert "has changed since the run began" in error
    assert "a run continues with the data that it began with" in error
    shutil.copytree("run", "other")
    assert fgtrain("train", "--resume", "other", "--quiet", "--data", aside).code == 0
    assert records(folder / "other") == records(folder / "reference")
    shutil.rmtree(data, ignore_errors=True) if kind == "idx" else data.unlink()
    aside.rename(data)
    assert fgtrain("train", "--resume", "run", "--quiet").code == 0
    assert_undisturbed(folder / "run", folder / "reference")


def test_a_second_process_leaves_the_first_undisturbed(fgtrain, pair, folder):
    run = folder / "run"
    process = start("train", *SETTINGS, "--out", run, cwd=folder, hold=10)
    error = fgtrain("train", "--resume", run, "--quiet").error
    assert error == f"{run}: another process trains in this folder"
    process.release()
    assert ended(process)[0] == 0
    assert_undisturbed(run, pair("feedback")[1])


def test_a_run_that_ends_while_another_process_gets_ready_to_resume_it(fgtrain, victim, monkeypatch):
    run, reference = victim("feedback")
    assemble = cli_run.assemble

    def slow(*arguments):
        monkeypatch.setattr(cli_run, "assemble", assemble)
        assert in_process("train", "--resume", run, "--quiet")[0] == 0
        return assemble(*arguments)

    monkeypatch.setattr(cli_run, "assemble", slow)
    done = fgtrain("train", "--resume", run, "--quiet")
    assert (done.code, done.err) == (0, f"{run} has ended; there is nothing to continue\n")
    assert_undisturbed(run, reference)


def test_two_runs_that_begin_at_once_in_one_folder(folder, pair):
    places = [folder / "a", folder / "b"]
    for place in places:
        place.mkdir()
    both = [start("train", *SETTINGS, "--out", folder / "run", cwd=place) for place in places]
    outcomes = sorted(ended(process) for process in both)
    assert [status for status, _, _ in outcomes] == [0, 2]
    assert outcomes[0][2] == ""
    (line,) = outcomes[1][2].splitlines()
    assert line.startswith(f"fgtrain: error: out: {folder / 'run'} ")
    assert_undisturbed(folder / "run", pair("feedback")[1])
