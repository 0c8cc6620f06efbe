"""The trainer: descends along forward gradients."""

import copy
from collections.abc import Sequence
from typing import Any

from fgnumba.datasets.dataset import Dataset
from fgnumba.errors import ConfigError, ShapeError
from fgnumba.objects.attributes import own_attributes, take_attributes
from fgnumba.training.callbacks import Callback
from fgnumba.training.checkpoints import Checkpoints
from fgnumba.training.defaults import Defaults
from fgnumba.training.judge import Validation, early_stopping_of, parts_of
from fgnumba.training.loop import Training
from fgnumba.training.records import History
from fgnumba.training.state import state_of, take_state
from fgnumba.training.steps import Steps
from fgnumba.validation import flag, optional, real_number, whole_number


class Trainer(Steps):
    """Trains a model with forward passes alone.

    Each step estimates the gradient and moves the parameters along it. With weight perturbation that is one
    fused program: it draws directions, runs one dual pass for loss and directional derivatives, and updates
    the parameters, drawing the directions again: g is never stored, and no activation is kept.

    Parameters
    ----------
    model : updated in place.
    loss : :class:`SoftmaxCrossEntropy` by default.
    estimator : :class:`WeightPerturbation` with one rank-1 direction by default.
    optimizer : :class:`SGD`, :class:`Adam`, ...
    seed : of the directions and of the order of the training data.

    An interrupt (Ctrl-C, or any other exception of a signal's handler) may come at any moment: parameters, state and
    ``steps_done`` are those before the step that it fell into, or those after it.

    Copies (``copy``, ``pickle``) have a model and a state of their own, and take the steps that it would take.

    Two trainers alike in every argument, fed the same batches, take bit-identical steps with signs on any
    number of threads.

    Raises
    ------
    ConfigError
    """

    def fit(
        self,
        dataset: Dataset,
        *,
        epochs: int | None = None,
        steps: int | None = None,
        batch_size: int = 64,
        evaluate_every: int | None = None,
        validation: Validation = None,
        callbacks: Sequence[Callback] = (),
        checkpoints: Checkpoints | None = None,
        resume: bool = False,
        stop_above: float | None = None,
    ) -> History:
        """Train on a data set, for `epochs` passes over it or for `steps` steps, or until a callback ends it.

        An epoch is a fresh order of the training data, a function of (seed, epoch), cut into batches of
        `batch_size` (of all the data where there is less); what is left over at its end rests. Step i of a trainer
        takes batch i, counted from the first epoch on: fits one after another are one fit. With `epochs`, where the
        trainer stands in the midst of one, a run begins with the next.

        The test data are evaluated once, at the end: ``history.final`` has their loss and accuracy, with a validation
        part and without.

        Parameters
        ----------
        dataset : its training part trains, its test part is for the end alone.
        epochs, steps : one of the two; neither with :class:`fgnumba.callbacks.EarlyStopping`: at most 10,000 steps.
        batch_size : examples a step.
        evaluate_every : steps between records, by default one epoch. The last step is recorded in any case, and where
            training diverges, what the parameters that are kept reach.
        validation : what judges the run at every record, and does not train. A number in (0, 1): that share of the
            training data, the same of every class, drawn by the trainer's seed (the rest is copied). A pair (x, y):
            these examples and their labels. None: records have the training loss alone.
        callbacks : told of every step and record, in order; each may end the run.
            :class:`fgnumba.callbacks.EarlyStopping` does so by the validation part.
        checkpoints : where and how often the run is kept on disk, see :class:`fgnumba.Checkpoints`.
        resume : continue from the newest whole checkpoint there, from the start where there is none. With the same
            model, trainer, data set, validation part and callbacks, the run is bit for bit the one that was never
            interrupted.
        stop_above : a run whose loss exceeds this many times that of its first step has diverged; None for any loss
            that is finite.

        :meth:`stop` interrupts it, with a checkpoint and without test figures. Where training diverges and the last
        step cannot be taken back, the model goes back to the parameters of the last record whose loss was finite (of
        the validation part, or of the first 1,024 training examples).

        Raises
        ------
        ShapeError, DtypeError, ConfigError, DivergenceError
        DatasetError
            So few examples leave none to validate on.
        RunError
            The folder of the checkpoints is another run's or in use, or no checkpoint in it is whole.
        """
        try:
            self._check_fits(dataset)
            callbacks = tuple(callbacks)
            early_stopping = early_stopping_of(callbacks, validation)
            if (epochs is None) == (steps is None) and (epochs is not None or early_stopping is None):
                raise ConfigError("fit: give either epochs or steps")
            epochs, steps = optional(whole_number, "epochs", epochs), optional(whole_number, "steps", steps)
            batch_size = whole_number("batch_size", batch_size)
            evaluate_every = optional(whole_number, "evaluate_every", evaluate_every)
            stop_above = optional(real_number, "stop_above", stop_above, above_zero=True)
            resume = flag("resume", resume)
            if resume and checkpoints is None:
                raise ConfigError("resume: checkpoints is None; the folder to resume from is required")
            parts = parts_of(self.model, dataset, validation, self.seed)
            examples = len(parts.training.x_train)
            batch_size = min(batch_size, examples)
            per_epoch = examples // batch_size
            if steps is None:
                steps = Defaults().steps if epochs is None else epochs * per_epoch
            training = Training(
                self,
                parts,
                early_stopping=early_stopping,
                steps=steps,
                whole=epochs is not None,
                batch_size=batch_size,
                every=evaluate_every or per_epoch,
                callbacks=callbacks,
                checkpoints=checkpoints,
                resume=resume,
                stop_above=stop_above,
            )
            return training.run()
        finally:
            self.stop_requested = False

    def __getstate__(self) -> dict[str, Any]:
        return state_of(self, own_attributes(self, self._own))

    def __setstate__(self, state: dict[str, Any]) -> None:
        # Plans hold addresses: a copy binds its own. The class may be one's own, with other arguments.
        Trainer.__init__(self, **state["arguments"])
        take_attributes(self, state["more"])
        take_state(self, state)

    def __copy__(self) -> "Trainer":
        # What trains a model has one of its own.
        return copy.deepcopy(self)

    def _check_fits(self, dataset: Dataset) -> None:
        if dataset.input_shape != self.model.input_shape:
            raise ShapeError(
                f"{dataset.name}: examples have shape {dataset.input_shape}; "
                f"the model takes {self.model.input_shape}"
            )
        if dataset.classes > self.model.outputs:
            raise ShapeError(
                f"{dataset.name}: {dataset.classes} classes; the model has {self.model.outputs} outputs"
            )
