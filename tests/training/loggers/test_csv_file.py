"""The CSV file of a run: read back by other readers, whole after a resumption, a crash and a divergence."""

import copy
import csv
import json
import math

import numpy as np
import pytest

import fgnumba as fg
from fgnumba.callbacks import CSVLogger
from tests.training.loggers.runs import STEPS, Stops, expected, fit, in_parts


def read(path):
    """Return the figures of each step by name."""
    rows = list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))
    steps = [int(row["step"]) for row in rows]
    assert steps == sorted(set(steps))
    return {
        int(row["step"]): {
            name: float(value) for name, value in row.items() if value and name not in ("step", "seconds")
        }
        for row in rows
    }


def test_a_file_of_a_run(tmp_path):
    path = tmp_path / "deep" / "log.csv"
    history = fit(CSVLogger(path))
    assert read(path) == expected(history)
    table = np.genfromtxt(path, delimiter=",", names=True)
    assert table["step"].tolist() == STEPS
    assert np.isnan(table["test_loss"]).tolist() == [True, True, True, False]
    settings = json.loads((tmp_path / "deep" / "log.settings.json").read_text(encoding="utf-8"))
    assert settings["batch_size"] == 16
    assert settings["model"].startswith("Sequential")


def test_pandas_reads_it(tmp_path):
    pandas = pytest.importorskip("pandas")
    history = fit(CSVLogger(tmp_path / "log.csv"))
    table = pandas.read_csv(tmp_path / "log.csv")
    assert table["step"].tolist() == STEPS
    assert table["loss"].tolist() == [record.loss for record in history.records]


@pytest.mark.parametrize("disturbed", [False, True])
def test_a_run_in_parts_is_one_file(tmp_path, disturbed):
    path = tmp_path / "log.csv"
    history = in_parts(lambda: CSVLogger(path), tmp_path / "run", disturbed)
    assert read(path) == expected(history)


def test_a_row_is_there_as_soon_as_its_record(tmp_path):
    path = tmp_path / "log.csv"

    seen = []

    class Looks(fg.Callback):
        def on_step(self, step, result):
            seen.append(len(read(path)))

    fit(CSVLogger(path), Looks())
    assert seen == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]


def test_a_line_that_broke_off_and_another_programs_file(tmp_path):
    path = tmp_path / "log.csv"
    for damage in (lambda text: text[:-20], lambda text: text + "6,,", lambda text: "a,b\n1,2\n"):
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        fit(CSVLogger(path), Stops(7), folder=folder)
        path.write_text(damage(path.read_text(encoding="utf-8")), encoding="utf-8")
        history = fit(CSVLogger(path), folder=folder, resume=True)
        found = read(path)
        assert all(found[step] == expected(history)[step] for step in found)
        assert max(found) == 12


def test_a_new_run_replaces_the_file(tmp_path):
    path = tmp_path / "log.csv"
    logger = CSVLogger(path)
    fit(logger, steps=12)
    history = fit(logger, steps=6)
    assert read(path) == expected(history)


def test_a_run_that_diverges_has_the_rows_that_it_left(tmp_path):
    from tests.training.test_copies import blobs

    model = fg.Sequential([fg.Flatten(), fg.Dense(9, activation="relu"), fg.Dense(3)], (4, 3, 2), seed=1)
    trainer = fg.Trainer(model, optimizer=fg.SGD(lambda step: 1e-3 if step < 7 else 1e30))
    saved = fg.Checkpoints(tmp_path / "run")
    with pytest.raises(fg.DivergenceError):
        trainer.fit(
            blobs(),
            steps=20,
            batch_size=16,
            evaluate_every=3,
            callbacks=[CSVLogger(tmp_path / "log.csv")],
            checkpoints=saved,
        )
    found = read(tmp_path / "log.csv")
    assert list(found) == [record.step for record in saved.records]
    assert math.isfinite(found[max(found)]["test_loss"])


@pytest.mark.parametrize("full", ["append", "replace"])
def test_a_full_disk_costs_no_run(tmp_path, monkeypatch, full):
    said: list[str] = []
    path = tmp_path / "log.csv"

    def no_room(*arguments):
        raise OSError(28, "No space left on device")

    class Fills(fg.Callback):
        def on_step(self, step, result):
            if step == 5:
                name = "fgnumba.storage.durable.write_all" if full == "append" else "os.replace"
                monkeypatch.setattr(name, no_room)

    history = fit(CSVLogger(path, warn=said.append), Fills())
    assert history.ended_by == "steps"
    assert said == ["CSVLogger logs no more, training goes on: OSError: No space left on device"]
    # What was written before is whole.
    assert 3 in read(path)


def test_a_copy_logs_nothing_before_its_own_run(tmp_path):
    logger = CSVLogger(tmp_path / "log.csv")

    copies = []

    class Copies(fg.Callback):
        def on_record(self, record):
            copies.append(copy.deepcopy(logger))

    history = fit(logger, Copies())
    for one in copies:
        one.on_record(history.final)
    assert read(tmp_path / "log.csv") == expected(history)
