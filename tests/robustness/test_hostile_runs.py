"""Run folders from untrusted sources: they are read, or refused on one line that names the file."""

import json
import os
import shutil
from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fgnumba as fg
from fgnumba.errors import RunError
from fgnumba.runs import run_folder, saved_run
from fgnumba.runs.configuration import RunConfig
from fgnumba.runs.search import Ledger, Trial
from fgnumba.training.metrics import MAX_RECORDS
from tests.hostile import mutations, refusal

RECORD = fg.Record(1, 0.5, 1.0, 1.1, 0.5, 0.1, 0.01)
FILES = (run_folder.CONFIG, run_folder.METRICS, run_folder.MODEL)


@pytest.fixture(scope="module")
def valid(tmp_path_factory):
    config = RunConfig(layers=({"type": "dense", "units": 3},), steps=2)
    path = tmp_path_factory.mktemp("valid") / "run"
    facts = {"input_shape": [5], "classes": 3}
    run_folder.begin(path, config, facts)
    run_folder.finish(path, config, fg.Sequential([fg.Dense(3)], 5), [RECORD, RECORD], facts)
    return path


@pytest.fixture
def run(valid, tmp_path):
    return shutil.copytree(valid, tmp_path / "run")


@pytest.mark.parametrize("name", FILES)
@settings(max_examples=150)
@given(data=st.data())
def test_a_damaged_run_folder_is_read_or_refused(valid, tmp_path_factory, name, data):
    path = shutil.copytree(valid, tmp_path_factory.mktemp("damaged") / "run")
    (path / name).write_bytes(data.draw(mutations((valid / name).read_bytes())))
    message = refusal(lambda: saved_run.read(path, "cpu"))
    assert message is None or name in message or run_folder.MODEL in message


def refused(path, match):
    with pytest.raises(RunError, match=match) as caught:
        saved_run.read(path, "cpu")
    assert "\n" not in str(caught.value)


def line(**changes):
    values = {name: value for name, value in asdict(RECORD).items() if name != "metrics"}
    return json.dumps({**values, **changes})


BAD_RECORDS = {
    "text": (line(loss="low"), "loss is 'low'; a number is required"),
    "a list": (line(test_loss=[1.0]), r"test_loss is \[1.0\]; a number"),
    "true": (line(seconds=True), "seconds is True; a number"),
    "half a step": (line(step=0.5), "step is 0.5; a whole number"),
    "a step before the first": (line(step=-1), "step is -1"),
    "no step": (line(step=None), "step is None"),
    "a field too many": (line(more=1), r"\['more'\] are unknown"),
    "a field too few": ('{"step": 1}', r"\['epoch', 'learning_rate', 'loss', .* are missing"),
    "no object": ("[1]", r"\[1\] is no JSON object"),
    "nothing": ("", "Expecting value"),
    "nested lists": ("[" * 100_000, "nested too deeply"),
    "nested objects": ('{"a":' * 100_000, "nested too deeply"),
    "a number of many digits": (line(loss=0)[:-1] + ', "loss": ' + "9" * 5000 + "}", "Exceeds the limit"),
    "a number beyond every float": (line(loss=10**400), "loss is a number of 1329 bits; a number"),
    "a control character": (line(loss="\x1b[2J"), r"loss is '\\x1b\[2J'"),
}


@pytest.mark.parametrize(("text", "message"), BAD_RECORDS.values(), ids=BAD_RECORDS)
def test_records_that_are_none(run, text, message):
    (run / run_folder.METRICS).write_text(f"{line()}\n{text}\n")
    refused(run, f"metrics.jsonl is damaged: line 2: .*{message}")


@pytest.mark.parametrize("text", ["[" * 100_000, "3", '{"steps": 1}', '{"steps": "1", "fall": 1, "x": 2}'])
def test_trials_of_a_search_that_are_none(tmp_path, text):
    path = tmp_path / "trials.jsonl"
    Ledger(path, {"a": 1}).add(Trial(0.1, 1.0, 5, None, None))
    path.write_text(path.read_text(encoding="utf-8") + text + "\n")
    with pytest.raises(RunError, match="is damaged in line 3"):
        Ledger(path, {"a": 1})


def test_numbers_that_are_none_are_read_as_nan(run):
    (run / run_folder.METRICS).write_text(line(loss=None) + "\n" + line(loss=float("inf")) + "\n")
    first, second = saved_run.read(run).records
    assert np.isnan(first.loss)
    assert np.isinf(second.loss)


def test_more_records_than_any_run_has(run):
    os.truncate(run / run_folder.METRICS, MAX_RECORDS + 1)
    refused(run, "metrics.jsonl is damaged: .* bytes; at most")


@pytest.mark.parametrize("units", [1 << 14, 1 << 24])
def test_layers_that_claim_more_than_the_file_of_parameters_holds(run, units, monkeypatch):
    def drawn(*_):
        raise AssertionError("parameters were drawn")

    monkeypatch.setattr(fg.Dense, "initial_parameters", drawn)
    hidden = {"type": "dense", "units": units}
    config = RunConfig(layers=(hidden, hidden, {"type": "dense", "units": 3}))
    text = config.to_toml({"input_shape": [5], "classes": 3})
    (run / run_folder.CONFIG).write_text(text)
    refused(run, "shape|this machine has")


BAD_FACTS = {
    "no table": ("run = 3", "run is 3; a table"),
    "a shape of text": ("[run]\ninput_shape = '88'\nclasses = 3", "input_shape is '88'; a list"),
    "a size of text": ("[run]\ninput_shape = ['8']\nclasses = 3", "input_shape is '8'; a whole number"),
    "a real size": ("[run]\ninput_shape = [5.0]\nclasses = 3", "input_shape is 5.0; a whole number"),
    "no sizes": ("[run]\ninput_shape = []\nclasses = 3", r"input_shape is \[\]; a list"),
    "many sizes": (f"[run]\ninput_shape = {[1] * 99}\nclasses = 3", "a list of 1 to 32"),
    "a vast size": (f"[run]\ninput_shape = [{2**63 - 1}]\nclasses = 3", "32.0 EiB an example"),
    "classes of text": ("[run]\ninput_shape = [5]\nclasses = '3'", "classes is '3'; a whole number"),
    "no classes": ("[run]\ninput_shape = [5]\nclasses = 0", "classes is 0; a whole number"),
    "vast classes": (f"[run]\ninput_shape = [5]\nclasses = {2**62}", "classes is 4611686018427387904"),
}


@pytest.mark.parametrize(("text", "message"), BAD_FACTS.values(), ids=BAD_FACTS)
def test_facts_that_are_impossible(run, text, message):
    layers = "layers = [{type = 'dense', units = 3}]\n"
    (run / run_folder.CONFIG).write_text(layers + text)
    refused(run, f"config.toml is damaged: .*{message}")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
@pytest.mark.parametrize("name", FILES)
def test_a_pipe_in_a_run_folder(run, name):
    (run / name).unlink()
    os.mkfifo(run / name)
    refused(run, f"{name} is missing")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
@pytest.mark.parametrize("data", ["/dev/zero", "/dev/stdin", "pipe", "pipe.npz", "folder"])
def test_data_of_a_run_that_is_a_device(fgtrain, folder, run, data):
    os.mkfifo(folder / "pipe")
    os.mkfifo(folder / "pipe.npz")
    (folder / "folder").mkdir()
    text = (run / run_folder.CONFIG).read_text(encoding="utf-8")
    assert 'data = "digits"' in text
    (run / run_folder.CONFIG).write_text(text.replace('data = "digits"', f'data = "{data}"'))
    assert data in fgtrain("evaluate", run).error


def test_what_predict_and_train_are_given_may_be_a_pipe(fgtrain, folder, run):
    os.mkfifo(folder / "pipe")
    os.mkfifo(folder / "pipe.toml")
    assert "pipe: not a regular file" in fgtrain("predict", run, "pipe").error
    assert "pipe: not a regular file" in fgtrain("train", "--config", "pipe").error
    assert "pipe.toml: not a regular file" in fgtrain("train", "--model", "pipe.toml").error


def test_names_of_layers_are_no_paths(run, folder):
    for name in ("../x", "/tmp/x", "a/b", "a.b", "..", "a\x00b"):
        config = RunConfig(layers=({"type": "dense", "units": 3, "name": name},))
        (run / run_folder.CONFIG).write_text(config.to_toml({"input_shape": [5], "classes": 3}))
        refused(run, "letters, digits, _ and - are required")
