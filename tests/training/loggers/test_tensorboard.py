"""TensorBoard's event files, read back by TensorBoard's own reader."""

import time

import pytest

import fgnumba as fg
from tests.training.loggers.runs import Stops, expected, fit, in_parts

pytest.importorskip("tensorboardX")
accumulators = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")


def read(folder):
    """Return the figures of each step by name, and the text of the settings."""
    found = accumulators.EventAccumulator(str(folder), size_guidance={"scalars": 0, "tensors": 0})
    found.Reload()
    logged: dict[int, dict[str, float]] = {}
    for name in found.Tags()["scalars"]:
        events = found.Scalars(name)
        assert len({event.step for event in events}) == len(events), name
        for event in events:
            assert abs(event.wall_time - time.time()) < 600
            if name != "seconds":
                logged.setdefault(event.step, {})[name] = event.value
    texts = found.Tensors("settings/text_summary")
    return logged, texts[-1].tensor_proto.string_val[0].decode()


def in_float32(figures):
    import numpy as np

    return {
        step: {name: float(np.float32(value)) for name, value in values.items()}
        for step, values in figures.items()
    }


def test_a_run(tmp_path):
    history = fit(fg.callbacks.TensorBoard(tmp_path / "deep" / "logs"))
    logged, settings = read(tmp_path / "deep" / "logs")
    assert logged == in_float32(expected(history))
    assert "batch_size: 16" in settings
    assert "optimizer: Adam(" in settings


@pytest.mark.parametrize("disturbed", [False, True])
def test_a_run_in_parts_has_each_step_once(tmp_path, disturbed):
    history = in_parts(lambda: fg.callbacks.TensorBoard(tmp_path / "logs"), tmp_path / "run", disturbed)
    assert len(list((tmp_path / "logs").iterdir())) == 2
    assert read(tmp_path / "logs")[0] == in_float32(expected(history))


def test_a_record_is_on_the_disk_at_once(tmp_path):
    class Looks(fg.Callback):
        def on_step(self, step, result):
            if step == 4:
                self.seen = list(read(tmp_path / "logs")[0])

    looks = Looks()
    fit(fg.callbacks.TensorBoard(tmp_path / "logs"), looks)
    assert looks.seen == [3]


def test_a_full_disk_costs_no_run(tmp_path, monkeypatch):
    import tensorboardX.record_writer as writer

    said: list[str] = []

    def no_room(self, data):
        raise OSError(28, "No space left on device")

    class Fills(fg.Callback):
        def on_step(self, step, result):
            if step == 5:
                monkeypatch.setattr(writer.RecordWriter, "write", no_room)

    history = fit(fg.callbacks.TensorBoard(tmp_path, warn=said.append), Fills())
    assert history.ended_by == "steps"
    assert said == ["TensorBoard logs no more, training goes on: OSError: No space left on device"]


def test_a_file_is_closed_when_the_run_fails(tmp_path):
    with pytest.raises(ValueError, match="mine"):
        fit(fg.callbacks.TensorBoard(tmp_path), Stops(4, ValueError("mine")))
    assert list(read(tmp_path)[0]) == [3]
