"""The choice between one thread and several."""

import pytest

from fgnumba.kernels.program import Choice


def run(choice, parallel_seconds, serial_seconds, runs):
    """Return the share of runs that were parallel, and the time of all over the time of the better way."""
    parallel = total = 0.0
    for i in range(runs):
        way = choice.parallel()
        seconds = (parallel_seconds if way else serial_seconds)(i)
        choice.record(seconds)
        parallel, total = parallel + way, total + seconds
    return parallel / runs, total


@pytest.mark.parametrize(("parallel", "serial"), [(1e-3, 2e-3), (1e-3, 1e-4), (1e-1, 1e-4), (1e-5, 2e-5)])
def test_the_faster_way_is_taken_and_trials_cost_little(parallel, serial):
    share, total = run(Choice(), lambda i: parallel, lambda i: serial, 20_000)
    assert share > 0.98 if parallel < serial else share < 0.02
    first_trials = 2 * Choice.TRIALS * max(parallel, serial)
    assert total < 1.06 * 20_000 * min(parallel, serial) + first_trials


def test_a_machine_that_gets_busy_and_quiet_again_is_followed():
    choice = Choice()
    run(choice, lambda i: 1e-3, lambda i: 1.9e-3, 2000)
    busy, _ = run(choice, lambda i: 1e-2, lambda i: 2e-3, 5000)
    assert busy < 0.05
    quiet, _ = run(choice, lambda i: 1e-3, lambda i: 1.9e-3, 20_000)
    assert quiet > 0.9


def test_rare_hiccups_do_not_lose_the_better_way_for_long():
    share, _ = run(Choice(), lambda i: 0.1 if i % 5000 == 4999 else 1e-3, lambda i: 2e-3, 50_000)
    assert share > 0.8
