"""Descents that are stopped or killed and continue: the same bits, and what other descents are told."""

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import fgnumba as fg
from fgnumba.storage import checkpoint_file
from fgnumba.storage.checkpoint_file import CheckpointFile
from tests.minimization.functions import bowl, wavy
from tests.minimization.test_minimize import Follower

STEPS = 24
OPTIMIZERS = {
    "sgd": fg.SGD(0.05, decay=0.01),
    "momentum": fg.SGD(0.02, momentum=0.9),
    "nesterov": fg.SGD(0.02, momentum=0.9, nesterov=True),
    "adam": fg.Adam(0.1),
    "adamw": fg.AdamW(0.1),
    "frank-wolfe": fg.FrankWolfe(3.0, 0.1),
}
START = np.linspace(-1.0, 1.0, 10)


def descend(folder=None, resume=True, f=wavy, x0=START, stop=None, fail=None, **given):
    setting: Any = {
        "estimator": "forward",
        "optimizer": fg.Adam(0.1),
        "steps": STEPS,
        "seed": 3,
        "callbacks": [],
    }
    setting |= {"record_every": 7, **given}
    setting["callbacks"] = [Follower(stop, fail), *setting["callbacks"]]
    if folder is not None:
        setting |= {"checkpoints": fg.Checkpoints(folder, every=5), "resume": resume}
    return fg.minimize(f, x0, **setting)


def without_time(records):
    return [replace(record, seconds=0.0) for record in records]


def same(found, whole):
    assert found.x.tobytes() == whole.x.tobytes()
    assert (found.value, found.steps) == (whole.value, whole.steps)
    assert without_time(found.history.records) == without_time(whole.history.records)


@pytest.mark.parametrize(
    "estimator", ["gradient", "forward", fg.WeightPerturbation("gaussian", directions=3)]
)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_resumed_descent_is_the_undisturbed_one(tmp_path, estimator, optimizer):
    setting = {"estimator": estimator, "optimizer": OPTIMIZERS[optimizer]}
    whole = descend(**setting)
    for stop in (3, 9, 15):
        assert descend(tmp_path, stop=stop, **setting).history.ended_by == "stop"
    same(descend(tmp_path, **setting), whole)
    lines = (tmp_path / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["step"] for line in lines] == [7, 14, 21, 24]
    # It has ended, and ends there again.
    same(descend(tmp_path, **setting), whole)


def test_a_killed_descent_takes_the_steps_since_its_checkpoint_again(tmp_path):
    class Killed(fg.Callback):
        def on_step(self, step, result):
            if step == 18:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        descend(tmp_path, callbacks=[Killed()])
    same(descend(tmp_path), descend())


@pytest.mark.parametrize("stop", [2, 6, 11])
def test_early_stopping_goes_on(tmp_path, stop):
    def stopping():
        setting = {
            "optimizer": fg.SGD(0.4, momentum=0.9),
            "estimator": "gradient",
            "f": bowl,
            "record_every": 1,
        }
        return {
            **setting,
            "callbacks": [fg.callbacks.EarlyStopping(patience=5, restore_best=True)],
            "steps": 200,
        }

    whole = descend(**stopping())
    assert whole.history.ended_early
    descend(tmp_path, stop=stop, **stopping())
    for _ in range(2):
        found = descend(tmp_path, **stopping())
        same(found, whole)
        assert found.history.ended_by == "callback"
        assert found.history.restored_step == whole.history.restored_step


def test_a_damaged_checkpoint_is_passed_over(tmp_path):
    descend(tmp_path, stop=12)
    newest = max((tmp_path / "checkpoints").iterdir())
    content = bytearray(newest.read_bytes())
    content[-3] ^= 1
    newest.write_bytes(content)
    with pytest.warns(
        RuntimeWarning, match="is damaged: its checksum is not that of its content; the one before"
    ):
        found = descend(tmp_path)
    same(found, descend())


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"f": bowl}, "function is 'wavy'; the descent that continues has 'bowl'$"),
        ({"x0": START[1:]}, "variables is 10; the descent that continues has 9$"),
        ({"seed": 4}, "seed is 3; the descent that continues has 4$"),
        ({"estimator": "gradient"}, "estimator is \"WeightPerturbation.*has 'gradient'$"),
        (
            {"optimizer": fg.SGD(0.1)},
            "optimizer is 'Adam .*; the descent that continues has 'SGD momentum=0.0",
        ),
        ({"steps": 8}, "is of step 9; the descent has 8 steps$"),
    ],
)
def test_another_descent_is_refused(tmp_path, given, message):
    descend(tmp_path, stop=9)
    with pytest.raises(fg.RunError, match=message):
        descend(tmp_path, **given)
    with pytest.raises(fg.RunError, match=r"holds another run; resume it, or name another folder$"):
        descend(tmp_path, resume=False)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"minimize": None}, "is no checkpoint of fgnumba.minimize; name the folder of such a descent$"),
        ({"done": -1}, "is of step -1; the descent has 24 steps$"),
        ({"done": True}, "is of step True; "),
        ({"rate": "0.1"}, r"rate, seconds and ended are \['0.1', "),
        ({"ended": 1}, "rate, seconds and ended are "),
        ({"best": [1]}, r"the best record is \[1\], which is impossible$"),
        ({"best": {"step": 5, "value": 0.5}}, r"best is none of shape \(10,\), float64$"),
        ({"callbacks": 3}, "the states of callbacks are 3; "),
    ],
)
def test_impossible_facts_are_refused(tmp_path, changed, message):
    descend(tmp_path, stop=9)
    path = max((tmp_path / "checkpoints").iterdir())
    found = CheckpointFile(path)
    arrays = {name: found.array(name) for name in found.entries}
    checkpoint_file.write(path, {**found.facts, **changed}, arrays)
    with pytest.raises(fg.RunError, match=message):
        descend(tmp_path)


@pytest.mark.parametrize("name", ["x", "moments"])
@pytest.mark.parametrize("change", [lambda a: a[..., 1:], lambda a: a.astype(np.float32), None])
def test_other_arrays_are_refused(tmp_path, name, change):
    descend(tmp_path, stop=9)
    path = max((tmp_path / "checkpoints").iterdir())
    found = CheckpointFile(path)
    arrays = {one: found.array(one) for one in found.entries}
    if change is None:
        del arrays[name]
    else:
        arrays[name] = np.ascontiguousarray(change(arrays[name]))
    checkpoint_file.write(path, found.facts, arrays)
    with pytest.raises(fg.RunError, match=rf"{name} is none of shape \(.*10,?\), float64$"):
        descend(tmp_path)


def test_a_trainers_folder_is_refused_and_the_other_way_round(tmp_path):
    descend(tmp_path, stop=9)
    model = fg.Sequential([fg.Dense(2)], 3, device="cpu")
    trainer = fg.Trainer(model, optimizer=fg.SGD(0.1))
    x, y = np.zeros((8, 3), np.float32), np.arange(8) % 2
    with pytest.raises(fg.RunError, match="checkpoints"):
        trainer.fit(x, y, steps=20, batch_size=4, checkpoints=fg.Checkpoints(tmp_path), resume=True)
    other = tmp_path / "other"
    trainer.fit(x, y, steps=4, batch_size=4, checkpoints=fg.Checkpoints(other))
    with pytest.raises(fg.RunError, match=r"is no checkpoint of fgnumba\.minimize"):
        descend(other)


def test_compact_checkpoints_are_refused(tmp_path):
    with pytest.raises(
        fg.ConfigError, match=r"^checkpoints are compact; those of minimize hold x: compact=False"
    ):
        fg.minimize(bowl, START, checkpoints=fg.Checkpoints(tmp_path, compact=True))


def test_a_descent_that_diverges_goes_on_with_a_smaller_rate(tmp_path):
    setting = {"optimizer": fg.SGD(9.0), "estimator": "gradient", "f": bowl, "steps": 400}
    with pytest.raises(fg.DivergenceError, match=r"f\(x\) is (inf|nan) at learning rate 9; "):
        descend(tmp_path, **setting)
    with pytest.raises(fg.DivergenceError):
        descend(tmp_path, **setting)
