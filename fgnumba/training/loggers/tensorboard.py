"""TensorBoard's event files, by tensorboardX."""

import os
from collections.abc import Callable, Mapping
from typing import Any

from fgnumba.storage.durable import make_folder
from fgnumba.training.loggers.base import Logger, require
from fgnumba.validation.paths import path_of


class TensorBoard(Logger):
    """Logs a run for TensorBoard: ``tensorboard --logdir FOLDER`` shows its curves and its settings.

    Figures are scalars; `loss`, `validation_loss` and `learning_rate` for instance. The settings are a text,
    ``settings``. Each record is on the disk as soon as it is made.

    A run that is resumed gets a further file in the folder, whose beginning tells TensorBoard to drop what was logged
    beyond the checkpoint. Give each run a folder of its own: TensorBoard shows all files in one as one run.

    It needs tensorboardX: ``pip install 'fgnumba[tensorboard]'``.

    Parameters
    ----------
    folder : str or path
        The folder of the event files, created if it is missing.
    warn : callable, optional
        Called with a line of text if the folder cannot be written; the run goes on without it. None (the default):
        issues a ``RuntimeWarning``.

    Raises
    ------
    ConfigError
        The path is impossible, or tensorboardX is not installed.
    """

    def __init__(self, folder: str | os.PathLike[str], warn: Callable[[str], None] | None = None) -> None:
        super().__init__(warn)
        require("tensorboardX", "tensorboard", "TensorBoard")
        self.folder = path_of(folder, "folder")
        self._writer: Any = None

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_writer": None, "_works": False}

    def begin(self, settings: Mapping[str, Any], done: int) -> None:
        """Begin an event file with the settings of the run."""
        # SummaryWriter hands events to a thread, whose errors nobody hears of: a full disk would stop the run for ever.
        from tensorboardX.event_file_writer import EventsWriter
        from tensorboardX.proto.event_pb2 import Event, SessionLog
        from tensorboardX.summary import text

        make_folder(self.folder)
        # Files are read in the order of their names. Two that begin within one second differ by their number alone.
        number = len(list(self.folder.glob("events.out.tfevents.*")))
        self._writer = EventsWriter(str(self.folder / "events"), f".{number:06}")
        if done:
            self._event(Event(step=done + 1, session_log=SessionLog(status=SessionLog.START)))
        table = "\n".join(f"    {name}: {value}" for name, value in settings.items())
        self._event(Event(step=done, summary=text("settings", table)))
        self._writer.flush()

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Write figures as scalars."""
        from tensorboardX.proto.event_pb2 import Event
        from tensorboardX.proto.summary_pb2 import Summary

        scalars = [Summary.Value(tag=name, simple_value=value) for name, value in values.items()]
        self._event(Event(step=step, summary=Summary(value=scalars)))
        self._writer.flush()

    def drop(self, step: int) -> None:
        """Tell TensorBoard to drop what was logged after a step."""
        from tensorboardX.proto.event_pb2 import Event, SessionLog

        self._event(Event(step=step + 1, session_log=SessionLog(status=SessionLog.START)))

    def finish(self, ended_by: str) -> None:
        """Close the file."""
        if self._writer is not None:
            writer, self._writer = self._writer, None
            writer.close()

    def release(self) -> None:
        """Close the file without its last events."""
        if self._writer is not None:
            writer, self._writer = self._writer, None
            writer._py_recordio_writer.close()

    def _event(self, event: Any) -> None:
        import time

        event.wall_time = time.time()
        self._writer.write_event(event)
