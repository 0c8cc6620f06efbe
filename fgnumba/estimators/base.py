"""The base classes of estimators.

An :class:`Estimator` is an immutable value that says what it estimates. Bound to a :class:`Setting` (a model, a batch
size, an optimiser, …) it becomes an :class:`Estimate`, which runs steps. A :class:`State` holds what lives from step to
step.
"""

from abc import ABC, abstractmethod
from collections.abc import Generator, Mapping
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
from fgnumba.model.input_rows import InputRows
from fgnumba.model.inspection import Inspection
from fgnumba.model.outcome import Outcome
from fgnumba.model.sizes import checked_batch
from fgnumba.model.stream import states_of
from fgnumba.objects.bound import Bound
from fgnumba.optimizers import SGD, Optimizer
from fgnumba.validation import flag, store, whole_number


class State(Bound):
    """The arrays that an estimator and an optimiser keep from step to step, by name, and the estimator's parameters.

    Parameters
    ----------
    parameters : mapping of str to Parameter
        The parameters of the estimator itself, which are trained like the model's: the heads of local
        losses, and matrices of feedback that follow a layer.
    device : Device, optional
        The device that holds the arrays. By default the CPU.
    """

    def __init__(self, parameters: Mapping[str, Parameter], device: Device = CPU) -> None:
        self.parameters, self.device = dict(parameters), device
        self.arrays: dict[str, npt.NDArray[np.float32]] = {}

    def array(self, name: str, shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
        """Return the array called `name`, which is all zeros when it is first asked for."""
        if name not in self.arrays:
            self.arrays[name] = self.device.zeros(shape)
        array = self.arrays[name]
        assert array.shape == shape
        return array

    def moment(self, kind: str, parameter: Parameter) -> npt.NDArray[np.float32]:
        """Return the array of one kind that an optimiser keeps for a parameter, for example its momentum."""
        return self.array(f"{kind}.{parameter.name}", parameter.packed.shape)


@dataclass(frozen=True)
class Setting(Bound):
    """Everything that an estimator is bound to.

    Parameters
    ----------
    model : Graph
        The model, whose parameters are trained.
    batch : int
        The number of examples B.
    loss : Loss
        The loss.
    stream : Record
        The seed and the step of the directions, of dtype ``kernels.rules.philox.STREAM``, read when a step runs.
    state : State
        The arrays that live from step to step. All batch sizes of a trainer share them.
    optimizer : Optimizer, optional
        The optimiser that moves the parameters. By default nothing is moved, and the estimate stays in `gradients`.
    rates : Record, optional
        The numbers that the optimiser reads in a step, of dtype ``kernels.ops.optimizer.RATES``. By default None,
        as without an optimiser.
    failed : device array, (1,) int64, optional
        On a device that takes steps by itself: if it is not 0, a step moves nothing. By default None.
    gradients : dict of str to device array, float32
        The gradients that are stored, by parameter name, packed like the parameters. By default there are none yet.
    carry : bool, optional
        Whether the states of recurrent layers are carried from step to step. By default False: a step begins at zeros.
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
    carry: bool = False

    def __post_init__(self) -> None:
        store(
            self,
            batch=checked_batch(self.batch, self.model.input_shape),
            carry=flag("carry", self.carry),
        )

    @property
    def parameters(self) -> dict[str, Parameter]:
        """All parameters that are trained, by name: the model's and the estimator's own."""
        return {**self.model.packed_parameters, **self.state.parameters}

    @property
    def device(self) -> Device:
        """The model's device."""
        return self.model.processor

    @property
    def states(self) -> dict[int, npt.NDArray[np.float32]]:
        """The states that are carried from step to step, by the number of the layer; there may be none."""
        named = states_of(self.model, self.batch).items() if self.carry else ()
        return {index: self.kept_state(name, shape) for index, (name, shape) in named}

    def kept_state(self, name: str, shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
        """Return the array of states or traces (·, B, ·) called `name`, which are those of B streams.

        Raises
        ------
        ConfigError
            If the steps so far were taken with another number of streams.
        """
        kept = self.state.arrays.get(name)
        if kept is not None and kept.shape != shape:
            raise ConfigError(
                f"batch of {self.batch} streams: the states so far are those of {kept.shape[1]}; the same number of "
                "streams in every step is required"
            )
        return self.state.array(name, shape)

    @property
    def plain(self) -> bool:
        """Whether a step is θ ← θ - η g and no more, so that g need not be stored."""
        return isinstance(self.optimizer, SGD) and self.optimizer.plain

    def gradient(self, name: str) -> npt.NDArray[np.float32]:
        """Return the array in which the gradient of parameter `name` is stored, packed like the parameter."""
        if name not in self.gradients:
            shape = self.parameters[name].packed.shape
            # If an optimiser uses the gradient up within the step, all batch sizes share one array.
            self.gradients[name] = (
                self.device.zeros(shape)
                if self.optimizer is None
                else self.state.array(f"gradient.{name}", shape)
            )
        return self.gradients[name]

    def follow(self, name: str, leader: str) -> None:
        """Let parameter `name` follow parameter `leader`, of the same shape: both have one gradient.

        The optimiser, which keeps moments for each, then moves both alike, and their difference stays as it is.
        """
        self.gradients[name] = self.gradient(leader)

    def updates(self, result: npt.NDArray[Any]) -> list[Operation]:
        """Return the operations that move the parameters along the stored gradients, if `result` says "finite"."""
        if self.optimizer is None:
            return []
        assert self.rates is not None
        gradients = {name: self.gradient(name) for name in self.parameters}
        return self.optimizer.bind(
            self.device, self.parameters, gradients, self.rates.array, result, self.state.moment
        )


@dataclass(frozen=True)
class Pass(Bound):
    """A step that a device can take by itself, without the host.

    `operations` are all operations of the step, in order. They read a batch from `input` and `targets` and leave the
    loss and the derivatives in `outcome`. If the update can be taken back, `coefficients` are those that it uses, and
    `last` is the memory to which they are copied; else both are None.
    """

    operations: tuple[Operation, ...]
    input: InputRows
    targets: Staged
    outcome: Outcome
    coefficients: Any = None
    last: Any = None


class Estimate(Bound, ABC):
    """An estimator that is bound to a setting, so that it can run steps.

    Attributes
    ----------
    values : ndarray, (1 + T,) float64
        The loss of the last run, then for each direction the derivative (or the difference) along it.
    operations : tuple of Operation
        The operations of a run, in the order in which they run.
    last : device array, (1 + T,) float64, or None
        The numbers that :meth:`taking_back` reads; None if no update can be taken back.
    noted : int
        The number of extra scalars that a step records after the values, for :meth:`note`.
    """

    last: Any = None
    noted: int = 0
    values: npt.NDArray[np.float64]
    operations: tuple[Operation, ...]

    @property
    @abstractmethod
    def nbytes(self) -> int:
        """The number of bytes of buffers and scratch memory, without parameters and state."""

    @abstractmethod
    def run(self, x: npt.NDArray[Any], targets: npt.NDArray[Any]) -> bool:
        """Run a step: estimate the gradient, move the parameters, and :meth:`read` the outcome.

        `x` (B, ...) and `targets` have been checked. Return whether the loss and the update are finite; if not, nothing
        was moved. One program moves the parameters and the state: it runs to its end, or they stay as they are.
        """

    @abstractmethod
    def read(self) -> bool:
        """Read the outcome of the last run into `values`; return False if the loss or the update is not finite."""

    @property
    @abstractmethod
    def updates(self) -> int:
        """The number of runs of the program that moves the parameters that came to their end; see ``Program.runs``."""

    def device_pass(self, step: int) -> Pass | None:
        """Return step number `step` as a pass that the device takes by itself, or None if the host has a part in it."""
        return None

    def inspections(self) -> Generator[Inspection, None, None]:
        """Yield the forward passes of the last run, so that the diagnosis of a failure can run them layer by layer.

        If a pass needs the parameters moved, those of a copy of the model are moved, from when the pass is yielded
        until the next one is asked for. By default no pass is yielded, and a failure is not traced to a layer.
        """
        yield from ()

    def note(self, found: npt.NDArray[np.float64]) -> None:
        """Take the extra scalars, (noted,), of a step that a device took by itself."""
        assert len(found) == self.noted

    def taking_back(self, learning_rate: float) -> Any:
        """Return a program that takes the last update back, or None if no update can be taken back.

        The stream must hold the seed and the step of that update, and `learning_rate` must be the step's.
        """
        return None

    def coefficients(self) -> npt.NDArray[np.float64] | None:
        """Return the coefficients of the last step, (1 + T,) with T c_t at index 1 + t.

        An update is g = Σ_t c_t v_t, so the c_t are all that is needed to take a step again without its pass;
        :meth:`Update.run` takes them rounded as the update rounds them. The array belongs to the estimate and is valid
        right after :meth:`run` or ``Trainer.take``. None means that the coefficients do not suffice, which never
        changes during a run: see :attr:`replayable`.
        """
        return None

    @property
    def replayable(self) -> bool:
        """Whether a step can be taken again from its :meth:`coefficients`, without its pass."""
        return self.coefficients() is not None


class UpdateRule(NamedTuple):
    """The number of directions T, and as a line of text everything else that an update depends on.

    The coefficients of the update are not a part of it.
    """

    directions: int
    text: str


class Update(Bound, ABC):
    """A step without its pass: the coefficients that the pass would compute are given.

    Attributes
    ----------
    last : device array or None
        As in :class:`Estimate`.
    """

    last: Any = None

    @property
    @abstractmethod
    def runs(self) -> int:
        """The number of runs that have come to their end."""

    @abstractmethod
    def run(self, coefficients: npt.NDArray[np.float32]) -> None:
        """Move the parameters by Σ_t c_t v_t, bit for bit as the step with these coefficients (T,) did."""

    @property
    @abstractmethod
    def finite(self) -> bool:
        """Whether every update so far was finite in float32. After one that is not, nothing is moved any more."""

    @abstractmethod
    def taking_back(self, learning_rate: float) -> Any:
        """Return a program that takes the last update back, as :meth:`Estimate.taking_back` does."""


class Estimator(ABC):
    """The base class of estimators of the gradient, all of which need forward passes only.

    An estimator is an immutable value. What lives from step to step is kept in a :class:`State`.

    Attributes
    ----------
    name : str
        The name of the class in configurations.
    moves_parameters : bool
        Whether a run moves the parameters and then moves them back, up to rounding.
    carries_states : bool
        Whether it can carry the states of recurrent layers from step to step.
    streams : bool
        Whether it does so unless a trainer is told otherwise.
    steady : bool
        Whether the curvature along the first steps tells the learning rate, so that it can be measured
        (:class:`fgnumba.schedules.MeasuredRate`).
    needs_finite_batches : bool
        Whether the trainer must check before each step that examples and targets are finite, because the estimator
        would otherwise move the parameters.
    """

    name: ClassVar[str]
    moves_parameters: ClassVar[bool] = False
    carries_states: ClassVar[bool] = False
    streams: ClassVar[bool] = False
    steady: ClassVar[bool] = True
    needs_finite_batches: ClassVar[bool] = False

    @property
    @abstractmethod
    def unbiased(self) -> bool:
        """Whether E[g] = ∇f for every model, batch and step."""

    @property
    @abstractmethod
    def statement(self) -> str:
        """What E[g] is, as a line of text."""

    def relative_variance(self, parameters: int) -> float | None:
        """Return E‖g - E g‖² / ‖∇f‖² for a model of P parameters, or None if theory has no formula for it."""
        whole_number("parameters", parameters)
        return None

    @property
    def restored_by_replay(self) -> bool:
        """Whether the updates alone restore all that further steps depend on. By default True."""
        return True

    @property
    def update_rule(self) -> UpdateRule | None:
        """The rule of an update, if an update needs only one coefficient a direction; else None."""
        return None

    def own_parameters(self, model: Graph, seed: int) -> dict[str, Parameter]:
        """Return the initial values of the estimator's own parameters, by name."""
        return {}

    @abstractmethod
    def bind(self, setting: Setting) -> Estimate:
        """Return the estimator bound to a setting.

        Raises
        ------
        ConfigError
            If it cannot train the model, or cannot use the optimiser.
        """

    def update(self, setting: Setting) -> Update:
        """Return the update of a step without its pass; only estimators with an :attr:`update_rule` have one."""
        raise NotImplementedError
