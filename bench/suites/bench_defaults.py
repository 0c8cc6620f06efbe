"""Time and test accuracy of `fgtrain train` with its default settings.

Each seed runs in a process of its own, with kernels compiled before. The time is that of the whole command, from the
start of Python to the last file of the run folder.
"""

import re
import statistics
import subprocess
import sys
import time
from pathlib import Path

import pytest

COMMAND = "from fgnumba.cli.main import main; main()"
SEEDS = {"digits": (0, 1, 2), "mnist": (0, 1)}


def trained(folder: Path, *options: str) -> tuple[float, float]:
    """Return the seconds and the test accuracy of a run."""
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", COMMAND, "train", *options, "--device", "cpu", "--out", str(folder)],
        capture_output=True,
        text=True,
        check=True,
    )
    seconds = time.perf_counter() - start
    summary = re.match(r"test accuracy (\S+),", done.stdout)
    assert summary, done.stdout
    return seconds, float(summary[1])


@pytest.mark.benchmark(group="defaults")
@pytest.mark.parametrize(("data", "seconds", "accuracy"), [("digits", 10, 0.97), ("mnist", 45, 0.984)])
def test_defaults(benchmark, goal, request, tmp_path, data, seconds, accuracy):
    options: tuple[str, ...] = ("--data", data)
    if data == "mnist":
        folder = request.config.getoption("mnist")
        if folder is None:
            pytest.skip("--mnist DIR names the folder of MNIST's files")
        options = (*options, "--data-dir", folder)
    trained(tmp_path / "first", *options, "--steps", "1")
    runs = [trained(tmp_path / str(seed), *options, "--seed", str(seed)) for seed in SEEDS[data]]
    benchmark.pedantic(lambda: trained(tmp_path / "again", *options), rounds=1)
    goal(f"fgtrain train, {data}: seconds", statistics.median(s for s, _ in runs), at_most=seconds, unit="s")
    goal(f"fgtrain train, {data}: least test accuracy of seeds", min(a for _, a in runs), at_least=accuracy)
