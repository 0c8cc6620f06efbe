"""Time two revisions of this repository in turn: ``python -m fgnumba.bench.compare REVISION [OTHER]``.

Each revision is checked out into a folder of its own and runs in a process of its own. Samples are taken in turn, so
that a busy machine slows both alike. Without OTHER, REVISION is compared with the working tree.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from types import TracebackType

import click

from fgnumba.bench.measure.timing import Timings
from fgnumba.errors import ConfigError, FgError, did_you_mean
from fgnumba.validation import whole_number

CASES = ("f", "rank1 x 1", "rank1 x 16", "rademacher x 1", "gaussian x 1")
NETWORKS = ("logreg", "mlp", "cnn")


class Worker:
    """A process that runs the library in a folder.

    Parameters
    ----------
    folder : Path
        A checkout of the repository.
    """

    def __init__(self, folder: Path) -> None:
        self._process = subprocess.Popen(
            # With -P, Python does not search the folder of the worker's file for modules.
            [sys.executable, "-P", str(Path(__file__).with_name("worker.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(folder)},
        )

    def sample(self, network: str, case: str) -> float:
        """Return the seconds of a call; raise ConfigError if the revision cannot run it.

        Parameters
        ----------
        network : str
            Name of the network.
        case : str
            ``f``, or a training step such as ``rank1 x 1``.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([network, case]) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise ConfigError(f"{network}, {case}: the process of a revision has died")
        answer = json.loads(line)
        if isinstance(answer, str):
            raise ConfigError(f"{network}, {case}: {answer}")
        return float(answer)

    def __enter__(self) -> "Worker":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.communicate()


def git(*arguments: str) -> str:
    """Run git in this repository and return what it prints; raise ConfigError if it fails.

    Parameters
    ----------
    arguments : str
        Arguments of the command.
    """
    command = ["git", "-C", str(Path(__file__).resolve().parent), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except FileNotFoundError:
        raise ConfigError("git is not installed") from None
    except subprocess.CalledProcessError as error:
        reason = (error.stderr.strip().splitlines() or ["it failed"])[-1]
        raise ConfigError(f"git {' '.join(arguments[:2])}: {reason}") from None
    return done.stdout.strip()


def compare(first: str, second: str | None, networks: tuple[str, ...], rounds: int) -> list[str]:
    """Return a line for each case: the median times of both revisions, and the second's time over the first's.

    Parameters
    ----------
    first : str
        A revision, as git takes it.
    second : str or None
        Another revision; None is the working tree.
    networks : tuple of str
        Names of the networks.
    rounds : int
        Number of samples of each.
    """
    root = Path(git("rev-parse", "--show-toplevel"))
    with tempfile.TemporaryDirectory() as temporary:
        folders: list[Path] = []
        try:
            for index, revision in enumerate((first, second)):
                if revision is None:
                    folders.append(root)
                    continue
                folder = Path(temporary) / str(index)
                git("worktree", "add", "--detach", str(folder), revision)
                folders.append(folder)
            with Worker(folders[0]) as one, Worker(folders[1]) as other:
                return [_line(one, other, network, case, rounds) for network in networks for case in CASES]
        finally:
            for folder in folders:
                if folder != root:
                    git("worktree", "remove", "--force", str(folder))


def _line(one: Worker, other: Worker, network: str, case: str, rounds: int) -> str:
    samples: dict[str, list[float]] = {"one": [], "other": []}
    try:
        for worker in (one, other):
            worker.sample(network, case)
        for _ in range(rounds):
            samples["one"].append(one.sample(network, case))
            samples["other"].append(other.sample(network, case))
    except ConfigError as error:
        return f"{network:7} {case:15} {error}"
    timings = Timings(samples)
    ratio = timings.interval("other", "one")
    verdict = "faster" if ratio.high < 1 else "slower" if ratio.low > 1 else "no difference shown"
    milliseconds = [timings.seconds(name) * 1e3 for name in samples]
    return (
        f"{network:7} {case:15} {milliseconds[0]:9.4g} ms {milliseconds[1]:9.4g} ms  "
        f"{ratio.value:.3f} [{ratio.low:.3f}, {ratio.high:.3f}]  {verdict}"
    )


@click.command()
@click.argument("revision")
@click.argument("other", required=False)
@click.option(
    "--network",
    "networks",
    multiple=True,
    metavar="NAME",
    help="Network to time: logreg, mlp or cnn. May be given more than once.  [default: all three]",
)
@click.option(
    "--rounds", default=21, metavar="N", help="Number of samples of each call, at least 5.  [default: 21]"
)
def command(revision: str, other: str | None, networks: tuple[str, ...], rounds: int) -> None:
    """Time the steps of REVISION and OTHER in turn. OTHER is the working tree by default."""
    try:
        whole_number("rounds", rounds, 5)
        for name in networks:
            if name not in NETWORKS:
                raise ConfigError(f"network: unknown network {name!r}{did_you_mean(name, NETWORKS)}")
        lines = compare(revision, other, networks or NETWORKS, rounds)
    except FgError as error:
        raise click.UsageError(str(error)) from None
    click.echo(
        f"median times of {revision} and of {other or 'the working tree'}, the second over the first [95 %]"
    )
    click.echo("\n".join(lines))


if __name__ == "__main__":
    command()
