"""A block of a transformer: attention and a perceptron on a residual stream."""

from dataclasses import dataclass

from fgnumba.errors import ConfigError, did_you_mean, shown
from fgnumba.kernels.rules.philox import MAX_COLUMNS
from fgnumba.layers.attention import SelfAttention
from fgnumba.layers.base import Shape, checked_activation
from fgnumba.layers.composite import SOURCE, Composite, Part
from fgnumba.layers.dense import Dense
from fgnumba.layers.normalization import LayerNorm
from fgnumba.layers.positional import RotaryEmbedding, checked_sequence
from fgnumba.layers.rms_norm import RMSNorm
from fgnumba.layers.structure import Add
from fgnumba.validation import flag, optional, store, whole_number

NORMALIZATIONS: dict[str, type[LayerNorm | RMSNorm]] = {"layer_norm": LayerNorm, "rms_norm": RMSNorm}
"""The normalisations of a block by name."""


@dataclass(frozen=True)
class TransformerBlock(Composite):
    """A block of a transformer with pre-normalisation: a sequence (L, C) stays a sequence (L, C).

        x' = x + attention(norm(x)),   y = x' + perceptron(norm₂(x'))
        y  = x + attention(n) + perceptron(n),   n = norm(x)             where it is parallel

    with perceptron(n) = a(n W + b) W' + b'. A model writes a block called ``b`` out as the nodes ``b_norm``,
    ``b_attention``, ``b_sum``, ``b_norm2``, ``b_hidden``, ``b_project`` and ``b``, the last sum; a parallel one has no
    ``b_sum`` and no ``b_norm2``. So its parameters have names such as ``b_attention.weight``.
    Sources: A. Radford et al., Language Models are Unsupervised Multitask Learners (2019), for the order; B. Wang,
    A. Komatsuzaki, GPT-J-6B (2021), for the parallel one.

    Parameters
    ----------
    heads : int
        The number of query heads, as in :class:`SelfAttention`.
    hidden : int, optional
        The number of hidden units of the perceptron. By default 4 C.
    activation : str, optional
        The activation a of the hidden units, as in :class:`Dense`. By default ``gelu``.
    normalization : str, optional
        ``layer_norm`` (the default) or ``rms_norm``.
    parallel : bool, optional
        Whether attention and perceptron read the same normalised input. By default False: one after the other.
    causal : bool, optional
        Whether a position sees only itself and those before it. By default True.
    key_heads : int, optional
        The number of key heads, as in :class:`SelfAttention`. By default `heads`.
    rotary : RotaryEmbedding, optional
        The turns of queries and keys by their positions. By default None.
    dropout : float, optional
        The share of attention's probabilities that become zero in training. By default 0.
    deviation : float, optional
        The standard deviation of the initial values of attention, of its output and of W'. By default 0.02, so that a
        block adds little at first; None stands for √(1 / K).
    affine : bool, optional
        Whether the normalisations have a scale (and a shift). By default True. The weights that read them can take
        their place.

    Raises
    ------
    ConfigError
        If an argument is impossible.
    ShapeError
        If the input is no sequence (L, C), or its C elements cannot be cut into the heads.

    Examples
    --------
    >>> import fgnumba as fg
    >>> model = fg.Sequential([fg.TransformerBlock(heads=4), fg.Dense(65)], input_shape=(64, 128))
    >>> [node.name for node in model.nodes]
    ['0_norm', '0_attention', '0_sum', '0_norm2', '0_hidden', '0_project', '0', '1']
    """

    heads: int
    hidden: int | None = None
    activation: str | None = "gelu"
    normalization: str = "layer_norm"
    parallel: bool = False
    causal: bool = True
    key_heads: int | None = None
    rotary: RotaryEmbedding | None = None
    dropout: float = 0.0
    deviation: float | None = 0.02
    affine: bool = True

    def __post_init__(self) -> None:
        if not isinstance(self.normalization, str) or self.normalization not in NORMALIZATIONS:
            raise ConfigError(
                f"TransformerBlock: unknown normalization {shown(self.normalization)}"
                f"{did_you_mean(shown(self.normalization), NORMALIZATIONS)}"
            )
        attention = self._attention()
        store(
            self,
            hidden=optional(whole_number, "TransformerBlock: hidden", self.hidden, 1, MAX_COLUMNS),
            activation=checked_activation("TransformerBlock", self.activation),
            normalization=str(self.normalization),
            affine=flag("TransformerBlock: affine", self.affine),
            parallel=flag("TransformerBlock: parallel", self.parallel),
            **{
                name: getattr(attention, name)
                for name in ("heads", "causal", "key_heads", "dropout", "deviation")
            },
        )

    def _attention(self) -> SelfAttention:
        try:
            return SelfAttention(
                self.heads,
                key_heads=self.key_heads,
                causal=self.causal,
                rotary=self.rotary,
                dropout=self.dropout,
                deviation=self.deviation,
            )
        except ConfigError as error:
            raise ConfigError(str(error).replace("SelfAttention", "TransformerBlock", 1)) from None

    def parts(self, shape: Shape) -> tuple[Part, ...]:
        """Return the parts: normalisations, attention, two dense layers and sums."""
        channels = checked_sequence("TransformerBlock", shape)[1]
        norm, attention = NORMALIZATIONS[self.normalization], self._attention()
        hidden = Dense(4 * channels if self.hidden is None else self.hidden, self.activation)
        first = (Part("norm", norm(affine=self.affine), (SOURCE,)), Part("attention", attention, ("norm",)))
        if self.parallel:
            return (
                *first,
                Part("hidden", hidden, ("norm",)),
                Part("project", Dense(channels, deviation=self.deviation), ("hidden",)),
                Part("", Add(), (SOURCE, "attention", "project")),
            )
        return (
            *first,
            Part("sum", Add(), (SOURCE, "attention")),
            Part("norm2", norm(affine=self.affine), ("sum",)),
            Part("hidden", hidden, ("norm2",)),
            Part("project", Dense(channels, deviation=self.deviation), ("hidden",)),
            Part("", Add(), ("sum", "project")),
        )
