"""Self-attention in both passes, and layers of positions in the reverse pass.

The forward pass keeps queries, keys and values, their means, and the logarithms of the softmax's sums. The reverse pass
computes the probabilities again from them, in memory O(L) a head.

Source: T. Dao et al., arXiv 2205.14135, algorithm 4.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fgnumba.bench.reverse.cotangents import FeaturePanels, rows_of
from fgnumba.bench.reverse.dense import back_through, cotangent_by_rows, send_back, weight_gradient
from fgnumba.bench.reverse.kernels import positions
from fgnumba.bench.reverse.passes import Passes
from fgnumba.kernels.emit.vector import PANEL
from fgnumba.kernels.layout.heads import Heads
from fgnumba.kernels.layout.images import Images
from fgnumba.kernels.machine.interfaces import Operation
from fgnumba.kernels.machine.memory import aligned
from fgnumba.kernels.ops.attention import cpu as attention_op
from fgnumba.kernels.ops.dense import cpu as dense
from fgnumba.kernels.ops.rotary import cpu as rotary
from fgnumba.kernels.shared.product.product import Weights
from fgnumba.model.tasks import Buffer, ImageBuffer
from fgnumba.model.wiring import Step


@dataclass(eq=False)
class Attention:
    """A self-attention in its model, with what its forward pass keeps.

    Parameters
    ----------
    passes : Passes
        The passes.
    step : Step
        The layer's step.
    """

    passes: Passes
    step: Step

    def __post_init__(self) -> None:
        layer: Any = self.step.layer
        self.layer, (self.length, channels) = layer, self.step.shapes[0]
        size = layer.head_size(channels)
        self.widths = (self.layer.heads * size, self.layer.groups * size)
        self.columns = self.widths[0] + 2 * self.widths[1]
        self.rows = self.passes.batch * self.length
        self.parameters = self.passes.parameters(self.step)
        self.scale = self.layer.factor(channels)
        self.projected, self.mean = self.sequences(self.columns), self.sequences(self.widths[0])
        self.sums = Buffer(self.passes.batch * self.layer.heads * self.length)
        # A head that fills a panel of features may lie in one, so that nothing is copied to rows and back.
        self.panel_a_head = size == PANEL and self.layer.rotary is None

    def sequences(self, channels: int) -> ImageBuffer:
        """Return a buffer for sequences with that many channels."""
        return ImageBuffer(self.passes.batch, (self.length, channels), by_position=True)

    def cotangents(self, channels: int) -> ImageBuffer | FeaturePanels:
        """Return a buffer for cotangents of as many channels, which are heads side by side."""
        return FeaturePanels(channels, self.rows) if self.panel_a_head else self.sequences(channels)

    @property
    def log_sum_exp(self) -> npt.NDArray[np.float32]:
        """The logarithms of the softmax's sums, (B, H, L)."""
        return self.sums.array.reshape(self.passes.batch, self.layer.heads, self.length)

    def heads(self, buffer: ImageBuffer | FeaturePanels) -> list[Heads]:
        """Return queries, keys and values, or as much of them as a buffer has: means have the place of queries."""
        counts, first, found = (self.layer.heads, self.layer.groups, self.layer.groups), 0, []
        if isinstance(buffer, FeaturePanels):
            panel = buffer.rows * PANEL
            for count in counts if buffer.panels > self.layer.heads else counts[:1]:
                shape = (count, self.length, PANEL)
                strides = (0, self.length * PANEL, panel, PANEL)
                found.append(Heads(buffer.array, first * panel, shape, *strides, has_tangent=False))
                first += count
            return found
        images = buffer.images(one_a_part=False)
        size = self.widths[0] // counts[0]
        for count in counts if images.shape[2] == self.columns else counts[:1]:
            found.append(Heads.of(images.channels_from(first, count * size), count))
            first += count * size
        return found

    def product(self, x: ImageBuffer, y: ImageBuffer, weight: str, bias: str) -> None:
        """List y = x W + b."""
        w, b = self.parameters[weight], self.parameters.get(bias)

        def bind() -> list[Operation]:
            shift = b.packed if b else aligned((len(w.packed) * PANEL,))
            return [
                dense.bind(
                    self.passes.isa,
                    self.passes.threads,
                    batch=self.rows,
                    x=rows_of(x),
                    y=rows_of(y),
                    outputs=w.shape[1],
                    weights=Weights(w.packed, shift),
                    activation_name="identity",
                )
            ]

        self.passes.add([x], [y], bind, by_image=False)

    def turn(self, buffer: ImageBuffer, inverse: bool) -> None:
        """List the turns of queries and keys, or of their cotangents back."""
        if self.layer.rotary is None:
            return
        turned, heads = self.widths[0] + self.widths[1], self.layer.heads + self.layer.groups

        def bind() -> list[Operation]:
            x = buffer.images(one_a_part=False).channels_from(0, turned)
            return [turns(self.passes, x, x, heads, self.layer.rotary.base, inverse)]

        self.passes.add([buffer], [buffer], bind, by_image=False)

    @property
    def how(self) -> dict[str, Any]:
        """The arguments that are the same in both passes."""
        site = self.passes.site(self.step, (), None)
        return {
            "batch": self.passes.batch,
            "scale": self.scale,
            "causal": self.layer.causal,
            "mask": self.layer.mask_on(site),
            "dropout": self.layer.dropout,
            "stream": site.perturbation.stream,
            "layer": self.step.index,
        }


def forward(passes: Passes, step: Step, output: ImageBuffer, known: bool) -> None:
    """List the forward pass of self-attention; if its output is known, only what the reverse pass reads."""
    attention = Attention(passes, step)
    passes.kept[step] = attention
    projected, mean, sums = attention.projected, attention.mean, attention.sums
    attention.product(passes.values[step.inputs[0]], projected, "weight", "bias")
    attention.turn(projected, inverse=False)

    def bind() -> list[Operation]:
        q, k, v = attention.heads(projected)
        return [
            attention_op.bind(
                passes.isa,
                passes.threads,
                count=0,
                q=q,
                k=k,
                v=v,
                y=attention.heads(mean)[0],
                log_sum_exp=attention.log_sum_exp,
                **attention.how,
            )
        ]

    passes.add([projected], [mean, sums], bind, by_image=False)
    if not known:
        attention.product(mean, output, "output", "output_bias")


def self_attention(passes: Passes, step: Step) -> None:
    """Go back through both products, and through attention in closed form between them."""
    attention: Attention = passes.kept[step]
    parameters, value, rows = attention.parameters, step.inputs[0], attention.rows
    projected, mean, sums = attention.projected, attention.mean, attention.sums
    dy = passes.rows_or_features(step.output)
    dz = cotangent_by_rows(passes, rows, step.output.width, dy, bias=parameters.get("output_bias"))
    told, cotangents = (attention.cotangents(width) for width in (attention.widths[0], attention.columns))
    back_through(passes, parameters["output"], rows, dz, told)
    weight_gradient(passes, mean, dz, parameters["output"])

    def bind() -> list[Operation]:
        q, k, v = attention.heads(projected)
        dq, dk, dv = attention.heads(cotangents)
        operations = attention_op.bind_gradients(
            passes.isa,
            passes.threads,
            q=q,
            k=k,
            v=v,
            y=attention.heads(mean)[0],
            signal=attention.heads(told)[0],
            log_sum_exp=attention.log_sum_exp,
            dq=dq,
            dk=dk,
            dv=dv,
            **attention.how,
        )
        return [*operations]

    passes.add([projected, mean, sums, told], [cotangents], bind, by_image=False)
    if isinstance(cotangents, ImageBuffer):
        attention.turn(cotangents, inverse=True)
    dz = cotangent_by_rows(passes, rows, attention.columns, cotangents, bias=parameters.get("bias"))
    send_back(passes, parameters["weight"], value, rows, dz)
    weight_gradient(passes, passes.values[value], dz, parameters["weight"])


def turns(passes: Passes, x: Images, y: Images, heads: int, base: float, inverse: bool) -> Operation:
    """Return the operation that turns pairs of elements, or turns them back."""
    operation: Operation = rotary.bind(
        passes.isa,
        passes.threads,
        batch=passes.batch,
        count=0,
        x=x,
        y=y,
        heads=heads,
        base=base,
        inverse=inverse,
    )
    return operation


def rotary_embedding(passes: Passes, step: Step) -> None:
    """Turn back: dx = Rᵀ dy."""
    dy, layer = passes.cotangent(step.output), step.layer

    def bind(dx: ImageBuffer) -> list[Operation]:
        x, y = dy.images(one_a_part=False), dx.images(one_a_part=False)
        return [turns(passes, x, y, layer.heads, layer.base, inverse=True)]  # type: ignore[attr-defined]

    passes.send(step.inputs[0], [dy], bind, by_image=False)


def positional_embedding(passes: Passes, step: Step) -> None:
    """Hand dy on to x, and add up dP[l] = Σ dy[l] over examples."""
    dy, weight = passes.cotangent(step.output), passes.parameters(step)["weight"]
    length = step.output.shape[0]

    def bind() -> list[Operation]:
        return [
            positions.bind_by_position(
                passes.threads,
                batch=passes.batch,
                length=length,
                rows=rows_of(dy),
                out=passes.target(weight),
                onto=passes.onto,
            )
        ]

    passes.add([dy], [], bind, by_image=False)
    lies = passes.share(step.inputs[0], dy)
    assert lies
