"""Diagnosis of divergence: find the first value in a pass that is not finite.

The pass is run again layer by layer, and the parameters and results of each layer are inspected.
"""

import contextlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from fgnumba.errors import DeviceError, Diagnosis
from fgnumba.estimators.base import Estimate
from fgnumba.estimators.weight_update import in_update
from fgnumba.kernels.devices.device import Device
from fgnumba.kernels.shared.loss import in_float32
from fgnumba.layers.losses import Loss
from fgnumba.layers.parameters import Parameter
from fgnumba.model.graph import Graph
from fgnumba.model.inspection import Inspection
from fgnumba.model.outcome import Outcome, targets_of
from fgnumba.model.wiring import Step
from fgnumba.validation.arrays import first_not_finite


def diagnose(
    model: Graph,
    loss: Loss,
    estimate: Estimate,
    inputs: npt.NDArray[Any],
    targets: npt.NDArray[Any],
    rate: float,
) -> Diagnosis | None:
    """Return the first value that was not finite in the last run of an estimate.

    Layers are inspected in the order in which they run. A primal that is not finite is reported before any tangent,
    because it is what makes the loss not finite. Of several directions, the one whose tangent is not finite in the
    earliest layer is reported.

    Cost: one pass, and memory for what a few layers compute for the whole batch.

    Parameters
    ----------
    model : Graph
        The model, with the parameters that the run had. They are not changed.
    loss : Loss
        The loss.
    estimate : Estimate
        The estimate that was run, with the run's step still in its stream of directions. It is not changed.
    inputs : ndarray
        The run's batch, in host memory.
    targets : ndarray
        The run's targets, in host memory.
    rate : float
        The run's learning rate.

    Returns
    -------
    Diagnosis or None
        What was not finite, and where. None: running the pass again does not show it, or there is too little memory
        to do so.
    """
    try:
        with model.lock, np.errstate(all="ignore"):
            x = inputs.astype(np.float32)
            at = first_not_finite(x)
            if at is not None:
                text = f"x holds {x[at]} in float32 at {at}"
                return Diagnosis("input", None, at, float(x[at]), None, text)
            if in_float32(estimate.values).all():
                return _of_update(estimate.values, rate)
            return _of_passes(model, loss, estimate, x, targets)
    except (DeviceError, MemoryError):
        # Without the memory for another pass, the divergence is reported without its place.
        return None


def _of_update(values: npt.NDArray[np.float64], rate: float) -> Diagnosis | None:
    """Return the derivative whose product with the learning rate is not finite in the kernels' float32."""
    eta = np.float32(rate)
    if not np.isfinite(eta):
        return Diagnosis("update", None, (), float(eta), None, "the learning rate is too large for float32")
    steps = eta * in_update(values)
    at = first_not_finite(steps)
    if at is None:
        return None
    which = f" along direction {at[0]}" if len(steps) > 1 else ""
    text = f"the derivative{which}, {values[1 + at[0]]:.3g}, times the learning rate is {steps[at]}"
    return Diagnosis("update", None, (), float(steps[at]), at[0], text)


def _of_passes(
    model: Graph, loss: Loss, estimate: Estimate, x: npt.NDArray[np.float32], targets: npt.NDArray[Any]
) -> Diagnosis | None:
    earliest: tuple[int, Diagnosis] | None = None
    with contextlib.closing(estimate.inspections()) as inspections:
        for inspection in inspections:
            look = _Look(model, inspection, len(estimate.values) > 2)
            diagnosis = look.through(x, loss, targets)
            if diagnosis is not None and diagnosis.direction is None:
                return diagnosis
            if diagnosis is not None and (earliest is None or look.place < earliest[0]):
                earliest = look.place, diagnosis
    return earliest[1] if earliest else None


class _Look:
    """The inspection of one pass, layer by layer.

    Parameters
    ----------
    model : Graph
        The model.
    inspection : Inspection
        The pass, which can be run again layer by layer.
    several : bool
        Whether there are several directions, so that a message must say along which one a tangent is.

    Attributes
    ----------
    place : int
        Index of the layer whose tangent was the first that is not finite.
    """

    def __init__(self, model: Graph, inspection: Inspection, several: bool) -> None:
        self._model, self._inspection, self._several, self.place = (
            inspection.model or model,
            inspection,
            several,
            0,
        )
        self._kinds = {node.name: node.layer.kind for node in model.nodes}

    def through(self, x: npt.NDArray[np.float32], loss: Loss, targets: npt.NDArray[Any]) -> Diagnosis | None:
        """Return what is not finite: the first parameter or primal, else the loss, a tangent or a derivative."""
        tangent: Diagnosis | None = None
        for place, (step, buffers) in enumerate(self._inspection.run(x)):
            parameters = self._model.layer_parameters(step.index)
            diagnosis = self._of_parameter(step, parameters)
            for buffer in buffers:
                array = self._inspection.array(buffer, step.output.shape)
                diagnosis = diagnosis or self._of_primal(step, array, parameters)
                if tangent is None and diagnosis is None:
                    tangent, self.place = self._of_tangent(step, array, parameters), place
            if diagnosis is not None:
                return diagnosis
        dual = self._inspection.output()
        values = _losses(self._inspection.device, loss, dual, self._model.outputs, targets)
        if not np.isfinite(values[0]):
            return self._of_loss(loss, targets, dual, None, 0)
        if tangent is not None:
            return tangent
        self.place = len(self._inspection.layers)
        for number, direction in self._inspection.watched.items():
            if not np.isfinite(values[1 + number]):
                return self._of_loss(loss, targets, dual, direction, 1 + number)
        return None

    def _named(self, step: Step) -> str:
        kinds = "+".join(self._kinds[name] for name in step.names)
        return f"layer {'+'.join(step.names)} ({kinds})"

    def _of_parameter(self, step: Step, parameters: Mapping[str, Parameter]) -> Diagnosis | None:
        for parameter in parameters.values():
            array = parameter.array()
            at = first_not_finite(array)
            if at is not None:
                text = f"{self._named(step)}: {parameter.name} holds {array[at]} at {at}"
                return Diagnosis("parameter", "+".join(step.names), at, float(array[at]), None, text)
        return None

    def _of_primal(
        self, step: Step, array: npt.NDArray[np.float32], parameters: Mapping[str, Parameter]
    ) -> Diagnosis | None:
        at = first_not_finite(array[0])
        if at is None:
            return None
        return self._of_layer(step, "primal", at, float(array[0][at]), None, parameters)

    def _of_tangent(
        self, step: Step, array: npt.NDArray[np.float32], parameters: Mapping[str, Parameter]
    ) -> Diagnosis | None:
        reaching, watched = self._inspection.reaching, self._inspection.watched
        if reaching is not None and step not in reaching:
            return None
        for number, direction in watched.items():
            at = first_not_finite(array[1 + number]) if 1 + number < len(array) else None
            if at is not None:
                value = float(array[1 + number][at])
                return self._of_layer(step, "tangent", at, value, direction, parameters, number)
        return None

    def _of_layer(
        self,
        step: Step,
        quantity: str,
        at: tuple[int, ...],
        value: float,
        direction: int | None,
        parameters: Mapping[str, Parameter],
        number: int = 0,
    ) -> Diagnosis:
        inputs = [
            self._inspection.array(self._inspection.values[source], shape)
            for source, shape in zip(step.inputs, step.shapes, strict=True)
        ]
        known = [f"inputs at most {_most(*(dual[0] for dual in inputs))}"]
        tangents = [dual[1 + number] for dual in inputs if 1 + number < len(dual)]
        if direction is not None and tangents:
            known.append(f"their tangents {_most(*tangents)}")
        known += [f"{name} {_most(parameter.array())}" for name, parameter in parameters.items()]
        unit = at[1] if len(at) == 2 else at[1:]
        moved = f", parameters {self._inspection.moved}" if self._inspection.moved else ""
        text = (
            f"{self._named(step)}: its {quantity}{self._along(direction)} is the first that is not finite "
            f"({value}, example {at[0]}, unit {unit}{moved}; {', '.join(known)})"
        )
        return Diagnosis(quantity, "+".join(step.names), at, value, direction, text)

    def _along(self, direction: int | None) -> str:
        return f" along direction {direction}" if self._several and direction is not None else ""

    def _of_loss(
        self,
        loss: Loss,
        targets: npt.NDArray[Any],
        dual: npt.NDArray[np.float32],
        direction: int | None,
        block: int,
    ) -> Diagnosis | None:
        """Return the first example whose loss, or derivative from a block of the output, is not finite."""
        outputs, derived = self._model.outputs, direction is not None
        for example in range(self._inspection.batch):
            rows = slice(example, example + 1)
            value = float(
                _losses(self._inspection.device, loss, dual[:, rows], outputs, targets[rows])[block]
            )
            if np.isfinite(value):
                continue
            known = f"at most {_most(dual[0, example, :outputs])}"
            if derived:
                known += f", their tangents {_most(dual[block, example, :outputs])}"
            if targets.dtype.kind == "f":
                known += f", targets {_most(targets[rows])}"
            name = type(loss).__name__ + ("'s derivative" if derived else "") + self._along(direction)
            moved = f" (parameters {self._inspection.moved})" if self._inspection.moved else ""
            text = f"{name} is {value} of finite outputs of example {example}, {known}{moved}"
            quantity = "derivative" if derived else "loss"
            return Diagnosis(quantity, None, (example,), value, direction, text)
        return None


def _losses(
    device: Device,
    loss: Loss,
    dual: npt.NDArray[np.float32],
    outputs: int,
    targets: npt.NDArray[Any],
) -> npt.NDArray[np.float32]:
    """Return the loss and T derivatives of a dual output (1 + T, B, ld), infinite beyond float32's range."""
    blocks, batch, _ = dual.shape
    read, outcome = targets_of(device, loss, batch, outputs), Outcome(device, blocks - 1)
    read.load(loss.laid_out(targets, outputs))
    z = device.array(np.ascontiguousarray(dual))
    device.program(loss.bind(device, z, outputs, read.array, outcome.result, outcome.values)).run()
    values = np.zeros(blocks)
    outcome.read(values)
    return values.astype(np.float32)


def _most(*arrays: npt.NDArray[np.float32]) -> str:
    return f"{max(float(np.abs(array).max()) for array in arrays):.3g}"
