"""Descents of functions: forms of variables, optimisers, callbacks, and what is refused."""

import copy
import csv
import math
from typing import Any

import numpy as np
import pytest

import fgnumba as fg
from fgnumba.minimization.updates import Update
from tests import tolerances_minimization
from tests.minimization.functions import (
    Line,
    bowl,
    logarithm,
    of_a_line,
    of_a_matrix,
    of_a_number,
    of_a_pair,
    of_many,
    root,
)
from tests.training.test_optimizers import CASES, RATES


@pytest.mark.parametrize(
    "estimator", ["gradient", "forward", fg.WeightPerturbation("gaussian", directions=2)]
)
def test_a_minimum_is_found(estimator):
    found = fg.minimize(bowl, np.ones(6), estimator=estimator)
    tolerances_minimization.REACHED.check(found.x, 0.1 * np.arange(6))
    assert found.value == bowl(found.x)
    assert (found.steps, found.history.ended_by) == (1000, "steps")


@pytest.mark.parametrize("function", [fg.functions.beale, fg.functions.rosenbrock])
def test_the_test_functions_are_descended_on(function):
    found = fg.minimize(function, [0.0, 0.5], steps=3000)
    tolerances_minimization.REACHED.check(found.x, function.minimum)
    with pytest.raises(fg.ShapeError, match=r"^theta has shape"):
        fg.minimize(function, np.zeros((2, 2)))


@pytest.mark.parametrize(
    ("f", "x0", "minimum"),
    [
        (of_a_number, 1, 3.0),
        (of_a_number, np.float32(1), 3.0),
        (of_a_matrix, np.zeros((2, 3), np.float32), np.full((2, 3), 2.0, np.float32)),
        (of_a_matrix, [[0, 1], [1, 0]], np.full((2, 2), 2.0)),
        (of_a_matrix, np.asfortranarray(np.zeros((2, 3)))[:, ::2], np.full((2, 2), 2.0)),
        (of_a_pair, (0.0, np.zeros(3)), (1.0, np.full(3, -2.0))),
        (of_a_pair, (np.array(0), np.zeros(3, np.float32)), (1.0, np.full(3, -2.0, np.float32))),
        (of_a_line, Line(0.0, np.zeros(3)), Line(1.0, np.full(3, -2.0))),
    ],
    ids=str,
)
def test_variables_keep_their_form(f, x0, minimum):
    before = copy.deepcopy(x0)
    found = fg.minimize(f, x0, steps=400).x
    same(found, minimum)
    for one, other in zip(parts(x0), parts(before), strict=True):
        np.testing.assert_array_equal(one, other)


def parts(x):
    return list(x) if isinstance(x, tuple) else [x]


def same(found, minimum):
    assert type(found) is type(minimum)
    if isinstance(minimum, tuple):
        for one, other in zip(found, minimum, strict=True):
            same(one, other)
        return
    if isinstance(minimum, np.ndarray):
        assert (found.dtype, found.shape) == (minimum.dtype, minimum.shape)
    tolerances_minimization.REACHED.check(found, minimum)


@pytest.mark.parametrize("case", CASES)
def test_steps_are_those_of_the_optimisers_formulas(case):
    optimizer, expected = copy.deepcopy(CASES[case])
    rng = np.random.default_rng(0)
    x = rng.standard_normal(37)
    flat, update = x.copy(), Update(optimizer, 37)
    for number in range(12):
        g = rng.standard_normal(37)
        flat = expected.step(flat, g, RATES[0] * math.exp(-number * RATES[1]), number)
        update.step(x, g, number)
        tolerances_minimization.STEPS.check(x, flat)


@pytest.mark.parametrize(
    ("optimizer", "rate"),
    [
        ("sgd", 0.1),
        ("adam", fg.schedules.Cosine(0.1, 300)),
        (fg.SGD(0.05, momentum=0.5), None),
        ("adamw", 0.01),
    ],
    ids=str,
)
def test_optimisers_and_learning_rates(optimizer, rate):
    found = fg.minimize(bowl, np.ones(3), steps=300, optimizer=optimizer, learning_rate=rate)
    assert found.value < 1e-2 * bowl(np.ones(3))
    one = optimizer if isinstance(optimizer, fg.SGD) else {"sgd": fg.SGD}.get(optimizer, fg.Adam)(rate)
    assert found.history.final.learning_rate == one.rate(299)


def test_records_are_values_after_their_steps():
    found = fg.minimize(bowl, np.ones(3), steps=7, record_every=3)
    assert [record.step for record in found.history.records] == [3, 6, 7]
    for record in found.history.records:
        assert (
            record.loss
            == fg.minimize(bowl, np.ones(3), steps=7, record_every=record.step).history.records[0].loss
        )
    assert found.history.final.loss == found.value
    assert len(fg.minimize(bowl, np.ones(3), steps=250).history.records) == 125


def test_the_same_seed_gives_the_same_bits():
    runs = [fg.minimize(bowl, np.ones(9), estimator="forward", steps=20, seed=seed).x for seed in (1, 1, 2)]
    np.testing.assert_array_equal(runs[0], runs[1])
    assert (runs[0] != runs[2]).any()


def test_a_descent_that_leaves_the_domain_keeps_the_last_good_point():
    with pytest.raises(fg.DivergenceError) as caught:
        fg.minimize(logarithm, [1.0, 1.0], optimizer="sgd", learning_rate=0.4, steps=50)
    error = caught.value
    assert "\n" not in str(error)
    reached = error.reached
    assert str(error).startswith(f"step {reached.steps + 1}: f(x) is nan at learning rate 0.4; x after step ")
    assert str(error).endswith("is kept as the error's `reached`; try a learning rate of 0.04 or less")
    assert (reached.value, reached.history.ended_by) == (logarithm(reached.x), "divergence")
    assert math.isfinite(reached.value)
    again = fg.minimize(logarithm, [1.0, 1.0], optimizer="sgd", learning_rate=0.4, steps=reached.steps)
    np.testing.assert_array_equal(again.x, reached.x)


@pytest.mark.parametrize(
    ("f", "x0", "message"),
    [
        (logarithm, [-1.0, 1.0], r"^step 0: f\(x\) is nan at the starting point x0$"),
        (root, [0.0, 1.0], r"^step 0: f\(x\) is 1, but a derivative is not finite at the starting point x0$"),
    ],
)
def test_a_start_that_is_not_finite_is_told(f, x0, message):
    with pytest.raises(fg.DivergenceError, match=message) as caught:
        fg.minimize(f, x0)
    assert caught.value.reached is None


class Follower(fg.Callback):
    """Notes what it is told, and stops or raises at a step."""

    def __init__(self, stop=None, fail=None):
        self.stop, self.fail, self.told = stop, fail, []

    def on_start(self, trainer, steps):
        self.descent = trainer
        self.told.append(("start", steps))

    def on_step(self, step, result):
        self.told.append((step, result.loss, self.descent.x.tolist(), self.descent.steps_done))
        if step == self.stop:
            self.descent.stop()
        if step == self.fail:
            raise RuntimeError("no more")

    def on_end(self, history):
        self.told.append(("end", history.ended_by))


def test_callbacks_follow_a_descent():
    follower = Follower()
    found = fg.minimize(bowl, np.ones(2), steps=3, callbacks=[follower])
    start, *steps, end = follower.told
    assert (start, end) == (("start", 3), ("end", "steps"))
    assert [(step, done) for step, _, _, done in steps] == [(1, 1), (2, 2), (3, 3)]
    assert steps[0][1] == bowl(np.ones(2))
    assert steps[1][1] == bowl(np.array(steps[0][2]))
    assert steps[2][2] == found.x.tolist()


def test_a_callback_stops_or_fails():
    follower = Follower(stop=4)
    found = fg.minimize(bowl, np.ones(2), steps=9, callbacks=[follower])
    assert (found.steps, found.history.ended_by, found.history.stopped) == (4, "stop", True)
    assert found.value == bowl(found.x)
    follower = Follower(fail=4)
    with pytest.raises(RuntimeError, match="no more"):
        fg.minimize(bowl, np.ones(2), steps=9, callbacks=[follower])
    assert follower.told[-1] == ("end", "error")


def test_early_stopping_watches_the_value_and_restores_the_best():
    # With so large a rate the value rises after a while.
    setting: Any = {"steps": 200, "record_every": 1, "optimizer": fg.SGD(0.4, momentum=0.9)}
    stopping = fg.callbacks.EarlyStopping(patience=5, restore_best=True)
    found = fg.minimize(bowl, np.ones(3), callbacks=[stopping], **setting)
    values = [record.loss for record in found.history.records]
    assert stopping.monitor == "loss"
    assert (found.history.ended_by, found.history.ended_early) == ("callback", True)
    assert found.history.restored_step == found.steps == stopping.best_step == len(values) - 5
    assert found.value == min(values) == bowl(found.x)
    again = fg.callbacks.EarlyStopping(patience=5)
    last = fg.minimize(bowl, np.ones(3), callbacks=[again], **setting)
    assert (last.steps, last.value) == (len(values), values[-1])


def test_a_descent_is_logged(tmp_path):
    logger = fg.callbacks.CSVLogger(tmp_path / "log.csv")
    found = fg.minimize(bowl, np.ones(3), steps=6, record_every=2, callbacks=[logger])
    rows = list(csv.DictReader((tmp_path / "log.csv").read_text(encoding="utf-8").splitlines()))
    assert [int(row["step"]) for row in rows] == [2, 4, 6]
    assert float(rows[-1]["loss"]) == found.value
    settings = logger.settings_path.read_text(encoding="utf-8")
    assert '"function": "bowl"' in settings
    assert '"variables": 3' in settings


def test_the_result_shows_itself():
    pytest.importorskip("pandas")
    from matplotlib import pyplot

    found = fg.minimize(bowl, np.ones(3), steps=5)
    assert "history" not in repr(found)
    assert list(found.history.to_frame()["loss"]) == [record.loss for record in found.history.records]
    figure, own = pyplot.subplots()
    assert found.plot(own) is own
    assert (own.get_xlabel(), own.get_ylabel(), own.get_yscale()) == ("step", "f(x)", "log")
    other = found.plot()
    assert other.figure is not figure
    pyplot.close("all")
    with pytest.raises(fg.ConfigError, match=r"^ax is 3; axes of matplotlib are required$"):
        found.plot(3)  # type: ignore[arg-type]


@fg.differentiable
def unknown(x):
    return missing(x)  # type: ignore[name-defined] # noqa: F821


@fg.differentiable
def decomposed(x):
    return np.linalg.svd(x)[1][0]


class Own(fg.SGD):
    def bind(self, *arguments):
        return []


@pytest.mark.parametrize(
    ("f", "x0", "given", "error", "message"),
    [
        (3, [1.0], {}, fg.ConfigError, "^f is 3; a function of x that returns a number is required$"),
        (
            lambda x, y: x * y,
            (1.0, 2.0),
            {},
            fg.ConfigError,
            "^f cannot be called with one argument, x: missing a required argument: 'y'; a tuple x0 is one argument",
        ),
        (unknown, 1.0, {}, fg.DifferentiationError, "^unknown .*: Numba cannot compile it for x0: .*missing"),
        (
            decomposed,
            np.eye(2),
            {},
            fg.DifferentiationError,
            r"^decomposed: numpy\.linalg\.svd has no derivative",
        ),
        (
            bowl,
            {"a": 1.0},
            {},
            fg.DtypeError,
            "^x0 is a dict; a number, an array or a tuple of these is required$",
        ),
        (bowl, "ab", {}, fg.DtypeError, "^x0 is a str; "),
        (bowl, None, {}, fg.DtypeError, "^x0 is a NoneType; "),
        (bowl, [1j], {}, fg.DtypeError, "^x0 is complex128; real numbers are required$"),
        (bowl, [True], {}, fg.DtypeError, "^x0 is bool; real numbers are required$"),
        (of_a_pair, (1.0, ["a"]), {}, fg.DtypeError, r"^x0\[1\] is <U1; real numbers are required$"),
        (bowl, [[1.0], [1.0, 2.0]], {}, fg.ShapeError, "^x0 is ragged"),
        (bowl, [], {}, fg.ShapeError, "^x0 has no elements; "),
        (bowl, [1.0, math.nan], {}, fg.ConfigError, r"^x0\[1\] is nan; finite numbers are required$"),
        (of_a_number, math.inf, {}, fg.ConfigError, "^x0 is inf; finite numbers are required$"),
        (
            of_many,
            [1.0, 2.0],
            {},
            fg.ShapeError,
            r"^f returns an array of shape \(2,\); minimize needs a number$",
        ),
        (
            bowl,
            [1.0],
            {"optimizer": "sgd"},
            fg.ConfigError,
            "^optimizer is 'sgd', which needs a learning_rate$",
        ),
        (
            bowl,
            [1.0],
            {"optimizer": "adan"},
            fg.ConfigError,
            r"^optimizer is 'adan' \(did you mean 'adam'\?\); ",
        ),
        (bowl, [1.0], {"optimizer": 2}, fg.ConfigError, "^optimizer is 2; an optimizer such as fgnumba.Adam"),
        (
            bowl,
            [1.0],
            {"optimizer": fg.SGD(0.1), "learning_rate": 0.1},
            fg.ConfigError,
            "^learning_rate is given beside an optimizer, which has its own; give one of the two$",
        ),
        (
            bowl,
            [1.0],
            {"optimizer": Own(0.1)},
            fg.ConfigError,
            "^optimizer: Own binds kernels of its own; SGD, ",
        ),
        (bowl, [1.0], {"learning_rate": 0}, fg.ConfigError, "^learning_rate is 0; "),
        (
            bowl,
            [1.0],
            {"resume": True},
            fg.ConfigError,
            "^resume: checkpoints is None; the folder to resume from",
        ),
        (bowl, [1.0], {"callbacks": fg.Callback()}, fg.ConfigError, "^callbacks is a Callback; a sequence"),
        (
            bowl,
            [1.0],
            {"callbacks": [fg.callbacks.BestCheckpoint("best")]},
            fg.ConfigError,
            "^callbacks: BestCheckpoint follows the training of a model, and no function$",
        ),
        (
            bowl,
            [1.0],
            {"callbacks": [fg.callbacks.EarlyStopping(monitor="validation_loss")]},
            fg.ConfigError,
            "^monitor is 'validation_loss'; a descent of a function has its value alone: EarlyStopping",
        ),
        (
            bowl,
            [1.0],
            {"callbacks": [fg.callbacks.EarlyStopping(), fg.callbacks.EarlyStopping()]},
            fg.ConfigError,
            "^callbacks: EarlyStopping is there twice; one of them is required$",
        ),
    ],
)
def test_bad_arguments_are_told_in_one_line(f, x0, given, error, message):
    with pytest.raises(error, match=message) as caught:
        fg.minimize(f, x0, **given)
    assert "\n" not in str(caught.value)
