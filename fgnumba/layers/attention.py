"""Attention of a sequence to itself."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from fgnumba.errors import ConfigError, ShapeError, shown
from fgnumba.kernels.layout.heads import Heads, Mask
from fgnumba.kernels.layout.images import Images
from fgnumba.kernels.machine.interfaces import Operation
from fgnumba.kernels.machine.memory import leading
from fgnumba.kernels.ops.attention import MOST_HEADS
from fgnumba.layers.attention_mask import AttentionMask
from fgnumba.layers.base import Initial, Layer, Shape, Site
from fgnumba.layers.dense import weights_at
from fgnumba.layers.positional import RotaryEmbedding, checked_sequence
from fgnumba.validation import MAX_FLOAT32, flag, optional, real_number, store, whole_number

MOST_SIZE = 256
"""The most elements of a head, so that a query and its sums stay in the first-level cache."""


@dataclass(frozen=True)
class KeptAttention:
    """What a forward pass keeps for the slope of attention.

    Parameters
    ----------
    site : Site
        The site of the layer.
    projected : Images
        Queries, keys and values side by side, turned if they are turned, sequences (L, (H + 2 G) d) by position.
    mean : Images
        The mean values of all heads, sequences (L, H d) by position.
    log_sum_exp : device array, (B, H, L) float32
        The logarithm of the sum of the exponentials of the scores.
    """

    site: Site
    projected: Images
    mean: Images
    log_sum_exp: Any

    @property
    def nbytes(self) -> int:
        """The number of bytes of what is kept."""
        return int(self.projected.memory.nbytes + self.mean.memory.nbytes + self.log_sum_exp.nbytes)


@dataclass(frozen=True)
class SelfAttention(Layer):
    """Attention: each position takes a weighted mean of values at other positions, (L, C) to (L, C).

        [q | k | v] = x W,   S = scale q kᵀ + mask,   p = softmax(S),   y = (p v) O
        dS = scale (dq kᵀ + q dkᵀ),   d(p v) = Σ p (dv + dS v) - (p v) Σ p dS

    for each of H heads of d elements; heads of keys and values may be fewer, G, so that query head h reads number
    h // (H / G). Value and tangents come from one pass over keys and values, in memory O(L): no L x L matrix is made.

    The parameters are ``weight`` (C, (H + 2 G) d), whose columns are the query heads, the key heads and the value
    heads, and ``output`` (H d, C), both drawn from N(0, 1 / K); with a bias also ``bias`` and ``output_bias``, zeros.
    Sources: A. Vaswani et al., arXiv 1706.03762; J. Ainslie et al. (grouped queries), arXiv 2305.13245.

    Parameters
    ----------
    heads : int
        The number of query heads H, from 1 to 1,024.
    key_heads : int, optional
        The number of key and value heads G, of which H is a multiple. By default H.
    size : int, optional
        The number of elements d of a head, from 1 to 256. By default C / H.
    causal : bool, optional
        Whether a position sees only itself and those before it. By default False.
    bias : bool, optional
        Whether there are biases. By default False.
    rotary : RotaryEmbedding, optional
        The turns of queries and keys by their positions. By default None: they are not turned.
    mask : array, (L, L) or (heads, L, L), optional
        A constant. Booleans: query i may see key j where [i, j] is True. Floating-point numbers: they are added to the
        scores, and -inf hides a key. It fixes the length of the sequence. A query that may see no key has a mean of
        zeros. By default None.
    dropout : float, optional
        The share of the softmax's probabilities that become zero in training, at least 0 and below 1; the others are
        divided by 1 - dropout. Which ones is a function of (seed, step, layer, example, head, query, key). By default
        none does.
    scale : float, optional
        The factor of the scores, above 0. By default 1 / √d.
    deviation : float, optional
        The standard deviation of the initial values: of the columns of ``weight`` that make values, and of ``output``.
        By default √(1 / K), as of the other columns.

    Raises
    ------
    ConfigError
        If an argument is impossible.
    ShapeError, DtypeError
        If the mask is no such array, the input is no sequence (L, C), or its C elements cannot be cut into the heads.

    Examples
    --------
    >>> import fgnumba as fg
    >>> fg.SelfAttention(heads=4, causal=True).parameter_shapes([(64, 128)])
    {'weight': (128, 384), 'output': (128, 128)}
    """

    heads: int
    key_heads: int | None = None
    size: int | None = None
    causal: bool = False
    bias: bool = False
    rotary: RotaryEmbedding | None = None
    mask: Any = None
    dropout: float = 0.0
    scale: float | None = None
    deviation: float | None = None

    whole_batch: ClassVar[bool] = True
    numbers_examples: ClassVar[bool] = True
    mixes_positions: ClassVar[bool] = True

    def __post_init__(self) -> None:
        heads = whole_number("SelfAttention: heads", self.heads, 1, MOST_HEADS)
        store(
            self,
            heads=heads,
            key_heads=optional(whole_number, "SelfAttention: key_heads", self.key_heads, 1, heads),
            size=optional(whole_number, "SelfAttention: size", self.size, 1, MOST_SIZE),
            causal=flag("SelfAttention: causal", self.causal),
            bias=flag("SelfAttention: bias", self.bias),
            dropout=real_number("SelfAttention: dropout", self.dropout, below=1),
            scale=optional(real_number, "SelfAttention: scale", self.scale, True, MAX_FLOAT32),
            deviation=optional(real_number, "SelfAttention: deviation", self.deviation, True, MAX_FLOAT32),
        )
        if self.key_heads and heads % self.key_heads:
            raise ConfigError(
                f"SelfAttention: key_heads is {self.key_heads}; a number that divides the {heads} heads is required"
            )
        self._check_rotary()
        if self.mask is not None and not isinstance(self.mask, AttentionMask):
            store(self, mask=AttentionMask(self.mask))
        if self.mask is not None and self.mask.heads not in (None, heads):
            raise ShapeError(
                f"SelfAttention: mask has shape {self.mask.shape}; (L, L) or ({heads}, L, L) is required"
            )

    def _check_rotary(self) -> None:
        if self.rotary is None:
            return
        if not isinstance(self.rotary, RotaryEmbedding):
            raise ConfigError(f"SelfAttention: rotary is {shown(self.rotary)}; RotaryEmbedding() is required")
        if self.rotary.heads not in (1, self.heads):
            raise ConfigError(
                f"SelfAttention: rotary has {self.rotary.heads} heads; those of the attention, {self.heads}, are turned"
            )
        if self.size is not None and self.size % 2:
            raise ConfigError(
                f"SelfAttention: size is {self.size}; an even number is required where rotary turns pairs"
            )

    @property
    def groups(self) -> int:
        """The number G of key heads."""
        return self.key_heads or self.heads

    def head_size(self, channels: int) -> int:
        """Return the number d of elements of a head, if an input has `channels` elements."""
        return self.size or channels // self.heads

    def output_shape(self, *inputs: Shape) -> Shape:
        """Return the shape of the output, which is that of the input, (L, C)."""
        shape = length, channels = checked_sequence("SelfAttention", inputs[0])
        where = f"SelfAttention: the input's shape is {shape}"
        if self.size is None and channels % self.heads:
            raise ShapeError(f"{where}; its {channels} elements cannot be cut into {self.heads} equal heads")
        size = self.head_size(channels)
        if size > MOST_SIZE:
            raise ShapeError(f"{where}, so that a head has {size} elements; at most {MOST_SIZE} are possible")
        if self.rotary is not None and size % 2:
            raise ShapeError(f"{where}, so that a head has {size} elements; rotary turns pairs")
        if self.mask is not None and self.mask.length != length:
            raise ShapeError(
                f"{where}, and the mask's {self.mask.shape}; a mask fixes the length of the sequence"
            )
        return shape

    def parameter_shapes(self, inputs: Sequence[Shape]) -> dict[str, Shape]:
        """Return the shapes of the parameters: ``weight``, ``output`` and, with a bias, those of both biases."""
        channels = int(inputs[0][-1])
        size = self.head_size(channels)
        columns = (self.heads + 2 * self.groups) * size
        shapes: dict[str, Shape] = {"weight": (channels, columns)}
        if self.bias:
            shapes["bias"] = (columns,)
        shapes["output"] = (self.heads * size, channels)
        if self.bias:
            shapes["output_bias"] = (channels,)
        return shapes

    def initial_parameters(self, inputs: Sequence[Shape], generator: np.random.Generator) -> Initial:
        """Return the initial parameters: two weights (K, N) drawn as the class says, and biases of zeros."""
        initial: Initial = {}
        for name, shape in self.parameter_shapes(inputs).items():
            if len(shape) == 1:
                initial[name] = np.zeros(shape, np.float32)
                continue
            deviations = np.full(shape[1], math.sqrt(1 / shape[0]), np.float32)
            if self.deviation is not None:
                values = shape[1] if name == "output" else self.groups * self.head_size(shape[0])
                deviations[shape[1] - values :] = self.deviation
            initial[name] = generator.standard_normal(shape, np.float32) * deviations
        return initial

    def multiply_adds(self, inputs: Sequence[Shape]) -> int:
        """Return the number of multiply-adds for one example: of both weights, of the scores, and of the means."""
        length, channels = map(int, inputs[0])
        size = self.head_size(channels)
        columns = (self.heads + 2 * self.groups) * size
        pairs = length * (length + 1) // 2 if self.causal else length * length
        return length * channels * (columns + self.heads * size) + 2 * pairs * self.heads * size

    def in_evaluation(self) -> Layer:
        """Return the layer without dropout."""
        return replace(self, dropout=0.0) if self.dropout else self

    def bind(self, site: Site) -> list[Operation]:
        """Return the operations at `site`: a product makes queries, keys and values; attention; another product."""
        return self._bound(site, None)[0]

    def bind_kept(self, site: Site) -> tuple[list[Operation], "KeptAttention"]:
        """Return the operations at `site`, which has no directions, and what they keep for ``attention_errors``."""
        assert site.perturbation.count == 0
        length = site.inputs[0].shape[0]
        return self._bound(site, site.device.zeros((site.batch, self.heads, length)))

    def _bound(self, site: Site, log_sum_exp: Any) -> tuple[list[Operation], "KeptAttention"]:
        rows = site.batch * site.inputs[0].shape[0]
        size = self.head_size(site.inputs[0].shape[2])
        if log_sum_exp is not None:
            site = replace(site, workspace=None)
        projected = self._sequences(site, "projected", (self.heads + 2 * self.groups) * size)
        mean = self._sequences(site, "mean", self.heads * size)
        q, k, v = self.heads_of(projected, site.inputs[0].shape[2])
        attention: Operation = site.device.kernels.attention.bind(
            site.isa,
            site.threads,
            batch=site.batch,
            count=site.perturbation.count,
            q=q,
            k=k,
            v=v,
            y=Heads.of(mean, self.heads),
            log_sum_exp=log_sum_exp,
            **self.scores(site),
        )
        operations = [
            self._product(site, rows, site.inputs[0], projected, "weight", "bias"),
            *self.turned(site, projected),
            attention,
            self._product(site, rows, mean, site.output, "output", "output_bias"),
        ]
        return operations, KeptAttention(site, projected, mean, log_sum_exp)

    def heads_of(self, images: Images, channels: int) -> tuple[Heads, Heads, Heads]:
        """Return the heads of queries, keys and values, which lie side by side."""
        size = self.head_size(channels)
        queries, keys = self.heads * size, self.groups * size
        q, k, v = (
            images.channels_from(first, width)
            for first, width in ((0, queries), (queries, keys), (queries + keys, keys))
        )
        return Heads.of(q, self.heads), Heads.of(k, self.groups), Heads.of(v, self.groups)

    def scores(self, site: Site) -> dict[str, Any]:
        """Return the arguments of the kernels that say how scores are made."""
        return {
            "scale": self.factor(site.inputs[0].shape[2]),
            "causal": self.causal,
            "mask": self.mask_on(site),
            "dropout": self.dropout,
            "stream": site.perturbation.stream,
            "layer": site.index,
        }

    def turned(self, site: Site, images: Images, inverse: bool = False) -> list[Operation]:
        """Return the operation that turns queries and keys by their positions, in place, if they are turned at all."""
        if self.rotary is None:
            return []
        size = self.head_size(site.inputs[0].shape[2])
        turned = images.channels_from(0, (self.heads + self.groups) * size)
        return [
            site.device.kernels.rotary.bind(
                site.isa,
                site.threads,
                batch=site.batch,
                count=site.perturbation.count,
                x=turned,
                y=turned,
                heads=self.heads + self.groups,
                base=self.rotary.base,
                inverse=inverse,
            )
        ]

    def factor(self, channels: int) -> float:
        """Return the factor of the scores, if an input has `channels` elements."""
        return 1 / math.sqrt(self.head_size(channels)) if self.scale is None else self.scale

    def mask_on(self, site: Site) -> Mask | None:
        """Return the mask in the memory of a site's device, or None if there is none."""
        if self.mask is None:
            return None
        array, boolean = self.mask.array, self.mask.array.dtype == np.bool_
        length = self.mask.length
        memory = site.device.array(array.view(np.uint8) if boolean else array)
        return Mask(memory, 0, length * length if self.mask.heads else 0, length, boolean)

    def _sequences(self, site: Site, name: str, channels: int) -> Images:
        """Return memory for sequences with that many channels, each position a row."""
        length, count = site.inputs[0].shape[0], site.perturbation.count
        shape = (1 + count, site.batch * length, leading(channels))
        # By the number of channels, since what lies behind them is never written.
        array = site.memory(f"attention, {name}, {channels}", shape)
        return Images.of_batch(array, (length, channels), count > 0, by_position=True)

    def _product(self, site: Site, rows: int, x: Images, y: Images, weight: str, bias: str) -> Operation:
        operation: Operation = site.device.kernels.dense.bind(
            site.isa,
            site.threads,
            batch=rows,
            x=x.by_rows(),
            y=y.by_rows(),
            outputs=y.shape[2],
            weights=weights_at(site, weight, bias),
            activation_name="identity",
        )
        return operation
