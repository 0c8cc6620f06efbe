"""Other processes on the same cores: a busy one, and frameworks that take their training steps in turn with fgnumba.

``python -m fgnumba.bench.neighbours JAX mlp 2`` starts the process of such a framework. It reads a number of steps from
standard input, takes this many reverse-mode steps, prints the seconds of each as a line of JSON, and reads again.
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
from fgnumba.bench.measure.peer_networks import WIDTHS
from fgnumba.bench.measure.peers import installed

BATCH = 64


@contextmanager
def busy() -> Iterator[None]:
    """Keep one core busy with another process inside the ``with`` block, and wait on exit until it has ended."""
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
    """A framework that runs in a process of its own.

    Parameters
    ----------
    framework : str
        Name of the framework, a key of ``peers.installed()``.
    network : str
        Name of the network, a key of ``peers.WIDTHS``.
    processors : int
        Number of processors that the process may use.
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
        """Take reverse-mode steps, and return the seconds of each.

        Parameters
        ----------
        count : int
            Number of steps.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        # If the process has ended, its exit status below says more than a broken pipe.
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
    """Take as many reverse-mode steps as each line of standard input asks for, and print their seconds.

    Parameters
    ----------
    framework : str
        Name of the framework, a key of ``peers.installed()``.
    network : str
        Name of the network, a key of ``peers.WIDTHS``.
    processors : int
        Number of processors that the process may use.
    """
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
