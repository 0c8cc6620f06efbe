"""``python -m tests.state_machine``: make random sequences of public calls, and report failures.

Sequences run in processes of their own. If one fails or crashes, the shortest sequence with the same failure is
searched for and printed, and the search goes on without repeating known failures. Statistics are printed at the end,
also if SIGINT or SIGTERM ends the search. It requires Linux.
"""

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from tests.state_machine.log import counted, last_sequence

EXAMPLES = 25  # that a process tries before the next one begins
FAILED = 1


def main() -> int:
    """Return 0 where nothing failed."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.state_machine", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--seed", type=int, default=0, help="of the first process; the next ones count on")
    parser.add_argument("--examples", type=int, help="sequences to try, instead of minutes")
    parser.add_argument("--steps", type=int, default=25, help="rules in a sequence, at most")
    parser.add_argument("--folder", type=Path, help="keeps sequences and failures; a new one by default")
    parser.add_argument("--again", type=Path, help="take the sequence in this file instead of searching")
    chosen = parser.parse_args()
    folder = chosen.folder or Path(tempfile.mkdtemp(prefix="fgnumba-state-machine-"))
    folder.mkdir(parents=True, exist_ok=True)
    if chosen.again is not None:
        return _child(folder, "play", str(chosen.again)).returncode
    search = Search(folder, chosen.steps)
    start, seed = time.monotonic(), chosen.seed
    # A shell may have it ignored in what it runs in the background.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    with contextlib.suppress(KeyboardInterrupt):
        if chosen.examples is not None:
            search.round(seed, chosen.examples)
        while chosen.examples is None and time.monotonic() - start < 60 * chosen.minutes:
            search.round(seed, EXAMPLES, spawns=True)
            seed += 1
    print(search.figures(time.monotonic() - start), flush=True)
    return int(bool(search.failures))


class Search:
    """A search, and what it found.

    Parameters
    ----------
    folder : for logs, failures, and the database of examples.
    steps : rules in a sequence, at most.
    """

    def __init__(self, folder: Path, steps: int) -> None:
        self.folder, self.steps = folder, steps
        self.rules: Counter[str] = Counter()
        self.sequences = 0
        self.failures: list[str] = []

    def round(self, seed: int, examples: int, spawns: bool = False) -> None:
        """Try so many sequences in a process, fewer where one fails; `spawns`: some go on in another process."""
        log, report = self.folder / "log", self.folder / "report.json"
        log.write_text("", encoding="utf-8")
        report.unlink(missing_ok=True)
        apart = "spawns" if spawns else "alone"
        done = _child(self.folder, "search", str(seed), str(examples), str(self.steps), apart)
        found = json.loads(report.read_text(encoding="utf-8")) if report.exists() else {}
        sequences, rules = counted(log)
        self.sequences += sequences
        self.rules.update(rules)
        if done.returncode:
            self._keep(seed, done, found.get("signature"))

    def _keep(self, seed: int, done: "subprocess.CompletedProcess[str]", signature: str | None) -> None:
        """Print a failure, its sequence as short as it gets, and keep that."""
        lines = last_sequence(self.folder / "log")
        name = signature or f"exit status {done.returncode}"
        path = self.folder / f"failure-{len(self.failures):03}.txt"
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        if lines and (done.returncode != FAILED or signature):
            _child(self.folder, "shorten", str(path), str(done.returncode), signature or "")
        self.failures.append(name)
        if signature:
            known = self.folder / "known.json"
            names = json.loads(known.read_text(encoding="utf-8")) if known.exists() else []
            known.write_text(json.dumps([*names, signature]), encoding="utf-8")
        said = done.stderr.strip().splitlines()
        print(f"failure {len(self.failures)}, seed {seed}: {name}\n{path}:")
        print(path.read_text(encoding="utf-8"))
        print("\n".join(said[-24:]), flush=True)

    def figures(self, seconds: float) -> str:
        """Return what was tried and found."""
        rules = ", ".join(f"{name} {count}" for name, count in self.rules.most_common())
        failures = "".join(f"\n  {name}" for name in self.failures)
        return (
            f"{self.sequences} sequences, {self.rules.total()} rules in {seconds:.0f} s ({rules}); "
            f"{len(self.failures)} failures, kept in {self.folder}{failures}"
        )


def _child(folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run what may crash; three threads have parts that do not divide what they share."""
    environment = {
        "NUMBA_NUM_THREADS": "3",
        "FGNUMBA_DEVICE": "cpu",
        "FGNUMBA_PRECISION": "float32",
        "PYTHONHASHSEED": "0",
    }
    done = subprocess.run(
        [sys.executable, "-m", "tests.state_machine.child", str(folder), *arguments],
        env={**os.environ, **environment},
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        errors="replace",
        check=False,
    )
    if arguments[0] == "play" and done.returncode:
        print(done.stderr, file=sys.stderr)
    return done


if __name__ == "__main__":
    sys.exit(main())
