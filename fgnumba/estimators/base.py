"""What every estimator is: a value that says what it estimates, and binds itself to a model and a batch size."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt

from fgnumba.errors import ConfigError
from fgnumba.kernels.devices.device import CPU, Device, Record, Staged
from fgnumba.kernels.machine.interfaces import Operation
from fgnumba.layers.losses import Loss
from fgnumba.layers.parameters import Parameter
from fgnumba.model.graph import Graph
from fgnumba.model.inspection import Inspection
from fgnumba.model.outcome import Outcome
from fgnumba.model.plan import InputRows
from fgnumba.model.sizes import checked_batch
from fgnumba.objects.bound import Bound
from fgnumba.optimizers import SGD, Optimizer
from fgnumba.validation import optional, real_number, store, whole_number


class State(Bound):
    """What an estimator and an optimiser keep from step to step: arrays by name, and parameters of their own.

    Parameters
    ----------
    parameters : beside the model's, trained like them: the heads of local losses.
    device : that holds the arrays.
    """

    def __init__(self, parameters: Mapping[str, Parameter], device: Device = CPU) -> None:
        self.parameters, self.device = dict(parameters), device
        self.arrays: dict[str, npt.NDArray[np.float32]] = {}

    def array(self, name: str, shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
        """Return the array of a name, zeros when it is first asked for."""
        if name not in self.arrays:
            self.arrays[name] = self.device.zeros(shape)
        found = self.arrays[name]
        assert found.shape == shape
        return found

    def moment(self, kind: str, parameter: Parameter) -> npt.NDArray[np.float32]:
        """Return an optimiser's array of a kind for a parameter."""
        return self.array(f"{kind}.{parameter.name}", parameter.packed.shape)


@dataclass(frozen=True)
class Setting(Bound):
    """What an estimator is bound to.

    Parameters
    ----------
    model, batch, loss : what is differentiated, on how many examples.
    stream : ``kernels.rules.philox.STREAM``, of the directions; read when a step runs.
    state : shared by all batch sizes of a trainer.
    optimizer, rates : what moves the parameters, and its ``kernels.ops.optimizer.RATES``; None: the estimate
        stays in `gradients`, and nothing is moved.
    failed : (1,) int64 on a device that takes steps by itself: where it is not 0, a step moves nothing.
    """

    model: Graph
    batch: int
    loss: Loss
    stream: Record
    state: State
    optimizer: Optimizer | None = None
    rates: Record | None = None
    failed: Any = None
    gradients: dict[str, npt.NDArray[np.float32]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        store(self, batch=checked_batch(self.batch, self.model.input_shape))

    @property
    def parameters(self) -> dict[str, Parameter]:
        """All that is trained: the model's parameters, and the estimator's own."""
        return {**self.model.packed_parameters, **self.state.parameters}

    @property
    def device(self) -> Device:
        """The model's device."""
        return self.model.processor

    @property
    def plain(self) -> bool:
        """Whether a step is θ - η g and no more: then g need not be stored."""
        return isinstance(self.optimizer, SGD) and self.optimizer.plain

    def gradient(self, name: str) -> npt.NDArray[np.float32]:
        """Return the array that a parameter's gradient is stored in, packed like the parameter."""
        if name not in self.gradients:
            shape = self.parameters[name].packed.shape
            # One for all batch sizes where it is but handed on to the optimiser.
            self.gradients[name] = (
                self.device.zeros(shape)
                if self.optimizer is None
                else self.state.array(f"gradient.{name}", shape)
            )
        return self.gradients[name]

    def updates(self, result: npt.NDArray[Any]) -> list[Operation]:
        """Return what moves the parameters along the stored gradients."""
        if self.optimizer is None:
            return []
        assert self.rates is not None
        gradients = {name: self.gradient(name) for name in self.parameters}
        return self.optimizer.bind(
            self.device, self.parameters, gradients, self.rates.array, result, self.state.moment
        )


@dataclass(frozen=True)
class Pass(Bound):
    """A step that a device can take by itself.

    Parameters
    ----------
    operations : all of it. input, targets : where it reads a batch. outcome : what it leaves.
    coefficients, last : of an update that can be taken back: where they are, and where they are kept.
    """

    operations: tuple[Operation, ...]
    input: InputRows
    targets: Staged
    outcome: Outcome
    coefficients: Any = None
    last: Any = None


class Estimate(Bound, ABC):
    """An estimator bound to a setting.

    Attributes
    ----------
    values : (1 + T,) float64, the loss of the last run and what was seen along each direction.
    operations : what a run executes, in order.
    nbytes : of buffers and scratch memory; parameters and state are not.
    last : (1 + T,) float64 on the device, what :meth:`taking_back` reads; None where nothing can be taken back.
    noted : numbers that a step leaves beside the values, for :meth:`note`.
    """

    last: Any = None
    noted: int = 0
    values: npt.NDArray[np.float64]
    operations: tuple[Operation, ...]

    @property
    @abstractmethod
    def nbytes(self) -> int:
        """Bytes of buffers and scratch memory."""

    @abstractmethod
    def run(self, x: npt.NDArray[Any], targets: npt.NDArray[Any]) -> bool:
        """Estimate, move the parameters, and :meth:`read`.

        What moves parameters and state is one program: it runs to its end, or they stay as they are.
        """

    @abstractmethod
    def read(self) -> bool:
        """Read what the last run left, as often as asked; False where the loss or an update is not finite."""

    @property
    @abstractmethod
    def updates(self) -> int:
        """How often the program that moves the parameters ran to its end, see ``Program.runs``."""

    def device_pass(self, step: int) -> Pass | None:
        """Return what a step runs, None where the host has a part in it."""
        return None

    def inspections(self) -> Generator[Inspection, None, None]:
        """Yield the forward passes of the last run, to be run again one after another by what looks for a failure.

        Where one needs the parameters moved, those of a copy are, from when it is yielded until the next one is asked
        for. None by default: then a failure is not looked for.
        """
        yield from ()

    def note(self, found: npt.NDArray[np.float64]) -> None:
        """Take what a step left beside the values, which a device took by itself."""
        assert len(found) == self.noted

    def taking_back(self, learning_rate: float) -> Any:
        """Return a program that takes the last update back, of the step that the stream says; None where none can."""
        return None

    def coefficients(self) -> npt.NDArray[np.float64] | None:
        """Return T c_t of the last step at 1 + t, (1 + T,); None where c is not enough to take the step again.

        The array is the estimate's own, and :meth:`Update.run` is given c, rounded as the update rounds it. Right
        after :meth:`run`, or ``Trainer.take``; whether there are any never changes: :attr:`replayable`.
        """
        return None

    @property
    def replayable(self) -> bool:
        """Whether a step can be taken again from its :meth:`coefficients`, without the pass."""
        return self.coefficients() is not None


class UpdateRule(NamedTuple):
    """T, and all else that decides an update beside its coefficients, in a line."""

    directions: int
    text: str


class Update(Bound, ABC):
    """A step without its pass: what the pass found is given. `last` is as in :class:`Estimate`."""

    last: Any = None

    @property
    @abstractmethod
    def runs(self) -> int:
        """How often it ran to its end."""

    @abstractmethod
    def run(self, coefficients: npt.NDArray[np.float32]) -> None:
        """Move the parameters as the step did whose :meth:`Estimate.coefficients` these were, to the last bit."""

    @property
    @abstractmethod
    def finite(self) -> bool:
        """Whether every update so far was finite in float32; one that is not moves nothing, nor do those after it."""

    @abstractmethod
    def taking_back(self, learning_rate: float) -> Any:
        """Return a program that takes the last update back, as :meth:`Estimate.taking_back` does."""


class Estimator(ABC):
    """An estimator of the gradient that costs forward passes alone.

    A value: what it keeps from step to step is a :class:`State`. `name` is what configurations call the class;
    `moves_parameters` says that a run moves the parameters and takes them back, to rounding; `trusts_batches` that it
    may move parameters by examples or targets which are no finite numbers: they are looked at before.
    """

    name: ClassVar[str]
    moves_parameters: ClassVar[bool] = False
    trusts_batches: ClassVar[bool] = False

    @property
    @abstractmethod
    def unbiased(self) -> bool:
        """Whether E[g] = ∇f for every model, batch and step."""

    @property
    @abstractmethod
    def statement(self) -> str:
        """What E[g] is, in a line."""

    def relative_variance(self, parameters: int) -> float | None:
        """Return E‖g - E g‖² / ‖∇f‖² for P parameters, where theory has it."""
        whole_number("parameters", parameters)
        return None

    @property
    def update_rule(self) -> UpdateRule | None:
        """What an update is, where it takes but a number a direction; None elsewhere."""
        return None

    def own_parameters(self, model: Graph, seed: int) -> dict[str, Parameter]:
        """Return initial parameters of the estimator's own, by name."""
        return {}

    @abstractmethod
    def bind(self, setting: Setting) -> Estimate:
        """Return the estimate at a setting.

        Raises
        ------
        ConfigError
            The model, or the optimiser, is not one that it can train.
        """

    def update(self, setting: Setting) -> Update:
        """Return the update of a step without the pass, where there is an :attr:`update_rule`."""
        raise NotImplementedError


@dataclass(frozen=True)
class Recipe:
    """An estimator by a name that configurations use, with the settings that search found for it.

    Parameters
    ----------
    make : returns the estimator, given those of `takes` that were chosen.
    takes : ``direction`` and ``directions``, as far as there is a choice.
    optimizer : by the name of ``fgnumba.optimizers.OPTIMIZERS``.
    learning_rate : None: ``defaults.default_learning_rate``, a formula for weight perturbation.
    rates : by the name of a model, where another one suits it.
    steps : of a run, None: those that suit the model.
    epochs : passes over the data in which it learns what it can: on small data a run has fewer steps. None: as many as
        there are steps for.
    evidence : of the learning rates: what was searched, and what was found.
    """

    make: Callable[..., Estimator]
    takes: tuple[str, ...] = ("directions",)
    optimizer: str = "adam"
    learning_rate: float | None = None
    rates: Mapping[str, float] = field(default_factory=dict)
    steps: int | None = None
    epochs: int | None = None
    evidence: str = ""

    def __post_init__(self) -> None:
        store(
            self,
            learning_rate=optional(real_number, "learning_rate", self.learning_rate, above_zero=True),
            rates={name: real_number("rates", rate, above_zero=True) for name, rate in self.rates.items()},
            steps=optional(whole_number, "steps", self.steps),
            epochs=optional(whole_number, "epochs", self.epochs),
        )

    def build(self, name: str, direction: str | None, directions: int | None) -> Estimator:
        """Return the estimator called `name`; ConfigError where it has no such choice."""
        chosen = {"direction": direction, "directions": directions}
        for option, value in chosen.items():
            if value is not None and option not in self.takes:
                raise ConfigError(f"{option} is {value!r}; the estimator {name!r} has none to choose")
        return self.make(**{option: value for option, value in chosen.items() if value is not None})
