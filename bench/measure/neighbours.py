"""Other processes on the same cores: one that is busy, and frameworks that take turns with us.

``python -m fgnumba.bench.neighbours JAX mlp 2`` is such a framework's process: for every number of steps that it reads
from standard input, it takes so many by reverse mode, and prints the seconds of each as a line of JSON.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import click

from fgnumba.bench.measure.networks import data
from fgnumba.bench.measure.peers import WIDTHS, installed

BATCH = 64


@contextmanager
def busy() -> Iterator[None]:
    """Keep one core busy with another process; leaving the block waits until it has ended."""
    process = subprocess.Popen(
        [sys.executable, "-c", "print(flush=True)\nwhile True: pass"], stdout=subprocess.PIPE
    )
    try:
        if process.stdout is not None:
            process.stdout.readline()
        yield
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


class Neighbour:
    """A framework in a process of its own.

    Parameters
    ----------
    framework : one of ``peers.installed()``.
    network : a key of ``peers.WIDTHS``.
    processors : that the process may use.
    """

    def __init__(self, framework: str, network: str, processors: int) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "fgnumba.bench.measure.neighbours", framework, network, str(processors)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def steps(self, count: int) -> list[float]:
        """Return the seconds of `count` steps by reverse mode."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        # Where the process has ended, its exit status says more than a broken pipe.
        with suppress(BrokenPipeError):
            print(count, file=self._process.stdin, flush=True)
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self._process.args!r} ended with status {self._process.wait()}")
        return [float(seconds) for seconds in json.loads(line)]

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.communicate()


@click.command()
@click.argument("framework", type=click.Choice(sorted(installed())))
@click.argument("network", type=click.Choice(sorted(WIDTHS)))
@click.argument("processors", type=int)
def serve(framework: str, network: str, processors: int) -> None:
    """Take as many steps as standard input asks for, and print their seconds."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:processors])
    step = installed()[framework](WIDTHS[network], *data(BATCH), "rank1")["reverse step"]
    for line in sys.stdin:
        seconds = []
        for _ in range(int(line)):
            start = time.perf_counter()
            step()
            seconds.append(time.perf_counter() - start)
        print(json.dumps(seconds), flush=True)


if __name__ == "__main__":
    serve()
