"""Runs in processes of their own that tests kill, and the comparison of a resumed run with an uninterrupted one."""

import contextlib
import io
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

import fgnumba as fg
from fgnumba.cli.main import main
from fgnumba.runs.run_folder import STATE

COMMAND = [sys.executable, "-c", "from fgnumba.cli.main import main; main()"]
# What follows a checkpoint waits as long as a file is there.
HELD = [
    sys.executable,
    "-c",
    """
import os, sys, time
from pathlib import Path
from fgnumba.cli.main import main

held, step = Path(sys.argv.pop(1)), int(sys.argv.pop(1))
replace = os.replace

def replace_and_wait(source, destination):
    replace(source, destination)
    if destination.name == f"step-{step:012}.safetensors":
        held.touch()
        while held.exists():
            time.sleep(0.001)

os.replace = replace_and_wait
main()
""",
]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(fg.__file__).parent.parent), "FGNUMBA_THREADS": "1"}
PATIENCE = 300
"""Seconds that a slow machine has for anything that is waited for."""

WEIGHTS = ("--estimator", "weight-perturbation", "--directions", "2", "--momentum", "0.9")
KINDS = {"feedback": (), "weights": WEIGHTS, "compact": (*WEIGHTS, "--compact")}


class Process(subprocess.Popen):
    """`fgtrain`; its errors go to a file in `cwd`, so that they can be read while it runs.

    With `hold` it has just written the checkpoint of that step, and waits there until it is released: what happens
    to it meanwhile does so in the midst of the run, however busy the machine is with it alone.
    """

    def __init__(self, arguments, cwd, environment, hold=None):
        self.messages, self._held = cwd / "stderr", cwd / "held"
        command = COMMAND if hold is None else [*HELD, str(self._held), str(hold)]
        with self.messages.open("wb") as errors:
            super().__init__(
                [*command, *map(str, arguments)],
                cwd=cwd,
                env={**ENVIRONMENT, **environment},
                stdout=subprocess.PIPE,
                stderr=errors,
            )
        if hold is not None:
            wait_for(self._held.exists, self)

    def release(self):
        self._held.unlink()


def start(*arguments, cwd, hold=None, **environment):
    return Process(arguments, cwd, environment, hold)


def ended(process):
    """Return exit status, output and errors of a process that is about to end."""
    try:
        out, _ = process.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    return process.returncode, out.decode(), process.messages.read_text(encoding="utf-8")


def killed(process):
    """Kill a process; return its exit status, output and errors."""
    process.kill()
    return ended(process)


def has_ended(run):
    """Return whether all of a run but its process has ended: it may be killed then."""
    return (run / "model.safetensors").exists()


def had_ended(run):
    """Return the line that a resumption says of such a run."""
    return f"{run} has ended; there is nothing to continue"


def happens(condition, process):
    """Wait until a condition holds; return whether it did before the process ended."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if process.poll() is not None:
            return condition()
        if time.monotonic() > deadline:
            process.kill()
            pytest.fail(f"waited in vain: {ended(process)}")
        time.sleep(0.001)
    return True


def wait_for(condition, process):
    """Wait until a condition holds; fail where the process ends before."""
    if not happens(condition, process):
        pytest.fail(f"ended before: {ended(process)}")


def newest(run):
    """Return the step of the newest checkpoint, 0 without any."""
    return max((int(path.name[5:17]) for path in run.glob("checkpoints/step-*.safetensors")), default=0)


def in_process(*arguments):
    """Run `fgtrain` here, where everything is imported; return exit status and output."""
    with pytest.raises(SystemExit) as caught, contextlib.redirect_stdout(io.StringIO()) as out:
        main([str(argument) for argument in arguments])
    return caught.value.code, out.getvalue()


def records(run):
    """Return the lines of metrics.jsonl but for the time that steps took."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    return [{name: value for name, value in line.items() if name != "seconds"} for line in lines]


def assert_undisturbed(run, reference):
    """Assert that a run ended as one that nothing disturbed, and left nothing but its result."""
    assert (run / "model.safetensors").read_bytes() == (reference / "model.safetensors").read_bytes()
    found = records(run)
    steps = [record["step"] for record in found]
    assert steps == sorted(set(steps))
    assert found == records(reference)
    if not (run / "loss.png").exists():
        # The disk had no room for it: it is drawn when there is.
        assert in_process("train", "--resume", run, "--quiet")[0] == 0
    # The state is a checkpoint, for which a full disk may have had no room.
    names, expected = ({path.name for path in one.iterdir()} for one in (run, reference))
    assert names - {STATE} == expected - {STATE}
    if (reference / "replay.log").exists():
        status, out = in_process("replay", run, "--quiet")
        assert status == 0
        assert out.rstrip().endswith("identical to model.safetensors")
