"""Where a pass that did not end finite first went wrong: its layers are run again and looked at, one after another."""

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
    """Return what went wrong in the last run of an estimate, None where running it again does not show that.

    Layers are looked at in the order in which they run. A primal that is not finite goes before any tangent, since it
    is what spoils the loss; of several directions, the one whose tangent is spoilt by the earliest layer is named.

    Parameters
    ----------
    model, estimate : with the parameters of that run, and its step in the stream. They are left as they are.
    inputs, targets : of that run, on the host. rate : its learning rate.

    Cost: a pass, and memory for what a few layers compute of the whole batch.
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
        # Without room for it the failure is told without its place.
        return None


def _of_update(values: npt.NDArray[np.float64], rate: float) -> Diagnosis | None:
    """Return the derivative whose share of the update is too large, as the kernels compute it."""
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
            found = look.through(x, loss, targets)
            if found is not None and found.direction is None:
                return found
            if found is not None and (earliest is None or look.place < earliest[0]):
                earliest = look.place, found
    return earliest[1] if earliest else None


class _Look:
    """A look through one pass.

    Parameters
    ----------
    several : directions are named.

    Attributes
    ----------
    place : number of the layer that was found.
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
        """Return what is not finite: a parameter or a primal; else the loss; else a tangent; else a derivative."""
        tangent: Diagnosis | None = None
        for place, (step, buffers) in enumerate(self._inspection.run(x)):
            parameters = self._model.layer_parameters(step.index)
            found = self._of_parameter(step, parameters)
            for buffer in buffers:
                array = self._inspection.array(buffer, step.output.shape)
                found = found or self._of_primal(step, array, parameters)
                if tangent is None and found is None:
                    tangent, self.place = self._of_tangent(step, array, parameters), place
            if found is not None:
                return found
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
            self._inspection.array(self._inspection.values[one], shape)
            for one, shape in zip(step.inputs, step.shapes, strict=True)
        ]
        known = [f"inputs at most {_most(*(one[0] for one in inputs))}"]
        tangents = [one[1 + number] for one in inputs if 1 + number < len(one)]
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
            one = slice(example, example + 1)
            value = float(_losses(self._inspection.device, loss, dual[:, one], outputs, targets[one])[block])
            if np.isfinite(value):
                continue
            known = f"at most {_most(dual[0, example, :outputs])}"
            if derived:
                known += f", their tangents {_most(dual[block, example, :outputs])}"
            if targets.dtype.kind == "f":
                known += f", targets {_most(targets[one])}"
            what = type(loss).__name__ + ("'s derivative" if derived else "") + self._along(direction)
            moved = f" (parameters {self._inspection.moved})" if self._inspection.moved else ""
            text = f"{what} is {value} of finite outputs of example {example}, {known}{moved}"
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
    """Return the loss and the derivatives of a dual output (1 + T, B, ld): infinite where they are beyond float32."""
    blocks, batch, _ = dual.shape
    read, outcome = targets_of(device, loss, batch, outputs), Outcome(device, blocks - 1)
    read.load(targets)
    z = device.array(np.ascontiguousarray(dual))
    device.program(loss.bind(device, z, outputs, read.array, outcome.result, outcome.values)).run()
    values = np.zeros(blocks)
    outcome.read(values)
    return values.astype(np.float32)


def _most(*arrays: npt.NDArray[np.float32]) -> str:
    return f"{max(float(np.abs(array).max()) for array in arrays):.3g}"
