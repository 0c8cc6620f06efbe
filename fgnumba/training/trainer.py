"""The trainer: trains a model along forward gradients, step by step or in runs on a data set."""

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
    """Trains a model with forward passes only.

    Each step estimates the gradient and moves the parameters against it. With weight perturbation, a step is one fused
    program: it draws directions, runs one dual pass for the loss and the directional derivatives, and updates the
    parameters, for which it draws the same directions again. So the gradient estimate g is never stored, and no
    activation is kept.

    An interrupt (Ctrl-C, or any other exception from a signal handler) may come at any moment. Parameters, state and
    ``steps_done`` are then those before the interrupted step or those after it, and never a mixture.

    A copy (``copy``, ``pickle``) has a model and a state of its own, and takes the steps that the original would take.

    Two trainers with equal arguments that get the same batches take bit-identical steps on one processor, on any number
    of threads.

    Parameters
    ----------
    model : Graph
        The model, whose parameters are updated in place.
    loss : Loss or str, optional
        The loss to minimise, or its name: ``"cross-entropy"`` or ``"mse"``. None (the default):
        :class:`SoftmaxCrossEntropy`.
    estimator : Estimator or str, optional
        The gradient estimator, or a name that ``fgtrain train --estimator`` takes. None (the default):
        :class:`WeightPerturbation` with one rank-1 direction, which learns slowly. ``fgtrain train`` chooses
        ``"feedback"``, which is ``ActivityPerturbation(feedback=Feedback(control=0.0))``, for most models.
    optimizer : Optimizer or str
        How a step follows the estimate, such as :class:`SGD` or :class:`Adam`; or ``"sgd"``, ``"adam"`` or ``"adamw"``,
        with the learning rate that a search found for the estimator.
    seed : int
        Seed of the directions and of the order of the training data. Default: 0.

    Raises
    ------
    ConfigError
        The seed is impossible, a name is unknown, or the estimator does not suit the model.
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
        """Train on a data set for a number of epochs or steps, or until a callback ends the run.

        An epoch is a new random order of the training data, which depends on the seed and the epoch's number, cut into
        batches of `batch_size` examples. Examples that are left over at the end of an epoch are not used in it. Step i
        of a trainer takes batch i, counted from the first epoch on, so that several calls of this method continue one
        another. A run with `epochs` begins with a whole epoch: if the trainer is in the middle of one, with the next.

        The test data are evaluated once, at the end: ``history.final`` has their loss and accuracy.

        :meth:`stop` interrupts the run, which then has a checkpoint but no test loss and accuracy. If training diverges
        and the last step cannot be taken back, the model gets back the parameters of the last record whose loss was
        finite, on the validation data or else on the first 1,024 training examples.

        Parameters
        ----------
        dataset : Dataset
            The data set. Its training data are trained on; its test data are only used at the end.
        epochs : int, optional
            Number of passes over the training data. Give `epochs` or `steps`. With
            :class:`fgnumba.callbacks.EarlyStopping` neither is needed: the run then has at most 10,000 steps.
        steps : int, optional
            Number of steps.
        batch_size : int
            Number of examples in each step; all training data if there are fewer. Default: 64.
        evaluate_every : int, optional
            Number of steps between records. None (the default): one epoch. The last step has a record in any case, and
            if training diverges, so have the parameters that the model keeps.
        validation : float or tuple of array_like, optional
            Data that judge the run in each record and are not trained on. A number between 0 and 1 is a fraction of the
            training data, the same of every class, drawn by the trainer's seed (the other training data are copied). A
            pair (x, y) is examples and their labels. None (the default): records have the training loss only.
        callbacks : sequence of Callback
            Objects that follow each step and record, in this order, and that may end the run.
            :class:`fgnumba.callbacks.EarlyStopping` does so by the validation data. Default: none.
        checkpoints : Checkpoints, optional
            Where and how often the run is saved to disk. None (the default): it is not saved.
        resume : bool
            Whether to continue from the newest undamaged checkpoint, or from the start if there is none. With the same
            model, trainer, data set, validation data and callbacks, the result is bit-identical to that of an
            uninterrupted run. Default: False.
        stop_above : float, optional
            The run has diverged if its loss exceeds this many times the loss of its first step. None (the default):
            only a loss that is not finite counts as divergence.

        Returns
        -------
        History
            The records of the run and the reason for its end.

        Raises
        ------
        ShapeError, DtypeError
            The data set or the validation data do not fit the model.
        ConfigError
            An argument is impossible, or two of them contradict each other.
        DivergenceError
            The loss is not finite, or above `stop_above` times the first one.
        DatasetError
            The data set is too small to hold out the fraction that `validation` asks for.
        RunError
            The checkpoints' folder is that of another run or in use, or all checkpoints in it are damaged.
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
        # Estimates hold addresses of arrays, so that a copy must bind its own. `Trainer.__init__` is called by name,
        # because the class may be a user's subclass with other arguments.
        Trainer.__init__(self, **state["arguments"])
        take_attributes(self, state["more"])
        take_state(self, state)

    def __copy__(self) -> "Trainer":
        # Two trainers must not update the same parameters, so that even a shallow copy copies the model.
        return copy.deepcopy(self)

    def _check_fits(self, dataset: Dataset) -> None:
        if not isinstance(dataset, Dataset):
            raise ConfigError(
                f"dataset is a {type(dataset).__name__}; a fgnumba.datasets.Dataset is required, such as "
                f"fgnumba.datasets.load('digits') returns"
            )
        if dataset.input_shape != self.model.input_shape:
            raise ShapeError(
                f"{dataset.name}: examples have shape {dataset.input_shape}; "
                f"the model takes {self.model.input_shape}"
            )
        if dataset.classes > self.model.outputs:
            raise ShapeError(
                f"{dataset.name}: {dataset.classes} classes; the model has {self.model.outputs} outputs"
            )
