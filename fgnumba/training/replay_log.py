"""Logs of runs that can be taken again: of every step its learning rate, and what each direction was multiplied by.

    header   magic, version, T, seed, digests of the update and of the initial parameters, device; CRC-32
    block    CRC-32, first step, n; n times η float64 and c_1 … c_T float32
    undone   a block of no steps: the update of step `first`, the one before, has been taken back

Little-endian, 8 + 4 T bytes a step and 12 a block. c_t is the very float32 that the kernels multiply v_t by. A checksum
covers all of its block: what a crash tears off, or a disk damages, ends the log there, and what is before it counts.
"""

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import numpy.typing as npt

from fgnumba.errors import RunError
from fgnumba.estimators.weight_update import in_update
from fgnumba.kernels.rules.philox import MAX_DIRECTIONS, MAX_STEP
from fgnumba.storage.durable import AppendLog
from fgnumba.storage.files import open_regular, size_of
from fgnumba.uninterrupted import Uninterrupted
from fgnumba.validation.paths import path_of

VERSION = 1
BLOCK_STEPS, BLOCK_BYTES = 256, 1 << 16
"""A block ends at so many steps, or with the step that reaches so many bytes."""

_MAGIC = b"fgreplay"
_HEADER = struct.Struct("<8sIIQ32s32s16sI")
_BLOCK = struct.Struct("<III")


@dataclass(frozen=True)
class Header:
    """What a run must have in common with the one that wrote a log.

    Parameters
    ----------
    directions, seed : T, and the seed that directions are drawn from.
    update, initial : SHA-256 of what an update is, and of the initial parameters.
    device : its name; updates are the same to the last bit on every processor, and on every GPU.
    """

    directions: int
    seed: int
    update: bytes
    initial: bytes
    device: str

    @property
    def row(self) -> np.dtype[Any]:
        """A step in a block."""
        return np.dtype([("rate", "<f8"), ("coefficients", "<f4", (self.directions,))])

    def packed(self) -> bytes:
        """Return the header as it stands in a file."""
        fields = (self.directions, self.seed, self.update, self.initial, self.device.encode())
        content = _HEADER.pack(_MAGIC, VERSION, *fields, 0)[:-4]
        return content + struct.pack("<I", zlib.crc32(content))


class ReplayLog:
    """A log that is being written, block by block.

    Parameters
    ----------
    log : where whole blocks go; an empty one is given the header.
    steps : that it holds already.
    """

    def __init__(self, log: AppendLog, header: Header, steps: int = 0) -> None:
        self.steps = steps
        self._log, self._row = log, header.row
        self._noted = np.dtype([("rate", "f8"), ("values", "f8", (1 + header.directions,))])
        self._content = bytearray()
        self._first = steps
        if log.size == 0:
            log.append(header.packed())

    def step(self, step: int, rate: float, coefficients: npt.NDArray[np.float64]) -> None:
        """Take note of a step that has been taken: its number, η, and ``Estimate.coefficients``.

        These are copied as they are: right after a step nothing is in a cache, and arithmetic would take several times
        as long there as for the whole block at its end.
        """
        assert step == self.steps
        assert coefficients.shape == self._noted["values"].shape
        self._content += struct.pack("d", rate)
        self._content += coefficients.data
        self.steps += 1
        count = self.steps - self._first
        if count == BLOCK_STEPS or count * self._row.itemsize >= BLOCK_BYTES:
            self.end_block()

    def undone(self, steps: int) -> None:
        """Take note that training diverged and left `steps` taken: one less where the last update was taken back."""
        assert self.steps - steps in (0, 1)
        if steps < self.steps:
            with Uninterrupted():
                self.end_block()
                self._first = self.steps = steps
                self._append(0)

    def end_block(self) -> None:
        """Hand the steps so far to the log; nothing where there are none since the last block."""
        # An interrupt in the midst would write a block twice, or half.
        with Uninterrupted():
            if self.steps > self._first:
                self._append(self.steps - self._first)
            self._first = self.steps

    def _append(self, count: int) -> None:
        noted, rows = np.frombuffer(bytes(self._content), self._noted), np.empty(count, self._row)
        rows["rate"], rows["coefficients"] = noted["rate"], in_update(noted["values"])
        head, content = struct.pack("<II", self._first, count), rows.tobytes()
        checksum = zlib.crc32(content, zlib.crc32(head))
        self._log.append(struct.pack("<I", checksum) + head + content)
        self._content.clear()


class Block(NamedTuple):
    """Steps from number `first` on: η (n,) and c (n, T). Of none: the update of step `first` has been taken back."""

    first: int
    rates: npt.NDArray[np.float64]
    coefficients: npt.NDArray[np.float32]


@dataclass(frozen=True)
class Log:
    """A log that has been checked.

    Parameters
    ----------
    steps : that the run had taken at its end.
    size : bytes that count.
    cut : what is wrong with those that follow, a line; empty where none do.
    """

    path: Path
    header: Header
    steps: int
    size: int
    cut: str

    def blocks(self) -> Iterator[Block]:
        """Yield the blocks that count, one of them in memory at a time.

        Raises
        ------
        RunError
            The file has changed since it was read.
        """
        with _opened(self.path) as file:
            try:
                if _header(self.path, file) != self.header:
                    raise _DamageError(0, "another run's")
                yield from (block for block, _ in _blocks(file, self.header, self.size))
            except _DamageError:
                raise RunError(f"{self.path} was changed while it was read") from None


def read(path: Path) -> Log:
    """Return the log at `path`, checked from its first byte to its last in the memory of a block.

    A torn or damaged block ends it; ``cut`` says so.

    Raises
    ------
    RunError
        There is no log, or its header is damaged.
    """
    path = path_of(path, "path")
    with _opened(path) as file:
        header = _header(path, file)
        end = size_of(file)
        steps, size, cut = 0, _HEADER.size, ""
        try:
            for block, after in _blocks(file, header, end):
                steps, size = block.first + len(block.rates), after
        except _DamageError as damage:
            lost = end - size
            cut = (
                f"{path}: the block at byte {size} {damage}; it and what follows it, {lost} bytes, do not "
                f"count: the run can be rebuilt up to step {steps}"
            )
    return Log(path, header, steps, size, cut)


class _DamageError(Exception):
    """A block is not whole."""


def _opened(path: Path) -> BufferedReader:
    if not path.is_file():
        raise RunError(f"{path} {'is no file' if path.exists() else 'is missing'}; a replay log is required")
    try:
        return open_regular(path)
    except OSError as error:
        raise RunError(f"{path}: {error.strerror or error}") from None


def _header(path: Path, file: BinaryIO) -> Header:
    content = file.read(_HEADER.size)
    if not content.startswith(_MAGIC):
        raise RunError(f"{path} is no replay log: it does not begin as one")
    if len(content) < _HEADER.size:
        raise RunError(f"{path} is damaged: it ends within its header")
    _, version, directions, seed, update, initial, device, checksum = _HEADER.unpack(content)
    if version != VERSION:
        raise RunError(f"{path} is a replay log of version {version}; version {VERSION} is read")
    if zlib.crc32(content[:-4]) != checksum:
        raise RunError(f"{path} is damaged: its header has another checksum")
    if not 1 <= directions <= MAX_DIRECTIONS:
        raise RunError(f"{path} is damaged: {directions} directions; 1 to {MAX_DIRECTIONS} are possible")
    return Header(directions, seed, update, initial, device.rstrip(b"\0").decode("ascii", "replace"))


def _blocks(file: BinaryIO, header: Header, end: int) -> Iterator[tuple[Block, int]]:
    """Yield the blocks up to byte `end`, and where each ends."""
    row, at = header.row, _HEADER.size
    steps, undoable = 0, False
    while at < end:
        head = file.read(min(_BLOCK.size, end - at))
        if len(head) < _BLOCK.size:
            raise _DamageError("is torn")
        checksum, first, count = _BLOCK.unpack(head)
        nbytes = count * row.itemsize
        if nbytes >= BLOCK_BYTES + row.itemsize:
            raise _DamageError("is damaged")
        content = file.read(min(nbytes, end - at - _BLOCK.size))
        if len(content) < nbytes:
            raise _DamageError("is torn")
        if zlib.crc32(content, zlib.crc32(head[4:])) != checksum:
            raise _DamageError("is damaged")
        rows = np.frombuffer(content, row)
        if count == 0 and not (undoable and first == steps - 1):
            raise _DamageError(f"is out of place: it takes back step {first} after {steps} steps")
        if count > 0 and (first != steps or first + count > MAX_STEP + 1):
            raise _DamageError(f"is out of place: it begins with step {first} after {steps} steps")
        if not (np.isfinite(rows["rate"]) & (rows["rate"] >= 0)).all():
            raise _DamageError("has an impossible learning rate")
        if not np.isfinite(rows["coefficients"]).all():
            raise _DamageError("has a coefficient that is not finite")
        at += _BLOCK.size + nbytes
        yield Block(first, rows["rate"], rows["coefficients"]), at
        steps, undoable = first + count, count > 0
