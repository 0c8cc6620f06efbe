"""Texts on the command line for models of windows: training, evaluation, samples, a run that is killed and resumed."""

import json
import signal
import tomllib

import pytest

from fgnumba.cli.main import main
from tests.fault_runs import assert_undisturbed, killed, start
from tests.texts import sentences, write

MODEL = ("--model", "char-transformer", "--widths", "8", "--context", 8, "--batch-size", 4, "--device", "cpu")
OWN = """
[[layers]]
type = "embedding"
symbols = "classes"
width = 8
[[layers]]
type = "self_attention"
heads = 2
causal = {causal}
[[layers]]
type = "dense"
units = "classes"
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Return a small run of a transformer on a text that has ended; tests do not change it."""
    folder = tmp_path_factory.mktemp("windows")
    write(folder / "t.txt", sentences(3000))
    options = (*MODEL, "--steps", 40, "--validation", 0.1, "--out", folder / "run", "--quiet")
    with pytest.raises(SystemExit) as caught:
        main(["train", "--data", str(folder / "t.txt"), *map(str, options)])
    assert caught.value.code == 0
    return folder / "run"


def records(path):
    return [json.loads(line) for line in (path / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]


def test_a_transformer_learns_from_windows(run):
    found = records(run)
    assert found[-1]["test_loss"] == found[-1]["test_nats_per_character"] < found[0]["loss"]
    config = tomllib.loads((run / "config.toml").read_text(encoding="utf-8"))
    expected = {"model": "char-transformer", "context": 8, "schedule": "cosine", "warmup": 4, "patience": 0}
    assert config.items() >= expected.items()
    # The learning rate has risen over the first tenth of the run, and falls from there.
    rates = [record["learning_rate"] for record in found]
    assert rates == sorted(rates, reverse=True)
    assert rates[0] > 0.9 * config["learning_rate"]
    assert rates[-1] < 0.11 * config["learning_rate"]


def test_evaluation_repeats_the_end_of_the_run_and_takes_a_stride(fgtrain, run):
    last = records(run)[-1]
    found = fgtrain("evaluate", run, "--json").json()
    assert found["nats_per_character"] == found["loss"] == last["test_nats_per_character"]
    assert (found["accuracy"], found["n"]) == (last["test_accuracy"], 299)
    assert fgtrain("evaluate", run).out.endswith(" on 299 symbols, in windows of 8, side by side\n")
    near = fgtrain("evaluate", run, "--stride", 4)
    assert near.out.endswith(" on 299 symbols, in windows of 8, 4 apart\n")
    assert fgtrain("evaluate", run, "--stride", 8, "--json").json()["loss"] == found["loss"]
    assert fgtrain("evaluate", run, "--stride", 4, "--json").json()["loss"] != found["loss"]


def test_a_stride_is_at_most_a_window(fgtrain, run):
    for stride in (0, 9):
        error = fgtrain("evaluate", run, "--stride", stride).error
        assert f"stride is {stride}; a whole number from 1 to 8 is required" in error


def test_a_prompt_may_be_longer_than_a_window(fgtrain, run):
    prompt = "the cat sat on a mat "
    first, again, other = (
        fgtrain("sample", run, "--prompt", prompt, "--length", 20, "--seed", seed).out for seed in (1, 1, 2)
    )
    assert first == again != other
    assert first.startswith(prompt)
    assert len(first) == len(prompt) + 20
    # Only the last eight symbols are read.
    cut = fgtrain("sample", run, "--prompt", prompt[-8:], "--length", 20, "--seed", 1).out
    assert cut[8:] == first[len(prompt) :]
    assert len(fgtrain("sample", run, "--temperature", 0, "--length", 12).out) == 12


def test_a_run_that_is_killed_ends_with_the_same_bits(fgtrain, folder):
    write(folder / "t.txt", sentences(3000))
    settings = ("--steps", 40, "--checkpoint-every", 4, "--validation", 0.1, "--quiet")
    options = ("--data", "t.txt", *MODEL, *settings)
    assert fgtrain("train", *options, "--out", "reference").code == 0
    process = start("train", *options, "--out", "run", cwd=folder, hold=12)
    assert killed(process)[0] == -signal.SIGKILL
    (folder / "held").unlink(missing_ok=True)
    assert not (folder / "run" / "model.safetensors").exists()
    assert fgtrain("train", "--resume", "run", "--quiet").code == 0
    assert_undisturbed(folder / "run", folder / "reference")


def test_a_network_of_ones_own_with_attention_is_one_of_windows(fgtrain, folder):
    for causal in ("true", "false"):
        (folder / f"{causal}.toml").write_text(OWN.format(causal=causal), encoding="utf-8")
    write(folder / "t.txt", sentences(900))
    small = ("--data", "t.txt", "--context", 8, "--steps", 3, "--quiet")
    done = fgtrain("train", "--model", "true.toml", *small, "--out", "own")
    assert done.code == 0, done.err
    config = tomllib.loads((folder / "own" / "config.toml").read_text(encoding="utf-8"))
    assert (config["batch_size"], config["warmup"]) == (12, 0)
    refused = fgtrain("train", "--model", "false.toml", *small, "--out", "none").error
    assert "model false.toml: outputs of the model depend on symbols that come later" in refused
    assert not (folder / "none").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--widths", "16,8"), "widths are [16, 8]; the blocks of char-transformer add to one stream"),
        (("--widths", "10"), "its 10 elements cannot be cut into 4 equal heads"),
        (("--warmup", -1), "warmup is -1"),
        (("--estimator", "rtrl"), "layer '0', Embedding, has parameters that it cannot train"),
        (
            ("--estimator", "block-feedback", "--direction", "rank1"),
            "direction is 'rank1'; the estimator 'block-feedback' does not take that option",
        ),
    ],
)
def test_what_a_run_of_windows_refuses(fgtrain, folder, options, message):
    write(folder / "t.txt", sentences(1000))
    assert message in fgtrain("train", "--data", "t.txt", *MODEL, *options, "--steps", 3, "--quiet").error
    assert not (folder / "runs").exists()


def test_searches_and_comparisons_take_windows(fgtrain, folder):
    write(folder / "t.txt", sentences(2000))
    options = ("--data", "t.txt", *MODEL, "--json")
    found = fgtrain(
        "search", *options, "--steps", 6, "--count", 2, "--lowest", 1e-3, "--highest", 1e-2
    ).json()
    losses = [trial["loss"] for trial in found["trials"]]
    assert losses == sorted(losses)
    budget = ("--steps", 3, "--evaluations", 1, "--out", "compared")
    curves = fgtrain("compare", *options[:-3], "--json", *budget).json()["curves"]
    assert [curve["name"] for curve in curves] == ["block-feedback", "weight-perturbation"]


def test_the_plan_of_the_transformer(fgtrain):
    found = fgtrain("info", "--model", "char-transformer", "--json").json()
    block = 128 * 384 + 128 * 128 + 2 * 128 * 512 + 512 + 128
    assert found["parameters"] == 65 * 128 + 64 * 128 + 4 * block + 2 * 128 + 128 * 65 + 65
