"""The progress bar of a run, rendered at several widths of a terminal, and the lines about compiled kernels."""

import io
import math
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from fgnumba.cli import bar, figures, progress
from fgnumba.training.records import Record, StepResult

STEPS = 10_000


def rendered(monkeypatch, width, loss=0.1234, metrics=None):
    """Return the last line that a bar shows after 4,500 of 10,000 steps on a terminal of this width."""
    stream = io.StringIO()
    console = Console(file=stream, width=width, force_terminal=False, color_system=None)
    monkeypatch.setattr(bar, "console", lambda: console)
    shown = bar.Bar("digits-mlp, 1,126,410 parameters, on cpu")
    shown.on_start(None, STEPS)
    for step in (1, 2, 3):
        shown.on_step(step, StepResult(loss, 0.0))
    record = Record(4500, 1.0, loss, validation_loss=0.5, validation_accuracy=0.98125)
    if metrics is not None:
        record = Record(4500, 1.0, loss, metrics=metrics)
    shown.on_record(record)
    task = shown._progress.tasks[0]
    task.fields |= {"loss": figures.number(loss), "speed": "1,234"}
    monkeypatch.setattr(bar, "time_left", lambda task: "1:05")
    shown._progress.stop()
    (line,) = list(shown._progress.get_renderables())
    with console.capture() as capture:
        console.print(line)
    assert stream.getvalue().splitlines()[0].startswith("digits-mlp, 1,126,410 parameters"[:width])
    (text,) = capture.get().splitlines()
    return text


@pytest.mark.parametrize(
    ("width", "expected"),
    [
        (40, " 45 %  loss 0.1234  1:05"),
        (54, " 45 %  loss 0.1234  acc 0.9812  1:05 left"),
        (60, " 45 %  loss 0.1234  acc 0.9812  1,234/s  1:05 left"),
        (80, " 45 %  loss 0.1234  accuracy 0.9812  1,234 steps/s  1:05 left"),
        (120, "4,500/10,000   45 %  loss 0.1234  accuracy 0.9812  1,234 steps/s  1:05 left"),
    ],
)
def test_a_bar_is_whole_at_every_width(monkeypatch, width, expected):
    text = rendered(monkeypatch, width)
    assert text.rstrip().endswith(expected)
    assert len(text) <= width
    assert "…" not in text
    assert text.startswith("━" * (bar.SHORTEST * 45 // 100))
    assert len(text.rstrip()) - len(expected) >= bar.SHORTEST


@pytest.mark.parametrize("width", range(8, 130, 3))
@pytest.mark.parametrize("loss", [0.1, 123456.789, 1.6e10, math.nan])
def test_no_figure_is_cut(monkeypatch, width, loss):
    text = rendered(monkeypatch, width, loss).rstrip()
    assert len(text) <= width
    assert "…" not in text
    assert text.endswith(("left", " %", "1:05")) or width < bar.SHORTEST + 7


def test_a_metric_other_than_accuracy(monkeypatch):
    assert "r2 0.5000" in rendered(monkeypatch, 80, metrics={"validation_r2": 0.5, "test_r2": 0.25})
    assert "accuracy" not in rendered(monkeypatch, 80, metrics={})


def test_numbers_stay_short():
    assert [figures.number(value) for value in (0.12345, 9999.0, 1.6e10, math.nan)] == [
        "0.1235",
        "9999.0000",
        "1.600e+10",
        "nan",
    ]


@pytest.mark.parametrize(
    ("seconds", "expected"), [(None, "-:--"), (0, "0:00"), (64.2, "1:05"), (7265, "2:01:05")]
)
def test_time_left(seconds, expected):
    task: Any = SimpleNamespace(time_remaining=seconds)
    assert bar.time_left(task) == expected


@pytest.fixture
def compiled(monkeypatch):
    """Return a `Compiled`, the lines that it says, and a clock that tests set."""
    clock: list[float] = [0.0]
    lines: list[str] = []
    monkeypatch.setattr(progress.time, "perf_counter", lambda: clock[0])
    made = progress.Compiled(lines.append)
    yield made, lines, clock
    made.stop()


def test_kernels_are_counted(compiled):
    from fgnumba.kernels.machine.compile import announce, announce_end

    made, lines, clock = compiled
    for number in range(7):
        announce(f"kernel {number}")
        clock[0] += 0.5
        announce_end(f"kernel {number}", True)
    assert lines == ["compiling kernels ..."]
    made.on_step(1, StepResult(0.0, 0.0))
    made.on_step(2, StepResult(0.0, 0.0))
    assert lines[1:] == ["compiled 7 kernels in 3.5 s, kept for next time"]
    announce("one more")
    announce_end("one more", False)
    made.stop()
    assert lines[2:] == ["compiling kernels ...", "compiled 1 kernel in 0.0 s"]


def test_kernels_of_the_cache_are_not_mentioned(fgtrain):
    fgtrain("train", "--widths", 8, "--steps", 2)
    assert "compil" not in fgtrain("train", "--widths", 8, "--steps", 2).err
