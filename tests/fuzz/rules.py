"""How the fuzzer calls a parser, and which outcomes count as failures."""

import resource
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from fgnumba.datasets import cifar, idx, npy
from fgnumba.datasets.tables import frame
from fgnumba.datasets.tables import rules as table_rules
from fgnumba.datasets.texts import reading
from fgnumba.errors import MAX_MESSAGE, FgError, FgWarning
from fgnumba.interchange import onnx_file
from fgnumba.kernels.machine import memory
from fgnumba.model import sizes

SPARE_BYTES = 256 << 20
"""Memory that an input of a few kilobytes may be worth."""


@dataclass(frozen=True)
class Target:
    """A parser under test.

    Parameters
    ----------
    read : raises on what is wrong with the parser, not with its input.
    seeds : valid inputs, and some that are nearly so.
    """

    read: Callable[[bytes], None]
    seeds: Callable[[], list[bytes]]


FOLDER = Path(tempfile.gettempdir())
"""Of the files that parsers are given."""

MACHINE_BYTES = 32 << 20
"""Memory of a machine on which every model that fits is drawn in a blink."""


def shrink_the_machine() -> None:
    """Let parsers believe that there are `MACHINE_BYTES`."""
    for module in (sizes, npy, idx, cifar, frame, table_rules, reading, memory, onnx_file):
        module.physical_memory = lambda: MACHINE_BYTES  # type: ignore[attr-defined]


class MisbehavedError(Exception):
    """A refusal that is none of ours, came too late, or cannot be read."""


@contextmanager
def _spare_memory() -> Iterator[None]:
    """Let the process take `SPARE_BYTES` more than it has."""
    with open("/proc/self/statm", encoding="ascii") as file:
        used = int(file.read().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + SPARE_BYTES, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def outcome(read: Callable[[], object]) -> FgError | None:
    """Return the error with which `read` refuses its input, None where it succeeds."""
    try:
        with _spare_memory(), warnings.catch_warnings():
            warnings.simplefilter("ignore", FgWarning)
            read()
    except FgError as error:
        return error
    return None


def refuses_well(read: Callable[[], object]) -> None:
    """Call `read`, which may succeed or raise an FgError that keeps to the rules.

    Raises
    ------
    MisbehavedError
        The message is not one line of reasonable length, or memory ran out first.
    """
    error = outcome(read)
    if error is None:
        return
    message = str(error)
    if not message or len(message) > MAX_MESSAGE or len(message.splitlines()) != 1:
        raise MisbehavedError(f"a message of {len(message)} characters: {message[:200]!r}") from error
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, MemoryError):
            raise MisbehavedError(f"memory ran out before: {message}") from error
        cause = cause.__cause__ or cause.__context__


def written(name: str, content: bytes) -> Path:
    """Return the path of a file with `content`."""
    path = FOLDER / name
    path.write_bytes(content)
    return path
