"""The process in which sequences run: it may crash, and its log says after which rule."""

import contextlib
import faulthandler
import gc
import json
import os
import sys
import time
from pathlib import Path

from tests import guarded

# Before the package, whose modules take what they allocate with by name.
GUARD = guarded.Guard(kept=20_000)
guarded.install(GUARD)
guarded.cut_small_pieces()

import hypothesis  # noqa: E402
from hypothesis.database import DirectoryBasedExampleDatabase  # noqa: E402
from hypothesis.stateful import run_state_machine_as_test  # noqa: E402

from tests.state_machine import machine  # noqa: E402
from tests.state_machine.log import signature  # noqa: E402

SHORTEN_SECONDS = 240


def search(folder: Path, seed: int, examples: int, steps: int, spawns: bool) -> int:
    """Try sequences; leave a report and return 1 where one failed."""
    machine.surround(folder / "log", GUARD)
    known = folder / "known.json"
    if known.exists():
        machine.Surroundings.known = set(json.loads(known.read_text(encoding="utf-8")))
    machine.Surroundings.spawns = spawns
    settings = hypothesis.settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        database=DirectoryBasedExampleDatabase(folder / "examples"),
        suppress_health_check=list(hypothesis.HealthCheck),
        # What failed is made shorter in children, whether it was by an exception or a crash.
        phases=[hypothesis.Phase.reuse, hypothesis.Phase.generate],
        print_blob=False,
    )
    hypothesis.seed(seed)(machine.Machine)
    try:
        run_state_machine_as_test(machine.Machine, settings=settings)
    except Exception as error:
        failed = machine.Surroundings.met[-1] if machine.Surroundings.met else signature("search", error)
        (folder / "report.json").write_text(json.dumps({"signature": failed}), encoding="utf-8")
        # Hypothesis notes the sequence, which is printed as short as it gets.
        error.__notes__ = []
        sys.excepthook(type(error), error, error.__traceback__)
        return 1
    return 0


def play(folder: Path, path: Path) -> int:
    """Take the sequence of a file; an exception ends this."""
    machine.surround(folder / "log", GUARD)
    machine.play(path.read_text(encoding="utf-8").splitlines())
    return 0


def shorten(path: Path, status: int, wanted: str) -> int:
    """Leave out what a failure does not need: each try in a child of its own, as it may crash."""
    lines, end = path.read_text(encoding="utf-8").splitlines(), time.monotonic() + SHORTEN_SECONDS
    size = max(1, len(lines) // 2)
    while size and time.monotonic() < end:
        start = 0
        while start < len(lines) and time.monotonic() < end:
            shorter = [*lines[:start], *lines[start + size :]]
            if _fails_alike(shorter, status, wanted):
                lines = shorter
                path.write_text("\n".join(lines) + "\n", encoding="utf-8")
            else:
                start += size
        size //= 2
    return 0


def _fails_alike(lines: list[str], status: int, wanted: str) -> bool:
    """Return whether a sequence ends as the failure did, by a signal or with what it said."""
    child = os.fork()
    if not child:
        faulthandler.disable()
        with contextlib.suppress(BaseException):
            os._exit(_status_of(lines, wanted))
        os._exit(3)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == status


def _status_of(lines: list[str], wanted: str) -> int:
    machine.surround(None, GUARD)
    try:
        machine.play(lines)
    except Exception:
        return 1 if wanted in machine.Surroundings.met else 2
    return 0


def main(folder: str, command: str, *arguments: str) -> int:
    """Run a command: ``search``, ``play`` or ``shorten``."""
    faulthandler.enable()
    # What is there already need not be looked at whenever a trainer is dropped.
    gc.collect()
    gc.freeze()
    if command == "search":
        seed, examples, steps, spawns = arguments
        return search(Path(folder), int(seed), int(examples), int(steps), spawns == "spawns")
    if command == "play":
        return play(Path(folder), Path(arguments[0]))
    path, status, wanted = arguments
    return shorten(Path(path), int(status), wanted)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
