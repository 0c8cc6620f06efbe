"""The ways in which a run may end, and what callbacks are told."""

import pytest

import fgnumba as fg
from tests.training.test_copies import blobs, trainer_of


class Ends(fg.Callback):
    def __init__(self, at=None, do=None):
        self.heard, self.at, self.do = [], at, do

    def on_start(self, trainer, steps):
        self.trainer = trainer

    def on_step(self, step, result):
        if step == self.at:
            self.do(self)

    def ends(self, record):
        return self.at == "record" and record.step >= 2

    def on_end(self, history):
        self.heard.append(history.ended_by)


def interrupt(callback):
    raise KeyboardInterrupt


def fail(callback):
    raise ValueError("a callback's own")


@pytest.mark.parametrize(
    ("at", "do", "reason", "error"),
    [
        (None, None, "steps", None),
        ("record", None, "callback", None),
        (3, lambda callback: callback.trainer.stop(), "stop", None),
        (3, interrupt, "interrupt", KeyboardInterrupt),
        (3, fail, "error", ValueError),
    ],
)
def test_every_callback_hears_of_the_end_and_why(at, do, reason, error):
    callbacks = [Ends(), Ends(at, do), Ends()]
    fit = {"steps": 5, "batch_size": 16, "evaluate_every": 2, "callbacks": callbacks}
    trainer = trainer_of()
    if error is None:
        assert trainer.fit(blobs(), **fit).ended_by == reason
    else:
        with pytest.raises(error):
            trainer.fit(blobs(), **fit)
    assert [one.heard for one in callbacks] == [[reason]] * 3


def test_callbacks_hear_of_a_divergence():
    model = fg.Sequential([fg.Flatten(), fg.Dense(9, activation="relu"), fg.Dense(3)], (4, 3, 2))
    trainer, ends = fg.Trainer(model, optimizer=fg.SGD(1e30)), Ends()
    with pytest.raises(fg.DivergenceError):
        trainer.fit(blobs(), steps=20, batch_size=16, callbacks=[ends])
    assert ends.heard == ["divergence"]


class FailsAtTheEnd(Ends):
    def on_end(self, history):
        raise RuntimeError("at the end")


def test_an_error_at_the_end_of_a_failed_run_hides_nothing():
    last = Ends()
    with pytest.raises(ValueError, match="a callback's own"):
        trainer_of().fit(blobs(), steps=5, batch_size=16, callbacks=[FailsAtTheEnd(2, fail), last])
    assert last.heard == ["error"]


def test_whoever_was_not_told_of_the_start_is_not_told_of_the_end():
    class Unready(Ends):
        def on_start(self, trainer, steps):
            raise ValueError("not ready")

    first, unready, never = Ends(), Unready(), Ends()
    with pytest.raises(ValueError, match="not ready"):
        trainer_of().fit(blobs(), steps=2, batch_size=16, callbacks=[first, unready, never])
    assert (first.heard, never.heard) == (["error"], [])


def test_callbacks_that_can_be_read_once():
    ends = Ends()
    trainer_of().fit(blobs(), steps=2, batch_size=16, callbacks=(one for one in [ends]))
    assert ends.heard == ["steps"]


def test_an_error_at_a_good_end_keeps_nobody_from_hearing():
    last = Ends()
    with pytest.raises(RuntimeError, match="at the end"):
        trainer_of().fit(blobs(), steps=2, batch_size=16, callbacks=[FailsAtTheEnd(), last])
    assert last.heard == ["steps"]


def test_a_log_of_ones_own_is_whole_at_the_end(tmp_path):
    kept = fg.Checkpoints(tmp_path)

    class Notes(fg.Callback):
        def on_step(self, step, result):
            kept.append("notes.log", f"{step}\n")

        def on_end(self, history):
            kept.append("notes.log", "end\n")

    trainer_of().fit(blobs(), steps=2, batch_size=16, callbacks=[Notes()], checkpoints=kept)
    assert (tmp_path / "notes.log").read_text(encoding="ascii") == "1\n2\nend\n"
    assert not kept.logs
