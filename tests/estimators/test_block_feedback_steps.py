"""Steps of block feedback: what they keep, on which their bits depend, and runs of them."""

import json
import tracemalloc
from typing import Any

import numpy as np
import pytest

import fgnumba as fg
from fgnumba.kernels.machine.compile import compiled_count
from fgnumba.training.state import snapshot
from tests.determinism_run import finely_cut
from tests.estimators.block_gradients import parameters_of, trainer_of
from tests.model.test_recurrent_jvp import OfThreads
from tests.texts import sentences
from tests.training.test_copies import COPIES

LENGTH, SYMBOLS, WIDTH = 13, 7, 12


def network(symbols=SYMBOLS, device="cpu", dropout=0.2):
    layers = [
        fg.Embedding(symbols, WIDTH),
        fg.PositionalEmbedding(LENGTH),
        fg.TransformerBlock(2, dropout=dropout),
        fg.TransformerBlock(3, hidden=33, parallel=True),
        fg.RMSNorm(),
        fg.Dense(symbols),
    ]
    return fg.Sequential(layers, (LENGTH,), seed=1, device=device)


def made(device="cpu", **given):
    return trainer_of(network(device=device), fg.Adam(5e-3, clip_norm=1.0), **given)


def batch(seed=0, count=6):
    text = np.random.default_rng(seed).integers(0, SYMBOLS, (count, LENGTH + 1))
    return text[:, :-1], text[:, 1:]


def bits(one):
    """Return all that decides the steps to come, as bytes."""
    return {name: array.tobytes() for name, array in snapshot(one)[1].items() if "gradient." not in name}


@pytest.mark.parametrize("settings", [{}, {"relayed": False, "attention": "noise"}], ids=["default", "other"])
def test_bits_do_not_depend_on_the_number_of_threads(settings):
    found = []
    for threads in (1, 2):
        with finely_cut():
            one = made(OfThreads(threads), **settings)
            losses = [one.step(*batch(step)).loss for step in range(3)]
        found.append((losses, bits(one)))
    assert found[0] == found[1]


def test_other_batch_sizes_share_matrices_and_heads():
    one = made()
    one.step(*batch(0, 6))
    arrays = {name: id(array) for name, array in one.state.arrays.items()}
    before = bits(one)
    one.step(*batch(1, 1))
    one.step(*batch(2, 4))
    assert {name: id(array) for name, array in one.state.arrays.items()} == arrays
    assert all(
        before[name] != array for name, array in bits(one).items() if name.startswith("state.feedback.")
    )


@pytest.mark.parametrize("huge", ["head.2.weight", "5.weight", "2_project.weight"])
def test_a_step_with_a_loss_that_is_not_finite_moves_nothing(huge):
    """The loss of the first block, which has a head of its own, that of the model, and that of both."""
    one = made()
    one.step(*batch())
    parameter = {**one.model.packed_parameters, **one.state.parameters}[huge]
    signs = np.sign(np.random.default_rng(0).standard_normal(parameter.shape)).astype(np.float32)
    parameter.assign(np.float32(3e38) * signs)
    before = bits(one)
    with pytest.raises(fg.DivergenceError, match="step 1: the"):
        one.step(*batch(1))
    assert bits(one) == before
    assert one.steps_done == 1
    assert all(np.isfinite(array).all() for array in parameters_of(one).values())


def test_a_divergence_names_the_layer():
    model = network()
    parameters = model.parameters()
    parameters["2_project.weight"] = np.full_like(parameters["2_project.weight"], 3e38)
    model.load_parameters(parameters)
    with pytest.raises(
        fg.DivergenceError, match=r"layer 2_project \(Dense\): its primal is the first that is not"
    ):
        trainer_of(model).step(*batch())


def test_an_estimate_moves_nothing_and_is_the_same_again():
    one = made()
    one.step(*batch())
    before = bits(one)
    first, again = (one.estimate(*batch(1)) for _ in range(2))
    assert bits(one) == before
    assert {n: g.tobytes() for n, g in first.items()} == {n: g.tobytes() for n, g in again.items()}


def test_matrices_are_in_checkpoints():
    one = made()
    one.step(*batch())
    kept = {
        *(
            f"state.feedback.{name}.weight"
            for name in ("2_hidden", "2_project", "2_attention", "head.2", "5")
        ),
        *(f"state.feedback.{name}.weight" for name in ("3_hidden", "3_project", "3_attention")),
        *("state.feedback.2_attention.output", "state.feedback.3_attention.output"),
    }
    assert kept == {name for name in snapshot(one)[1] if name.startswith("state.feedback.")}


@pytest.mark.parametrize("how", COPIES)
def test_a_copy_takes_the_steps_that_the_original_takes(how):
    one = made()
    one.step(*batch())
    other, before = COPIES[how](one), bits(one)
    losses = [other.step(*batch(step)).loss for step in (1, 2)]
    assert bits(one) == before
    assert [one.step(*batch(step)).loss for step in (1, 2)] == losses
    assert bits(one) == bits(other)


def test_a_second_step_compiles_nothing_and_allocates_nothing():
    one, (x, y) = made(), batch()
    for _ in range(2):
        one.step(x, y)
    before = compiled_count()
    tracemalloc.start()
    try:
        start, _ = tracemalloc.get_traced_memory()
        for _ in range(5):
            one.step(x, y)
        end, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert compiled_count() == before
    # Python's own small objects, and the symbols as numbers.
    assert peak - start < 8_000
    assert end - start < 4_000


@pytest.mark.parametrize("settings", [{}, {"relayed": False, "attention": "noise"}], ids=["default", "other"])
def test_the_memory_of_an_estimate_is_what_it_says(settings):
    one = trainer_of(network(), fg.SGD(1e-3), **settings)
    for parameter in one.state.parameters:
        one.state.array(f"gradient.{parameter}", one.state.parameters[parameter].packed.shape)
    one.bind(2)
    kept = sum(array.nbytes for array in one.state.arrays.values())
    other = trainer_of(network(), fg.SGD(1e-3), **settings)
    tracemalloc.start()
    try:
        estimate = other.bind(64)
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # Beside it are the gradients, the matrices, and some hundred kilobytes of Python's objects.
    assert abs(taken - kept - estimate.nbytes) < 0.1 * estimate.nbytes + 600_000


def text_of(folder):
    path = folder / "text.txt"
    path.write_text(sentences(1500))
    return fg.datasets.load(str(path), context=LENGTH)


class Stop(fg.Callback):
    """Stops a run after a step."""

    def __init__(self, at):
        self.at = at

    def on_start(self, trainer, steps):
        self.trainer = trainer

    def on_step(self, step, result):
        if step == self.at:
            self.trainer.stop()


def fitted(data, folder=None, stop=None):
    one = trainer_of(network(data.outputs), fg.Adam(5e-3))
    saved = None if folder is None else fg.Checkpoints(folder, every=5)
    one.fit(
        data,
        steps=24,
        batch_size=4,
        evaluate_every=12,
        checkpoints=saved,
        resume=folder is not None,
        callbacks=[Stop(stop)],
    )
    return one


def test_a_run_that_is_stopped_and_resumed_has_the_bits_of_a_whole_one(tmp_path):
    data = text_of(tmp_path)
    whole = bits(fitted(data))
    for stop in (8, 17):
        assert fitted(data, tmp_path / "run", stop).steps_done == stop
    assert bits(fitted(data, tmp_path / "run")) == whole
    lines = (tmp_path / "run/metrics.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["step"] for line in lines] == [12, 24]


def test_it_learns_what_attention_alone_can_tell():
    """The target is the symbol two positions before: no weight of a position by itself predicts it."""
    rng = np.random.default_rng(0)
    x = rng.integers(0, 4, (260, 8))
    y = np.concatenate([np.zeros((260, 2), int), x[:, :-2]], axis=1)
    layers = [fg.Embedding(4, 32), fg.PositionalEmbedding(8), fg.TransformerBlock(2), fg.TransformerBlock(2)]
    model = fg.Sequential([*layers, fg.LayerNorm(), fg.Dense(4)], (8,), seed=0, device="cpu")
    one = fg.Trainer(model, estimator=fg.BlockFeedback(), optimizer=fg.Adam(5e-3), seed=1)
    weights = np.ones(x.shape)
    weights[:, :2] = 0
    seen: list[Any] = []
    history = one.fit(
        x[:200],
        y[:200],
        validation=(x[200:], y[200:]),
        sample_weight=weights[:200],
        epochs=25,
        batch_size=20,
        callbacks=[fg.callbacks.EarlyStopping(patience=25), Seen(seen)],
    )
    assert seen == list(range(1, one.steps_done + 1))
    # The first two positions are not learned: a quarter of all.
    assert history.final.validation_accuracy > 0.75
    assert np.mean(model(x[200:]).argmax(-1)[:, 2:] == y[200:, 2:]) > 0.95


class Seen(fg.Callback):
    """Notes the steps that it is told of."""

    def __init__(self, steps):
        self.steps = steps

    def on_step(self, step, result):
        self.steps.append(step)


def test_numbers_that_are_not_finite_are_refused():
    model = fg.Sequential([fg.Dense(4), fg.TransformerBlock(2), fg.Dense(2)], (3, 2), device="cpu")
    one = fg.Trainer(model, estimator=fg.BlockFeedback(), optimizer=fg.SGD(1e-3))
    x = np.zeros((2, 3, 2), np.float32)
    x[1, 2, 0] = np.inf
    with pytest.raises(fg.DatasetError, match=r"x is not finite in float32 at \(1, 2, 0\)"):
        one.step(x, np.zeros((2, 3), int))
