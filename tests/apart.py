"""Run Python in a process of its own, for tests that may crash or that depend on environment variables."""

import os
import subprocess
import sys

from tests.places import ROOT


def python(*arguments, without=(), text=None, folder=ROOT, **environment):
    """Run Python on the CPU with three threads: parts that do not divide what they share."""
    inherited = {name: value for name, value in os.environ.items() if name not in without}
    fixed = {
        "PYTHONPATH": str(ROOT),
        "FGNUMBA_DEVICE": "cpu",
        "NUMBA_NUM_THREADS": "3",
        "FGNUMBA_THREADS": "3",
    }
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env={**inherited, **fixed, **environment},
        input=text,
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
    )
