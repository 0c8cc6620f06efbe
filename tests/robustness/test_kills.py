"""Runs that are killed and resumed: they end with the bits of an uninterrupted run."""

import random
import signal
import time

import pytest

from tests.fault_runs import (
    KINDS,
    assert_undisturbed,
    ended,
    had_ended,
    happens,
    has_ended,
    in_process,
    killed,
    newest,
    start,
)

STEPS_A_KILL = 120


def settings(kind, steps):
    return ("--steps", steps, "--widths", 16, "--checkpoint-every", 2, "--quiet", *KINDS[kind])


class Victim:
    """A run that is killed at random moments.

    Attributes
    ----------
    startup : seconds that its last process took to its first new checkpoint. Half of the kills fall into that time:
        into imports, the beginning, what is restored. The others hit training, and the writing of checkpoints.
    """

    def __init__(self, run, arguments, seed):
        self.run, self._begin, self._random = run, ("train", *arguments, "--out", run), random.Random(seed)
        self.startup, self.begun = 1.0, 0

    def process(self):
        if (self.run / "config.toml").exists():
            return start("train", "--resume", self.run, "--quiet", cwd=self.run.parent)
        assert not self.run.exists()
        self.begun += 1
        return start(*self._begin, cwd=self.run.parent)

    def kill(self, early):
        """Kill the next process of the run; return whether it was killed before it ended by itself."""
        before, began, over, process = newest(self.run), time.monotonic(), has_ended(self.run), self.process()
        if early:
            time.sleep(self._random.uniform(0, self.startup))
        else:
            happens(lambda: newest(self.run) > before, process)
            self.startup = time.monotonic() - began
            time.sleep(self._random.uniform(0, 0.05))
        status, _, errors = killed(process)
        assert status in (-signal.SIGKILL, 0)
        assert errors == "" or (over and errors == f"{had_ended(self.run)}\n")
        return status != 0


def check_kills(folder, kind, kills, seed):
    arguments = settings(kind, kills * STEPS_A_KILL)
    assert in_process("train", *arguments, "--out", folder / "reference")[0] == 0
    victim = Victim(folder / "run", arguments, seed)
    # A machine that is busy with the run alone may end it first.
    assert victim.kill(early=True)
    if all(victim.kill(early=number % 2 == 0) for number in range(1, kills)):
        over = has_ended(victim.run)
        status, _, errors = ended(victim.process())
        assert (status, errors) == (0, f"{had_ended(victim.run)}\n" if over else "")
    assert_undisturbed(folder / "run", folder / "reference")


@pytest.mark.parametrize("kind", ["feedback", "compact"])
def test_a_run_that_is_killed_at_random_moments(folder, kind):
    check_kills(folder, kind, 5, seed=1)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("kind", KINDS)
def test_a_run_that_is_killed_twenty_times(folder, kind, seed):
    check_kills(folder, kind, 20, seed)
