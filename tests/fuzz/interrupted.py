"""Fuzzing of checkpoints and replay logs, also with corrected checksums, since few other inputs would pass these."""

import contextlib
import hashlib
import struct
import tempfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

import fgnumba as fg
from fgnumba.storage.checkpoint_file import CheckpointFile, DamagedError
from fgnumba.training import replay, replay_log
from fgnumba.training.checkpoints import FOLDER as CHECKPOINTS
from fgnumba.training.checkpoints import METRICS, REPLAY
from fgnumba.training.resume import LIMIT, resume
from tests.fuzz import rules

BATCH, FEATURES, CLASSES, DIRECTIONS = 4, 5, 3, 2
_DIGEST = b'"sha256":"'
_HEADER_BYTES, _BLOCK = 108, struct.Struct("<III")
_ROW_BYTES = 8 + 4 * DIRECTIONS


def trainer() -> fg.Trainer:
    """Return a fresh trainer."""
    model = fg.Sequential([fg.Dense(CLASSES)], FEATURES, device="cpu")
    estimator = fg.WeightPerturbation(directions=DIRECTIONS)
    return fg.Trainer(model, estimator=estimator, optimizer=fg.SGD(1e-3, momentum=0.5))


def trained(folder: Path, compact: bool) -> None:
    """Leave a run of a few steps in `folder`."""
    x = np.arange(40, dtype=np.float32).reshape(8, FEATURES) / 40
    data = fg.datasets.Dataset("few", x, np.arange(8) % CLASSES, x, np.arange(8) % CLASSES, CLASSES)
    trainer().fit(
        data,
        steps=5,
        batch_size=BATCH,
        evaluate_every=2,
        validation=(data.x_test, data.y_test),
        # Never better than the first record, so that a checkpoint has its parameters.
        callbacks=[fg.callbacks.EarlyStopping(9, min_delta=2.0, restore_best=True)],
        checkpoints=fg.Checkpoints(folder, compact=compact),
    )


def _files(name: str) -> list[bytes]:
    found = []
    for compact in (False, True):
        with tempfile.TemporaryDirectory() as folder:
            trained(Path(folder), compact)
            found += [path.read_bytes() for path in sorted(Path(folder).glob(name))]
    return found


def checkpoints() -> list[bytes]:
    """Return the checkpoints of two runs."""
    return _files(f"{CHECKPOINTS}/*.safetensors")


def logs() -> list[bytes]:
    """Return the logs of two runs."""
    return _files(REPLAY)


def _sealed(content: bytes) -> bytes:
    """Return a checkpoint with the checksum that its content has."""
    at = content.find(_DIGEST) + len(_DIGEST)
    if at < len(_DIGEST) or len(content) < at + 64:
        return content
    cleared = content[:at] + b"0" * 64 + content[at + 64 :]
    return content[:at] + hashlib.sha256(cleared).hexdigest().encode() + content[at + 64 :]


def _sealed_log(content: bytes) -> bytes:
    """Return a log with the checksums that its header and blocks have."""
    if len(content) < _HEADER_BYTES:
        return content
    head = content[: _HEADER_BYTES - 4]
    found, at = head + struct.pack("<I", zlib.crc32(head)), _HEADER_BYTES
    while at + _BLOCK.size <= len(content):
        _, _, count = _BLOCK.unpack_from(content, at)
        end = at + _BLOCK.size + count * _ROW_BYTES
        block = content[at + 4 : end]
        found += struct.pack("<I", zlib.crc32(block)) + block
        at = end
    return found


_one = trainer()
_one.plan(BATCH)
_initial = _one.model.parameters()


@contextlib.contextmanager
def _fresh() -> Iterator[fg.Trainer]:
    """Give the one trainer out as if it were new: to bind one for each input would take a second."""
    _one.model.load_parameters(_initial)
    _one.steps_done = 0
    yield _one


def _resumed(content: bytes) -> None:
    folder = rules.FOLDER / "run"
    (folder / CHECKPOINTS).mkdir(parents=True, exist_ok=True)
    (folder / METRICS).write_bytes(b"")
    for path in (folder / CHECKPOINTS).iterdir():
        path.unlink()
    path = folder / CHECKPOINTS / "step-000000000005.safetensors"
    path.write_bytes(content)
    facts = None
    with contextlib.suppress(DamagedError):
        facts = CheckpointFile(path).facts.get("run")
    saved = fg.Checkpoints(folder, warn=lambda message: None)
    with _fresh() as one, saved.opened(resume=True):
        # It is compared with a run of the same facts, so that what comes after them is read.
        resume(saved, one, facts if isinstance(facts, dict) else {}, LIMIT)


def read_checkpoint(content: bytes) -> None:
    """Resume from a checkpoint."""
    _each(content, _sealed, _resumed)


def _retaken(content: bytes) -> None:
    log = replay_log.read(rules.written(REPLAY, content))
    with _fresh() as one:
        replay.replay(one, log)


def read_log(content: bytes) -> None:
    """Take the steps of a log again."""
    _each(content, _sealed_log, _retaken)


def _each(content: bytes, seal: Callable[[bytes], bytes], read: Callable[[bytes], None]) -> None:
    for one in dict.fromkeys((content, seal(content))):
        rules.refuses_well(lambda one=one: read(one))  # type: ignore[misc]
