"""Options of optimisers on the command line: what they default to, and where they are refused."""

import pytest

import fgnumba as fg
from fgnumba.runs.assembly import assemble
from fgnumba.runs.configuration import RunConfig
from fgnumba.schedules import Cosine, Exponential, MeasuredRate, Warmup


def test_a_weight_decay_of_zero_is_what_it_says(fgtrain, folder):
    dataset = fg.datasets.load("digits")
    for given, expected in ((None, 0.01), (0.0, 0.0), (0.1, 0.1)):
        config = RunConfig(widths=(4,), optimizer="adamw", weight_decay=given)
        assert assemble(config, dataset).trainer.optimizer.constants()["decoupled_decay"] == expected


@pytest.mark.parametrize(
    ("optimizer", "option", "value", "said"),
    [
        ("adam", "--momentum", 0.9, "momentum is 0.9"),
        ("adam", "--momentum", 0.0, "momentum is 0.0"),
        ("adamw", "--no-nesterov", None, "nesterov is False"),
        ("frank-wolfe", "--weight-decay", 0.0, "weight_decay is 0.0"),
        ("sgd", "--radius", 1.0, "radius is 1.0"),
    ],
)
def test_an_option_that_the_optimizer_lacks_is_refused_at_zero_too(fgtrain, optimizer, option, value, said):
    given = [option] if value is None else [option, value]
    done = fgtrain("train", "--optimizer", optimizer, *given)
    assert f"{said}; the optimizer '{optimizer}' has none" in done.error


def test_a_ball_needs_a_radius(fgtrain):
    assert "radius is missing" in fgtrain("train", "--optimizer", "frank-wolfe").error


def test_auto_measures_the_rate(fgtrain, folder):
    given = ("--model", "logreg", "--steps", 40, "--optimizer", "auto", "--quiet")
    for estimator, made in (("feedback", fg.Adam), ("weight-perturbation", fg.SGD)):
        done = fgtrain("train", *given, "--estimator", estimator, "--out", estimator)
        assert done.code == 0
        config = RunConfig.from_toml(folder / estimator / "config.toml")
        assert (config.optimizer, config.learning_rate, config.decay) == ("auto", None, 0.1)
        optimizer = assemble(config, fg.datasets.load("digits")).trainer.optimizer
        assert optimizer == made(MeasuredRate(Exponential(1.0, 0.1)))
    # The settings of a run make the same run again.
    fgtrain("train", "--config", "feedback/config.toml", "--out", "again", "--quiet")
    first, second = (fg.load(folder / name).parameters() for name in ("feedback", "again"))
    assert all((first[name] == second[name]).all() for name in first)
    table = fgtrain(
        "compare", "--model", "logreg", "--steps", 20, "--optimizer", "auto", "--estimators", "feedback,local"
    )
    assert "measured" in table.out


def test_auto_takes_a_schedule_and_no_rate(fgtrain):
    config = RunConfig(optimizer="auto", schedule="cosine", steps=100, warmup=5)
    optimizer = assemble(config, fg.datasets.load("digits")).trainer.optimizer
    assert optimizer == fg.Adam(MeasuredRate(Warmup(Cosine(1.0, 100, 0.1), 5)))
    given = ("--optimizer", "auto")
    assert (
        "learning_rate is 0.1 beside the optimizer 'auto'"
        in fgtrain("train", *given, "--learning-rate", 0.1).error
    )
    assert "there is none to search" in fgtrain("search", *given).error
    assert (
        "momentum is 0.5; the optimizer 'auto' has none" in fgtrain("train", *given, "--momentum", 0.5).error
    )
