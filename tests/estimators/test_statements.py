"""Every estimator's statement about itself, checked by statistics: its bias and its variance."""

import tracemalloc

import numpy as np
import pytest

import fgnumba as fg
from fgnumba.bench import reverse
from fgnumba.estimators import Estimator, recipe
from fgnumba.estimators.zeroth import Differences
from fgnumba.kernels.machine.compile import compiled_count, on_compile
from fgnumba.testing import check_estimator
from tests import tolerances
from tests.recipes import GENERAL

LOSS = fg.SoftmaxCrossEntropy()


def problem():
    # Sizes of whole families of orthogonal directions, so that theory holds for them to the letter.
    model = fg.Sequential(
        [fg.Dense(32, activation="relu"), fg.Dense(32, activation="tanh"), fg.Dense(32)], 32, seed=4
    )
    rng = np.random.default_rng(1)
    return model, rng.standard_normal((12, 32), np.float32), rng.integers(0, 32, 12)


@pytest.mark.parametrize("name", sorted(GENERAL))
def test_an_estimator_keeps_its_word(name):
    # Coordinates are many enough that each is drawn some twenty times.
    directions, draws = (792, 80) if name == "coordinates" else (2, 600)
    estimator = recipe(name).build(name, None, directions)
    model, x, y = problem()
    loss, exact = reverse.value_and_grad(model, LOSS, x, y)
    bias, rounding = None, tolerances.ESTIMATE_ROUNDING
    if isinstance(estimator, Differences):
        # A difference of losses is rounded, and no derivative.
        bias = tolerances.DIFFERENCE_BIAS
        rounding = tolerances.difference(estimator.epsilon, loss, len(x), sides=1)
    report = check_estimator(
        estimator, model, LOSS, x, y, gradient=exact, draws=draws, bias=bias, rounding=rounding
    )
    # What says that it is biased is seen to be.
    assert estimator.unbiased or isinstance(estimator, Differences) or report.biased_entries


@pytest.mark.parametrize("name", sorted(GENERAL))
def test_an_estimator_trains_from_its_recipe(name):
    found = recipe(name)
    estimator: Estimator = found.build(name, None, 16 if "directions" in found.takes else None)
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 96)
    x = (0.3 * rng.standard_normal((96, 8)) + np.eye(3, 8)[y]).astype(np.float32)
    model = fg.Sequential([fg.Dense(32, activation="relu"), fg.Dense(3)], 8, seed=1)
    rate = found.learning_rate or (0.05 if found.optimizer == "sgd" else 1e-3)
    trainer = fg.Trainer(
        model, estimator=estimator, optimizer=fg.SGD(rate) if found.optimizer == "sgd" else fg.Adam(rate)
    )
    losses = [trainer.step(x, y).loss for _ in range(400)]
    assert losses[-1] < 0.8 * losses[0]
    assert found.evidence or found.learning_rate is None


@pytest.mark.parametrize("name", sorted(GENERAL))
def test_a_choice_that_there_is_not_is_refused(name):
    for option in {"direction", "directions"} - set(recipe(name).takes):
        given = {"direction": None, "directions": None, option: "rank1" if option == "direction" else 2}
        with pytest.raises(
            fg.ConfigError, match=f"{option} is .*; the estimator '{name}' does not take that option"
        ):
            recipe(name).build(name, **given)  # type: ignore[arg-type]


def test_an_unknown_estimator_is_refused():
    with pytest.raises(fg.ConfigError, match=r"unknown estimator 'feedbak'.*'feedback'"):
        recipe("feedbak")


@pytest.mark.parametrize("name", sorted(GENERAL))
def test_a_second_step_compiles_nothing_and_allocates_nothing(name):
    found = recipe(name)
    model, x, y = problem()
    optimizer = fg.SGD(1e-6, momentum=0.5) if found.optimizer == "sgd" else fg.Adam(1e-6)
    trainer = fg.Trainer(model, estimator=found.build(name, None, None), optimizer=optimizer)
    for _ in range(2):
        trainer.step(x, y)
    seen: list[str] = []
    stop = on_compile(seen.append)
    before = compiled_count()
    tracemalloc.start()
    try:
        start, _ = tracemalloc.get_traced_memory()
        for _ in range(5):
            trainer.step(x, y)
        end, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
        stop()
    assert seen == []
    assert compiled_count() == before
    # Python's own small objects, and a few coordinates where there are any; no activation, no gradient.
    assert peak - start < 8_000
    assert end - start < 4_000
