"""The trainer: trains a model along forward gradients, step by step or in runs on a data set."""

import copy
from collections.abc import Sequence
from typing import Any

from fgnumba.datasets.augmentation import Augment, checked_augment
from fgnumba.kernels.devices.precision import described
from fgnumba.objects.attributes import own_attributes, take_attributes
from fgnumba.objects.table import as_html
from fgnumba.training.callbacks import Callback
from fgnumba.training.checkpoints import Checkpoints
from fgnumba.training.followers import callbacks_of
from fgnumba.training.given import data_of
from fgnumba.training.judge import Validation
from fgnumba.training.records import History
from fgnumba.training.runs import RunSetting, training_of
from fgnumba.training.scoring import Metrics, metrics_of
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
    loss : Loss, callable or str, optional
        The loss to minimise; a function f(z, y) of one example's outputs and target, of which
        :meth:`fgnumba.Loss.from_function` makes one; or its name: ``"cross-entropy"``, ``"bce"``, ``"mse"`` or
        ``"huber"``. None (the default): :class:`SoftmaxCrossEntropy`.
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
        dataset: Any,
        y: Any = None,
        *,
        epochs: int | None = None,
        steps: int | None = None,
        batch_size: int = 64,
        evaluate_every: int | None = None,
        validation: Validation = None,
        metrics: Metrics = None,
        sample_weight: Any = None,
        augment: Augment | None = None,
        callbacks: Sequence[Callback] = (),
        checkpoints: Checkpoints | None = None,
        resume: bool = False,
        stop_above: float | None = None,
    ) -> History:
        """Train on data for a number of epochs or steps, or until the run stops improving.

        An epoch is a new random order of the training data, which depends on the seed and the epoch's number, cut into
        batches of `batch_size` examples. Examples that are left over at the end of an epoch are not used in it. Step i
        of a trainer takes batch i, counted from the first epoch on, so that several calls of this method continue one
        another. A run with `epochs` begins with a whole epoch: if the trainer is in the middle of one, with the next.

        Without `epochs` and `steps`, the run is one as ``fgtrain train`` makes it by default: 5 % of the training data
        are held out, unless `validation` says otherwise, and the run ends when they have not been predicted better for
        8 records (or as an ``EarlyStopping`` among `callbacks` says), or after a number of steps that suits the
        estimator (10,000 for most).

        The test data of a data set are evaluated once, at the end: ``history.final`` has their loss and accuracy.

        :meth:`stop` interrupts the run, which then has a checkpoint but no test loss and accuracy. If training diverges
        and the last step cannot be taken back, the model gets back the parameters of the last record whose loss was
        finite, on the validation data or else on the first 1,024 training examples.

        Parameters
        ----------
        dataset : array_like, data frame, Dataset, str, path, or iterable of batches
            What to train on:

            - Examples X, (n, ``*input_shape``) real numbers of any dtype and order, with their targets in `y`; a data
              frame of numbers; a tensor on the CPU. They are converted to C-contiguous float32 once, which the log of
              ``fgnumba`` says, or used as they are if they are that already. (X, y) as one tuple is the same.
            - A :class:`fgnumba.datasets.Dataset`, whose test data are only used at the end, or what
              :func:`fgnumba.datasets.load` takes: a name or a path.
            - An iterable of batches (x, y), such as a list, a generator or a PyTorch DataLoader, which is passed over
              again as often as needed. Each call of this method begins with its first batch. `batch_size` has no
              meaning then. Such a run cannot be resumed, since its batches cannot be had again.
        y : array_like or series, optional
            The targets of X, as the loss takes them: class labels (n,), which may be text or any whole numbers; or real
            numbers (n, N), or (n,) for a model of one output. Labels other than 0 to C - 1 are numbered in sorted
            order, and ``model.classes`` then says what each class is called. A model that was trained on class numbers
            takes others only if ``model.classes`` has been set.
        epochs : int, optional
            Number of passes over the training data; excludes `steps`.
        steps : int, optional
            Number of steps.
        batch_size : int
            Number of examples in each step; all training data if there are fewer. Default: 64.
        evaluate_every : int, optional
            Number of steps between records. None (the default): one epoch; a twentieth of the run if it has neither
            `epochs` nor `steps`. The last step has a record in any case, and if training diverges, so have the
            parameters that the model keeps.
        validation : float or tuple (x, y), optional
            Data that judge the run in each record and are not trained on. A number between 0 and 1 is a fraction of the
            training data, the same of every class, drawn by the trainer's seed (the other training data are copied). A
            pair (x, y) is examples and their targets, of the same kinds as X and `y`. None (the default): records have
            the training loss only.
        metrics : str, callable, sequence of them, or mapping of str to callable, optional
            What is measured on validation and test data beside the loss and the metric that suits it (the accuracy for
            labels, R² for real targets): ``"accuracy"``, ``"r2"``, ``"mae"``, ``"rmse"``, or functions
            ``f(targets, predictions)`` such as scikit-learn's. ``Record.metrics`` has their values, which are NaN where
            a prediction is not finite.
        sample_weight : array_like, (n,), or (n, L) of sequences, optional
            A weight w_i for each example of the training data, 0 or above: the loss is (1/B) Σ_i w_i f_i, of the B
            examples of a batch. Validation and test data have none. None (the default): all are 1.
        augment : callable, optional
            A function ``augment(x, generator)`` that returns another version of a batch's examples x, (B,
            ``*input_shape``), such as ``fgnumba.datasets.RandomFlip()``. Its generator depends on the trainer's seed
            and the batch alone, so that a resumed run augments as an uninterrupted one. On a GPU, augmented batches are
            uploaded one by one. None (the default): examples stay as they are.
        callbacks : sequence of Callback
            Objects that follow each step and record, in this order, and that may end the run.
            :class:`fgnumba.callbacks.EarlyStopping` does so by the validation data. Default: none.
        checkpoints : Checkpoints, optional
            Where and how often the run is saved to disk. None (the default): it is not saved.
        resume : bool
            Whether to continue from the newest undamaged checkpoint, or from the start if there is none. With the same
            model, trainer, data, validation data and callbacks, the result is bit-identical to that of an
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
            The data or the validation data do not fit the model or the loss.
        ConfigError
            An argument is impossible, or two of them contradict each other.
        DivergenceError
            The loss is not finite, or above `stop_above` times the first one.
        DatasetError
            A value of the data is impossible, or they are too few to hold out the fraction that `validation` asks for.
        RunError
            The checkpoints' folder is that of another run or in use, or all checkpoints in it are damaged.

        Warns
        -----
        FgWarning
            The data are doubtful: a class without an example, or images of bytes that were not scaled.
        """
        loss, classes, done = self.loss, self.model.classes, self.steps_done
        try:
            setting = RunSetting(
                epochs=optional(whole_number, "epochs", epochs),
                steps=optional(whole_number, "steps", steps),
                batch_size=whole_number("batch_size", batch_size),
                evaluate_every=optional(whole_number, "evaluate_every", evaluate_every),
                validation=validation,
                metrics=metrics_of(metrics, loss),
                sample_weight=sample_weight,
                augment=optional(lambda _, given: checked_augment(given), "augment", augment),
                callbacks=callbacks_of(callbacks),
                checkpoints=checkpoints,
                resume=flag("resume", resume),
                stop_above=optional(real_number, "stop_above", stop_above, above_zero=True),
            )
            training = training_of(self, data_of(self.model, loss, dataset, y), setting)
            if sample_weight is not None:
                self.loss = loss.with_example_weights()
            return training.run()
        except BaseException:
            if self.steps_done == done:
                # The model has learned nothing about these classes, and may be trained on others.
                self.model.classes = classes
            raise
        finally:
            self.loss = loss
            self.stop_requested = False

    def __getstate__(self) -> dict[str, Any]:
        return state_of(self, own_attributes(self, self._own))

    def __setstate__(self, state: dict[str, Any]) -> None:
        # Estimates hold addresses of arrays, so that a copy must bind its own. `Trainer.__init__` is called by name,
        # because the class may be a user's subclass with other arguments.
        Trainer.__init__(self, **state["arguments"])
        take_attributes(self, state["more"])
        take_state(self, state)

    def _repr_html_(self) -> str:
        model = self.model
        rows = [
            ("model", f"{type(model).__name__} of {model.parameter_count:,} parameters, on {model.device}"),
            ("precision", described(*model.processor.precisions)),
            # A loss may have no text of its own but its address.
            ("loss", type(self.loss).__name__),
            *((name, str(getattr(self, name))) for name in ("estimator", "optimizer", "seed")),
            ("steps done", f"{self.steps_done:,}"),
        ]
        return as_html(type(self).__name__, ("", ""), rows, 0)

    def __copy__(self) -> "Trainer":
        # Two trainers must not update the same parameters, so that even a shallow copy copies the model.
        return copy.deepcopy(self)
