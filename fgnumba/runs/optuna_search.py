"""Search for a learning rate by Optuna: its sampler suggests each trial from the outcomes of those before.

The space, the held-out data and the judgement are those of the search by successive halving (``fgnumba.runs.search``).
Trials are suggested in batches of `BATCH`, and run in any order or at the same time. A trial is suggested from the
outcomes of the batches before and from the suggestions of its own batch, by a sampler whose seed depends on the seed of
the search and the number of the trial. It is pruned by comparison with the batches before. So the result depends
neither on the number of jobs nor on how often the search was interrupted.

Sources: T. Akiba et al., arXiv 1907.10902; J. Bergstra et al., Algorithms for Hyper-Parameter Optimization, NeurIPS
2011 (the sampler, a tree-structured Parzen estimator).
"""

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fgnumba.datasets import Dataset, validation_split
from fgnumba.errors import ConfigError, DivergenceError, RunError
from fgnumba.estimators import Recipe
from fgnumba.runs.assembly import assemble
from fgnumba.runs.augmentations import augmentation_of
from fgnumba.runs.configuration import RunConfig
from fgnumba.runs.jobs import Mapper, in_turn
from fgnumba.runs.optuna_journal import opened, writing
from fgnumba.runs.search import HELD_OUT, Search, Trial
from fgnumba.training.callbacks import Callback
from fgnumba.training.optuna_pruning import OptunaPruning
from fgnumba.training.records import Record
from fgnumba.validation import whole_number

if TYPE_CHECKING:
    from optuna import Study
    from optuna.pruners import MedianPruner
    from optuna.trial import FrozenTrial
    from optuna.trial import Trial as Suggestion

BATCH = 8
"""Number of trials that are suggested before the first of them has ended, and so the most that can run at a time.

More would be suggested with less knowledge: of the usual 40 trials, the first 10 are drawn at random in any case."""
RECORDS = 10
"""Number of times that a trial is evaluated, and may be pruned."""
UNPRUNED = 0.25
"""Fraction of a trial's steps before which it is not pruned: learning rates that fall are compared too early there."""


@dataclass(frozen=True)
class Finished:
    """A trial that has ended.

    Parameters
    ----------
    trial : Trial
        Its settings, and its accuracy and loss when it ended; None for both if it diverged. Real targets have no
        accuracy.
    taken : int
        Number of steps that it took; fewer than its steps if it was pruned.
    reports : tuple of (int, float)
        Step of each evaluation, and accuracy, or the negative loss of real targets.
    """

    trial: Trial
    taken: int
    reports: tuple[tuple[int, float], ...]

    @property
    def pruned(self) -> bool:
        """Whether the pruner ended the trial."""
        return self.trial.loss is not None and self.taken < self.trial.steps

    @property
    def value(self) -> float:
        """What the study maximises: the accuracy, or the negative loss of real targets; -inf if the trial diverged."""
        accuracy, loss = self.trial.accuracy, self.trial.loss
        return accuracy if accuracy is not None else -math.inf if loss is None else -loss

    @property
    def score(self) -> tuple[int, tuple[float, float]]:
        """Sort key, larger is better: whole trials before pruned ones, and these before those that diverged."""
        return (-1 if self.trial.loss is None else self.taken), self.trial.score


def search_with_optuna(
    config: RunConfig,
    dataset: Dataset,
    what: Search,
    trials: int,
    path: Path | None = None,
    settings: dict[str, Any] | None = None,
    tell: Callable[[Finished], None] = lambda ended: None,
    chosen: Recipe | None = None,
    mapper: Mapper = in_turn,
) -> list[Finished]:
    """Search for a learning rate by Optuna.

    Parameters
    ----------
    config : RunConfig
        Settings of all trials. Their learning rate, decay and number of steps are replaced.
    dataset : Dataset
        The data set, whose test data are not used.
    what : Search
        The learning rates and decays to search, and the number of steps of a trial; its `count` is not used.
    trials : int
        Number of trials, those in the file included.
    path : Path, optional
        A file that keeps the study, in Optuna's journal format. A search that is interrupted goes on from it. None (the
        default) keeps it in memory.
    settings : dict, optional
        Everything that the outcome of a trial depends on, apart from `what`; a file of other settings is refused.
        Default: none.
    tell : callable
        Called with each trial that was run, when it has ended. Default: ignores it.
    chosen : Recipe, optional
        The recipe of the estimator, as for ``fgnumba.runs.search.search``.
    mapper : Mapper
        Runs the trials of a batch. Default: one after another. ``fgnumba.runs.jobs.mapper_of`` gives others.

    Returns
    -------
    list of Finished
        All trials, from the best to the worst.

    Raises
    ------
    ConfigError
        A setting is impossible, or Optuna is not installed.
    RunError
        The file belongs to other settings, is damaged, is in use, or cannot be written.
    """
    trials = whole_number("trials", trials)
    space = {"lowest": what.lowest, "highest": what.highest, "falls": list(what.falls), "steps": what.steps}
    # The same examples judge every trial, whatever its seed.
    data = validation_split(dataset, HELD_OUT, 0)
    with _quiet(), opened(path, {**(settings or {}), "search": space}) as study:
        found = _known(study, what, path)
        while len(found) < trials:
            first = len(found) // BATCH * BATCH
            numbers = [n for n in range(first, min(first + BATCH, trials)) if n not in found]
            before = [found[n] for n in sorted(found) if n < first]
            whole = [(one.value, one.reports) for one in before if one.score[0] == what.steps]
            batch = [_suggested(study, what, number, config.seed, path) for number in numbers]
            tasks = [_Task(config, data, rate, fall, what.steps, chosen, whole) for _, rate, fall in batch]
            with contextlib.closing(mapper(_run, tasks)) as results:
                for index, ended in results:
                    _write(study, batch[index][0], ended, path)
                    found[numbers[index]] = ended
                    tell(ended)
    return sorted(found.values(), key=lambda ended: ended.score, reverse=True)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Let Optuna print warnings alone; raise ConfigError if it is not installed."""
    try:
        import optuna
    except ImportError:
        raise ConfigError(
            "engine is 'optuna', and Optuna is not installed: pip install 'fgnumba[optuna]'"
        ) from None
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before)


def _known(study: "Study", what: Search, path: Path | None) -> dict[int, Finished]:
    """Return the trials of a study that have ended, by their numbers; trials that were interrupted run again."""
    from optuna.trial import TrialState

    found = {}
    for frozen in study.get_trials(deepcopy=False):
        if frozen.state == TrialState.RUNNING:
            continue
        try:
            found[frozen.number] = _ended(frozen, what)
        except (KeyError, TypeError, ValueError, ConfigError):
            raise RunError(f"{path} is damaged in trial {frozen.number}") from None
    return found


def _ended(frozen: "FrozenTrial", what: Search) -> Finished:
    """Return a trial of the file after checking it; raise one of several errors if it is damaged."""
    from optuna.trial import TrialState

    outcome, params = frozen.user_attrs["outcome"], frozen.params
    rate, fall = _rounded(params["learning_rate"]), params.get("fall", what.falls[0])
    trial = Trial(rate, fall, what.steps, outcome["accuracy"], outcome["loss"])
    reports = tuple((int(step), float(value)) for step, value in sorted(frozen.intermediate_values.items()))
    finished = Finished(trial, whole_number("taken", outcome["taken"], 0, what.steps), reports)
    whole = finished.score[0] == what.steps
    if (trial.loss is None and trial.accuracy is not None) or fall not in what.falls:
        raise ValueError
    if frozen.state != (TrialState.COMPLETE if whole else TrialState.PRUNED):
        raise ValueError
    return finished


def _rounded(rate: float) -> float:
    """Return a learning rate with the three digits that are printed, so that the run can be repeated from them."""
    return float(f"{rate:.3g}")


def _suggested(
    study: "Study", what: Search, number: int, seed: int, path: Path | None
) -> tuple["Suggestion", float, float]:
    """Return trial `number` with its learning rate and fall.

    An interrupted search has suggested both already, and the file gives them back.
    """
    from optuna.samplers import TPESampler
    from optuna.trial import Trial as Suggestion

    key = np.random.SeedSequence([seed, number]).generate_state(1)[0]
    # Trials of the same batch that still run count as poor ones, so that the next is suggested elsewhere.
    study.sampler = TPESampler(seed=int(key), constant_liar=True)
    with writing(path):
        known = study.get_trials(deepcopy=False)
        suggestion = Suggestion(study, known[number]._trial_id) if number < len(known) else study.ask()
        rate = suggestion.suggest_float("learning_rate", what.lowest, what.highest, log=True)
        fall = suggestion.suggest_categorical("fall", what.falls) if len(what.falls) > 1 else what.falls[0]
    return suggestion, _rounded(rate), fall


def _write(study: "Study", suggestion: "Suggestion", ended: Finished, path: Path | None) -> None:
    """Write a trial's outcome to the study."""
    from optuna.trial import TrialState

    trial, written = ended.trial, study.get_trials(deepcopy=False)[suggestion.number].intermediate_values
    with writing(path):
        for step, value in ended.reports:
            if step not in written:
                suggestion.report(value, step)
        outcome = {"accuracy": trial.accuracy, "loss": trial.loss, "taken": ended.taken}
        suggestion.set_user_attr("outcome", outcome)
        if trial.loss is None or ended.pruned:
            # The sampler ranks a trial that diverged, which has no reports, below every other one.
            study.tell(suggestion, state=TrialState.PRUNED)
        else:
            study.tell(suggestion, ended.value)


class _Task(NamedTuple):
    config: RunConfig
    data: Dataset
    rate: float
    fall: float
    steps: int
    chosen: Recipe | None
    whole: Sequence[tuple[float, tuple[tuple[int, float], ...]]]


class _Records(Callback):
    """Keeps the last record of a run, which `Trainer.fit` does not return if the run is pruned."""

    last: Record

    def on_record(self, record: Record) -> None:
        self.last = record


def _run(task: _Task) -> Finished:
    import optuna

    settings = {"learning_rate": task.rate, "decay": task.fall / task.steps, "steps": task.steps}
    config = task.config.updated(settings)
    ready = assemble(config, task.data, task.chosen)
    trainer = ready.trainer
    judged = trainer.loss.metric == "accuracy" and not task.data.streamed
    monitor, sign = ("validation_accuracy", 1.0) if judged else ("validation_loss", -1.0)
    with _quiet():
        # Optuna's pruner compares within a study: this one is in memory, and has the trials of earlier batches.
        study = optuna.create_study(
            direction="maximize" if judged else "minimize", pruner=_pruner(task.steps)
        )
        for value, reports in task.whole:
            known = {step: sign * reported for step, reported in reports}
            study.add_trial(optuna.trial.create_trial(value=sign * value, intermediate_values=known))
        suggestion = study.ask()
        pruning, records = OptunaPruning(suggestion, monitor), _Records()
        accuracy, loss = None, None
        try:
            with contextlib.suppress(optuna.TrialPruned):
                trainer.fit(
                    task.data,
                    steps=task.steps,
                    batch_size=config.batch_size,
                    evaluate_every=max(1, task.steps // RECORDS),
                    validation=_held_out(task.data),
                    callbacks=[pruning, records],
                    augment=augmentation_of(ready.config.augment),
                )
            if math.isfinite(records.last.validation_loss):
                loss = records.last.validation_loss
                accuracy = records.last.validation_accuracy if judged else None
        except DivergenceError:
            pass
    trial = Trial(task.rate, task.fall, task.steps, accuracy, loss)
    reported = study.get_trials(deepcopy=False)[-1].intermediate_values
    reports = () if loss is None else tuple((step, sign * reported[step]) for step in sorted(reported))
    return Finished(trial, trainer.steps_done, reports)


def _held_out(data: Dataset) -> tuple[Any, Any]:
    """Return the held-out data as `Trainer.fit` takes them beside a data set: classes by their names."""
    x, y = data.tested
    return x, y if data.labels is None else [data.labels[number] for number in y.tolist()]


def _pruner(steps: int) -> "MedianPruner":
    """Return the pruner of trials that are worse at a step than the median of the whole ones was there."""
    from optuna.pruners import MedianPruner

    return MedianPruner(n_startup_trials=5, n_warmup_steps=int(UNPRUNED * steps))
