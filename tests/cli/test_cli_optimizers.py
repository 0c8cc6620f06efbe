"""Options of optimisers on the command line: what they default to, and where they are refused."""

import pytest

import fgnumba as fg
from fgnumba.runs.assembly import assemble
from fgnumba.runs.configuration import RunConfig


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
