"""Measurements that need a whole process: its peak memory, its start time, and the time to its first step."""

import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import pytest

MEMORY = """
import json, resource, sys
import numpy as np
import fgnumba as fg
if sys.argv[2] == "cnn":
    from fgnumba.runs.presets import model_from, tables
    model = model_from(tables("cnn", 10), 10, "cnn", (28, 28, 1), device="cpu")
else:
    layers = [fg.Dense(8192, activation="relu"), fg.Dense(4096, activation="relu"), fg.Dense(10)]
    model = fg.Sequential(layers, 4096, device="cpu")
rng = np.random.default_rng(0)
x, y = rng.random((64, *model.input_shape), np.float32), rng.integers(0, 10, 64)
trainer = fg.Trainer(model, optimizer=fg.SGD(1e-7))
for _ in range(3):
    model(x) if sys.argv[1] == "inference" else trainer.step(x, y)
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps({"peak": peak, "parameters": model.parameter_count * 4}))
"""

FIRST_STEP = """
import time
start = time.perf_counter()
import numpy as np
import fgnumba as fg
layers = [fg.Dense(1024, activation="relu"), fg.Dense(1024, activation="relu"), fg.Dense(10)]
trainer = fg.Trainer(fg.Sequential(layers, 784, device="cpu"), optimizer=fg.SGD(1e-7))
trainer.step(np.zeros((64, 784), np.float32), np.zeros(64, np.int64))
print(time.perf_counter() - start)
"""


def run(source: str, *arguments: str, **environment: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", source, *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=True,
    ).stdout


@pytest.mark.benchmark(group="processes")
@pytest.mark.parametrize(("network", "least"), [("perceptron", 250e6), ("cnn", 13e6)])
def test_peak_memory_of_training(benchmark, goal, network, least):
    """Peak memory of a whole process, with the interpreter and the libraries, at batch size 64."""
    pytest.importorskip("resource")
    peaks = {mode: json.loads(run(MEMORY, mode, network)) for mode in ("inference", "training")}
    assert peaks["inference"]["parameters"] > least
    benchmark.pedantic(lambda: run(MEMORY, "training", network), rounds=1)
    goal(
        f"{network}: peak memory of training over inference",
        peaks["training"]["peak"] / peaks["inference"]["peak"],
        at_most=1.1,
    )


@pytest.mark.benchmark(group="processes")
def test_first_steps(benchmark, goal, tmp_path):
    cold = float(run(FIRST_STEP, FGNUMBA_CACHE_DIR=str(tmp_path)))
    cached = statistics.median(float(run(FIRST_STEP, FGNUMBA_CACHE_DIR=str(tmp_path))) for _ in range(5))
    benchmark.pedantic(lambda: run(FIRST_STEP, FGNUMBA_CACHE_DIR=str(tmp_path)), rounds=3)
    goal("first step ever", cold, at_most=60, unit="s")
    goal("first step, kernels cached", cached, at_most=3, unit="s")


@pytest.mark.benchmark(group="processes")
def test_help(benchmark, goal):
    program = Path(sys.executable).with_name("fgtrain")
    if not program.exists():
        pytest.skip("fgtrain is not installed beside this Python")

    def call() -> None:
        subprocess.run([program, "--help"], capture_output=True, check=True)

    call()
    samples = []
    for _ in range(9):
        start = time.perf_counter()
        call()
        samples.append(time.perf_counter() - start)
    benchmark.pedantic(call, rounds=3)
    goal("fgtrain --help", statistics.median(samples), at_most=0.4, unit="s")
