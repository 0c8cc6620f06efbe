"""Learning-rate schedules against their formulas, and what they refuse."""

import math
import pickle
from dataclasses import FrozenInstanceError

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fgnumba.errors import ConfigError
from fgnumba.optimizers.schedules import Constant, Cosine, Exponential, Warmup
from tests import tolerances

SCHEDULES = [
    Constant(0.1),
    Exponential(2e-4, 1e-4),
    Cosine(0.1, 100, final=0.01),
    Warmup(Exponential(0.1, 0.01), 10),
]
rates = st.floats(1e-6, 10.0)
steps = st.integers(0, 10**9)


@given(rates, steps)
def test_constant(rate, step):
    assert Constant(rate)(step) == rate


@given(rates, st.floats(0.0, 1.0), steps)
def test_exponential(rate, decay, step):
    tolerances.EXACT_SCHEDULE.check(Exponential(rate, decay)(step), rate * np.exp(-step * decay))


def test_exponential_as_in_the_paper():
    schedule = Exponential(2e-4, 1e-4)
    assert schedule(0) == 2e-4
    tolerances.EXACT_SCHEDULE.check(schedule(10_000), 2e-4 / math.e)
    assert Exponential(1.0, 1.0)(10**6) == 0.0


def test_cosine():
    schedule = Cosine(0.5, 100, final=0.1)
    assert schedule(0) == 0.5
    tolerances.EXACT_SCHEDULE.check(schedule(50), 0.3)
    tolerances.EXACT_SCHEDULE.check(schedule(25), 0.3 + 0.2 / math.sqrt(2))
    assert schedule(100) == schedule(10**6) == 0.1
    assert Cosine(0.5, 100)(100) == 0.0


@given(rates, st.floats(0.0, 10.0), st.integers(1, 1000), steps)
def test_cosine_stays_between_its_ends(rate, final, count, step):
    schedule = Cosine(rate, count, final)
    low, high = sorted((rate, final))
    slack = tolerances.EXACT_SCHEDULE.relative
    assert low * (1 - slack) <= schedule(step) <= high * (1 + slack)


@pytest.mark.parametrize("inner", SCHEDULES)
def test_warmup(inner):
    schedule = Warmup(inner, 4)
    for step, share in enumerate((0.25, 0.5, 0.75, 1.0, 1.0)):
        tolerances.EXACT_PRODUCT.check(schedule(step), share * inner(step))
    assert schedule(1000) == inner(1000)
    assert Warmup(inner, 1)(0) == inner(0)


def test_warmup_takes_any_function():
    assert Warmup(lambda step: 2.0 + step, 2)(0) == 1.0


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda schedule: type(schedule).__name__)
def test_pure_immutable_and_comparable(schedule):
    values = [schedule(step) for step in range(200)]
    assert values == [schedule(step) for step in range(200)]
    assert all(type(value) is float and 0 <= value < math.inf for value in values)
    copy = pickle.loads(pickle.dumps(schedule))
    assert copy == schedule
    assert hash(copy) == hash(schedule)
    with pytest.raises(FrozenInstanceError):
        schedule.learning_rate = 1.0


@pytest.mark.parametrize(
    ("rate", "count"), [(1, 10), (np.float32(1.0), np.int64(10)), (np.int8(1), np.uint8(10))]
)
def test_other_numbers_are_numbers(rate, count):
    assert Constant(rate)(0) == 1.0
    tolerances.CARRIED.check(Exponential(rate, 0.5)(2), math.exp(-1))
    tolerances.CARRIED.check(Cosine(rate, count)(5), 0.5)
    assert Warmup(Constant(rate), count)(4) == 0.5


NOT_POSITIVE = [0, 0.0, -1e-3, math.nan, math.inf, -math.inf, "0.1", None, True, 1j, [0.1]]
NOT_A_COUNT = [0, -1, 1.0, 2.5, math.nan, "3", None, True]


@pytest.mark.parametrize("value", NOT_POSITIVE, ids=repr)
@pytest.mark.parametrize(
    "make", [Constant, lambda rate: Exponential(rate, 0.0), lambda rate: Cosine(rate, 10)]
)
def test_bad_learning_rate(make, value):
    with pytest.raises(ConfigError, match=r"^learning_rate is .*; a finite number above 0 is required$"):
        make(value)


@pytest.mark.parametrize("value", NOT_POSITIVE[2:], ids=repr)
def test_bad_decay_and_final(value):
    with pytest.raises(ConfigError, match=r"^decay is .*; a finite number 0 or above is required$"):
        Exponential(0.1, value)
    with pytest.raises(ConfigError, match=r"^final is .*; a finite number 0 or above is required$"):
        Cosine(0.1, 10, final=value)


@pytest.mark.parametrize("value", NOT_A_COUNT, ids=repr)
def test_bad_steps(value):
    with pytest.raises(ConfigError, match=r"^steps is .*; a whole number of at least 1 is required$"):
        Cosine(0.1, value)
    with pytest.raises(ConfigError, match=r"^steps is .*; a whole number of at least 1 is required$"):
        Warmup(Constant(0.1), value)


@pytest.mark.parametrize("value", [0.1, None])
def test_warmup_of_no_function(value):
    with pytest.raises(ConfigError, match=r"^schedule is .*; a function of the step is required$"):
        Warmup(value, 10)
