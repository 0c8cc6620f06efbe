"""A training run from the command line: start or resume it, show its progress, end it on a signal, write its folder."""

import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import fgnumba as fg
from fgnumba.cli.message import say, show, tell
from fgnumba.cli.outcome import FirstLoss, learned, outcome, summary
from fgnumba.cli.progress import progress
from fgnumba.cli.signals import Signals
from fgnumba.cli.telemetry import check_telemetry, telemetry_of
from fgnumba.datasets.npz import BytesDataset
from fgnumba.errors import printable
from fgnumba.runs import continuation, run_folder, saved_run
from fgnumba.runs.assembly import Assembled, assemble
from fgnumba.runs.augmentations import augmentation_of
from fgnumba.runs.configuration import RECIPES, RECIPES_VERSION, named
from fgnumba.runs.data import load_data, write_rules
from fgnumba.runs.intervals import checkpoints_of, record_every
from fgnumba.runs.loggers import checked_names, loggers_of
from fgnumba.runs.loss_log import LossLog
from fgnumba.runs.run_folder import DATA, DIVERGED, DIVISOR, LABELS, RESTORED
from fgnumba.runs.surroundings import check_multiplies, surroundings
from fgnumba.runs.texts import write_alphabet
from fgnumba.training.checkpoints import LOCK
from fgnumba.training.loggers.base import Logger
from fgnumba.validation.paths import quoted

if TYPE_CHECKING:
    from fgnumba.runs.configuration import RunConfig


@dataclass(frozen=True)
class Told:
    """What a run prints.

    Parameters
    ----------
    quiet : bool
        Whether to print nothing but errors.
    as_json : bool
        Whether to print the result as a JSON object in place of a line.
    """

    quiet: bool
    as_json: bool


def begun(
    config: "RunConfig",
    out: Path | None,
    told: Told,
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
    told : Told
        What to print.
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
    checkpoints_of("", keeping)
    loggers = checked_names(loggers)
    dataset = load_data(config)
    for line in () if told.quiet else getattr(dataset, "notes", ()):
        say(printable(line))
    ready = assemble(config, dataset)
    if telemetry is not None:
        check_telemetry(telemetry, ready.model, dataset)
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
        **({} if dataset.labels is None else {LABELS: list(dataset.labels)}),
        **({DIVISOR: dataset.divisor} if isinstance(dataset, BytesDataset) else {}),
        **surroundings(ready.model, fg.__version__),
        RECIPES: RECIPES_VERSION,
        **({} if telemetry is None else {"telemetry": telemetry}),
        **({"logger": list(loggers)} if loggers else {}),
        **keeping,
    }
    created = run_folder.missing_parents(destination)
    folder = run_folder.begin(destination, ready.config, facts, out is None)
    run = _Run(folder, ready, dataset, facts, told)
    try:
        return run.train(resume=False)
    except BaseException:
        if not run.begun:
            run_folder.discard(folder)
        raise
    finally:
        run_folder.remove_empty(created)


def continued(folder: Path, given: Mapping[str, Any], told: Told, keeping: Mapping[str, Any]) -> int:
    """Continue an interrupted run, or train one that has ended further.

    Parameters
    ----------
    folder : Path
        The run folder.
    given : mapping
        ``data`` and ``data_dir`` where the data set has been moved since the run began; ``steps`` or ``epochs``, the
        new length of the run, where the user gave one.
    told : Told
        What to print.
    keeping : mapping
        Those of ``checkpoint_every``, ``keep`` and ``compact`` that the user gave; they replace the run's.

    Returns
    -------
    int
        Exit status: 0, or 128 plus the number of the signal that ended the run.
    """
    config, facts = saved_run.read_unfinished(folder)
    longer = "steps" in given or "epochs" in given
    if not longer and _has_ended(folder, facts):
        return 0
    if longer and DIVERGED in facts:
        raise fg.RunError(f"{folder} has ended: it diverged at step {facts[DIVERGED]}; train a new run")
    config = config.updated(given)
    dataset = load_data(config, facts.get(DATA))
    digest = facts.get(DATA, dataset.digest)
    if digest != dataset.digest:
        raise fg.RunError(
            f"{folder}: the data set {dataset.name} has changed since the run began; "
            f"a run continues with the data that it began with"
        )
    facts = {**facts, **keeping}
    checkpoints_of(folder, facts)
    checked_names(facts.get("logger", ()))
    check_multiplies(folder, config, facts)
    return _Run(folder, assemble(config, dataset), dataset, facts, told).train(resume=True, longer=longer)


def _has_ended(folder: Path, facts: Mapping[str, Any]) -> bool:
    """Return whether the run in `folder` has ended; if it has, print a message and complete the folder."""
    if not (folder / run_folder.MODEL).exists():
        return False
    ended = facts.get(DIVERGED)
    how = "has ended" if ended is None else f"has ended: it diverged at step {ended}"
    say(printable(f"{folder} {how}; there is nothing to continue"))
    # A process that was killed as it ended may have left checkpoints, or not have drawn the figure.
    run_folder.complete(folder, say, further=ended is None)
    return True


class _Run:
    """A training run and its run folder."""

    def __init__(
        self,
        folder: Path,
        ready: Assembled,
        dataset: fg.datasets.Dataset,
        facts: dict[str, Any],
        told: Told,
    ) -> None:
        self._folder, self._ready, self._dataset, self._facts = folder, ready, dataset, facts
        self._told, self.begun, self._first = told, False, FirstLoss()
        config = ready.config
        self._stopping = (
            fg.callbacks.EarlyStopping(config.patience, restore_best=bool(config.restore_best))
            if config.patience
            else None
        )

    def train(self, resume: bool, longer: bool = False) -> int:
        """Train until the run or a signal ends it, and return the exit status.

        Parameters
        ----------
        resume : bool
            Whether to continue from a checkpoint.
        longer : bool
            Whether a run that has ended is trained further. Default: False.
        """
        if longer:
            # What cannot be trained further is refused before anything is shown or locked.
            self._state()
        model, trainer = self._ready.model, self._ready.trainer
        title = f"{named(self._ready.config)}, {model.parameter_count:,} parameters, on {model.processor.description}"
        with (
            progress(self._told.quiet, title) as shown,
            Signals(trainer.stop, shown.stop, shown.bar) as signals,
        ):
            saved = checkpoints_of(self._folder, self._facts, shown.say)
            # From here on another process may use the folder, too, so that `begun` must not remove it.
            self.begun = True
            with self._held(saved, resume):
                if longer:
                    self._reopen(shown.say)
                # Another process may have ended the run since the check in `continued`.
                elif _has_ended(self._folder, self._facts):
                    return 0
                write_rules(self._folder, self._dataset)
                write_alphabet(self._folder, self._dataset)
                if resume:
                    run_folder.remember(self._folder, self._ready.config, self._facts)
                followers = [
                    *shown.callbacks,
                    self._first,
                    *self._followers(saved),
                    *self._loggers(shown.say),
                ]
                history = self._fit(saved, followers, resume)
                if not history.stopped:
                    self._finish(saved, self._ended(history))
        if history.stopped:
            again = f"fgtrain train --resume {quoted(self._folder)}"
            say(f"stopped after step {trainer.steps_done}; to continue from step {saved.saved_step}: {again}")
        self._report(history, saved)
        if history.stopped:
            return signals.status
        if signals.number is not None:
            name = signal.Signals(signals.number).name
            say(printable(f"{name} came after the last step: the run has ended, {self._folder} is complete"))
        return 0

    def _state(self) -> continuation.Ended | None:
        """Return the state from which a run that has ended is trained further; None of an interrupted run.

        Raises
        ------
        RunError
            The run cannot be trained further, or its new length is less than what it has taken.
        """
        steps = self._ready.config.steps or 0
        if (self._folder / run_folder.MODEL).exists():
            return continuation.ended(self._folder, self._ready.trainer, steps)
        continuation.check_length(self._folder, steps)
        return None

    def _reopen(self, tell_user: Callable[[str], None]) -> None:
        """Make a run that has ended ready to be trained further; an interrupted one is, and only gets longer."""
        state = self._state()
        if state is None:
            return
        self._facts.pop(RESTORED, None)
        continuation.reopen(self._folder, state)
        if not self._told.quiet:
            patience = "; its patience begins anew" if state.early else ""
            tell_user(
                printable(
                    f"{self._folder} is trained further, from step {state.done} to {self._ready.config.steps}, with "
                    f"the decay of its learning rate{patience}"
                )
            )

    def _report(self, history: fg.History, saved: fg.Checkpoints) -> None:
        """Print the result of the run: as JSON, or as a line if it has ended."""
        ready, found = self._ready, []
        if saved.records and not history.stopped:
            found = learned(saved.records, self._first, self._dataset, ready.config)
        if not self._told.quiet and not history.stopped:
            self._say_why(history)
            for warning in found:
                say(f"warning: {warning}")
        if self._told.as_json:
            show(outcome(self._folder, ready, saved.records, history, found))
        elif saved.records and not history.stopped and not self._told.quiet:
            tell(f"{summary(saved.records[-1])}; " + printable(f"run folder {self._folder}"))

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
            self._finish(saved, {**self._facts, DIVERGED: self._ready.trainer.steps_done})
            if self._told.as_json:
                ended = fg.History(saved.records, ended_by="divergence")
                show(outcome(self._folder, self._ready, saved.records, ended, [str(error)]))
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
            evaluate_every=record_every(steps, self._ready.per_epoch, bool(config.patience)),
            validation=config.validation or None,
            callbacks=callbacks,
            checkpoints=saved,
            resume=resume,
            stop_above=config.stop_above,
            augment=augmentation_of(config.augment),
        )

    def _loggers(self, warn: Callable[[str], None]) -> list[Logger]:
        return loggers_of(self._facts.get("logger", ()), self._folder, warn)

    def _followers(self, saved: fg.Checkpoints) -> list[fg.Callback]:
        callbacks: list[fg.Callback] = [LossLog(saved), *filter(None, [self._stopping])]
        if self._facts.get("telemetry") is not None:
            every, batch_size = self._facts["telemetry"], self._ready.config.batch_size
            callbacks.append(telemetry_of(every, self._dataset, batch_size, saved))
        return callbacks
