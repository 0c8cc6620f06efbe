"""``Trainer.fit`` on an iterable of batches: lists, generators, DataLoaders."""

import math

import numpy as np
import pytest

import fgnumba as fg
from fgnumba.training import batches
from tests.training.test_data_in import LABELS, X, classifier, trained


def cut(size=16):
    return [(X[i : i + size], LABELS[i : i + size]) for i in range(0, len(X), size)]


class Loader:
    """Passes over its batches as often as asked, and tells no length."""

    def __iter__(self):
        return iter(cut())


def stepped(trainer, pairs):
    for x, y in pairs:
        trainer.step(x, y)
    return {name: array.tobytes() for name, array in trainer.model.parameters().items()}


def test_an_iterable_of_batches_is_passed_over_again():
    by_steps = stepped(classifier(), [*cut(), *cut(), *cut()[:2]])
    assert trained(classifier(), cut(), steps=10) == by_steps
    assert trained(classifier(), Loader(), steps=10) == by_steps
    trainer = classifier()
    history = trainer.fit(cut(), epochs=3, validation=(X, LABELS))
    assert [(r.step, r.epoch) for r in history.records] == [(4, 1.0), (8, 2.0), (12, 3.0)]
    assert history.ended_by == "steps"


def test_a_generator_ends_a_run_when_it_ends():
    seen = []

    class Seen(fg.Callback):
        def on_end(self, history):
            seen.append(history.ended_by)

    trainer = classifier()
    history = trainer.fit(iter(cut()), steps=10, callbacks=[Seen()])
    assert (history.ended_by, trainer.steps_done, seen) == ("data", 4, ["data"])
    assert [r.step for r in history.records] == [4]
    assert math.isnan(history.final.epoch)


def test_a_data_loader():
    data = pytest.importorskip("torch.utils.data")
    torch = pytest.importorskip("torch")
    dataset = data.TensorDataset(torch.tensor(X), torch.tensor(LABELS))
    loader = data.DataLoader(dataset, batch_size=16)
    assert trained(classifier(), loader, steps=10) == trained(classifier(), cut(), steps=10)
    history = classifier().fit(data.DataLoader(dataset, 16, shuffle=True), epochs=2, validation=(X, LABELS))
    assert history.final.step == 8


@pytest.mark.parametrize(
    ("given", "options", "message"),
    [
        (cut(), {"epochs": None}, "a run on an iterable needs epochs or steps"),
        (Loader(), {"epochs": 2}, "does not tell how many batches it has; steps is required"),
        (cut(), {"validation": 0.1}, r"no fraction of an iterable can be held out: a pair \(x, y\)"),
        (
            cut(),
            {"checkpoints": True},
            "a run on an iterable cannot be resumed, since its batches cannot be had",
        ),
        (cut(), {"checkpoints": True, "resume": True}, "a run on an iterable cannot be resumed"),
    ],
)
def test_runs_on_an_iterable_that_cannot_be(given, options, message, tmp_path):
    if "checkpoints" in options:
        options = {**options, "checkpoints": fg.Checkpoints(tmp_path)}
    with pytest.raises(fg.ConfigError, match=message):
        classifier().fit(given, **{"epochs": 1, **options})


def test_the_first_batch_stands_for_the_data():
    trainer = classifier()
    given = batches.Batches(iter(cut()), trainer.model, trainer.loss)
    np.testing.assert_array_equal(given.dataset.x_train, X[:16])
    assert given.per_epoch is None
    assert len(list(given)) == 4
