"""Checkpoints: a resumed run has the bits of an uninterrupted one, and damaged data are never used."""

import hashlib
import json
import shutil
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file

import fgnumba as fg
from fgnumba.errors import ConfigError, RunError
from fgnumba.storage import checkpoint_file
from fgnumba.storage.checkpoint_file import CheckpointFile
from fgnumba.training.state import snapshot
from tests.recipes import GENERAL

STEPS, EVERY, RECORDS = 24, 5, 7
OPTIMIZERS = {
    "sgd": lambda: fg.SGD(1e-3, decay=1e-2),
    "momentum": lambda: fg.SGD(1e-3, momentum=0.9),
    "nesterov": lambda: fg.SGD(1e-3, momentum=0.5, nesterov=True, weight_decay=1e-3, clip_norm=1.0),
    "adam": lambda: fg.Adam(fg.schedules.Cosine(1e-2, STEPS)),
    "adamw": lambda: fg.AdamW(1e-2),
    "frank-wolfe": lambda: fg.FrankWolfe(radius=20.0, learning_rate=1e-2),
}


@pytest.fixture(scope="module")
def blobs():
    rng = np.random.default_rng(0)
    y = np.arange(80) % 3
    x = (rng.standard_normal((80, 6, 6, 1)) + y[:, None, None, None]).astype(np.float32)
    return fg.datasets.Dataset("blobs", x[:61], y[:61], x[61:], y[61:], 3)


def dense():
    layers = [fg.Flatten(), fg.Dense(11, activation="relu"), fg.Dropout(0.2), fg.Dense(3)]
    return fg.Sequential(layers, (6, 6, 1), seed=3)


def residual():
    nodes = [
        fg.Node("stem", fg.Conv2d(5, 3, padding="same", activation="relu")),
        fg.Node("body", fg.Conv2d(5, 3, padding="same")),
        fg.Node("sum", fg.Add(activation="relu"), ("stem", "body")),
        fg.Node("mean", fg.GlobalAveragePool2d()),
        fg.Node("head", fg.Dense(3)),
    ]
    return fg.Graph(nodes, (6, 6, 1), seed=3)


def trainer(estimator="weight-perturbation", optimizer="sgd", model=dense, seed=5):
    built = GENERAL[estimator].build(estimator, None, None)
    return fg.Trainer(model(), estimator=built, optimizer=OPTIMIZERS[optimizer](), seed=seed)


class Stop(fg.Callback):
    """Stops a run after some steps."""

    def __init__(self, *steps):
        self.steps = steps

    def on_start(self, trainer, steps):
        self.trainer = trainer

    def on_step(self, step, result):
        if step in self.steps:
            self.trainer.stop()


def fit(one, data, folder=None, resume=False, stop=(), **options):
    saved = None if folder is None else fg.Checkpoints(folder, every=EVERY, **options)
    return one.fit(
        data,
        steps=STEPS,
        batch_size=16,
        evaluate_every=RECORDS,
        callbacks=[Stop(*stop)],
        checkpoints=saved,
        resume=resume,
    )


def bits(one):
    """Return all that decides the steps to come, as bytes."""
    facts, arrays = snapshot(one)
    return facts, {name: array.tobytes() for name, array in arrays.items()}


def without_time(records):
    return [replace(record, seconds=0.0) for record in records]


def steps_on_disk(folder):
    return [int(path.stem.removeprefix("step-")) for path in sorted((folder / "checkpoints").iterdir())]


COMBINATIONS = [
    *((name, "adam", dense) for name in GENERAL),
    *(("feedback", name, dense) for name in OPTIMIZERS),
    *(("weight-perturbation", name, dense) for name in OPTIMIZERS),
    *((name, "sgd", residual) for name in ("weight-perturbation", "local-feedback", "control-variate")),
    *(("subspace-gauss-newton", name, dense) for name in ("sgd", "momentum")),
]


@pytest.mark.parametrize(("estimator", "optimizer", "model"), COMBINATIONS)
def test_a_resumed_run_is_the_undisturbed_one(tmp_path, blobs, estimator, optimizer, model):
    whole = trainer(estimator, optimizer, model)
    history = fit(whole, blobs)
    for stop in (9, 15, 22):
        assert fit(trainer(estimator, optimizer, model), blobs, tmp_path, True, (stop,)).stopped
        assert steps_on_disk(tmp_path)[-1] == stop
    last = trainer(estimator, optimizer, model)
    resumed = fit(last, blobs, tmp_path, True)
    assert not resumed.stopped
    assert bits(last) == bits(whole)
    assert without_time(resumed.records) == without_time(history.records)
    lines = [
        json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    assert [line["step"] for line in lines] == [7, 14, 21, 24]
    assert [fg.Record(**line) for line in lines] == resumed.records


@pytest.mark.parametrize("estimator", ["weight-perturbation", "projected", "control-variate"])
@pytest.mark.parametrize("optimizer", ["sgd", "momentum", "adam"])
def test_compact_checkpoints_hold_no_arrays_and_do_the_same(tmp_path, blobs, estimator, optimizer):
    whole = trainer(estimator, optimizer)
    history = fit(whole, blobs)
    for stop in (9, 15, 22):
        fit(trainer(estimator, optimizer), blobs, tmp_path, True, (stop,), compact=True)
        assert all(path.stat().st_size < 1200 for path in (tmp_path / "checkpoints").iterdir())
    last = trainer(estimator, optimizer)
    resumed = fit(last, blobs, tmp_path, True, compact=True)
    assert bits(last)[1] == bits(whole)[1]
    assert without_time(resumed.records) == without_time(history.records)


def test_compact_checkpoints_need_a_run_that_can_be_replayed(tmp_path, blobs):
    with pytest.raises(ConfigError, match="one of estimator 'activity' after 0 steps on cpu cannot"):
        fit(trainer("activity"), blobs, tmp_path, compact=True)
    with pytest.raises(ConfigError, match="what estimator 'subspace-gauss-newton' learns from the data"):
        fit(trainer("subspace-gauss-newton"), blobs, tmp_path, compact=True)
    started = trainer()
    fit(started, blobs)
    with pytest.raises(ConfigError, match="after 24 steps on cpu cannot"):
        fit(started, blobs, tmp_path, compact=True)


def test_what_is_kept_and_when(tmp_path, blobs):
    saved = fg.Checkpoints(tmp_path, every=EVERY, keep=3)
    trainer().fit(blobs, steps=STEPS, batch_size=16, checkpoints=saved)
    assert steps_on_disk(tmp_path) == [15, 20, 24]
    assert saved.written == 5
    assert saved.saved_step == STEPS
    assert saved.seconds > 0


def test_checkpoints_by_the_clock(tmp_path, blobs, monkeypatch):
    now = iter(range(0, 10_000, 30))
    monkeypatch.setattr("fgnumba.training.checkpoints.time.monotonic", lambda: next(now))
    saved = fg.Checkpoints(tmp_path, minutes=2, keep=99)
    trainer().fit(blobs, steps=STEPS, batch_size=16, checkpoints=saved)
    # Every look at the clock is half a minute later, and writing looks once.
    assert steps_on_disk(tmp_path) == [4, 8, 12, 16, 20, 24]


def test_only_the_last_step_without_a_period(tmp_path, blobs):
    trainer().fit(blobs, steps=STEPS, batch_size=16, checkpoints=fg.Checkpoints(tmp_path, minutes=None))
    assert steps_on_disk(tmp_path) == [STEPS]


def test_a_checkpoint_is_a_safetensors_file(tmp_path, blobs):
    one = trainer("feedback", "adam")
    fit(one, blobs, tmp_path)
    path = tmp_path / "checkpoints" / "step-000000000024.safetensors"
    facts, arrays = snapshot(one)
    assert CheckpointFile(path).facts["trainer"] == facts
    for name, array in load_file(path).items():
        np.testing.assert_array_equal(array, arrays[name], strict=True)


def test_a_finished_run_resumed_takes_no_step(tmp_path, blobs):
    first, second = trainer(), trainer()
    history = fit(first, blobs, tmp_path)
    assert fit(second, blobs, tmp_path, True).records == history.records
    assert bits(first) == bits(second)


def test_without_a_checkpoint_a_run_begins_at_its_start(tmp_path, blobs):
    whole, resumed = trainer(), trainer()
    fit(whole, blobs)
    (tmp_path / "metrics.jsonl").write_text("of a run that was killed before its first checkpoint\n")
    (tmp_path / "replay.log").write_text("the same")
    history = fit(resumed, blobs, tmp_path, True)
    assert bits(resumed) == bits(whole)
    assert [record.step for record in history.records] == [7, 14, 21, 24]


def damages(path):
    content = path.read_bytes()
    yield b""
    yield content[:-1]
    yield content[: len(content) // 2]
    yield content + b"\0"
    for at in (0, 9, 30, 100, len(content) // 2, len(content) - 1):
        yield content[:at] + bytes([content[at] ^ 4]) + content[at + 1 :]


def test_a_damaged_checkpoint_is_named_and_the_one_before_is_used(tmp_path, blobs):
    whole = trainer("feedback", "adam")
    fit(whole, blobs)
    fit(trainer("feedback", "adam"), blobs, tmp_path / "run", stop=(18,))
    assert steps_on_disk(tmp_path / "run") == [15, 18]
    for number, damaged in enumerate(damages(tmp_path / "run/checkpoints/step-000000000018.safetensors")):
        folder = shutil.copytree(tmp_path / "run", tmp_path / str(number))
        (folder / "checkpoints/step-000000000018.safetensors").write_bytes(damaged)
        resumed = trainer("feedback", "adam")
        said: list[str] = []
        fit(resumed, blobs, folder, True, warn=said.append)
        assert bits(resumed) == bits(whole)
        (message,) = said
        assert "step-000000000018.safetensors is damaged: " in message
        assert message.endswith("; the one before it is used")


def test_no_whole_checkpoint_is_an_error(tmp_path, blobs):
    fit(trainer(), blobs, tmp_path, stop=(18,))
    for path in (tmp_path / "checkpoints").iterdir():
        path.write_bytes(path.read_bytes()[:-1])
    with pytest.warns(RuntimeWarning), pytest.raises(RunError, match="checkpoints: no checkpoint is whole"):
        fit(trainer(), blobs, tmp_path, True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda text: text.replace('"step": 7', '"step": "7"'),
            r"line 1: step is '7'; a whole number.*step 0 ",
        ),
        (lambda text: text[: text.index("\n") + 9], r"line 2: it breaks off.* after step 7 "),
        (lambda text: "", r"line 1: it breaks off.* after step 0 "),
    ],
)
def test_lost_records_do_not_stand_in_the_way(tmp_path, blobs, change, message):
    whole, resumed = trainer(), trainer()
    fit(whole, blobs)
    fit(trainer(), blobs, tmp_path, stop=(18,))
    path = tmp_path / "metrics.jsonl"
    path.write_text(change(path.read_text(encoding="utf-8")))
    with pytest.warns(RuntimeWarning, match=message):
        fit(resumed, blobs, tmp_path, True)
    assert bits(resumed) == bits(whole)
    steps = [json.loads(line)["step"] for line in path.read_text(encoding="utf-8").splitlines()]
    assert steps in ([21, 24], [7, 21, 24])


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (lambda: trainer(seed=6), "seed is 5; the trainer that continues has 6"),
        (lambda: trainer("spsa"), r"estimator is \"WeightPerturbation\(.* has \"SPSA\("),
        (lambda: trainer(optimizer="adam"), "optimizer is 'SGD .* has 'Adam "),
        (
            lambda: trainer(optimizer="momentum"),
            r"optimizer is 'SGD momentum=0.0 .* has 'SGD momentum=0.9 ",
        ),
        (lambda: trainer(model=residual), r"model.stem.weight has shape None"),
    ],
)
def test_another_trainer_is_refused(tmp_path, blobs, other, message):
    fit(trainer(), blobs, tmp_path, stop=(18,))
    one = other()
    before = one.model.parameters()
    with pytest.raises(RunError, match=message):
        fit(one, blobs, tmp_path, True)
    for name, array in one.model.parameters().items():
        np.testing.assert_array_equal(array, before[name])
    assert one.steps_done == 0


def test_another_run_is_refused(tmp_path, blobs):
    fit(trainer(), blobs, tmp_path, stop=(18,))
    with pytest.raises(RunError, match="holds another run; resume it, or name another folder"):
        fit(trainer(), blobs, tmp_path)
    saved = fg.Checkpoints(tmp_path)
    with pytest.raises(RunError, match="batch_size is 16; the run that continues has 17"):
        trainer().fit(blobs, steps=STEPS, batch_size=17, checkpoints=saved, resume=True)
    with pytest.raises(RunError, match="its checkpoint is of step 18; the run has 17 steps"):
        trainer().fit(blobs, steps=17, batch_size=16, checkpoints=saved, resume=True)
    other = replace(blobs, x_train=blobs.x_train + np.float32(1))
    changed = r"data is '[0-9a-f]{64}'; the run that continues has '[0-9a-f]{64}'; the data have changed"
    with pytest.raises(RunError, match=changed):
        trainer().fit(other, steps=STEPS, batch_size=16, checkpoints=saved, resume=True)
    with pytest.raises(ConfigError, match="the folder to resume from is required"):
        trainer().fit(blobs, steps=STEPS, resume=True)


def test_one_run_at_a_time(tmp_path, blobs):
    held = fg.Checkpoints(tmp_path)
    with held.held(), pytest.raises(RunError, match="another process trains in this folder"):
        fit(trainer(), blobs, tmp_path)
    fit(trainer(), blobs, tmp_path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"every": 0}, "every is 0"),
        ({"every": 2.5}, "every is 2.5"),
        ({"minutes": 0}, "minutes is 0"),
        ({"minutes": float("nan")}, "minutes is nan"),
        ({"keep": 0}, "keep is 0"),
    ],
)
def test_settings_that_cannot_be(tmp_path, options, message):
    with pytest.raises(ConfigError, match=message):
        fg.Checkpoints(tmp_path, **options)


@settings(max_examples=300)
@given(data=st.data())
def test_a_file_is_whole_or_refused(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("file") / "step-000000000001.safetensors"
    arrays: dict[str, Any] = {"a": np.arange(7, dtype=np.float32), "b": np.ones((2, 3))}
    checkpoint_file.write(path, {"done": 1}, arrays)
    content = bytearray(path.read_bytes())
    whole = bytes(content)
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(content) - 1))
        kind = data.draw(st.sampled_from(["flip", "cut", "insert", "drop"]))
        if kind == "flip":
            content[at] ^= data.draw(st.integers(1, 255))
        elif kind == "cut" and at:
            del content[at:]
        elif kind == "insert":
            content[at:at] = data.draw(st.binary(min_size=1, max_size=20))
        elif len(content) > 1:
            del content[at]
    path.write_bytes(content)
    if bytes(content) == whole:
        return
    with pytest.raises(RunError, match="is damaged: ") as caught:
        CheckpointFile(path)
    assert "\n" not in str(caught.value)


def test_a_header_that_claims_a_terabyte(tmp_path):
    path = tmp_path / "step-000000000001.safetensors"
    path.write_bytes((1 << 40).to_bytes(8, "little") + b"{}")
    with pytest.raises(RunError, match="it claims a header of 1099511627776 bytes; 2 are there"):
        CheckpointFile(path)
    header = b'{"__metadata__":{"sha256":"%s","facts":"{}"},"a":{"dtype":"F32","shape":[%d],"data_offsets":[0,%d]}}'
    text = header % (b"0" * 64, 1 << 38, 1 << 40)
    path.write_bytes(len(text).to_bytes(8, "little") + text)
    with pytest.raises(RunError, match=f"its tensors have {1 << 40} bytes; 0 are there"):
        CheckpointFile(path)


@pytest.mark.parametrize("facts", ["[" * 100_000, "[]", '{"a": 1', "null", "1" * 100_000])
def test_facts_that_are_none(tmp_path, facts):
    path = tmp_path / "step-000000000001.safetensors"
    zeros = "0" * 64
    metadata = {"sha256": zeros, "facts": facts}
    text = json.dumps({"__metadata__": metadata}, separators=(",", ":")).encode()
    content = len(text).to_bytes(8, "little") + text
    path.write_bytes(content.replace(zeros.encode(), hashlib.sha256(content).hexdigest().encode()))
    with pytest.raises(RunError, match="is damaged: "):
        CheckpointFile(path)
