"""Ctrl-C at any moment: parameters, state and count belong to the same step, and training can go on."""

import copy
import gc
import random
import signal
import time

import numpy as np
import pytest

import fgnumba as fg
from fgnumba.bench import reverse
from fgnumba.estimators import recipe
from fgnumba.runs.configuration import RunConfig
from fgnumba.runs.search import Ledger, Search, search
from fgnumba.training import replay_log
from fgnumba.training.callbacks import EarlyStopping
from tests.interrupting import Moments
from tests.training.test_copies import bits

MOMENTS = 60
"""Of those at which a call can be interrupted, so many are tried, chosen at random; all where there are fewer."""


def perceptron():
    return fg.Sequential([fg.Dense(9, activation="relu"), fg.LayerNorm(), fg.Dense(3)], 5, seed=2)


def batch(step, size=6):
    rng = np.random.default_rng(step)
    return rng.standard_normal((size, 5)).astype(np.float32), rng.integers(0, 3, size)


def points(count=40):
    rng = np.random.default_rng(6)
    x, y = rng.standard_normal((count, 5)).astype(np.float32), np.arange(count) % 3
    return fg.datasets.Dataset("points", x, y, x[:9], y[:9], 3)


def trainer_of(name, optimizer):
    return fg.Trainer(perceptron(), estimator=recipe(name).make(), optimizer=optimizer, seed=7)


CASES = {
    "weight-perturbation": lambda: trainer_of("weight-perturbation", fg.SGD(1e-2)),
    "momentum": lambda: trainer_of("orthogonal", fg.SGD(1e-2, momentum=0.9)),
    "adam": lambda: trainer_of("projected", fg.Adam(1e-2)),
    "control-variate": lambda: trainer_of("control-variate", fg.SGD(1e-2, momentum=0.9, nesterov=True)),
    "activity": lambda: trainer_of("activity", fg.SGD(1e-2)),
    "feedback": lambda: trainer_of("activity-layerwise-feedback", fg.Adam(1e-2)),
    "local": lambda: trainer_of("local-feedback", fg.SGD(1e-2)),
    "spsa": lambda: trainer_of("spsa", fg.SGD(1e-2)),
    "hybrid": lambda: trainer_of("hybrid", fg.Adam(1e-2)),
    "frank-wolfe": lambda: trainer_of("weight-perturbation", fg.FrankWolfe(30.0, 1e-2)),
    "measured": lambda: trainer_of("feedback", "auto"),
    "reverse-mode": lambda: fg.Trainer(
        perceptron(), estimator=reverse.ReverseMode(), optimizer=fg.SGD(1e-2), seed=7
    ),
    "reverse-adam": lambda: fg.Trainer(
        perceptron(), estimator=reverse.ReverseMode(), optimizer=fg.Adam(1e-2), seed=7
    ),
}


def moments(work, seed=0):
    """Yield numbers of moments at which `work` can be interrupted."""
    counted = Moments()
    assert not counted(work)
    assert counted.count > 0
    chosen = range(counted.count)
    return sorted(random.Random(seed).sample(chosen, min(len(chosen), MOMENTS)))


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("warm", [True, False])
def test_a_step(name, warm):
    steps, states = 4, []
    trainer = CASES[name]()
    for step in range(steps + 2):
        states.append(bits(trainer))
        if step == 2:
            start = copy.deepcopy(trainer)
        trainer.step(*batch(step))

    def fresh():
        one = copy.deepcopy(start)
        if warm:
            one.plan(6)
        return one

    one = fresh()
    for moment in moments(lambda: one.step(*batch(2))):
        trainer = fresh()
        Moments(moment)(lambda trainer=trainer: trainer.step(*batch(2)))
        done = trainer.steps_done
        assert done in (2, 3)
        assert bits(trainer) == states[done], (moment, done)
        for step in range(done, steps):
            trainer.step(*batch(step))
        assert bits(trainer) == states[steps], moment


@pytest.mark.parametrize("name", CASES)
def test_an_estimate(name):
    trainer = CASES[name]()
    for step in range(2):
        trainer.step(*batch(step))
    before, expected = bits(trainer), trainer.estimate(*batch(9))
    for moment in moments(lambda: trainer.estimate(*batch(9))):
        Moments(moment)(lambda: trainer.estimate(*batch(9)))
        assert bits(trainer) == before, moment
    assert all(np.array_equal(trainer.estimate(*batch(9))[n], array) for n, array in expected.items())
    trainer.step(*batch(2))
    undisturbed = CASES[name]()
    for step in range(3):
        undisturbed.step(*batch(step))
    assert bits(trainer) == bits(undisturbed)


@pytest.mark.parametrize("name", ["weight-perturbation", "momentum", "adam"])
def test_a_step_that_diverges_and_is_taken_back(name):
    trainer = CASES[name]()
    states = [bits(trainer)]
    for step in range(2):
        trainer.step(*batch(step))
        states.append(bits(trainer))
    huge = np.full((6, 5), 3e38, np.float32), batch(0)[1]

    def diverge(one):
        with pytest.raises(fg.DivergenceError):
            one.step(*huge)

    start = copy.deepcopy(trainer)
    taken_back = copy.deepcopy(start)
    diverge(taken_back)
    after = bits(taken_back)
    one = copy.deepcopy(start)
    for moment in moments(lambda: diverge(one)):
        trainer = copy.deepcopy(start)
        Moments(moment)(lambda trainer=trainer: diverge(trainer))
        # Before the step was taken back, or after that.
        assert bits(trainer) in (states[2], after), moment


@pytest.mark.parametrize("restore_best", [False, True])
@pytest.mark.parametrize("name", ["weight-perturbation", "feedback"])
def test_a_run(name, restore_best):
    data = points()

    def run(one, steps=6):
        stopping = EarlyStopping(50, restore_best=restore_best)
        one.fit(data, steps=steps, batch_size=8, validation=0.2, evaluate_every=2, callbacks=[stopping])

    class Kept(fg.Callback):
        def on_start(self, trainer, steps):
            self.trainer, self.states = trainer, {0: bits(trainer)}

        def on_step(self, step, result):
            self.states[step] = bits(self.trainer)

    kept, trainer = Kept(), CASES[name]()
    trainer.fit(data, steps=6, batch_size=8, validation=0.2, callbacks=[kept])
    best = CASES[name]()
    run(best)
    possible = {*map(repr, kept.states.values()), repr(bits(best))}
    for moment in moments(lambda: run(CASES[name]())):
        one = CASES[name]()
        Moments(moment)(lambda one=one: run(one))
        assert repr(bits(one)) in possible, moment
        assert one.steps_done == 6 or repr(bits(one)) == repr(kept.states[one.steps_done])
        if one.steps_done < 6:
            one.fit(data, steps=6 - one.steps_done, batch_size=8, validation=0.2)
            assert bits(one) == kept.states[6]


# Interrupted before the first instruction of what closes them, the logs go with their owner.
@pytest.mark.filterwarnings("ignore:Exception ignored in.*_io.FileIO:pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(("name", "compact"), [("momentum", True), ("momentum", False), ("feedback", False)])
def test_a_run_with_checkpoints(name, compact, tmp_path):
    data = points()

    def run(folder, one=None, resume=False):
        one, saved = one or CASES[name](), fg.Checkpoints(folder, every=2, compact=compact)
        one.fit(
            data,
            steps=7,
            batch_size=8,
            validation=0.2,
            evaluate_every=2,
            checkpoints=saved,
            resume=resume,
            callbacks=[EarlyStopping(50)],
        )
        # A run that is resumed after its last step has that step's loss from no checkpoint. A further step shows
        # that everything on which training depends is there.
        one.step(*batch(9))
        return one

    numbers = iter(range(1000))
    expected = bits(run(tmp_path / "whole"))
    for moment in moments(lambda: run(tmp_path / f"counted {next(numbers)}")):
        folder = tmp_path / str(moment)
        Moments(moment)(lambda folder=folder: run(folder))
        assert bits(run(folder, resume=True)) == expected, moment
        if name == "momentum":
            log = replay_log.read(folder / "replay.log")
            assert (log.steps, log.cut) == (7, ""), moment


def test_a_folder_is_held_no_longer_than_its_run(tmp_path):
    def hold():
        with fg.Checkpoints(tmp_path).held():
            pass

    for moment in moments(hold):
        Moments(moment)(hold)
        # Python may interrupt what gives the lock back before its first instruction: then it goes with its owner, of
        # which the collector need not have heard.
        with fg.Checkpoints(tmp_path).held():
            pass


def test_a_reader_in_the_midst_of_a_step_hides_nothing():
    """A signal's handler may look before the step has run, and another may raise after that."""
    trainer = CASES["adam"]()
    trainer.step(*batch(0))
    plan = trainer.bind(6)
    run, whole = plan.run, copy.deepcopy(trainer)
    whole.step(*batch(1))

    def looked_at(x, y):
        assert trainer.steps_done == 1
        copy.deepcopy(trainer)
        run(x, y)
        raise KeyboardInterrupt

    plan.run = looked_at
    with pytest.raises(KeyboardInterrupt):
        trainer.step(*batch(1))
    assert trainer.steps_done == 2
    assert bits(trainer) == bits(whole)


def test_loaded_parameters():
    model, other = perceptron(), fg.Sequential(perceptron().layers, 5, seed=9).parameters()
    possible = [{name: a.tobytes() for name, a in arrays.items()} for arrays in (model.parameters(), other)]
    for moment in moments(lambda: perceptron().load_parameters(other)):
        one = perceptron()
        Moments(moment)(lambda one=one: one.load_parameters(other))
        found = {name: array.tobytes() for name, array in one.parameters().items()}
        assert found in possible, moment


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="there is no such timer")
@pytest.mark.parametrize("name", ["weight-perturbation", "feedback", "hybrid", "reverse-mode"])
def test_signals_at_a_hundred_moments(name):
    """The real thing: a signal's handler raises wherever the program is."""
    chooser, count = random.Random(3), 600
    states, trainer = {}, CASES[name]()
    begun = time.perf_counter()
    for step in range(count + 1):
        states[step] = hash(repr(bits(trainer)))
        trainer.step(*batch(step % 10))
    seconds = (time.perf_counter() - begun) / count

    class TimeUpError(Exception):
        pass

    armed: list[bool] = []

    def raise_it(number, frame):
        if armed:
            armed.clear()
            raise TimeUpError

    before, interrupts = signal.signal(signal.SIGALRM, raise_it), 0
    # What is raised in a callback of the collector is lost.
    gc.disable()
    try:
        while interrupts < 100:
            one = CASES[name]()
            # The system's timer may be late by some milliseconds, which are many steps.
            while one.steps_done < count and interrupts < 100:
                try:
                    armed.append(True)
                    signal.setitimer(signal.ITIMER_REAL, chooser.uniform(0, 4) * seconds + 1e-5)
                    while one.steps_done < count:
                        one.step(*batch(one.steps_done % 10))
                    armed.clear()
                except TimeUpError:
                    interrupts += 1
                assert hash(repr(bits(one))) == states[one.steps_done]
    finally:
        gc.enable()
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_a_search(tmp_path):
    data, what = points(60), Search(1e-3, 1e-1, count=4, steps=6)
    settings = {"model": "logreg", "estimator": "weight-perturbation", "optimizer": "sgd", "batch_size": 8}
    config = RunConfig().updated(settings)
    expected = search(config, data, what)

    def run(path):
        ledger = Ledger(path, settings)
        return search(config, data, what, ledger.trials, ledger.add)

    for number, moment in enumerate(moments(lambda: run(tmp_path / "counted"))[::6]):
        path = tmp_path / str(number)
        Moments(moment)(lambda path=path: run(path))
        assert run(path) == expected
        assert Ledger(path, settings).trials == sorted(expected, key=lambda t: (t.steps, t.learning_rate))


def test_an_evaluation_and_a_jvp():
    model, (x, y) = perceptron(), batch(0)
    v = fg.directions.RankOne(1)

    def use(model):
        return fg.evaluate(model, x, y), fg.jvp(model, fg.SoftmaxCrossEntropy(), x, y, v)

    expected, parameters = use(model), model.parameters()
    for moment in moments(lambda: use(perceptron())):
        one = perceptron()
        Moments(moment)(lambda one=one: use(one))
        assert use(one) == expected
        assert all(np.array_equal(array, parameters[name]) for name, array in one.parameters().items())
