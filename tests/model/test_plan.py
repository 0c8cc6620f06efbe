"""Plans: buffers are shared by liveness, and nothing is compiled or allocated after the first run."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numba.core.typing.templates import builtin_registry

import fgnumba as fg
from fgnumba.estimators import recipe
from fgnumba.estimators.weight import WeightEstimate
from fgnumba.kernels.machine.compile import compiled_count, on_compile
from fgnumba.model.liveness import Lifetime, assign


@given(
    st.lists(
        st.tuples(st.integers(1, 1000), st.integers(0, 20), st.integers(0, 5)).map(
            lambda t: Lifetime(t[0], t[1], t[1] + t[2])
        )
    )
)
def test_live_values_never_share_a_slot_and_fit(lifetimes):
    chosen, slots = assign(lifetimes)
    for i, a in enumerate(lifetimes):
        assert slots[chosen[i]] >= a.size
        for j, b in enumerate(lifetimes[:i]):
            if chosen[i] == chosen[j]:
                assert a.last < b.first or b.last < a.first


def test_a_chain_of_any_length_needs_two_buffers():
    sizes = [70, 10, 50, 20, 30, 60]
    _, slots = assign([Lifetime(size, i, i + 1) for i, size in enumerate(sizes)])
    assert sorted(slots) == [60, 70]


def layers(depth, width):
    return [*(fg.Dense(width, activation="tanh") for _ in range(depth)), fg.Dense(10)]


def test_buffers_do_not_grow_with_depth():
    loss = fg.SoftmaxCrossEntropy()
    shallow, deep = (fg.Sequential(layers(depth, 96), 33).plan(8, loss=loss) for depth in (2, 12))
    assert deep.buffer_nbytes == shallow.buffer_nbytes


@pytest.mark.parametrize("direction", ["rank1", "rademacher", "gaussian"])
@pytest.mark.parametrize("count", [1, 4])
def test_second_step_compiles_nothing_and_allocates_nothing(direction, count):
    model = fg.Sequential(layers(2, 300), 200)
    trainer = fg.Trainer(
        model, estimator=fg.WeightPerturbation(direction, count), optimizer=fg.SGD(1e-6, momentum=0.5)
    )
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((32, 200), np.float32), rng.integers(0, 10, 32)
    trainer.step(x, y)
    trainer.step(x, y)
    seen: list[str] = []
    stop = on_compile(seen.append)
    before = compiled_count()
    tracemalloc.start()
    try:
        trainer.step(x, y)
        base, _ = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        for _ in range(20):
            trainer.step(x, y)
        after, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
        stop()
    assert not seen
    assert compiled_count() == before
    # The smallest array of the pass, (B, 10) logits, has 1,280 bytes: what is left is Python's small change.
    assert after - base < 1024
    assert peak - base < 8192


def test_a_second_model_makes_no_intrinsics():
    # Numba keeps every one that there ever was.
    counts = []
    for _ in range(2):
        model = fg.Sequential(
            [fg.Conv2d(5), fg.Dropout(0.5), fg.GroupNorm(1), fg.Flatten(), *layers(2, 40)], (8, 8, 1)
        )
        for name in ("weight-perturbation", "local-feedback"):
            trainer = fg.Trainer(model, estimator=recipe(name).make(), optimizer=fg.SGD(1e-6))
            trainer.step(np.ones((3, 8, 8, 1), np.float32), np.arange(3))
        counts.append(len(builtin_registry.globals))
    assert counts[0] == counts[1]


def test_training_needs_no_more_memory_than_inference_beyond_tangents():
    model = fg.Sequential(layers(3, 512), 512)
    loss = fg.SoftmaxCrossEntropy()
    trainer = fg.Trainer(model, optimizer=fg.SGD(1e-6))
    x, y = np.zeros((16, 512), np.float32), np.zeros(16, np.int64)
    trainer.step(x, y)
    (estimate,) = trainer.estimates.values()
    primal = model.plan(16, loss=loss)
    assert isinstance(estimate, WeightEstimate)
    assert estimate.plan.buffer_nbytes <= 2 * primal.buffer_nbytes
    assert estimate.nbytes < 0.2 * 4 * model.parameter_count
