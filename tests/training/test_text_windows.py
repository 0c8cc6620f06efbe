"""Texts for models that mix positions: windows at random places, the same in every run that has the same seed."""

import copy

import pytest

import fgnumba as fg
from fgnumba.training import replay, replay_log
from tests.texts import InWindows, in_windows, sentences, write

STEPS, BATCH = 12, 4


@pytest.fixture
def data(tmp_path):
    return fg.datasets.load(write(tmp_path / "t.txt", sentences(900)), context=8)


def trainer(data, seed=3, layers=None, **more):
    model = in_windows(data.classes, 8)
    if layers is not None:
        model = fg.Sequential(layers, (8,), device="cpu")
    settings = {"estimator": "weight-perturbation", "optimizer": fg.SGD(0.01), "seed": seed, **more}
    return fg.Trainer(model, **settings)


def bits(of):
    return {name: array.tobytes() for name, array in of.model.parameters().items()}


def test_a_run_takes_windows_at_random_places(data):
    one, other, stream = trainer(data), trainer(data), trainer(data)
    history = one.fit(data, steps=STEPS, batch_size=BATCH)
    windows, streams = data.windows(BATCH, seed=3), data.batches(BATCH)
    for _ in range(STEPS):
        other.step(*next(windows))
        stream.step(*next(streams))
    assert bits(one) == bits(other) != bits(stream)
    # An epoch is as many windows as lie in the text side by side.
    assert history.final.epoch == STEPS / (len(data.x_train) // BATCH)
    assert history.final.metrics["test_nats_per_character"] == history.final.test_loss
    assert fg.evaluate(one.model, data).loss == history.final.test_loss


def test_the_seed_decides_and_runs_go_on(data):
    whole, parts, other = trainer(data), trainer(data), trainer(data, seed=4)
    whole.fit(data, steps=STEPS, batch_size=BATCH)
    parts.fit(data, steps=5, batch_size=BATCH)
    parts = copy.deepcopy(parts)
    parts.fit(data, steps=STEPS - 5, batch_size=BATCH)
    other.fit(data, steps=STEPS, batch_size=BATCH)
    assert bits(whole) == bits(parts) != bits(other)


class StopAt(fg.Callback):
    """A callback that interrupts a run after a step."""

    def __init__(self, trainer, step):
        self.trainer, self.step = trainer, step

    def on_step(self, step, result):
        if step == self.step:
            self.trainer.stop()


@pytest.mark.parametrize("compact", [False, True])
def test_a_run_that_is_stopped_ends_with_the_same_bits(data, tmp_path, compact):
    whole, stopped, resumed = trainer(data), trainer(data), trainer(data)

    def fit(one, folder, resume=False, callbacks=()):
        saved = fg.Checkpoints(tmp_path / folder, every=5, compact=compact)
        settings = {"validation": 0.1, "evaluate_every": 3, "callbacks": callbacks}
        return one.fit(data, steps=STEPS, batch_size=BATCH, checkpoints=saved, resume=resume, **settings)

    expected = fit(whole, "whole")
    assert fit(stopped, "run", callbacks=[StopAt(stopped, 7)]).stopped
    found = fit(resumed, "run", resume=True)
    assert bits(resumed) == bits(whole)
    figures = [[(r.step, r.loss, r.validation_loss) for r in one.records] for one in (expected, found)]
    assert figures[0] == figures[1]
    again = trainer(data)
    replay.replay(again, replay_log.read(tmp_path / "run" / "replay.log"))
    assert bits(again) == bits(whole)


def test_validation_data_are_windows_of_a_stream(data):
    one = trainer(data)
    x, y = data.tested
    record = one.fit(data, steps=2, batch_size=BATCH, validation=(x, y)).final
    assert record.validation_loss == record.test_loss


def test_states_are_not_carried_from_window_to_window(data):
    V = data.classes
    layers = [fg.ElementwiseLSTM(6, symbols=V), InWindows(6), fg.Dense(V)]
    with pytest.warns(fg.errors.FgWarning, match="states are carried from each batch to the next"):
        trainer(data, layers=layers, carry_states=True).fit(data, steps=1, batch_size=BATCH)
    trainer(data, layers=layers).fit(data, steps=1, batch_size=BATCH)


def test_a_model_that_knows_what_it_is_to_predict_is_refused(data):
    V = data.classes
    layers = [fg.Embedding(V, 6), fg.GroupNorm(1), fg.Dense(V)]
    with pytest.raises(
        fg.ConfigError, match=r"t\.txt: outputs of the model depend on symbols that come later"
    ):
        trainer(data, layers=layers).fit(data, steps=1, batch_size=BATCH)
    # One symbol has none before it, and none after.
    one = fg.Sequential(layers, (1,), device="cpu")
    assert fg.evaluate(one, data.tested[0][:3, None], data.tested[1][:3, None]).n == 3


def test_a_learning_rate_is_found_on_windows(data):
    one = trainer(data)
    finder = fg.callbacks.LearningRateFinder(1e-4, 1e-2, steps=10)
    finder.find(one, data, batch_size=BATCH)
    assert finder.losses[0] == trainer(data).step(*next(data.windows(BATCH, seed=3))).loss
