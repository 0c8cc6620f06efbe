"""Lines of ``metrics.jsonl``: what was measured, read again as it was written."""

import json
import math

import pytest

import fgnumba as fg
from fgnumba.training import metrics


def a_record(**figures):
    return fg.Record(step=4, epoch=1.0, loss=0.5, learning_rate=0.1, seconds=1.5, **figures)


@pytest.mark.parametrize(
    "taken",
    [
        {},
        {"validation_loss": 0.25, "validation_accuracy": 0.5},
        {"validation_loss": math.inf, "validation_accuracy": 0.5},
        {"test_loss": math.nan, "test_accuracy": 0.25},
        {
            "test_loss": math.inf,
            "test_accuracy": 0.0,
            "validation_loss": math.nan,
            "validation_accuracy": 0.0,
        },
    ],
)
def test_a_line_that_is_read_and_written_again_is_the_same(tmp_path, taken):
    path = tmp_path / "metrics.jsonl"
    line = metrics.line_of(a_record(**taken))
    path.write_text(line)
    (found,) = metrics.read_records(path)
    assert metrics.line_of(found) == line
    # What was taken is not passed over, also where it is no number.
    assert json.loads(line).keys() - {"step", "epoch", "loss", "learning_rate", "seconds"} == taken.keys()
