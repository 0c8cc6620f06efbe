"""Checkpoints: where and how often a run is saved to disk, and how its checkpoints are found again."""

import contextlib
import errno
import gc
import math
import os
import re
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fgnumba.errors import ConfigError, RunError
from fgnumba.estimators import Estimate
from fgnumba.model.stream import states_of
from fgnumba.storage import checkpoint_file
from fgnumba.storage.durable import AppendLog, make_folder, sync_folder
from fgnumba.training.hold import Hold
from fgnumba.training.metrics import line_of, readable
from fgnumba.training.records import Record
from fgnumba.training.steps import Steps
from fgnumba.uninterrupted import Uninterrupted
from fgnumba.validation import flag, optional, real_number, whole_number
from fgnumba.validation.paths import path_of

if TYPE_CHECKING:
    from filelock import FileLock

    from fgnumba.training.replay_log import ReplayLog

MODEL = "model.safetensors"
FOLDER, METRICS, REPLAY, LOCK = "checkpoints", "metrics.jsonl", "replay.log", ".lock"
MINUTES, KEEP = 5.0, 2
_NAME = re.compile(r"step-(\d{12})\.safetensors")
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)


def _warn(message: str) -> None:
    warnings.warn(message, RuntimeWarning, stacklevel=3)


class Checkpoints:
    """Saves a run to disk while it trains, so that it can be resumed with a bit-identical result.

    A program creates this object and passes it to ``Trainer.fit``, which calls its methods. A program itself needs only
    the attributes below.

    A checkpoint holds the parameters, the state of optimiser and estimator, counters and the position in the data. It
    is as large as the parameters and the optimiser's moments. It has a checksum, and is named only once it is on disk.

    Parameters
    ----------
    folder : str or path
        The run's folder, created if missing, in which one process at a time can train. It gets ``metrics.jsonl``,
        ``checkpoints/step-N.safetensors`` and, with weight perturbation, ``replay.log`` (see ``fgnumba.replay``).
    every : int, optional
        Number of steps between checkpoints. None (the default): only the time decides.
    minutes : float, optional
        Minutes between checkpoints, above 0. Default: 5. None: only the steps decide. The last step of a run, and one
        after which ``Trainer.stop`` ends it, have a checkpoint in any case.
    keep : int
        Number of newest checkpoints to keep, at least 1. Default: 2.
    compact : bool
        Whether checkpoints hold no arrays. A run of weight perturbation then rebuilds them from ``replay.log``, which
        takes a pass over the parameters for each step that it has taken. Default: False.
    warn : callable, optional
        Called with a line of text about a fault that does not end the run, such as a full disk or a damaged checkpoint
        that is not used. None (the default): issues a ``RuntimeWarning``.

    Attributes
    ----------
    records : list of Record
        The run's records, among them those from before it was resumed.
    saved_step : int
        Step of the newest checkpoint; 0 if there is none.
    written : int
        Number of checkpoints that this process has written.
    seconds : float
        Seconds that it took to write them.

    Raises
    ------
    ConfigError
        A value is impossible.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        every: int | None = None,
        minutes: float | None = MINUTES,
        keep: int = KEEP,
        compact: bool = False,
        warn: Callable[[str], None] | None = None,
    ) -> None:
        self.folder = path_of(folder, "folder")
        self.every = optional(whole_number, "every", every)
        self._seconds_between = (
            math.inf if minutes is None else 60 * real_number("minutes", minutes, above_zero=True)
        )
        self._keep, self._compact = whole_number("keep", keep), flag("compact", compact)
        self.warn: Callable[[str], None] = warn or _warn
        self._hold_nothing()
        self.saved_step, self._tried_step, self._clock, self.written, self.seconds = 0, 0, 0.0, 0, 0.0
        self.records: list[Record] = []

    @property
    def compact(self) -> bool:
        """Whether checkpoints hold no arrays."""
        return self._compact

    def _hold_nothing(self) -> None:
        self._logs: dict[str, AppendLog] = {}
        self._sizes: Mapping[str, int] = {}
        self._lock: FileLock | None = None
        self._depth = 0
        self._replay: ReplayLog | None = None
        # Version of the parameters after the last step in the replay log.
        self._version: object = None

    def __getstate__(self) -> dict[str, Any]:
        held = ("_logs", "_sizes", "_lock", "_depth", "_replay", "_version")
        state = {name: value for name, value in vars(self).items() if name not in held}
        return {**state, "records": list(self.records)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        # A copy does not share the open files and the lock.
        self._hold_nothing()

    def held(self) -> Hold:
        """Return a context manager that keeps other processes from training in the folder; may be nested."""
        return Hold(self)

    def opened(self, resume: bool) -> Hold:
        """Return a context manager that holds the folder for a run, begins or resumes the run, and ends it."""
        return Hold(self, resume)

    def take(self) -> None:
        """Acquire the lock; raise RunError if the folder is not writable or another process trains in it."""
        from filelock import FileLock, Timeout

        before = self._depth
        if self._lock is None:
            self._lock = FileLock(self.folder / LOCK)
        try:
            # An interrupt must come before the lock is acquired or after that is recorded, not in between.
            with Uninterrupted():
                make_folder(self.folder / FOLDER)
                try:
                    self._lock.acquire(timeout=0)
                except Timeout:
                    # An interrupted run of this process may still hold it until its objects are collected.
                    gc.collect()
                    self._lock.acquire(timeout=0)
                self._depth += 1
        except Timeout:
            raise RunError(f"{self.folder}: another process trains in this folder") from None
        except OSError as error:
            message = f"{self.folder}: {error.strerror or error}; a folder to write is required"
            raise RunError(message) from None
        except BaseException:
            if self._depth > before:
                self.release()
            raise

    def release(self) -> None:
        """Release the lock."""
        assert self._lock is not None
        with Uninterrupted():
            self._depth -= 1
            if not self._depth:
                self._close_logs()
            self._lock.release()

    def begin(self, resume: bool) -> None:
        """Begin a run in the folder, whose lock is held, or continue the run there if `resume` is True."""
        metrics = self.folder / METRICS
        if not resume and (self.found() or (metrics.exists() and metrics.stat().st_size)):
            raise RunError(f"{self.folder} holds another run; resume it, or name another folder")
        if (self.folder / MODEL).exists():
            raise RunError(f"{self.folder} has ended; name another folder")
        for left in (self.folder / FOLDER).glob(".step-*.part"):
            with contextlib.suppress(OSError):
                left.unlink()
        self.records, self._clock = [], time.monotonic()
        self._close_logs()
        if not resume:
            self.begin_at(0, {})

    def end(self) -> None:
        """Write the last block of the replay log, when a run has ended or was interrupted."""
        self._end_block()
        self._replay = None

    def _close_logs(self) -> None:
        for log in self._logs.values():
            log.close()
        self._logs.clear()

    @property
    def logs(self) -> list[AppendLog]:
        """The run's logs, which are open for as long as the folder is held."""
        return list(self._logs.values())

    def log(self, name: str) -> AppendLog:
        """Return the log with this file name; in a resumed run, it is cut back to its size at the checkpoint."""
        if name not in self._logs:
            self._logs[name] = AppendLog(self.folder / name, self._sizes.get(name, 0))
            sync_folder(self.folder)
        return self._logs[name]

    def found(self) -> list[Path]:
        """Return the paths of the checkpoints in the folder, the newest first."""
        folder = self.folder / FOLDER
        files = [path for path in folder.iterdir() if _NAME.fullmatch(path.name)] if folder.is_dir() else []
        return sorted(files, reverse=True)

    @property
    def replay_path(self) -> Path:
        """The path of the replay log."""
        return self.folder / REPLAY

    def begin_at(self, step: int, sizes: Mapping[str, int]) -> None:
        """Open the logs and cut them back to `sizes`, their sizes at the checkpoint of `step` by their names."""
        self._sizes, self.saved_step, self._tried_step = sizes, step, step
        path, size = self.folder / METRICS, sizes.get(METRICS, 0)
        self.records, whole, wrong = [], 0, None
        if size and path.is_file():
            with path.open("rb") as file:
                self.records, whole, wrong = readable(file, size)
        if whole < size:
            self.warn(
                f"{path} is damaged ({wrong or 'it breaks off'}): the records after step "
                f"{self.records[-1].step if self.records else 0} and before the checkpoint are lost"
            )
        self._logs[METRICS] = AppendLog(path, whole)
        sync_folder(self.folder)

    def log_record(self, record: Record) -> None:
        """Append a record to ``metrics.jsonl``."""
        self.records.append(record)
        self.append(METRICS, line_of(record))
        self._end_block()

    def _log_no_more(self, why: str) -> None:
        """Rename the replay log and write no more to it, because the run can no longer be replayed."""
        path, self._replay = self.replay_path, None
        if REPLAY in self._logs:
            self._logs.pop(REPLAY).close()
        with contextlib.suppress(OSError):
            path.rename(path.with_name(f"{REPLAY}.damaged"))
        self.warn(f"{path} can no longer be written: {why}; the run cannot be replayed")

    def follow(self, trainer: Steps, estimate: "Estimate") -> None:
        """Begin to write the replay log, if the estimate's steps can be replayed from the first one on.

        Raises
        ------
        ConfigError
            They cannot, but checkpoints are compact and need the log.
        """
        from fgnumba.training import replay

        before, self._version = self._sizes.get(REPLAY, 0), trainer.model.version
        if self._compact and trainer.carry_states and states_of(trainer.model, 1):
            raise ConfigError(
                "compact checkpoints have no states of recurrent layers; compact=False is required"
            )
        if self._compact and not trainer.estimator.restored_by_replay:
            raise ConfigError(
                f"compact checkpoints do not hold what estimator {trainer.estimator.name!r} learns from the data; "
                "compact=False is required"
            )
        if self._compact and trainer.meter.measures:
            raise ConfigError(
                "compact checkpoints have nothing of a measured learning rate; a rate that is given, or compact=False, "
                "is required"
            )
        if estimate.replayable and (trainer.steps_done == 0) == (before == 0):
            try:
                log = self.log(REPLAY)
                self._replay = (replay.resume if before else replay.begin)(trainer, log)
            except (RunError, OSError) as error:
                if self._compact:
                    raise
                self._log_no_more(str(error))
        elif self._compact:
            raise ConfigError(
                f"compact checkpoints need a run that can be replayed from its first step; one of estimator "
                f"{trainer.estimator.name!r} after {trainer.steps_done} steps on {trainer.model.device} cannot"
            )

    def log_step(self, trainer: Steps) -> None:
        """Append the step that the trainer has just taken to the replay log.

        Raises
        ------
        ConfigError
            Parameters were changed or other steps taken since the last step in the log, and checkpoints are compact.
        """
        if self._replay is None:
            return
        position = trainer.position
        coefficients = position.last.coefficients() if isinstance(position.last, Estimate) else None
        follows = position.before is self._version and position.steps == self._replay.steps + 1
        if coefficients is None or not follows:
            why = f"before step {position.steps - 1}, parameters were changed or other steps taken"
            if self._compact:
                raise ConfigError(f"compact checkpoints need a run that can be replayed: {why}")
            self._log_no_more(why)
            return
        self._version = position.version
        self._replay.step(position.steps - 1, position.rate, coefficients)

    def drop_record(self) -> Record:
        """Remove the last record from ``metrics.jsonl``, and return it."""
        record = self.records.pop()
        log = self.log(METRICS)
        log.cut(log.size - len(line_of(record).encode()))
        return record

    def mark(self) -> int:
        """Return the size of the replay log after the steps so far, in bytes; 0 without one."""
        if self._replay is None:
            return 0
        self._replay.end_block()
        return self.log(REPLAY).size

    def go_back(self, mark: int) -> None:
        """Cut the replay log back to a :meth:`mark`, and write no more to it: the run ends with the parameters then."""
        if self._replay is not None:
            self._replay = None
            self.log(REPLAY).cut(mark)

    def log_end(self, steps: int) -> None:
        """Note in the replay log that training diverged, and that the parameters are those after `steps` steps."""
        if self._replay is not None:
            self._replay.undone(steps)

    def _end_block(self) -> None:
        """Write the steps so far to the replay log."""
        if self._replay is not None:
            self._replay.end_block()
            self.flush(REPLAY)

    def append(self, name: str, line: str) -> None:
        """Append a line to a log. If the disk is full, the line is written together with the next one."""
        self.log(name).append(line.encode())
        self.flush(name)

    def flush(self, name: str) -> None:
        """Write the lines of a log that have not been written yet."""
        try:
            self.log(name).flush()
        except OSError as error:
            self._complain(f"the end of {name} is not written yet, training goes on", error)

    def due(self, step: int, last: bool) -> bool:
        """Return whether a checkpoint is due after `step`, which may be the run's `last`."""
        if last or time.monotonic() - self._clock >= self._seconds_between:
            return True
        return self.every is not None and step // self.every > self._tried_step // self.every

    def save(self, step: int, facts: Mapping[str, Any], arrays: Mapping[str, Any]) -> bool:
        """Write the checkpoint of `step` and return whether that was possible; warn if it was not.

        It holds the run's `facts` and, unless it is compact, `arrays`.
        """
        start = time.perf_counter()
        try:
            if self._replay is not None:
                self._replay.end_block()
            # The logs are written first, because a checkpoint must not count lines that a log does not have.
            for log in self._logs.values():
                log.sync()
            sizes = {name: log.size for name, log in self._logs.items()}
            path = self.folder / FOLDER / f"step-{step:012}.safetensors"
            self._write(path, {**facts, "logs": sizes}, {} if self._compact else arrays)
            self.written += 1
        except OSError as error:
            self._complain(f"the checkpoint after step {step} is not written, training goes on", error)
            return False
        finally:
            self.seconds += time.perf_counter() - start
            self._tried_step, self._clock = step, time.monotonic()
        self.saved_step = step
        self._prune(self._keep)
        return True

    def _write(self, path: Path, facts: Mapping[str, Any], arrays: Mapping[str, Any]) -> None:
        try:
            checkpoint_file.write(path, facts, arrays)
        except OSError as error:
            if error.errno not in _NO_ROOM or len(self.found()) < 2:
                raise
            # Remove all checkpoints but one; that may make enough room.
            self._prune(1)
            checkpoint_file.write(path, facts, arrays)

    def _prune(self, keep: int) -> None:
        for path in self.found()[keep:]:
            with contextlib.suppress(OSError):
                path.unlink()

    def _complain(self, what: str, error: OSError) -> None:
        self.warn(f"{self.folder}: {what}: {error.strerror or error}")
