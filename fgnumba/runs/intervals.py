"""How often a run is written down: its checkpoints and its records."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from fgnumba.errors import ConfigError, shown
from fgnumba.training.checkpoints import Checkpoints
from fgnumba.training.defaults import JUDGED_RECORDS

RECORDS, FEW_RECORDS = 100, 10
"""A run without patience has one record (evaluation) in each epoch, but at most about RECORDS of them, and about
FEW_RECORDS where it has fewer epochs than that."""


def checkpoints_of(
    folder: Path | str, facts: Mapping[str, Any], warn: Callable[[str], None] | None = None
) -> Checkpoints:
    """Return the checkpoints that a run's facts ask for.

    Parameters
    ----------
    folder : Path or str
        The run folder.
    facts : mapping
        ``checkpoint_every``, steps like ``"1000"`` or minutes like ``"10m"`` (the default is ``"5m"``); ``keep`` and
        ``compact``, as :class:`fgnumba.Checkpoints` has them.
    warn : callable, optional
        What a message of the checkpoints is passed to.

    Raises
    ------
    ConfigError
        A value is impossible.
    """
    every, steps, minutes = facts.get("checkpoint_every", "5m"), None, None
    try:
        if every.endswith("m"):
            minutes = float(every[:-1])
        else:
            steps = int(every)
    except (ValueError, AttributeError):
        raise ConfigError(
            f"checkpoint_every is {shown(every)}; steps like 1000 or minutes like 10m are required"
        ) from None
    options = {name: facts[name] for name in ("keep", "compact") if name in facts}
    return Checkpoints(folder, every=steps, minutes=minutes, warn=warn, **options)


def record_every(steps: int, per_epoch: int, patient: bool) -> int:
    """Return the number of steps between two records of a run.

    Parameters
    ----------
    steps : int
        Number of steps of the run.
    per_epoch : int
        Number of steps of an epoch.
    patient : bool
        Whether the run has patience, which counts records.
    """
    if patient:
        return -(-steps // JUDGED_RECORDS)
    return max(min(per_epoch, -(-steps // FEW_RECORDS)), -(-steps // RECORDS))
