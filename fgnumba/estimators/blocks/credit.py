"""What the error of a block tells its branches, and the gradients that follow.

δ is the error of a sum. Each site of a branch is told by a learned matrix and by what the site itself knows:

    hidden units          δz = a'(z) ⊙ (δ Fᵀ)
    mean values           δo = δ Fᵀ                                   of attention
    queries, keys, values the slope of attention in closed form, from δo

The value of the stream before the sum, if something is to be told there, gets δ and, through the slope of the
normalisation, what the branches' inputs are told. A weight's gradient is xᵀ δ at its own output.
"""

from collections.abc import Callable, Mapping
from typing import Any

from fgnumba.estimators.blocks.layout import Block, Branch, Layout, Sum
from fgnumba.estimators.blocks.matrices import Matrices, has_parameters
from fgnumba.estimators.blocks.workshop import Workshop
from fgnumba.kernels.layout.images import Images
from fgnumba.layers import Dense, Embedding, PositionalEmbedding
from fgnumba.layers.attention_errors import bind_told, bind_told_by_noise
from fgnumba.layers.parameters import Parameter
from fgnumba.model.graph import Graph
from fgnumba.model.wiring import Step, Value
from fgnumba.objects.bound import Bound


class Credit(Bound):
    """Binds the operations that train the branches of blocks.

    Parameters
    ----------
    workshop : Workshop
        Where arrays and operations are made.
    model : Graph
        The model.
    layout : Layout
        Its stream.
    matrices : Matrices
        The feedback matrices.
    images : mapping of Value to Images
        The memory of each value.
    kept : mapping of Step to object
        What the forward pass kept for closed forms.
    target : callable
        A function that returns the array to which a parameter's gradient is written, given its name.
    settings : BlockFeedback
        The estimator, for its settings.
    """

    def __init__(
        self,
        workshop: Workshop,
        model: Graph,
        layout: Layout,
        matrices: Matrices,
        images: Mapping[Value, Images],
        kept: Mapping[Step, Any],
        target: Callable[[str], Any],
        settings: Any,
    ) -> None:
        self._settings = settings
        self._w, self._model, self._layout, self._matrices = workshop, model, layout, matrices
        self._images, self._kept, self._target = images, kept, target

    def block(self, block: Block, delta: Images) -> list[Any]:
        """Return the operations that compute the gradients of a block's branches from the error δ at its end.

        The first block's error is passed on to the layers that make the first value of the stream.
        """
        operations: list[Any] = []
        for each in reversed(block.sums):
            delta, told = self._sum(each, delta)
            operations += told
            if each is self._layout.sums[0]:
                operations += self._inputs(delta)
        return operations

    def _sum(self, each: Sum, delta: Images) -> tuple[Images, list[Any]]:
        """Return the error of the value before a sum, as far as it is told, and the operations of the branches."""
        w = self._w
        operations: list[Any] = []
        panels = w.feature_panels("told sum", delta.shape[2])
        inputs: dict[Step | None, list[Images]] = {}
        for number, branch in enumerate(each.branches):
            told, more = self._branch(branch, delta, panels, number)
            operations += more
            if told:
                inputs.setdefault(branch.norm, []).append(told)
        before, x = delta, self._images[each.before].by_rows()
        for norm, signals in inputs.items():
            signal = signals[0]
            for other in signals[1:]:
                operations += w.sum(signal, other, signal)
            parameters = self._parameters(norm) if has_parameters(self._model, norm) else None
            out = w.rows("told stream", delta.shape[2])
            if norm is None:
                operations += w.sum(before, signal, out)
            else:
                operations += w.slope(norm.layer, x, signal, out, before, parameters, self._target)
            before = out
        return before, operations

    def _branch(
        self, branch: Branch, delta: Images, panels: Any, number: int
    ) -> tuple[Images | None, list[Any]]:
        """Return what the input of a branch is told, if it is, and the operations that train the branch."""
        w, matrices, step = self._w, self._matrices, branch.first
        x = self._images[step.inputs[0]].by_rows()
        examples, filled = w.example_panels(x, "inputs")
        if branch.project:
            columns, operations = self._hidden(branch, delta, panels)
        else:
            columns, operations = self._attention(branch, delta, panels)
        weight = self._parameters(step)["weight"]
        operations += [filled, w.gradient(weight, examples, columns, self._target(weight.name))]
        outer = matrices.outer.get(branch)
        if outer is None:
            return None, operations
        told = w.rows(f"told input {number}", x.shape[2])
        # A matrix of the whole branch predicts how the sum responds, that of a weight how the layer's output does.
        direct = branch.project and not matrices.relayed
        return told, [*operations, *outer.told(delta if direct else columns, told)]

    def _hidden(self, branch: Branch, delta: Images, panels: Any) -> tuple[Any, list[Any]]:
        """Return the error of hidden units as feature panels, and the operations up to there."""
        w, step = self._w, branch.first
        assert branch.project is not None
        hidden = self._images[step.output].by_rows()
        kept = self._kept.get(step)
        width = hidden.shape[2]
        known, columns = w.rows("told hidden", width), w.feature_panels("hidden", width)
        bias = self._parameters(step).get("bias")
        return columns, [
            *self._projected(branch.project, ("weight", "bias"), hidden, delta, panels),
            *self._matrices.inner[branch].told(delta, known),
            w.signal(
                known,
                columns,
                source=kept.by_rows() if kept else hidden,
                activation=step.layer.fused_activation,
                bias=self._target(bias.name) if bias else None,
            ),
        ]

    def _attention(self, branch: Branch, delta: Images, panels: Any) -> tuple[Any, list[Any]]:
        """Return the error of queries, keys and values as feature panels, and the operations up to there."""
        w, step = self._w, branch.first
        layer: Any = step.layer
        kept = self._kept[step]
        mean, width = kept.mean.by_rows(), kept.projected.shape[2]
        known = w.rows("told attention", mean.shape[2])
        signal, columns = w.rows("projected", width), w.feature_panels("projected", width)
        bias = self._parameters(step).get("bias")
        errors = self._sequences(known), self._sequences(signal)
        if self._settings.attention == "noise":
            w.nbytes += 2 * (kept.projected.memory.nbytes + mean.memory.nbytes)
            told = bind_told_by_noise(layer, kept, *errors, self._matrices.numbers + step.index)
        else:
            told = bind_told(layer, kept, *errors)
        return columns, [
            *self._projected(step, ("output", "output_bias"), mean, delta, panels),
            *self._matrices.inner[branch].told(delta, known),
            *told,
            w.panels_of(signal, columns, self._target(bias.name) if bias else None),
        ]

    def _sequences(self, rows: Images) -> Images:
        """Return rows as sequences, of L positions each."""
        length = self._model.positions
        channels = rows.shape[2]
        return Images.of_batch(rows.memory, (length, channels), by_position=True)

    def _projected(
        self, step: Step, names: tuple[str, str], x: Images, delta: Images, panels: Any
    ) -> list[Any]:
        """Return the gradients of the layer that writes into the sum: its output's error is that of the sum."""
        w, parameters, (weight, bias) = self._w, self._parameters(step), names
        examples, filled = w.example_panels(x, f"projected {x.shape[2]}")
        shift = parameters.get(bias)
        return [
            filled,
            w.panels_of(delta, panels, self._target(shift.name) if shift else None),
            w.gradient(parameters[weight], examples, panels, self._target(parameters[weight].name)),
        ]

    def _parameters(self, step: Step | None) -> dict[str, Parameter]:
        assert step is not None
        return dict(self._model.layer_parameters(step.index))

    def _inputs(self, delta: Images) -> list[Any]:
        """Return the gradients of the layers that make the first value of the stream, from its error."""
        w = self._w
        operations: list[Any] = []
        for step in reversed(self._layout.inputs):
            layer, parameters = step.layer, self._parameters(step)
            weight = parameters["weight"]
            if isinstance(layer, PositionalEmbedding):
                operations.append(
                    w.device.kernels.positional_embedding.bind_gradient(
                        *w.bound_for,
                        batch=w.count // self._model.positions,
                        signal=self._sequences(delta),
                        out=self._target(weight.name),
                    )
                )
            elif isinstance(layer, Embedding):
                operations.append(
                    w.device.kernels.embedding.bind_gradient(
                        *w.bound_for,
                        batch=w.count // self._model.positions,
                        x=self._images[step.inputs[0]],
                        signal=self._sequences(delta),
                        out=self._target(weight.name),
                    )
                )
            else:
                assert isinstance(layer, Dense)
                bias = parameters.get("bias")
                columns = w.feature_panels("inputs of the stream", delta.shape[2])
                source = self._images[step.inputs[0]].viewed_as(step.shapes[0])
                x, filled = w.example_panels(source.by_rows(), "stream inputs")
                operations += [
                    w.panels_of(delta, columns, self._target(bias.name) if bias else None),
                    filled,
                    w.gradient(weight, x, columns, self._target(weight.name)),
                ]
        return operations
