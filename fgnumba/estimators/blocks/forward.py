"""A forward pass that keeps every value: what closed forms and feedback read afterwards stays where it was written."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from fgnumba.estimators.blocks.workshop import Workshop
from fgnumba.kernels.layout.images import Images
from fgnumba.kernels.machine.memory import leading
from fgnumba.kernels.rules.directions import NONE
from fgnumba.kernels.shared.perturbed_units import SLOPE_FROM_OUTPUT
from fgnumba.layers import Activation, Layer, Perturbation, SelfAttention, Site
from fgnumba.model.graph import Graph
from fgnumba.model.input_rows import InputRows
from fgnumba.model.wiring import Step, Value
from fgnumba.objects.bound import Bound


class KeptForward(Bound):
    """Binds the forward pass of a model whose values all have memory of their own.

    Parameters
    ----------
    workshop : Workshop
        Where arrays and operations are made.
    model : Graph
        The model.
    batch : int
        The number of examples B.
    source : Value
        The model's input.
    rows : InputRows
        The rows through which the input is read.
    steps : sequence of Step
        All steps of the model.

    Attributes
    ----------
    images : dict of Value to Images
        The memory of each value, which holds all positions of all examples.
    kept : dict of Step to object
        What the pass keeps beside the values: of attention its parts, and of a fused activation whose slope is no
        function of its output what it is applied to. Filled as the steps are bound.
    """

    def __init__(
        self,
        workshop: Workshop,
        model: Graph,
        batch: int,
        source: Value,
        rows: InputRows,
        steps: Sequence[Step],
    ) -> None:
        self._w, self._model, self._batch = workshop, model, batch
        self.kept: dict[Step, Any] = {}
        self.images: dict[Value, Images] = {
            source: Images.of_batch(
                rows.array,
                source.shape,
                images=1,
                external=rows.in_place,
                by_position=source.by_position,
            )
        }
        for value in (step.output for step in steps):
            array = workshop.zeros(1, batch * value.positions, leading(value.width))
            self.images[value] = Images.of_batch(array, value.shape, images=1, by_position=value.by_position)

    def rows(self, value: Value) -> Images:
        """Return a value as rows: one for each position of a sequence, or for each example."""
        return self.images[value].by_rows()

    def bind(self, steps: Sequence[Step]) -> list[Any]:
        """Return the operations of some steps."""
        operations: list[Any] = []
        for step in steps:
            site, layer = self.site(step), step.layer
            if isinstance(layer, SelfAttention):
                bound, self.kept[step] = layer.bind_kept(site)
                self._w.nbytes += self.kept[step].nbytes
                operations += bound
            elif layer.fused_activation in SLOPE_FROM_OUTPUT or layer.lone_activation != "identity":
                operations += self._bound(layer, site)
            else:
                # The slope of such an activation is computed from what it is applied to, which is kept.
                before = self._w.zeros(*site.output.memory.shape)
                self.kept[step] = replace(site.output, memory=before)
                operations += self._bound(layer.without_activation(), replace(site, output=self.kept[step]))
                active = Activation(layer.fused_activation)
                operations += self._bound(active, replace(site, inputs=(self.kept[step],), images=1))
        return operations

    def _bound(self, layer: Layer, site: Site) -> list[Any]:
        """Return the operations of a layer, which take the whole batch at once or an example at a time."""
        operations = layer.bind(site)
        return self._w.parted(operations, self._batch) if site.images else list(operations)

    def site(self, step: Step) -> Site:
        """Return the site at which a step is bound."""
        return Site(
            device=self._w.device,
            batch=self._batch,
            images=0 if step.layer.whole_batch else 1,
            index=step.index,
            inputs=tuple(
                self.images[value].viewed_as(shape)
                for value, shape in zip(step.inputs, step.shapes, strict=True)
            ),
            output=self.images[step.output],
            parameters=self._model.layer_parameters(step.index),
            perturbation=Perturbation(NONE, 0, self._w.stream),
            shapes=tuple(step.shapes),
        )
