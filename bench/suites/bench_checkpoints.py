"""The cost of checkpoints: the time of one over that of a step, and their share of a run that writes one in 5 minutes.

The least work of a checkpoint is to hash its bytes once and to write them once; then it waits for the disk. The replay
log costs some bytes in memory in each step, and a small write in each block of steps.
"""

import numpy as np
import pytest

import fgnumba as fg
from fgnumba.bench.measure.networks import network
from fgnumba.bench.measure.timing import interleaved
from fgnumba.estimators import RECIPES
from fgnumba.training.checkpoints import MINUTES

STEPS, BATCH, SHARE = 100, 64, 0.02
OPTIMIZERS = {"weight-perturbation": fg.SGD(1e-9), "feedback": fg.Adam(1e-9)}


def trainer(name: str) -> fg.Trainer:
    return fg.Trainer(
        network("mlp"), estimator=RECIPES[name].build(name, None, None), optimizer=OPTIMIZERS[name]
    )


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    x, y = rng.random((1024, 28, 28, 1), np.float32), rng.integers(0, 10, 1024)
    return fg.datasets.Dataset("random", x, y, x[:64].copy(), y[:64].copy(), 10)


class _Noting(fg.Checkpoints):
    """Checkpoints that note what the last one was made of, so that it can be written again."""

    def save(self, step, facts, arrays):
        self.last = step, facts, arrays
        return super().save(step, facts, arrays)


@pytest.mark.quick
@pytest.mark.benchmark(group="checkpoints")
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_checkpoint(benchmark, goal, threads, data, tmp_path, name):
    one, saved = trainer(name), _Noting(tmp_path, minutes=None)
    one.fit(data, steps=STEPS, batch_size=BATCH, checkpoints=saved)
    nbytes = saved.found()[0].stat().st_size
    with saved.opened(resume=True):
        timings = interleaved(
            {
                "step": lambda: one.step(data.x_train[:BATCH], data.y_train[:BATCH]),
                "checkpoint": lambda: saved.save(*saved.last),
            }
        )
        benchmark.pedantic(lambda: saved.save(*saved.last), rounds=10)
    seconds = timings.seconds("checkpoint")
    what = f"{name}: a checkpoint of {nbytes / 1e6:.1f} MB, {threads} threads"
    goal(f"{what}, over a step", timings.ratio("checkpoint", "step"))
    goal(f"{what}, share of a run, one in {MINUTES:g} minutes", seconds / (60 * MINUTES), at_most=SHARE)


@pytest.mark.quick
@pytest.mark.benchmark(group="checkpoints")
def test_a_log_of_scalars(benchmark, goal, threads, data, tmp_path):
    apart, logged = trainer("weight-perturbation"), trainer("weight-perturbation")
    saved = fg.Checkpoints(tmp_path, minutes=None)
    batch = data.x_train[:BATCH], data.y_train[:BATCH]

    def step() -> None:
        logged.step(*batch)
        saved.log_step(logged)

    with saved.opened(resume=False):
        saved.follow(logged, logged.plan(BATCH))
        timings = interleaved({"with": step, "without": lambda: apart.step(*batch)})
        benchmark.pedantic(step, rounds=10, iterations=2)
    ratio = timings.ratio("with", "without")
    goal(f"step with a log of its scalars over one without, {threads} threads", ratio, at_most=1 + SHARE)
