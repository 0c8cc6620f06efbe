"""Signals: the first ends a run after its step, the second immediately; other commands end with one line."""

import os
import random
import shlex
import signal
import subprocess
import sys
import threading
import time

import pytest

from fgnumba.cli import message as message_module
from fgnumba.cli.signals import ENDING, INSISTENT, Ended, Interrupt
from fgnumba.runs import run_folder
from tests.fault_runs import (
    COMMAND,
    ENVIRONMENT,
    PATIENCE,
    assert_undisturbed,
    ended,
    in_process,
    newest,
    start,
    wait_for,
)

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs signals of POSIX")

SETTINGS = ("--steps", "6000", "--widths", "16")
ENDLESS = ("--steps", "1000000", "--widths", "16")
# Of half an hour, in a few hundred megabytes.
LONG_STEP = shlex.split(
    "--estimator weight-perturbation --direction gaussian --directions 32768 --batch-size 1"
)
LONG_STEP += ["--widths", ",".join(["1024"] * 12)]


@pytest.fixture(autouse=True)
def heeded():
    """Let processes begin with an interrupt that is not ignored, as it is in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def has_recorded(run, lines=1):
    return lambda: (
        (run / "metrics.jsonl").exists() and (run / "metrics.jsonl").read_bytes().count(b"\n") >= lines
    )


def has_said(process, text):
    return lambda: text in process.messages.read_text(encoding="utf-8")


def resumption(errors):
    """Return the step after which a run stopped, that it goes on from, and the command for it."""
    line = errors.splitlines()[-1]
    stopped, _, rest = line.removeprefix("stopped after step ").partition("; to continue from step ")
    step, _, command = rest.partition(": ")
    return int(stopped), int(step), command


def test_the_command_that_an_interrupt_leaves_continues_the_run(folder):
    run = folder / """it's "a" $run"""
    assert in_process("train", *SETTINGS, "--quiet", "--out", "reference")[0] == 0
    process = start(
        "train", *SETTINGS, "--checkpoint-every", 1000, "--quiet", "--out", run, cwd=folder, hold=1000
    )
    process.send_signal(signal.SIGINT)
    wait_for(has_said(process, "interrupt again to stop at once"), process)
    process.release()
    status, out, errors = ended(process)
    assert (status, out) == (130, "")
    stopped, step, command = resumption(errors)
    assert 1000 <= stopped == step == newest(run) < 6000
    script = f'fgtrain() {{ {shlex.join(COMMAND)} "$@"; }}\n{command} --quiet'
    subprocess.run(["sh", "-c", script], cwd=folder, env=ENVIRONMENT, check=True, timeout=PATIENCE)
    assert_undisturbed(run, folder / "reference")


def ignoring(number, run, *options):
    """Return a process that trains although a signal came that was ignored where it was started."""
    before = signal.signal(number, signal.SIG_IGN)
    try:
        process = start("train", *ENDLESS, "--checkpoint-every", 20, *options, "--out", run, cwd=run.parent)
    finally:
        signal.signal(number, before)
    wait_for(lambda: newest(run) > 0, process)
    process.send_signal(number)
    step = newest(run)
    wait_for(lambda: newest(run) > step, process)
    return process


def test_an_interrupt_that_is_ignored_stays_so(folder):
    run = folder / "run"
    process = ignoring(signal.SIGINT, run)
    process.send_signal(signal.SIGTERM)
    status, _, errors = ended(process)
    assert status == 143
    stopped, step, _ = resumption(errors)
    assert stopped == step == newest(run)


def test_a_second_signal_ends_a_long_step_and_restores_the_terminal(folder):
    import pty

    leader, follower = pty.openpty()
    process = subprocess.Popen(
        [*COMMAND, "train", *LONG_STEP, "--out", "run"],
        stderr=follower,
        cwd=folder,
        env={**ENVIRONMENT, "TERM": "xterm"},
    )
    os.close(follower)
    # Whatever holds it up ends.
    guard = threading.Timer(PATIENCE, process.kill)
    guard.start()
    shown = b""
    signals = 0
    while True:
        try:
            shown += os.read(leader, 4096)
        except OSError:  # The other end is closed.
            break
        # The log of steps is begun: the first step runs, or does after so long at the latest.
        # The bar is there, which has hidden the cursor.
        if signals == 0 and (folder / "run" / "replay.log").exists() and b"\x1b[?25l" in shown:
            time.sleep(1)
            process.send_signal(signal.SIGINT)
            signals = 1
        if signals == 1 and b"interrupt again to stop at once" in shown:
            process.send_signal(signal.SIGTERM)
            signals = 2
    os.close(leader)
    assert process.wait() == 143
    guard.cancel()
    assert newest(folder / "run") == 0
    assert shown.rfind(b"\x1b[?25h") > shown.rfind(b"\x1b[?25l"), "the cursor is still hidden"
    assert in_process("evaluate", "run")[0] == 2


def test_signals_while_kernels_are_compiled(folder):
    process = start("train", *SETTINGS, "--out", "run", cwd=folder, FGNUMBA_CACHE_DIR=str(folder / "cache"))
    wait_for(has_said(process, "compiling kernels"), process)
    process.send_signal(signal.SIGINT)
    wait_for(has_said(process, "interrupt again to stop at once"), process)
    process.send_signal(signal.SIGINT)
    assert ended(process)[0] == 130
    assert newest(folder / "run") == 0


@pytest.mark.slow
def test_one_signal_while_kernels_are_compiled_waits_for_a_step(folder):
    process = start("train", *SETTINGS, "--out", "run", cwd=folder, FGNUMBA_CACHE_DIR=str(folder / "cache"))
    wait_for(has_said(process, "compiling kernels"), process)
    process.send_signal(signal.SIGTERM)
    status, _, errors = ended(process)
    assert status == 143
    assert resumption(errors)[:2] == (1, 1)
    assert newest(folder / "run") == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_before_a_run_has_begun(folder, number):
    process = start("train", *SETTINGS, "--quiet", "--out", "run", cwd=folder)
    time.sleep(random.Random(number).uniform(0, 0.5))
    # Where the loader of a module drops the interrupt, as Python may, another one follows.
    while process.poll() is None:
        process.send_signal(number)
        time.sleep(0.05)
    assert ended(process)[0] in (-number, 128 + number)
    # There is no run, or one that can be resumed.
    assert not (folder / "run").exists() or (folder / "run" / "config.toml").exists()


def test_an_interrupt_that_ends_the_reader_of_messages_too(folder):
    run = folder / "run"
    reader, writer = os.pipe()
    process = subprocess.Popen(
        [*COMMAND, "train", *ENDLESS, "--out", "run"], stderr=writer, cwd=folder, env=ENVIRONMENT
    )
    os.close(writer)
    while not has_recorded(run)():
        assert os.read(reader, 4096)
    os.close(reader)
    process.send_signal(signal.SIGINT)
    assert process.wait(PATIENCE) == 130
    assert newest(run) > 0


def ending():
    return [number for number in ENDING if number not in (signal.SIGINT, signal.SIGTERM)]


@pytest.mark.parametrize("number", ending(), ids=lambda number: number.name)
def test_every_signal_that_ends_a_process_leaves_a_checkpoint(folder, number):
    if signal.getsignal(number) is signal.SIG_IGN:
        pytest.skip("it is ignored here, as under nohup, and so in children")
    run = folder / "run"
    process = start(
        "train", *SETTINGS, "--quiet", "--out", run, "--checkpoint-every", 500, cwd=folder, hold=500
    )
    # A closed terminal and a limit of time say it more than once: the step is finished all the same.
    for _ in range(3):
        process.send_signal(number)
        wait_for(has_said(process, "interrupt again to stop at once"), process)
    process.release()
    status, _, errors = ended(process)
    assert status == 128 + number
    stopped, step, _ = resumption(errors)
    assert 500 <= stopped == step == newest(run) < 6000


def test_a_closed_terminal_is_ignored_where_it_was(folder):
    process = ignoring(signal.SIGHUP, folder / "run", "--quiet")
    process.send_signal(signal.SIGUSR1)
    assert ended(process)[0] == 128 + signal.SIGUSR1


# Each says a line as it begins, and would take minutes.
LONG = {
    "compare": ("compare", "--widths", "16", "--steps", "10000000", "--evaluations", "10000000"),
    "search": ("search", "--widths", "16", "--lowest", "1e-4", "--steps", "1000000", "--out", "found"),
}


@pytest.mark.parametrize(("name", "number"), [("compare", signal.SIGHUP), ("search", signal.SIGTERM)])
def test_other_commands_end_with_one_line(folder, name, number):
    process = start(*LONG[name], cwd=folder)
    begun = (folder / "found").exists if name == "search" else has_said(process, "comparing on")
    wait_for(begun, process)
    time.sleep(1)
    process.send_signal(number)
    status, out, errors = ended(process)
    assert (status, out) == (128 + number, "")
    last = f"fgtrain: ended by {number.name}"
    hint = "; run the same command again to continue" if name == "search" else ""
    assert errors.splitlines()[-1] == last + hint
    assert "Traceback" not in errors
    assert not (folder / "compared").exists()


@pytest.mark.parametrize("number", ENDING, ids=lambda number: number.name)
def test_a_signal_that_ends_a_command_is_raised_once(number):
    with Interrupt() as interrupt:
        with pytest.raises(Ended) as caught:
            signal.raise_signal(number)
        assert caught.value.number == number
        if number not in INSISTENT:
            signal.raise_signal(number)
        with pytest.raises(Ended):
            interrupt.check()
    assert signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler)


WAITING = """
import time
from pathlib import Path
import fgnumba as fg
from fgnumba.cli.main import main

def load(*_, **__):
    Path("waits").touch()
    time.sleep(600)

fg.datasets.load = load
main()
"""


def waiting(*arguments, cwd):
    command = [sys.executable, "-c", WAITING, *arguments]
    process = subprocess.Popen(command, cwd=cwd, env=ENVIRONMENT, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + PATIENCE
    while not (cwd / "waits").exists():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return process


@pytest.mark.parametrize("number", ENDING, ids=lambda number: number.name)
def test_a_signal_before_the_first_step_is_said(folder, number):
    process = waiting("train", "--out", "run", cwd=folder)
    process.send_signal(number)
    _, errors = process.communicate(timeout=PATIENCE)
    assert (process.returncode, errors) == (128 + number, f"fgtrain: ended by {number.name}\n")
    assert not (folder / "run").exists()


def test_timers_and_power_supplies_end_a_process():
    names = {"SIGPWR", "SIGALRM", "SIGVTALRM", "SIGPROF"}
    assert {number.name for number in ENDING} >= {name for name in names if hasattr(signal, name)}


def test_an_interrupt_within_another():
    with Interrupt():
        with Interrupt() as inner:
            with pytest.raises(Ended):
                signal.raise_signal(signal.SIGTERM)
            with pytest.raises(Ended):
                inner.check()
        with pytest.raises(Ended):
            signal.raise_signal(signal.SIGTERM)
        # What the outer one heard, and was lost, is raised by the next.
        with pytest.raises(Ended), Interrupt():
            pass
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


@pytest.mark.parametrize("quiet", [(), ("--quiet",)])
def test_a_signal_after_the_last_step(fgtrain, folder, monkeypatch, quiet):
    heard, finish = threading.Event(), run_folder.finish

    def say(message):
        message_module.say(message)
        heard.set()

    def signalled(*arguments):
        signal.raise_signal(signal.SIGTERM)
        assert heard.wait(PATIENCE)
        finish(*arguments)

    monkeypatch.setattr("fgnumba.cli.signals.say", say)
    monkeypatch.setattr(run_folder, "finish", signalled)
    done = fgtrain("train", "--steps", 3, "--widths", 8, "--out", "run", *quiet)
    assert done.code == 0
    assert done.err.splitlines()[-1] == "SIGTERM came after the last step: the run has ended, run is complete"
    assert fgtrain("evaluate", "run").code == 0


def test_a_quiet_run_that_is_stopped_says_two_lines(folder):
    process = start(
        "train", *SETTINGS, "--checkpoint-every", 500, "--quiet", "--out", "run", cwd=folder, hold=500
    )
    process.send_signal(signal.SIGTERM)
    wait_for(has_said(process, "interrupt again to stop at once"), process)
    process.release()
    first, second = ended(process)[2].splitlines()
    assert first == "stopping after this step; interrupt again to stop at once"
    assert second.startswith("stopped after step ")
