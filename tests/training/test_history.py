"""A run's history as curves and as a data frame."""

import math

import numpy as np
import pytest

import fgnumba as fg
from fgnumba.training import curves, records
from tests.tolerances_pictures import DRAWN

JUDGED = [
    fg.Record(
        step, step / 10, 1 / step, seconds=0.1 * step, validation_loss=2 / step, validation_accuracy=accuracy
    )
    for step, accuracy in ((10, 0.5), (20, 0.9), (30, 0.7))
]
JUDGED[-1] = records.replace(JUDGED[-1], test_loss=0.2, test_accuracy=0.8)
PLAIN = [fg.Record(step, step / 10, 1 / step) for step in (10, 20)]


@pytest.fixture
def pyplot():
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("agg")
    from matplotlib import pyplot

    yield pyplot
    pyplot.close("all")


def line(axes, label):
    """Return the points of the line whose label begins with `label`."""
    (found,) = [one for one in axes.get_lines() if str(one.get_label()).startswith(label)]
    return np.column_stack([found.get_xdata(), found.get_ydata()]).tolist()


def test_plot_draws_the_loss_and_the_error(pyplot):
    loss, error = fg.History(JUDGED).plot()
    assert line(loss, "training") == [[10, 0.1], [20, 0.05], [30, 1 / 30]]
    assert line(loss, "validation") == [[10, 0.2], [20, 0.1], [30, 2 / 30]]
    DRAWN.check(line(error, "validation"), [[10, 50], [20, 10], [30, 30]])
    DRAWN.check(line(error, "best record: 10 at step 20"), [[20, 10]])
    DRAWN.check(line(error, "test: 20"), [[30, 20]])
    assert (error.get_yscale(), error.get_ylabel()) == ("log", "error, %")


def test_plot_without_validation_draws_the_loss_alone(pyplot):
    tested = records.replace(PLAIN[-1], test_loss=0.2, test_accuracy=0.8)
    (loss,) = fg.History([*PLAIN[:-1], tested]).plot()
    assert line(loss, "training") == [[10, 0.1], [20, 0.05]]
    assert len(pyplot.gcf().axes) == 1


def test_plot_draws_where_it_is_told_to(pyplot):
    _, both = pyplot.subplots(2, 1)
    assert fg.History(JUDGED).plot(both) == list(both)
    _, one = pyplot.subplots()
    assert fg.History(JUDGED).plot(one) == [one]
    assert line(one, "training")


@pytest.mark.parametrize("ax", [7, "axes", [], [1, 2]])
def test_plot_refuses_what_is_no_axes(ax, pyplot):
    with pytest.raises(fg.ConfigError, match=r"^ax is .*; axes of matplotlib, or two of them, are required$"):
        fg.History(JUDGED).plot(ax)


def test_plot_of_nothing_is_refused():
    with pytest.raises(fg.ConfigError, match="no records"):
        fg.History().plot()


def regression(step, **metrics):
    return fg.Record(step, step / 10, 1 / step, validation_loss=2 / step, metrics=metrics)


def test_a_regression_is_judged_by_its_metric():
    made = [
        regression(10, validation_r2=0.1),
        regression(20, validation_r2=0.6),
        regression(30, validation_r2=0.4),
    ]
    found = curves.measure(made)
    assert found is not None
    assert (found.name, found.label, found.validation) == ("r2", "R²", [(10, 0.1), (20, 0.6), (30, 0.4)])
    assert curves.best(made) == 20
    errors = [regression(10, validation_mae=0.5), regression(20, validation_mae=0.7)]
    assert curves.best(errors) == 10


def test_the_best_record_without_accuracy_has_the_lowest_loss():
    assert curves.best([fg.Record(step, 0, 1, validation_loss=abs(step - 20)) for step in (10, 20, 30)]) == 20
    assert curves.best(PLAIN) is None


def test_the_curve_of_many_steps_is_of_means():
    losses = np.arange(1000, dtype=np.float64)
    losses[:10] = np.nan
    points = curves.training_loss([fg.Record(1000, 1, 1.0)], losses)
    assert len(points) == curves.POINTS - 1
    assert (points[0], points[-1]) == ((20, 14.5), (1000, 994.5))
    # A run that diverged keeps the parameters of an earlier step, and its curve ends there.
    steps = [step for step, _ in curves.training_loss([fg.Record(500, 1, 1.0)], losses)]
    assert steps[-1] == 500


def test_the_curve_of_few_steps_is_that_of_the_records():
    assert curves.training_loss(PLAIN, None) == [(10, 0.1), (20, 0.05)]
    assert curves.training_loss(PLAIN, np.full(20, np.nan)) == [(10, 0.1), (20, 0.05)]


@pytest.mark.parametrize("backend", records.FRAMES)
def test_a_frame_has_a_row_for_each_record(backend):
    pytest.importorskip(backend)
    frame = fg.History(JUDGED).to_frame(backend)
    assert type(frame).__module__.split(".")[0] == backend
    assert list(frame.columns) == [
        *("step", "epoch", "loss", "test_loss", "test_accuracy", "seconds"),
        *("validation_loss", "validation_accuracy"),
    ]
    assert frame["step"].to_list() == [10, 20, 30]
    assert frame["validation_accuracy"].to_list() == [0.5, 0.9, 0.7]
    assert [math.isnan(value) for value in frame["test_loss"].to_list()] == [True, True, False]
    assert str(frame["step"].dtype).lower() == "int64"


def test_metrics_are_columns():
    columns = records._columns([regression(10, validation_r2=0.1), regression(20)])
    assert columns["validation_r2"][0] == 0.1
    assert math.isnan(columns["validation_r2"][1])
    assert list(records._columns([])) == ["step", "epoch", "loss"]


def test_a_frame_needs_a_library(monkeypatch):
    monkeypatch.setattr(records, "find_spec", lambda name: None)
    with pytest.raises(fg.ConfigError, match=r"^to_frame needs pandas or polars: pip install pandas$"):
        fg.History(PLAIN).to_frame()
    with pytest.raises(fg.ConfigError, match=r"^to_frame needs polars: pip install polars$"):
        fg.History(PLAIN).to_frame("polars")


@pytest.mark.parametrize("backend", ["arrow", 3, ""])
def test_an_unknown_library_is_refused(backend):
    with pytest.raises(fg.ConfigError, match=r"^backend is .*; 'pandas' or 'polars' is required$"):
        fg.History(PLAIN).to_frame(backend)


def test_a_frame_is_pandas_where_both_are_installed(monkeypatch):
    pytest.importorskip("pandas")
    monkeypatch.setattr(records, "find_spec", lambda name: name)
    assert type(fg.History(PLAIN).to_frame()).__module__.startswith("pandas")
