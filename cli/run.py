"""A training run from the command line: start or resume it, show its progress, end it on a signal, write its folder."""

import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import fgnumba as fg
from fgnumba.cli.message import say, tell
from fgnumba.cli.progress import progress
from fgnumba.cli.signals import Signals
from fgnumba.errors import printable, shown
from fgnumba.runs import run_folder, saved_run
from fgnumba.runs.assembly import Assembled, assemble
from fgnumba.runs.configuration import named
from fgnumba.runs.loggers import checked_names, loggers_of
from fgnumba.runs.run_folder import DATA, RESTORED
from fgnumba.training.checkpoints import LOCK
from fgnumba.training.defaults import JUDGED_RECORDS
from fgnumba.training.loggers.base import Logger
from fgnumba.validation import whole_number
from fgnumba.validation.paths import quoted

if TYPE_CHECKING:
    from fgnumba.runs.configuration import RunConfig

RECORDS, FEW_RECORDS = 100, 10
"""A run without patience has one record (evaluation) in each epoch, but at most about RECORDS of them, and about
FEW_RECORDS where it has fewer epochs than that."""


def begun(
    config: "RunConfig",
    out: Path | None,
    quiet: bool,
    telemetry: int | None,
    loggers: Sequence[str],
    keeping: Mapping[str, Any],
) -> int:
    """Train from the start and write a run folder.

    Parameters
    ----------
    config : RunConfig
        The run's settings.
    out : Path or None
        The run folder. None takes ``runs/DATA-MODEL-N`` with the first number N that is free.
    quiet : bool
        Whether to print nothing but errors.
    telemetry : int or None
        Number of steps between comparisons with the exact gradient. None makes no comparisons.
    loggers : sequence of str
        Names of the loggers, as ``fgnumba.runs.loggers`` has them.
    keeping : mapping
        Those of ``checkpoint_every``, ``keep`` and ``compact`` that the user gave. They are written into the run
        folder, so that ``--resume`` uses them again.

    Returns
    -------
    int
        Exit status: 0, or 128 plus the number of the signal that ended the run.
    """
    _kept("", keeping)
    loggers = checked_names(loggers)
    dataset = fg.datasets.load(config.data, data_dir=config.data_dir)
    ready = assemble(config, dataset)
    if telemetry is not None:
        whole_number("telemetry", telemetry)
        if not ready.model.processor.by_parts:
            raise fg.ConfigError(
                "telemetry compares with reverse mode, which runs on the CPU alone: --device cpu is required"
            )
    name = named(ready.config)
    if out is None:
        destination = run_folder.next_free(Path("runs"), name)
        # Whether it is still free is seen when it is created: another process may take the number in the meantime.
        run_folder.check_writable(destination, destination.parents)
    else:
        destination = out
        run_folder.check_destination(destination)
    facts = {
        "input_shape": list(ready.model.input_shape),
        "classes": ready.model.outputs,
        DATA: dataset.digest,
        "version": fg.__version__,
        **({} if telemetry is None else {"telemetry": telemetry}),
        **({"logger": list(loggers)} if loggers else {}),
        **keeping,
    }
    created = run_folder.missing_parents(destination)
    folder = run_folder.begin(destination, ready.config, facts, out is None)
    run = _Run(folder, ready, dataset, facts, quiet)
    try:
        return run.train(resume=False)
    except BaseException:
        if not run.begun:
            run_folder.discard(folder)
        raise
    finally:
        run_folder.remove_empty(created)


def continued(folder: Path, data: Mapping[str, Any], quiet: bool, keeping: Mapping[str, Any]) -> int:
    """Continue an interrupted run.

    Parameters
    ----------
    folder : Path
        The run folder.
    data : mapping
        ``data`` and ``data_dir`` where the data set has been moved since the run began; else empty.
    quiet : bool
        Whether to print nothing but errors.
    keeping : mapping
        Those of ``checkpoint_every``, ``keep`` and ``compact`` that the user gave; they replace the run's.

    Returns
    -------
    int
        Exit status: 0, or 128 plus the number of the signal that ended the run.
    """
    config, facts = saved_run.read_unfinished(folder)
    if _has_ended(folder, facts):
        return 0
    config = config.updated(data)
    dataset = fg.datasets.load(config.data, data_dir=config.data_dir)
    digest = facts.get(DATA, dataset.digest)
    if digest != dataset.digest:
        raise fg.RunError(
            f"{folder}: the data set {dataset.name} has changed since the run began; "
            f"a run continues with the data that it began with"
        )
    facts = {**facts, **keeping}
    _kept(folder, facts)
    checked_names(facts.get("logger", ()))
    return _Run(folder, assemble(config, dataset), dataset, facts, quiet).train(resume=True)


def _has_ended(folder: Path, facts: Mapping[str, Any]) -> bool:
    """Return whether the run in `folder` has ended; if it has, print a message and complete the folder."""
    if not (folder / run_folder.MODEL).exists():
        return False
    ended = facts.get("diverged_at_step")
    how = "has ended" if ended is None else f"has ended: it diverged at step {ended}"
    say(printable(f"{folder} {how}; there is nothing to continue"))
    # A process that was killed as it ended may have left checkpoints, or not have drawn the figure.
    run_folder.complete(folder, say)
    return True


def _kept(
    folder: Path | str, facts: Mapping[str, Any], warn: Callable[[str], None] | None = None
) -> fg.Checkpoints:
    """Return the checkpoints that a run's facts ask for: how often they are written, how many are kept, which kind."""
    every, steps, minutes = facts.get("checkpoint_every", "5m"), None, None
    try:
        if every.endswith("m"):
            minutes = float(every[:-1])
        else:
            steps = int(every)
    except (ValueError, AttributeError):
        raise fg.ConfigError(
            f"checkpoint_every is {shown(every)}; steps like 1000 or minutes like 10m are required"
        ) from None
    options = {name: facts[name] for name in ("keep", "compact") if name in facts}
    return fg.Checkpoints(folder, every=steps, minutes=minutes, warn=warn, **options)


class _Run:
    """A training run and its run folder."""

    def __init__(
        self,
        folder: Path,
        ready: Assembled,
        dataset: fg.datasets.Dataset,
        facts: dict[str, Any],
        quiet: bool,
    ) -> None:
        self._folder, self._ready, self._dataset, self._facts = folder, ready, dataset, facts
        self._quiet, self.begun = quiet, False
        config = ready.config
        self._stopping = (
            fg.callbacks.EarlyStopping(config.patience, restore_best=config.restore_best)
            if config.patience
            else None
        )

    def train(self, resume: bool) -> int:
        """Train until the run or a signal ends it, and return the exit status."""
        model, trainer = self._ready.model, self._ready.trainer
        title = f"{named(self._ready.config)}, {model.parameter_count:,} parameters, on {model.processor.description}"
        with (
            progress(self._quiet, title) as shown,
            Signals(trainer.stop, shown.stop, shown.bar) as signals,
        ):
            saved = _kept(self._folder, self._facts, shown.say)
            # From here on another process may use the folder, too, so that `begun` must not remove it.
            self.begun = True
            with self._held(saved, resume):
                # Another process may have ended the run since the check in `continued`.
                if _has_ended(self._folder, self._facts):
                    return 0
                if resume:
                    run_folder.remember(self._folder, self._ready.config, self._facts)
                followers = [*shown.callbacks, *self._followers(saved), *self._loggers(shown.say)]
                history = self._fit(saved, followers, resume)
                if not history.stopped:
                    self._finish(saved, self._ended(history))
        if history.stopped:
            again = f"fgtrain train --resume {quoted(self._folder)}"
            say(f"stopped after step {trainer.steps_done}; to continue from step {saved.saved_step}: {again}")
            return signals.status
        if signals.number is not None:
            name = signal.Signals(signals.number).name
            say(printable(f"{name} came after the last step: the run has ended, {self._folder} is complete"))
        if not self._quiet and saved.records:
            self._say_why(history)
            final = saved.records[-1]
            tell(
                f"test accuracy {final.test_accuracy:.4f}, test loss {final.test_loss:.4f} "
                f"after {final.step} steps in {final.seconds:.1f} s; "
                + printable(f"run folder {self._folder}")
            )
        return 0

    @contextmanager
    def _held(self, saved: fg.Checkpoints, resume: bool) -> Iterator[None]:
        """Hold the lock of the run's folder; remove a new folder whose lock the disk has no room for."""
        held = False
        try:
            with saved.held():
                held = True
                yield
        except fg.RunError:
            # No other process uses a folder that has no lock file.
            if not held and not resume and not (self._folder / LOCK).exists():
                run_folder.discard(self._folder)
            raise

    def _ended(self, history: fg.History) -> dict[str, Any]:
        """Return the facts of a run that has ended, among them the step whose parameters were restored, if any."""
        restored = history.restored_step
        return {**self._facts, **({} if restored is None else {RESTORED: restored})}

    def _say_why(self, history: fg.History) -> None:
        """Print a message if the run ended early, or if earlier parameters were restored."""
        if self._stopping is not None and history.ended_early:
            best = self._stopping
            say(
                f"ended early: {best.monitor.replace('_', ' ')} {best.best:.4f} at step {best.best_step} "
                f"was not {'exceeded' if best.monitor == 'validation_accuracy' else 'improved'} afterwards"
            )
        if history.restored_step is not None:
            say(f"the parameters are those of step {history.restored_step}, the best on the validation data")

    def _fit(self, saved: fg.Checkpoints, callbacks: list[fg.Callback], resume: bool) -> fg.History:
        """Train, and return the history.

        A run that diverges after its first record still leaves a complete run folder. A new run that fails before its
        first checkpoint, from which it could continue, leaves no folder.
        """
        try:
            return self._taken(saved, callbacks, resume)
        except fg.DivergenceError as error:
            if not saved.records:
                self._discard_new(saved, resume)
                raise
            self._finish(saved, {**self._facts, "diverged_at_step": self._ready.trainer.steps_done})
            raise fg.DivergenceError(
                f"{error}; they are in {self._folder}", diagnosis=error.diagnosis
            ) from None
        except BaseException:
            self._discard_new(saved, resume)
            raise

    def _discard_new(self, saved: fg.Checkpoints, resume: bool) -> None:
        if not resume and not saved.found():
            run_folder.discard(self._folder)

    def _finish(self, saved: fg.Checkpoints, facts: Mapping[str, Any]) -> None:
        ready = self._ready
        run_folder.finish(self._folder, ready.config, ready.model, saved.records, facts, saved.logs, say)

    def _taken(self, saved: fg.Checkpoints, callbacks: list[fg.Callback], resume: bool) -> fg.History:
        config, trainer = self._ready.config, self._ready.trainer
        steps = config.steps or self._ready.per_epoch
        return trainer.fit(
            self._dataset,
            steps=steps,
            batch_size=config.batch_size,
            evaluate_every=self._every(steps),
            validation=config.validation or None,
            callbacks=callbacks,
            checkpoints=saved,
            resume=resume,
            stop_above=config.stop_above,
        )

    def _every(self, steps: int) -> int:
        """Return the number of steps between two records of a run of `steps` steps."""
        if self._ready.config.patience:
            return -(-steps // JUDGED_RECORDS)
        return max(min(self._ready.per_epoch, -(-steps // FEW_RECORDS)), -(-steps // RECORDS))

    def _loggers(self, warn: Callable[[str], None]) -> list[Logger]:
        return loggers_of(self._facts.get("logger", ()), self._folder, warn)

    def _followers(self, saved: fg.Checkpoints) -> list[fg.Callback]:
        callbacks: list[fg.Callback] = [] if self._stopping is None else [self._stopping]
        every = self._facts.get("telemetry")
        if every is not None:
            from fgnumba.bench.learning.telemetry import Telemetry

            every = whole_number("telemetry", every)
            callbacks.append(Telemetry(every, self._dataset, self._ready.config.batch_size, saved))
        return callbacks
