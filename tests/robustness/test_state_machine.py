"""Public calls in random order for about a minute, and checks that the state machine detects failures."""

import sys

import pytest

if sys.platform != "linux":
    pytest.skip("pages are made inaccessible by Linux's calls", allow_module_level=True)

import itertools
import signal
import tracemalloc
from functools import partial

import numpy as np

import fgnumba as fg
from tests.apart import python
from tests.state_machine import machine
from tests.state_machine.garbage import CASES, refuses
from tests.state_machine.log import Log, last_sequence
from tests.state_machine.settings import Batch, Made, Recipe
from tests.state_machine.subject import Subject, WrongError

NETWORK = "Network(shape=(4, 3, 2), outputs=3, genes=(('conv', 4, 0), ('layer_norm', 0, 0)))"
RECIPE = (
    f"Recipe(network={NETWORK}, loss=Made('SoftmaxCrossEntropy'), "
    "estimator=Made('WeightPerturbation'), optimizer=Made('Adam'))"
)
BEGIN = f"begin(side='end', shuffled=True, recipe={RECIPE})"
STEP = "step(index=0, batch=Batch(1, 7), times=2)"
FIT = "fit(index=0, data=Data(1, 13), batch_size=4, pieces=[1, 3, 2], epochs=False, every=None)"
KEPT = (
    "fit_kept(index=0, data=Data(1, 13), batch_size=4, steps=6, every=2, stop_at=3, events=None, afresh=True)"
)
SAVE, GO_BACK = "save(index=0)", "go_back()"
FAILING = "fit_failing(index=0, data=Data(1, 13), batch_size=4, at=2, batch=Batch(1, 7))"
BESIDE = "copy_beside(index=0, batch=Batch(1, 7), times=3, way='deepcopy')"
DUPLICATE = "duplicate(index=0, way='deepcopy', drop=False, batch=Batch(2, 3))"


@pytest.fixture(autouse=True)
def surroundings(monkeypatch):
    """Leave what machines of a process share as it was."""
    monkeypatch.setenv("FGNUMBA_THREADS", "1")
    monkeypatch.setattr(machine.Surroundings, "log", Log())


def test_sequences_of_public_calls(tmp_path):
    done = python(
        *("-m", "tests.state_machine", "--examples", "40", "--steps", "20", "--folder", str(tmp_path))
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert " 0 failures" in done.stdout.splitlines()[-1]


def test_a_sequence_that_is_right():
    interrupts = [
        f"interrupt(index=0, call='{call}', events={events}, batch=Batch(1, 7), data=Data(1, 13))"
        for call in ("step", "fit")
        for events in range(0, 120, 40)
    ]
    machine.play([BEGIN, STEP, FIT, KEPT, DUPLICATE, *interrupts, SAVE, STEP, GO_BACK, FAILING, BESIDE])


def count_first(self, x, y, step=fg.Trainer.step):
    self.steps_done += 1
    self.model.checked_input(x)
    self.steps_done -= 1
    return step(self, x, y)


def estimate_and_move(self, x, y, estimate=fg.Trainer.estimate):
    found = estimate(self, x, y)
    self.model.load_parameters({name: array + 1 for name, array in self.model.parameters().items()})
    return found


def forget_a_step(self, dataset, fit=fg.Trainer.fit, **arguments):
    return fit(self, dataset, **{**arguments, "steps": max(1, arguments["steps"] - 1)})


def step_by_another_seed(self, x, y, step=fg.Trainer.step, seeds=itertools.count()):  # noqa: B008
    self.stream.host["key_low"] = next(seeds)
    return step(self, x, y)


@pytest.mark.parametrize(
    ("method", "planted", "lines", "message"),
    [
        ("__deepcopy__", lambda self, memo: self, [BEGIN, DUPLICATE], "steps of a copy moved the original"),
        (
            "estimate",
            estimate_and_move,
            [BEGIN, "ask(index=0, question='estimate', batch=Batch(1, 7))"],
            "changed",
        ),
        ("fit", forget_a_step, [BEGIN, FIT], "callbacks saw 2 of 3 steps"),
        ("step", step_by_another_seed, [BEGIN, STEP], "came to"),
        (
            "step",
            count_first,
            [
                BEGIN,
                *(
                    f"interrupt(index=0, call='step', events={n}, batch=Batch(1, 7), data=Data(1, 5))"
                    for n in range(20)
                ),
            ],
            "interrupted step",
        ),
    ],
)
def test_what_is_planted_is_found(monkeypatch, method, planted, lines, message):
    monkeypatch.setattr(fg.Trainer, method, planted, raising=False)
    with pytest.raises(WrongError, match=message):
        machine.play(lines)


@pytest.mark.parametrize("error", [ValueError("no FgError"), None])
def test_what_is_not_refused_is_found(error):
    def call():
        if error is not None:
            raise error

    with pytest.raises(AssertionError, match=r"instead of an FgError|taken"):
        refuses(call, "planted")


@pytest.mark.parametrize("loss", ["SoftmaxCrossEntropy", "MeanSquaredError"])
def test_garbage_is_refused(loss):
    network = eval(NETWORK, {"Network": machine.Network})
    recipe = Recipe(network, Made(loss), Made("WeightPerturbation"), Made("SGD", (("learning_rate", 0.01),)))
    subject, batch = Subject(recipe, recipe.build()), Batch(1, 7)
    for name, case in CASES.items():
        x, y = batch.x(network.shape), subject.given(batch)[1]
        refuses(partial(case, subject, x, y), name)


BEYOND = """
import sys
from tests.state_machine import child
from fgnumba.model.plan import Plan
run = Plan.run

def run_beyond(self, x, targets=None):
    run(self, x, targets)
    import ctypes
    ctypes.memset(self.output.ctypes.data {where}, 1, 1)

Plan.run = run_beyond
sys.exit(child.main({folder!r}, "play", {path!r}))
"""


@pytest.mark.parametrize(
    ("side", "where", "status", "message"),
    [
        ("end", "+ self.output.base.nbytes + 4096", -signal.SIGSEGV, "Segmentation fault"),
        ("start", "- 1", -signal.SIGSEGV, "Segmentation fault"),
        ("end", "- 1", 1, "GuardError: byte -1 of a buffer"),
    ],
)
def test_a_write_beyond_a_buffer_is_found(tmp_path, side, where, status, message):
    path = tmp_path / "sequence"
    path.write_text("\n".join([BEGIN.replace("'end'", repr(side)), STEP]), encoding="utf-8")
    done = python("-c", BEYOND.format(where=where, folder=str(tmp_path), path=str(path)))
    assert (done.returncode, message in done.stderr) == (status, True), done.stderr
    assert last_sequence(tmp_path / "log")[0].startswith("begin(")


CALLS = {
    "step": lambda trainer, x, y: trainer.step(x, y),
    "estimate": lambda trainer, x, y: trainer.estimate(x, y),
    "predict": lambda trainer, x, y: trainer.model(x),
    "jvp": lambda trainer, x, y: fg.jvp(
        trainer.model, fg.SoftmaxCrossEntropy(), x, y, fg.directions.RankOne(1)
    ),
}


@pytest.mark.parametrize("call", CALLS)
def test_many_batch_sizes_take_bounded_memory(call):
    trainer = fg.Trainer(fg.Sequential([fg.Dense(64), fg.Dense(3)], 64), optimizer=fg.SGD(1e-3))
    x, y = np.ones((400, 64), np.float32), np.arange(400) % 3
    peaks = []
    tracemalloc.start()
    try:
        for sizes in (range(300, 350), range(350, 400)):
            for size in sizes:
                CALLS[call](trainer, x[:size], y[:size])
            peaks.append(tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()
    # Were all kept, the second fifty would take more than the first.
    assert peaks[1] < 2 * peaks[0]
