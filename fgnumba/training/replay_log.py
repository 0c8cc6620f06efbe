"""Replay logs: the few numbers of each step from which the updates of a run can be repeated without its data.

A step of weight perturbation moves the parameters by η (c_1 v_1 + ... + c_T v_T). The directions v_t follow from the
seed, so that the log only needs the learning rate η and the T coefficients c_t of each step.

    header   magic bytes, version, T, seed, digests of the update and of the initial parameters, device; CRC-32
    block    CRC-32, number of the first step, number of steps n; then n times η (float64) and c_1 … c_T (float32)
    undone   a block of no steps: the update of step `first`, the last one before, has been taken back

The file is little-endian and takes 8 + 4 T bytes for each step and 12 for each block. c_t is exactly the float32 that
the kernels multiply v_t by. The checksum covers the whole block. A block that a crash has cut short or a disk has
damaged ends the log; the blocks before it are valid.
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
"""A block ends with step number BLOCK_STEPS in it, or with the step that makes it at least BLOCK_BYTES long."""

_MAGIC = b"fgreplay"
_HEADER = struct.Struct("<8sIIQ32s32s16sI")
_BLOCK = struct.Struct("<III")


@dataclass(frozen=True)
class Header:
    """The properties that a trainer must share with the run that wrote a log, to be able to repeat its updates.

    Parameters
    ----------
    directions : int
        Number of directions T in each step.
    seed : int
        The seed from which directions are drawn.
    update : bytes
        SHA-256 of a description of the update: the estimator's rule, the optimizer's constants and the parameters'
        names and shapes.
    initial : bytes
        SHA-256 of the initial parameters.
    device : str
        ``cpu`` or ``cuda``. Updates are bit-identical on all processors, and on all GPUs, but not between the two.
    """

    directions: int
    seed: int
    update: bytes
    initial: bytes
    device: str

    @property
    def row(self) -> np.dtype[Any]:
        """The dtype of one step in a block."""
        return np.dtype([("rate", "<f8"), ("coefficients", "<f4", (self.directions,))])

    def packed(self) -> bytes:
        """Return the header as the bytes of a file."""
        fields = (self.directions, self.seed, self.update, self.initial, self.device.encode())
        content = _HEADER.pack(_MAGIC, VERSION, *fields, 0)[:-4]
        return content + struct.pack("<I", zlib.crc32(content))


class ReplayLog:
    """A replay log that is being written, block by block.

    Parameters
    ----------
    log : AppendLog
        The file, to which complete blocks are appended. An empty file gets the header first.
    header : Header
        The run's properties.
    steps : int
        Number of steps that the file holds already. Default: 0.
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
        """Record a step that has been taken.

        The values are copied and converted only at the end of a block: right after a step the processor's caches hold
        none of what a conversion needs, and it would take several times as long as one for the whole block.

        Parameters
        ----------
        step : int
            Number of the step, counted from 0; it must follow the last one.
        rate : float
            Learning rate η.
        coefficients : ndarray
            (1 + T,) float64, as ``Estimate.coefficients`` returns them.
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
        """Record that training diverged, and whether its last update was taken back.

        Parameters
        ----------
        steps : int
            Number of steps whose updates the parameters hold: all, or one less if the last one was taken back.
        """
        assert self.steps - steps in (0, 1)
        if steps < self.steps:
            with Uninterrupted():
                self.end_block()
                self._first = self.steps = steps
                self._append(0)

    def end_block(self) -> None:
        """Append the steps since the last block to the file as a block, if there are any."""
        # An interrupt in between would write a block twice, or half of it.
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
    """A block of n steps. A block of no steps says that the update of step `first` has been taken back.

    Parameters
    ----------
    first : int
        Number of its first step.
    rates : ndarray
        Learning rates η, (n,) float64.
    coefficients : ndarray
        Coefficients of the directions, (n, T) float32.
    """

    first: int
    rates: npt.NDArray[np.float64]
    coefficients: npt.NDArray[np.float32]


@dataclass(frozen=True)
class Log:
    """A replay log that has been read and checked.

    Parameters
    ----------
    path : Path
        The file.
    header : Header
        The properties of the run.
    steps : int
        Number of steps that can be repeated.
    size : int
        Number of valid bytes at the beginning of the file.
    cut : str
        A line that says what is wrong with the bytes after them; empty if there are none.
    """

    path: Path
    header: Header
    steps: int
    size: int
    cut: str

    def blocks(self) -> Iterator[Block]:
        """Yield the valid blocks, with one of them in memory at a time.

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
    """Read and check a whole replay log, with one block in memory at a time.

    Parameters
    ----------
    path : Path
        The file.

    Returns
    -------
    Log
        The log up to its first torn or damaged block, which the log's ``cut`` describes.

    Raises
    ------
    RunError
        There is no such file, or its header is damaged.
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
    """A block is torn or damaged. The message continues a sentence that begins with "the block"."""


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
        raise RunError(f"{path} is no replay log: its first bytes are not those of one")
    if len(content) < _HEADER.size:
        raise RunError(f"{path} is damaged: it ends within its header")
    _, version, directions, seed, update, initial, device, checksum = _HEADER.unpack(content)
    if version != VERSION:
        raise RunError(f"{path} is a replay log of version {version}; version {VERSION} is read")
    if zlib.crc32(content[:-4]) != checksum:
        raise RunError(f"{path} is damaged: the checksum of its header is wrong")
    if not 1 <= directions <= MAX_DIRECTIONS:
        raise RunError(f"{path} is damaged: {directions} directions; 1 to {MAX_DIRECTIONS} are possible")
    return Header(directions, seed, update, initial, device.rstrip(b"\0").decode("ascii", "replace"))


def _blocks(file: BinaryIO, header: Header, end: int) -> Iterator[tuple[Block, int]]:
    """Yield the blocks up to byte `end`, each with the position of its end in the file; check each of them first."""
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
