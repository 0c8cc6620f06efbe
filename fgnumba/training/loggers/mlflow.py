"""Runs of MLflow, in a database of their own or on a server."""

import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from fgnumba.errors import ConfigError, shown
from fgnumba.storage.durable import make_folder
from fgnumba.training.kept_states import checked
from fgnumba.training.loggers.base import Logger, require
from fgnumba.validation.paths import path_of

DATABASE = "mlflow.db"
LONGEST = 500
"""Characters of a setting that are logged: every version of MLflow takes so many."""
_STATUS = {
    "steps": "FINISHED",
    "callback": "FINISHED",
    "data": "FINISHED",
    "stop": "KILLED",
    "interrupt": "KILLED",
}
_SERVER = "://"


class MLflow(Logger):
    """Logs a run to MLflow: ``mlflow ui --backend-store-uri sqlite:///FOLDER/mlflow.db`` shows it.

    The settings are parameters of MLflow's run, the figures are metrics. MLflow's status of the run is ``FINISHED``,
    ``KILLED`` if it was stopped or interrupted, and else ``FAILED``.

    MLflow's number of the run is kept in checkpoints, so that a run that is resumed goes on in the same run of MLflow.
    What was logged beyond the checkpoint is left as it is and not logged again, since the resumed steps are the same.

    MLflow's telemetry is switched off. It needs mlflow-skinny: ``pip install 'fgnumba[mlflow]'``.

    Parameters
    ----------
    store : str or path
        A folder, created if it is missing, whose ``mlflow.db`` (SQLite) is written; or the tracking URI of a server or
        database, such as ``"http://localhost:5000"``.
    experiment : str
        Name of the experiment, created if it is missing. Default: ``"fgnumba"``.
    run_name : str, optional
        Name of the run. None (the default): MLflow makes one up.
    warn : callable, optional
        Called with a line of text if MLflow fails; the run goes on without it. None (the default): issues a
        ``RuntimeWarning``.

    Attributes
    ----------
    run_id : str or None
        MLflow's number of the run, or None before it begins.

    Raises
    ------
    ConfigError
        A value is impossible, or MLflow is not installed.
    """

    def __init__(
        self,
        store: str | os.PathLike[str],
        experiment: str = "fgnumba",
        run_name: str | None = None,
        warn: Callable[[str], None] | None = None,
    ) -> None:
        super().__init__(warn)
        require("mlflow", "mlflow", "MLflow")
        for name, value in (("experiment", experiment), ("run_name", run_name)):
            if not (isinstance(value, str) and value) and not (name == "run_name" and value is None):
                raise ConfigError(f"{name} is {shown(value)}; a name is required")
        remote = isinstance(store, str) and _SERVER in store
        self.folder: Path | None = None if remote else path_of(store, "store")
        self._uri = str(store)
        if self.folder is not None:
            for module in ("sqlalchemy", "alembic"):
                require(module, "mlflow", "MLflow with a database of its own")
        self.experiment, self.run_name = experiment, run_name
        self.run_id: str | None = None
        self._restored = False
        self._client: Any = None
        # Of a run that is resumed: the steps beyond the checkpoint at which each figure is there already.
        self._there: dict[str, set[int]] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_client": None, "_works": False}

    @property
    def statement(self) -> str:
        """The settings as one line of text, with which a checkpoint keeps the state."""
        return f"experiment {self.experiment}"

    @property
    def state(self) -> dict[str, Any]:
        """MLflow's number of the run, in a form that JSON can hold."""
        return {"run_id": self.run_id}

    @state.setter
    def state(self, seen: dict[str, Any]) -> None:
        self.run_id = checked("MLflow's run", seen, {"run_id": (str, type(None))})["run_id"]
        self._restored = True

    def begin(self, settings: Mapping[str, Any], done: int) -> None:
        """Begin a run of MLflow, or go on with the one in the checkpoint."""
        if not (done and self._restored):
            self.run_id = None
        self._restored, self._there = False, {}
        with _quiet():
            self._client = self._connected()
            if self.run_id is None:
                self._create(settings)
            else:
                self._client.update_run(self.run_id, status="RUNNING")
                self._look(done)

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Log figures as metrics."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        metrics = [
            Metric(name, value, now, step)
            for name, value in values.items()
            if step not in self._there.get(name, ())
        ]
        if metrics:
            self._client.log_batch(self.run_id, metrics=metrics)

    def finish(self, ended_by: str) -> None:
        """Say how the run ended."""
        if self._client is not None:
            client, self._client = self._client, None
            client.set_terminated(self.run_id, status=_STATUS.get(ended_by, "FAILED"))

    def release(self) -> None:
        """Forget the client, which has nothing open."""
        self._client = None

    def _connected(self) -> Any:
        if self.folder is not None:
            make_folder(self.folder)
            uri = _uri_of(self.folder.absolute() / DATABASE)
        else:
            uri = self._uri
        from mlflow.tracking import MlflowClient

        return MlflowClient(tracking_uri=uri)

    def _create(self, settings: Mapping[str, Any]) -> None:
        from mlflow.entities import Param

        client = self._client
        found = client.get_experiment_by_name(self.experiment)
        if found is None:
            # Artifacts would else lie in the working folder.
            place = None if self.folder is None else (self.folder.absolute() / "artifacts").as_uri()
            number = client.create_experiment(self.experiment, artifact_location=place)
        else:
            number = found.experiment_id
        self.run_id = client.create_run(number, run_name=self.run_name).info.run_id
        params = [Param(name, str(value)[:LONGEST]) for name, value in settings.items()]
        client.log_batch(self.run_id, params=params)

    def _look(self, done: int) -> None:
        """Find out what was logged beyond the checkpoint."""
        for name in self._client.get_run(self.run_id).data.metrics:
            history = self._client.get_metric_history(self.run_id, name)
            self._there[name] = {metric.step for metric in history}


def _uri_of(file: Path) -> str:
    """Return the URI of a database; ConfigError is raised if it would lead to another file.

    A path is not quoted: MLflow would make a folder of the quoted name beside it.
    """
    from sqlalchemy.engine import make_url

    uri = f"sqlite:///{file}"
    if make_url(uri).database != str(file):
        raise ConfigError(
            f"store is {shown(str(file.parent))}; a folder whose path has no ? and no % before digits is required"
        )
    return uri


@contextmanager
def _quiet() -> Iterator[None]:
    """Import MLflow without its telemetry, and keep it and its database tool from reporting on standard error."""
    name = "MLFLOW_DISABLE_TELEMETRY"
    before = os.environ.get(name)
    os.environ[name] = "true"
    try:
        # Also where the program has imported MLflow before.
        with suppress(ImportError):
            from mlflow.telemetry import set_telemetry_client

            set_telemetry_client()
        import mlflow  # noqa: F401

        loggers = [logging.getLogger(one) for one in ("mlflow", "alembic")]
        levels = [one.level for one in loggers]
        for one in loggers:
            one.setLevel(logging.WARNING)
        try:
            yield
        finally:
            for one, level in zip(loggers, levels, strict=True):
                one.setLevel(level)
    finally:
        if before is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = before
