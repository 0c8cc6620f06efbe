"""``python -m tests.fuzz TARGET``: fuzz a parser for some minutes, and print the result.

A failure is printed with its traceback and kept as a file, and the search goes on. At the end, one line gives the
numbers of inputs and failures.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

NAMES = (
    *("config", "model", "idx", "npz", "npy", "csv", "cifar", "emnist", "table-csv", "parquet", "table"),
    *("text", "alphabet"),
    *("safetensors", "saved-model", "onnx", "run-folder", "checkpoint", "replay"),
)
MOST_FAILURES = 10
MEMORY = "/dev/shm"
LIMITS = ("-rss_limit_mb=2048", "-timeout=10", "-max_len=16384", "-print_final_stats=1")
_INPUTS = re.compile(r"stat::number_of_executed_units:\s*(\d+)")
_COVERAGE = re.compile(r"\bcov: (\d+)")
_SO_FAR = re.compile(r"^#(\d+)\s")


def main() -> int:
    """Return 0 where nothing failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__.splitlines()[0])
    parser.add_argument("target", choices=NAMES)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--folder", type=Path, help="keeps the corpus and the failures; a new one by default")
    chosen = parser.parse_args()
    folder = chosen.folder or Path(tempfile.mkdtemp(prefix=f"fgnumba-fuzz-{chosen.target}-"))
    corpus, failures = folder / "corpus", folder / "failures"
    corpus.mkdir(parents=True, exist_ok=True)
    failures.mkdir(exist_ok=True)
    start = time.monotonic()
    inputs = coverage = failed = 0
    while (left := round(60 * chosen.minutes - (time.monotonic() - start))) > 0 and failed < MOST_FAILURES:
        tried, reached, status = _round(chosen.target, corpus, failures, left)
        inputs, coverage, failed = inputs + tried, max(coverage, reached), failed + (status != 0)
    print(
        f"{chosen.target}: {inputs} inputs in {time.monotonic() - start:.0f} s, coverage {coverage}, "
        f"{failed} failures; kept in {folder}",
        flush=True,
    )
    return int(failed > 0)


def _round(target: str, corpus: Path, failures: Path, seconds: int) -> tuple[int, int, int]:
    """Fuzz until a failure or for so long; return inputs tried, coverage and exit status."""
    options = [*LIMITS, f"-max_total_time={seconds}", f"-artifact_prefix={failures}/"]
    command = [sys.executable, "-m", "tests.fuzz.engine", target, str(corpus), *options]
    # In memory where that can be; and gone afterwards, which the engine cannot see to: it ends without Python's leave.
    with tempfile.TemporaryDirectory(dir=MEMORY if os.path.isdir(MEMORY) else None) as scratch:
        process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
            errors="replace",
            env={**os.environ, "TMPDIR": scratch},
        )
        return _followed(process)


def _followed(process: "subprocess.Popen[str]") -> tuple[int, int, int]:
    assert process.stdout is not None
    inputs = coverage = 0
    for line in process.stdout:
        print(line, end="", flush=True)
        for pattern in (_INPUTS, _SO_FAR):
            if found := pattern.search(line):
                inputs = max(inputs, int(found[1]))
        if found := _COVERAGE.search(line):
            coverage = int(found[1])
    return inputs, coverage, process.wait()


if __name__ == "__main__":
    sys.exit(main())
