"""Texts on the command line: training, evaluation, samples, and a run that is killed and resumed."""

import json
import math
import signal
import subprocess
import sys
import tomllib

import pytest

from fgnumba.cli.main import main
from fgnumba.cli.sample import harmless
from fgnumba.datasets import Alphabet
from tests import tolerances
from tests.fault_runs import COMMAND, ENVIRONMENT, PATIENCE, assert_undisturbed, ended, killed, start
from tests.places import SHARED
from tests.texts import sentences, write

SMALL = ("--widths", 12, "--context", 8, "--batch-size", 4, "--device", "cpu")
STEPS = 60
BOOK = SHARED / "tinyshakespeare" / "input.txt"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Return a small run on a text that has ended; tests do not change it."""
    folder = tmp_path_factory.mktemp("text")
    write(folder / "t.txt", sentences(3000))
    options = (*SMALL, "--steps", STEPS, "--validation", 0.1, "--out", folder / "run", "--quiet")
    with pytest.raises(SystemExit) as caught:
        main(["train", "--data", str(folder / "t.txt"), *map(str, options)])
    assert caught.value.code == 0
    return folder / "run"


def records(path):
    return [json.loads(line) for line in (path / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]


def test_a_run_on_a_text_says_what_it_read_and_ends_in_nats(fgtrain, folder):
    write(folder / "t.txt", sentences(3000))
    done = fgtrain("train", "--data", "t.txt", *SMALL, "--steps", 40, "--validation", 0.1, "--out", "r")
    assert done.code == 0, done.err
    assert "t.txt: 3,000 characters, " in done.err
    assert "t.txt: the last tenth, 300 characters, is the test part" in done.err
    assert "t-char-lstm, " in done.err
    assert " nats/char " in done.err
    last = records(folder / "r")[-1]
    nats = last["test_nats_per_character"]
    assert done.out.startswith(
        f"test {nats:.4f} nats per character, {nats / math.log(2):.4f} bits, perplexity "
    )
    assert last["test_loss"] == nats
    tolerances.COUNTED.check(last["test_perplexity"], math.exp(nats))
    tolerances.COUNTED.check(last["validation_bits_per_character"], last["validation_loss"] / math.log(2))
    assert nats < records(folder / "r")[0]["loss"] < math.log(20)
    config = tomllib.loads((folder / "r" / "config.toml").read_text(encoding="utf-8"))
    expected = {
        "model": "char-lstm",
        "context": 8,
        "symbols": "characters",
        "schedule": "cosine",
        "patience": 0,
    }
    assert config.items() >= expected.items()
    assert config["run"]["input_shape"] == [8]
    alphabet = Alphabet.from_json(folder / "r" / "text.json")
    assert alphabet.symbols == "".join(sorted(set(sentences(3000))))
    assert config["run"]["classes"] == len(alphabet)
    assert (folder / "r" / "loss.png").exists()


@pytest.mark.slow
@pytest.mark.skipif(not BOOK.exists(), reason="needs a text of a million characters")
def test_a_million_characters_are_learned_forward_only(fgtrain):
    found = fgtrain(
        "train", "--model", "char-lstm", "--data", BOOK, "--device", "cpu", "--quiet", "--json"
    ).json()
    # Truncated backpropagation through the same network: 1.823 after 2,000 steps.
    assert found["test_nats_per_character"] <= 1.83
    assert found["warnings"] == []


def test_json_has_the_metrics(fgtrain, folder):
    write(folder / "book.md", sentences(2000))
    done = fgtrain(
        "train", "--data", "book.md", "--symbols", "bytes", *SMALL, "--steps", 4, "--json", "--quiet"
    )
    found = done.json()
    assert found["run_folder"] == "runs/book-char-lstm-1"
    assert found["test_nats_per_character"] == found["test_loss"]
    assert {"test_bits_per_character", "test_perplexity", "test_accuracy"} <= found.keys()
    assert found["model"] == "char-lstm"


def test_a_stack_of_layers_is_trained(fgtrain, folder):
    write(folder / "t.txt", sentences(2000))
    done = fgtrain(
        "train", "--data", "t.txt", *SMALL, "--widths", "12,12", "--steps", 60, "--out", "r", "--quiet"
    )
    assert done.code == 0, done.err
    assert records(folder / "r")[-1]["loss"] < records(folder / "r")[0]["loss"]
    assert len(fgtrain("sample", "r", "--length", 9).out) == 9


def test_evaluation_repeats_the_end_of_the_run(fgtrain, run):
    last = records(run)[-1]
    found = fgtrain("evaluate", run, "--json").json()
    assert found["nats_per_character"] == found["loss"] == last["test_nats_per_character"]
    assert (found["accuracy"], found["n"]) == (last["test_accuracy"], 299)
    done = fgtrain("evaluate", run)
    assert done.out.startswith(f"{found['loss']:.4f} nats per character, ")
    assert done.out.endswith(" on 299 symbols, read as one stream\n")


def test_another_text_is_read_whole(fgtrain, run, folder):
    write(folder / "other.txt", "the cat ran\n" * 9)
    found = fgtrain("evaluate", run, "--data", "other.txt", "--json").json()
    assert found["n"] == 9 * 12 - 1
    assert 0 < found["nats_per_character"] < 5


def test_the_same_seed_gives_the_same_text(fgtrain, run):
    first, again, other = (
        fgtrain("sample", run, "--prompt", "the c", "--length", 40, "--seed", seed).out for seed in (1, 1, 2)
    )
    assert first == again != other
    assert first.startswith("the c")
    assert len(first) == 45
    alphabet = Alphabet.from_json(run / "text.json")
    assert set(first) <= set(alphabet.symbols)
    cold = fgtrain("sample", run, "--temperature", 0, "--length", 20)
    assert (cold.code, len(cold.out)) == (0, 20)
    assert cold.out == fgtrain("sample", run, "--temperature", 0, "--length", 20, "--seed", 5).out
    assert fgtrain("sample", run, "--prompt", "a", "--length", 0).out == "a"


def test_what_a_text_run_refuses(fgtrain, run, folder, finished):
    assert "prompt: 'é' is none of the " in fgtrain("sample", run, "--prompt", "né").error
    assert "temperature is -1" in fgtrain("sample", run, "--temperature", -1).error
    assert "temperature is nan" in fgtrain("sample", run, "--temperature", "nan").error
    assert "length is -3" in fgtrain("sample", run, "--length", -3).error
    assert "was not trained on a text" in fgtrain("sample", finished).error
    assert "was trained on a text: fgtrain sample continues one" in fgtrain("predict", run, "x.npy").error
    write(folder / "other.txt", "the Cat ran\n" * 9)
    assert "other.txt: 'C' is none of the " in fgtrain("evaluate", run, "--data", "other.txt").error
    assert "data_dir is" in fgtrain("evaluate", run, "--data-dir", ".").error
    assert "reads a text as one stream, and has no windows" in fgtrain("evaluate", run, "--stride", 4).error
    assert (
        "was not trained on a text, which has windows" in fgtrain("evaluate", finished, "--stride", 4).error
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--data", "short.txt"), "at least 73 are required"),
        (("--model", "char-lstm"), "reads a text: the path of one is required"),
        (("--data", "t.txt", "--model", "mlp", *SMALL), "one number a symbol at each position of a text"),
        (
            ("--data", "t.txt", *SMALL, "--telemetry", 5),
            "t.txt is a text, whose gradient depends on the past",
        ),
        (("--data", "t.txt", "--target", "k", *SMALL), "beside symbols or context"),
        (("--data", "t.txt", *SMALL, "--symbols", "words"), "symbols: unknown symbols 'words'"),
        (("--data", "t.txt", *SMALL, "--schedule", "linear"), "schedule: unknown schedule 'linear'"),
        (("--data", "t.txt", *SMALL, "--widths", "8,0"), "widths[1] is 0"),
    ],
)
def test_what_a_run_on_a_text_refuses(fgtrain, folder, options, message):
    write(folder / "t.txt", sentences(1000))
    write(folder / "short.txt", "ab" * 9)
    assert message in fgtrain("train", *options, "--quiet").error
    assert not (folder / "runs").exists()


def test_a_damaged_alphabet_is_one_line(fgtrain, run, folder):
    for name in ("config.toml", "metrics.jsonl", "model.safetensors"):
        (folder / name).write_bytes((run / name).read_bytes())
    write(folder / "text.json", "{}")
    for command in ("sample", "evaluate"):
        assert "text.json is damaged: version is None; 1 is required" in fgtrain(command, ".").error
    write(folder / "text.json", Alphabet("ab").to_json())
    assert "text.json is damaged: 2 symbols; the model predicts " in fgtrain("sample", ".").error


def test_a_run_is_listed_and_shown_in_nats(fgtrain, run):
    nats = records(run)[-1]["test_nats_per_character"]
    assert f"{nats:.4f} nats" in fgtrain("runs", run).out
    shown = fgtrain("show", run).out
    assert f"reached {nats:.4f} nats per character" in " ".join(shown.split())
    assert "nats per character" in shown.splitlines()[-1] or "nats per character" in shown
    assert "error, %" not in shown


def test_control_characters_do_not_reach_a_terminal():
    assert harmless("a\x1b[31m\x00é\n\t\r\x9b日\x7f") == "a\\x1b[31m\\x00é\n\t\r\\x9b日\\x7f"


def test_a_reader_that_ends_ends_the_text(run):
    command = " ".join(["exec 3>&1;", '"$@" | head -c 3 >&3; exit ${PIPESTATUS[0]}'])
    arguments = (*COMMAND, "sample", run, "--length", 100000)
    done = subprocess.run(
        ["bash", "-c", command, "bash", *map(str, arguments)],
        env=ENVIRONMENT,
        capture_output=True,
        timeout=PATIENCE,
        check=False,
    )
    assert (done.returncode, done.stderr, len(done.stdout)) == (1, b"", 3)


@pytest.mark.skipif(sys.platform == "win32", reason="needs signals of POSIX")
def test_an_interrupt_ends_the_text(run, tmp_path):
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        process = start("sample", run, "--prompt", "the", "--length", 1 << 40, cwd=tmp_path)
    finally:
        signal.signal(signal.SIGINT, before)
    # The text comes as it is drawn.
    assert process.stdout.read(10).startswith(b"the")
    process.send_signal(signal.SIGINT)
    status, _, errors = ended(process)
    assert (status, errors) == (130, "fgtrain: ended by SIGINT\n")


def test_a_run_that_is_killed_ends_with_the_same_bits(fgtrain, folder):
    write(folder / "t.txt", sentences(3000))
    options = (
        "--data",
        "t.txt",
        *SMALL,
        "--steps",
        100,
        "--checkpoint-every",
        10,
        "--validation",
        0.1,
        "--quiet",
    )
    assert fgtrain("train", *options, "--out", "reference").code == 0
    process = start("train", *options, "--out", "run", cwd=folder, hold=30)
    assert killed(process)[0] == -signal.SIGKILL
    (folder / "held").unlink(missing_ok=True)
    assert not (folder / "run" / "model.safetensors").exists()
    assert fgtrain("train", "--resume", "run", "--quiet").code == 0
    assert_undisturbed(folder / "run", folder / "reference")


def test_a_run_is_trained_further(fgtrain, folder):
    write(folder / "t.txt", sentences(3000))
    options = ("--data", "t.txt", *SMALL, "--quiet")
    assert fgtrain("train", *options, "--steps", 20, "--out", "short").code == 0
    assert fgtrain("train", "--resume", "short", "--steps", 50, "--quiet").code == 0
    assert fgtrain("train", *options, "--steps", 50, "--decay", 4 / 20, "--out", "long").code == 0
    models = [(folder / name / "model.safetensors").read_bytes() for name in ("short", "long")]
    assert models[0] == models[1]


def test_a_search_judges_by_the_loss(fgtrain, folder):
    write(folder / "t.txt", sentences(3000))
    options = ("--data", "t.txt", *SMALL, "--steps", 6, "--count", 2, "--lowest", 1e-3, "--highest", 1e-2)
    found = fgtrain("search", *options, "--json").json()
    losses = [trial["loss"] for trial in found["trials"]]
    assert all(trial["accuracy"] is None for trial in found["trials"])
    assert losses == sorted(losses)


def test_a_search_by_optuna_judges_by_the_loss(fgtrain, folder):
    pytest.importorskip("optuna")
    write(folder / "t.txt", sentences(3000))
    options = ("--data", "t.txt", *SMALL, "--engine", "optuna", "--trials", 2, "--steps", 6)
    found = fgtrain("search", *options, "--json").json()
    assert [trial["accuracy"] for trial in found["trials"]] == [None, None]
    assert found["trials"][0]["loss"] <= found["trials"][1]["loss"]


def test_estimators_that_train_recurrent_models_are_compared(fgtrain, folder):
    write(folder / "t.txt", sentences(2000))
    options = (
        "--data",
        "t.txt",
        *SMALL[:-2],
        "--steps",
        3,
        "--evaluations",
        1,
        "--out",
        "compared",
        "--json",
    )
    found = fgtrain("compare", *options).json()
    assert [curve["name"] for curve in found["curves"]] == ["rtrl", "weight-perturbation"]


def test_the_plan_of_the_text_model(fgtrain):
    found = fgtrain("info", "--model", "char-lstm", "--json").json()
    assert found["parameters"] == 65 * 1024 + 2 * 1024 + 512 * 65 + 65


def test_a_network_of_ones_own_learns_by_real_time_recurrent_learning(fgtrain, folder):
    layers = '[[layers]]\ntype = "{}"\nunits = 8\nsymbols = "classes"\n[[layers]]\ntype = "dense"\nunits = "classes"\n'
    for kind in ("min_gru", "gru"):
        (folder / f"{kind}.toml").write_text(layers.format(kind), encoding="utf-8")
    write(folder / "own.txt", sentences(900))
    small = ("--data", "own.txt", "--context", 8, "--batch-size", 4, "--steps", 2, "--quiet")
    done = fgtrain("train", "--model", "min_gru.toml", *small, "--out", "own")
    assert done.code == 0, done.err
    assert tomllib.loads((folder / "own" / "config.toml").read_text(encoding="utf-8"))["estimator"] == "rtrl"
    refused = fgtrain("train", "--model", "gru.toml", *small, "--out", "none")
    assert "weight-perturbation, is required" in refused.error
    (folder / "own" / "text.json").unlink()
    assert "text.json is missing; fgtrain train --resume" in fgtrain("evaluate", "own").error
    assert "text.json is missing" in fgtrain("sample", "own").error
    assert "was trained on a text" in fgtrain("predict", "own", "x.npy").error
