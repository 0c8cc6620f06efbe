"""Replay: parameters and optimiser state of any step from the log alone, with the same bits; what is refused."""

import hashlib
import itertools
import re
from typing import Any

import numpy as np
import pytest

import fgnumba as fg
from fgnumba.errors import ConfigError, RunError
from fgnumba.estimators import recipe
from fgnumba.kernels.emit import vector
from fgnumba.kernels.machine.threads import thread_count
from fgnumba.layers.parameters import digest
from fgnumba.model.plan import Plan
from fgnumba.storage.durable import AppendLog
from fgnumba.training import replay
from fgnumba.training.replay_log import read

DIRECTIONS = ("rank1", "orthogonal", "rademacher", "gaussian")
COMBINATIONS: dict[str, dict[str, Any]] = {
    "mean": {},
    "projected": {"combine": "projected"},
    "clip": {"clip": 0.3},
    "control": {"control": 0.5},
    "all": {"combine": "projected", "clip": 0.5, "control": 1.5},
}
OPTIMIZERS = {
    "sgd": lambda rate: fg.SGD(rate, decay=0.01),
    "momentum": lambda rate: fg.SGD(rate, momentum=0.9),
    "nesterov": lambda rate: fg.SGD(rate, momentum=0.5, nesterov=True),
    "sgd-decayed-clipped": lambda rate: fg.SGD(rate, weight_decay=0.1, clip_norm=2.0),
    "adam": lambda rate: fg.Adam(rate, clip_norm=3.0),
    "adamw": lambda rate: fg.AdamW(rate, decay=0.02, weight_decay=0.1),
    "frank-wolfe-l2": lambda rate: fg.FrankWolfe(radius=4.0, learning_rate=rate),
    "frank-wolfe-linf": lambda rate: fg.FrankWolfe(radius=0.7, learning_rate=rate, norm="linf"),
}
BATCH, CLASSES, EVERY = 5, 3, 10


def dense():
    return fg.Sequential([fg.Dense(37, activation="tanh"), fg.Dense(CLASSES)], 11, seed=2)


def residual():
    nodes = [
        fg.Node("stem", fg.Conv2d(4, 3, padding="same", activation="relu")),
        fg.Node("norm", fg.GroupNorm(2)),
        fg.Node("body", fg.Conv2d(4, 1, groups=2, activation="tanh")),
        fg.Node("sum", fg.Add(activation="relu"), ("norm", "body")),
        fg.Node("mean", fg.GlobalAveragePool2d()),
        fg.Node("drop", fg.Dropout(0.2)),
        fg.Node("head", fg.Dense(CLASSES)),
    ]
    return fg.Graph(nodes, (4, 3, 2), seed=2)


NETWORKS = (dense, residual)


def trainer_of(network, direction="rank1", directions=1, optimizer="sgd", rate=1e-2, seed=7, **combination):
    estimator = fg.WeightPerturbation(direction, directions, **combination)
    return fg.Trainer(network(), estimator=estimator, optimizer=OPTIMIZERS[optimizer](rate), seed=seed)


def batch(trainer, step):
    rng = np.random.default_rng(step)
    x = rng.standard_normal((BATCH, *trainer.model.input_shape), np.float32)
    return x, rng.integers(0, CLASSES, BATCH)


def state(trainer):
    """Return all that a step reads and leaves, as bytes; the order of creation does not count."""
    parameters = {name: p.packed.tobytes() for name, p in trainer.model.packed_parameters.items()}
    arrays = {name: array.tobytes() for name, array in trainer.state.arrays.items()}
    return trainer.steps_done, trainer.last_rate, parameters, dict(sorted(arrays.items()))


def train(trainer, log, steps, every=EVERY):
    """Take steps, log them, and return the states after every so many."""
    states = {}
    for step in range(trainer.steps_done, trainer.steps_done + steps):
        trainer.step(*batch(trainer, step))
        log.step(step, trainer.last_rate, trainer.bind(BATCH).coefficients())
        if (step + 1) % every == 0:
            states[step + 1] = state(trainer)
    return states


def logged(path, trainer, steps, every=EVERY):
    """Train for so many steps, leave the log at `path`, and return the states."""
    with AppendLog(path) as file:
        log = replay.begin(trainer, file)
        states = train(trainer, log, steps, every)
        log.end_block()
        file.flush()
    return states


def check_every_state(trainer, path, states, every=EVERY):
    found = {done: state(trainer) for done in replay.visits(trainer, read(path), every=every)}
    assert list(found) == list(states)
    for step, expected in states.items():
        for mine, theirs in zip(found[step], expected, strict=True):
            assert mine == theirs, f"step {step}"


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_every_tenth_step_comes_out_bit_for_bit(tmp_path, direction, optimizer):
    settings = itertools.product((1, 2, 5, 16), COMBINATIONS)
    for (directions, name), network in zip(settings, itertools.cycle(NETWORKS), strict=False):
        given = direction, directions, optimizer
        trainer = trainer_of(network, *given, **COMBINATIONS[name])
        path = tmp_path / f"{directions}-{name}.log"
        states = logged(path, trainer, 20)
        check_every_state(trainer_of(network, *given, **COMBINATIONS[name]), path, states)


@pytest.mark.parametrize("optimizer", ["sgd", "momentum", "nesterov", "adam"])
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_gauss_newton_steps_come_out_bit_for_bit(tmp_path, direction, optimizer):
    def newton():
        estimator = fg.SubspaceGaussNewton(direction, 5, damping=2.0, adaptation=0.1)
        return fg.Trainer(dense(), estimator=estimator, optimizer=OPTIMIZERS[optimizer](1e-2), seed=7)

    def without_damping(found):
        # The damping follows from the data, and is not replayed.
        found[3].pop("gauss-newton", None)
        return found

    path = tmp_path / "replay.log"
    states = logged(path, newton(), 20)
    again = newton()
    found = {done: without_damping(state(again)) for done in replay.visits(again, read(path), every=EVERY)}
    assert found == {done: without_damping(expected) for done, expected in states.items()}


@pytest.mark.parametrize("directions", [33, 1024])
def test_many_directions(tmp_path, directions):
    for direction in DIRECTIONS:
        path = tmp_path / f"{direction}.log"
        states = logged(path, trainer_of(dense, direction, directions), 20)
        check_every_state(trainer_of(dense, direction, directions), path, states)


def test_no_pass_is_run_and_no_schedule_is_read(tmp_path, monkeypatch):
    path = tmp_path / "replay.log"
    states = logged(path, trainer_of(dense), 20)

    def refuse(*arguments, **named):
        raise AssertionError("a replay needs no pass")

    fresh = trainer_of(dense, rate=0.5)
    monkeypatch.setattr(Plan, "__init__", refuse)
    monkeypatch.setattr(fg.SGD, "rate", refuse)
    check_every_state(fresh, path, states)


@pytest.mark.parametrize("optimizer", ["sgd", "momentum"])
def test_a_step_of_plain_descent_goes_over_the_parameters_once(optimizer):
    trainer = trainer_of(dense, optimizer=optimizer)
    update = trainer.estimator.update(
        fg.estimators.Setting(
            trainer.model, 1, trainer.loss, trainer.stream, trainer.state, trainer.optimizer, trainer.rates
        )
    )
    assert [op.name for op in update._program.operations] == ["descent"] * len(trainer.model.parameters())


@pytest.mark.parametrize("name", vector.executable())
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_any_instruction_set_takes_the_same_steps_again(tmp_path, direction, name, monkeypatch):
    path = tmp_path / "replay.log"
    given = dense, direction, 5, "adam"
    states = logged(path, trainer_of(*given), 20)
    monkeypatch.setenv(vector.OVERRIDE, name)
    check_every_state(trainer_of(*given), path, states)


@pytest.mark.skipif(thread_count() < 2, reason="this process may use one processor alone")
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("threads", [("1", "2"), ("2", "1")], ids="-".join)
def test_any_number_of_threads_takes_the_same_steps_again(tmp_path, threads, optimizer, monkeypatch):
    def wide():
        return fg.Sequential([fg.Dense(257, activation="relu"), fg.Dense(CLASSES)], 131, seed=2)

    path = tmp_path / "replay.log"
    monkeypatch.setenv("FGNUMBA_THREADS", threads[0])
    states = logged(path, trainer_of(wide, "gaussian", 4, optimizer), 10)
    monkeypatch.setenv("FGNUMBA_THREADS", threads[1])
    check_every_state(trainer_of(wide, "gaussian", 4, optimizer), path, states)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("combination", ["mean", "all"])
def test_training_goes_on_from_a_replayed_step_as_if_nothing_had_happened(tmp_path, optimizer, combination):
    path, given = tmp_path / "replay.log", COMBINATIONS[combination]
    undisturbed = trainer_of(residual, "gaussian", 3, optimizer, **given)
    logged(path, undisturbed, 25)
    again = trainer_of(residual, "gaussian", 3, optimizer, **given)
    replay.replay(again, read(path), 15)
    for step in range(15, 25):
        again.step(*batch(again, step))
    assert state(again) == state(undisturbed)


def test_a_log_and_its_run_go_on_where_they_were_cut_back_to(tmp_path):
    whole, cut = tmp_path / "whole.log", tmp_path / "cut.log"

    def run(path, stops):
        trainer = trainer_of(dense, "rank1", 2, "momentum")
        with AppendLog(path) as file:
            log = replay.begin(trainer, file)
            for stop in stops:
                train(trainer, log, stop - trainer.steps_done)
                log.end_block()
            size = file.size
            # Lost: they are after the last checkpoint.
            if path == cut:
                train(trainer, log, 7)
                log.end_block()
            file.flush()
        return trainer, size

    undisturbed, _ = run(whole, (13, 20))
    _, size = run(cut, (13,))
    resumed = trainer_of(dense, "rank1", 2, "momentum")
    with AppendLog(cut, size) as file:
        replay.replay(resumed, read(cut))
        log = replay.resume(resumed, file)
        train(resumed, log, 7)
        log.end_block()
        file.flush()
    assert cut.read_bytes() == whole.read_bytes()
    assert state(resumed) == state(undisturbed)


@pytest.fixture(scope="module")
def small_log(tmp_path_factory):
    """Return the path of a log of twelve steps of `trainer_of(dense, directions=2)`."""
    path = tmp_path_factory.mktemp("small") / "replay.log"
    logged(path, trainer_of(dense, directions=2), 12)
    return path


def other_weights():
    model = dense()
    model.load_parameters({name: 2 * array for name, array in model.parameters().items()})
    return model


def narrower():
    return fg.Sequential([fg.Dense(36, activation="tanh"), fg.Dense(CLASSES)], 11, seed=2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"directions": 3}, "directions a step 2; here 3"),
        ({"seed": 8}, "seed 7; here 8"),
        ({"direction": "gaussian"}, "its estimator, its optimiser or the shapes"),
        ({"control": 0.1}, "its estimator, its optimiser or the shapes"),
        ({"optimizer": "momentum"}, "its estimator, its optimiser or the shapes"),
        ({"optimizer": "adam"}, "its estimator, its optimiser or the shapes"),
        ({"network": narrower}, "its estimator, its optimiser or the shapes"),
        ({"network": other_weights}, "it began with other parameters"),
    ],
)
def test_another_runs_log_is_refused(small_log, change, message):
    trainer = trainer_of(**{"network": dense, "directions": 2, **change})
    with pytest.raises(ConfigError, match=f"is of another run: {message}") as raised:
        replay.replay(trainer, read(small_log))
    assert "\n" not in str(raised.value)
    assert digest(trainer.model.parameters()) == digest(
        trainer_of(change.get("network", dense)).model.parameters()
    )


def test_numbers_that_are_one_are_one(small_log):
    estimator = fg.WeightPerturbation("rank1", 2, control=0)
    trainer = fg.Trainer(dense(), estimator=estimator, optimizer=fg.SGD(1, momentum=0), seed=7)
    replay.replay(trainer, read(small_log))
    assert trainer.steps_done == 12


def test_steps_that_cannot_be(small_log):
    cases: list[tuple[Any, type[Exception], str]] = [
        (13, RunError, "step 13 is beyond .*: it ends at step 12"),
        (-1, ConfigError, "step is -1; a whole number of at least 0"),
        (1.5, ConfigError, "step is 1.5"),
    ]
    for step, error, message in cases:
        with pytest.raises(error, match=message):
            replay.replay(trainer_of(dense, directions=2), read(small_log), step)
    trainer = trainer_of(dense, directions=2)
    before = state(trainer)
    replay.replay(trainer, read(small_log), 0)
    assert state(trainer) == before
    replay.replay(trainer, read(small_log), 5)
    with pytest.raises(ConfigError, match="the trainer has taken 5 steps; a fresh one is required"):
        replay.replay(trainer, read(small_log))


def test_a_torn_log_is_replayed_up_to_where_it_counts(tmp_path):
    path = tmp_path / "replay.log"
    with AppendLog(path) as file:
        trainer = trainer_of(dense)
        log = replay.begin(trainer, file)
        states = train(trainer, log, 10)
        log.end_block()
        train(trainer, log, 10)
        log.end_block()
        file.flush()
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(RunError, match=r"step 11 is beyond .*is torn.*can be rebuilt up to step 10"):
        replay.replay(trainer_of(dense), read(path), 11)
    check_every_state(trainer_of(dense), path, states)
    with AppendLog(path) as file, pytest.raises(RunError, match="is torn"):
        replay.resume(trainer, file)


def test_a_log_that_does_not_end_where_the_run_stands_is_not_gone_on_with(small_log, tmp_path):
    path = tmp_path / "replay.log"
    path.write_bytes(small_log.read_bytes())
    with AppendLog(path) as file:
        trainer = trainer_of(dense, directions=2)
        with pytest.raises(RunError, match="ends at step 12; the run goes on at step 0"):
            replay.resume(trainer, file)
        with pytest.raises(ConfigError, match="seed 7; here 8"):
            replay.resume(trainer_of(dense, directions=2, seed=8), file)


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_updates_that_are_not_finite_are_refused(tmp_path, optimizer):
    path = tmp_path / "replay.log"
    trainer = trainer_of(dense, optimizer=optimizer)
    with AppendLog(path) as file:
        log = replay.begin(trainer, file)
        log.step(0, 1e30, np.array([0.0, 1e30]))
        log.end_block()
        file.flush()
    with pytest.raises(RunError, match="one of its updates is not finite in float32"):
        replay.replay(trainer_of(dense, optimizer=optimizer), read(path))


@pytest.mark.parametrize("name", ["activity", "feedback", "local-feedback", "spsa"])
def test_other_estimators_say_that_they_cannot_be_taken_again(tmp_path, small_log, name):
    estimator = recipe(name).build(name, None, None)

    def network():
        return fg.Sequential([fg.Dense(8, activation="relu"), fg.Dense(CLASSES)], 11)

    trainer = fg.Trainer(network(), estimator=estimator, optimizer=fg.Adam(1e-3))
    plan = trainer.bind(BATCH)
    assert (plan.replayable, plan.coefficients()) == (False, None)
    message = re.escape(f"estimator {estimator.name!r}: its steps cannot be taken again without data")
    with AppendLog(tmp_path / "log") as file, pytest.raises(ConfigError, match=message):
        replay.begin(trainer, file)
    with pytest.raises(ConfigError, match=message):
        replay.replay(trainer, read(small_log))


def test_a_digest_tells_parameters_apart_and_not_their_order():
    zeros = np.zeros((2, 3), np.float32)
    parameters = {"b": zeros, "a": zeros + 1}
    expected = hashlib.sha256(
        b"a [2, 3]\n" + (zeros + 1).tobytes() + b"b [2, 3]\n" + zeros.tobytes()
    ).hexdigest()
    assert digest(parameters) == digest(dict(reversed(parameters.items()))) == expected
    for other in (
        {"b": zeros + 1, "a": zeros},
        {"b": zeros, "a": (zeros + 1).T},
        {"b": -zeros, "a": zeros + 1},
    ):
        assert digest(other) != expected
