"""The list of tasks of both passes, in the order in which they run, and where gradients go."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fgnumba.kernels.machine.interfaces import Operation
from fgnumba.layers.parameters import Parameter
from fgnumba.model.graph import Graph
from fgnumba.model.tasks import Buffer, Task
from fgnumba.model.wiring import Step


class TaskList:
    """Tasks that are listed in the order in which they run.

    Parameters
    ----------
    model : Graph
        The model.
    batch : int
        Number of examples B.
    gradients : dict or None
        Arrays for the gradients, by parameter name, packed. None: gradients are added to the parameters.
    accumulate : bool
        Whether gradients are added to what their arrays hold.

    Attributes
    ----------
    tasks : list of Task
        The tasks listed so far.
    own : dict
        Parameters of the steps that are no layers of the model, by the layer's own names.
    """

    def __init__(
        self,
        model: Graph,
        batch: int,
        gradients: dict[str, npt.NDArray[np.float32]] | None,
        accumulate: bool = False,
    ) -> None:
        self.model, self.batch = model, batch
        self.isa, self.threads = model.processor.isa, model.processor.threads
        self.tasks: list[Task] = []
        self._gradients, self._accumulate = gradients, accumulate
        self.own: dict[Step, dict[str, Parameter]] = {}
        self._deferred: list[Task] = []
        self._barrier = False

    @property
    def part(self) -> dict[str, Any]:
        """The arguments by which operations on images walk over a batch."""
        return {"batch": self.batch, "images_a_part": 1}

    @property
    def onto(self) -> bool:
        """Whether gradients are added to what their arrays hold: the parameters, or sums of several runs."""
        return self._gradients is None or self._accumulate

    def add(
        self,
        reads: Sequence[Buffer],
        writes: Sequence[Buffer],
        bind: Callable[[], list[Operation]],
        by_image: bool = True,
        numbered: bool = False,
    ) -> None:
        """List a task. Deferred tasks are listed before a task that takes the whole batch.

        Parameters
        ----------
        reads, writes : sequence of Buffer
            The buffers that the task reads, and those that it writes.
        bind : callable
            Returns the task's operations, once its buffers are in place.
        by_image : bool
            True: the task takes one image at a time. False: it takes the whole batch.
        numbered : bool
            Whether its operations depend on the number of each example in the batch, as dropout does.
        """
        if not by_image:
            self.flush()
        self.tasks.append(Task(reads, writes, bind, by_image, numbered=numbered, begins=self._barrier))
        self._barrier = False

    def barrier(self) -> None:
        """Make the next task wait until everything before it is done, if gradients are added to the parameters.

        Otherwise a chunk of the batch could be computed again with weights that the chunk before has already updated.
        """
        self._barrier = self.onto

    def defer(self, reads: Sequence[Buffer], bind: Callable[[], list[Operation]], sums: bool) -> None:
        """List a task later, when all images that are being computed are done.

        Parameters
        ----------
        reads : sequence of Buffer
            The buffers that the task reads.
        bind : callable
            Returns the task's operations, once its buffers are in place.
        sums : bool
            Whether the task sums over images.
        """
        self._deferred.append(Task(reads, (), bind, by_image=False, sums=sums))

    def flush(self) -> None:
        """List the deferred tasks, sums first, because they belong to the images before."""
        self.tasks += sorted(self._deferred, key=lambda task: not task.sums)
        self._deferred.clear()

    def target(self, parameter: Any) -> npt.NDArray[np.float32]:
        """Return the array that a parameter's gradient is written or added to."""
        target: npt.NDArray[np.float32] = (
            parameter.packed if self._gradients is None else self._gradients[parameter.name]
        )
        return target

    def parameters(self, step: Step) -> dict[str, Any]:
        """Return the parameters of a step, under the layer's own names."""
        return self.own[step] if step in self.own else self.model.layer_parameters(step.index)
