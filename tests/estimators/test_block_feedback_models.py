"""Block feedback on models of every kind: gradients against float64, and which models are refused."""

from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import fgnumba as fg
from tests import tolerances
from tests.estimators.block_gradients import check, cross_entropy_slope, moved, square_slope
from tests.references.graph_reference import nearest_kink
from tests.tolerances_traces import GRADIENT

ACTIVATIONS = ("identity", "relu", "leaky_relu", "tanh", "sigmoid", "gelu", "silu", "softplus", "elu")
NORMS = (
    None,
    fg.LayerNorm(1e-2),
    fg.RMSNorm(1e-2),
    fg.LayerNorm(1e-2, affine=False),
    fg.RMSNorm(1e-2, affine=False),
)
"""With an ε that lets the slope of a normalisation of one number not vanish."""


@st.composite
def attentions(draw, length, heads, size):
    mask = None
    if draw(st.booleans()):
        rng = np.random.default_rng(draw(st.integers(0, 99)))
        shape = (length, length) if draw(st.booleans()) else (heads, length, length)
        mask = rng.random(shape) < 0.6
        if draw(st.booleans()):
            mask = np.where(mask, rng.standard_normal(shape), -np.inf)
    own = draw(st.sampled_from([None, 2, 5]))
    turned = (own or size) % 2 == 0 and draw(st.booleans())
    return fg.SelfAttention(
        heads,
        draw(st.sampled_from([None, 1])),
        own,
        causal=draw(st.booleans()),
        bias=draw(st.booleans()),
        rotary=fg.RotaryEmbedding(base=100.0) if turned else None,
        mask=mask,
        dropout=draw(st.sampled_from([0.0, 0.0, 0.3])),
        scale=draw(st.sampled_from([None, 0.5])),
    )


@st.composite
def streams(draw):
    """Draw the nodes of a residual stream of sequences or of vectors, the shape of its input, and a batch size."""
    nodes: list[fg.Node] = []

    def add(layer, *inputs):
        nodes.append(fg.Node(f"n{len(nodes)}", layer, inputs or None))
        return nodes[-1].name

    length = draw(st.sampled_from([None, 1, 2, 7, 31]))
    heads, size = draw(st.sampled_from([1, 2, 3])), draw(st.sampled_from([1, 2, 11]))
    width = heads * size
    begin = draw(st.sampled_from(["symbols", "numbers", "stream"] if length else ["numbers", "stream"]))
    here = (length,) if length else ()
    shape: tuple[int, ...] = (*here, draw(st.sampled_from([1, 3, 33])) if begin == "numbers" else width)
    stem = "input"
    if begin == "symbols":
        shape = (length,)
        stem = add(fg.Embedding(draw(st.sampled_from([1, 5])), width))
    elif begin == "numbers":
        flattened = draw(st.sampled_from([None, (3,), (2, 1)]))
        if flattened and not length:
            shape = (*flattened, *shape)
            add(fg.Flatten())
        stem = add(fg.Dense(width, bias=draw(st.booleans())))
    for _ in range(draw(st.integers(0, 2)) if length else 0):
        stem = add(fg.PositionalEmbedding(length + draw(st.integers(0, 2))), stem)
    for _ in range(draw(st.integers(1, 3))):
        shared, norm = draw(st.booleans()), None
        ends = []
        for number in range(draw(st.sampled_from([1, 1, 2, 3]))):
            if not (shared and number):
                layer = draw(st.sampled_from(NORMS))
                norm = add(layer, stem) if layer else stem
            if length and draw(st.booleans()):
                ends.append(add(draw(attentions(length, heads, size)), norm))
            else:
                hidden = draw(st.sampled_from([1, 5, 37]))
                add(fg.Dense(hidden, draw(st.sampled_from(ACTIVATIONS)), draw(st.booleans())), norm)
                ends.append(add(fg.Dense(width, bias=draw(st.booleans()))))
        at = draw(st.integers(0, len(ends)))
        stem = add(fg.Add(), *ends[:at], stem, *ends[at:])
    if last := draw(st.sampled_from(NORMS)):
        add(last)
    add(fg.Dense(draw(st.sampled_from([2, 7, 33])), bias=draw(st.booleans())))
    return nodes, shape, draw(st.sampled_from([1, 3]))


@settings(max_examples=25, deadline=None)
@given(
    stream=streams(),
    loss=st.sampled_from(["cross entropy", "weights", "squares"]),
    seed=st.integers(0, 2**16),
)
def test_gradients_of_random_models(stream, loss, seed):
    """Dead units, masks that hide everything and softmaxes of one term included: gradients of zero are zero."""
    nodes, shape, batch = stream
    rng = np.random.default_rng(seed)
    model = fg.Graph(nodes, shape, seed=seed, device="cpu")
    moved(model, rng)
    if model.symbols is None:
        x: Any = rng.standard_normal((batch, *shape)).astype(np.float32)
    else:
        x = rng.integers(0, model.symbols, (batch, *shape))
    assume(nearest_kink(model, x) > tolerances.NEAR_A_KINK)
    places = (batch, *((model.positions,) if len(model.shapes[model.output]) > 1 else ()))
    y = rng.integers(0, model.outputs, places)
    weights, given_loss, slope = None, None, cross_entropy_slope
    if loss == "weights":
        weights = rng.random(places)
        weights.ravel()[: y.size // 2] = 0
    elif loss == "squares":
        y = rng.standard_normal((*places, model.outputs)).astype(np.float32)
        given_loss, slope = fg.MeanSquaredError(), square_slope
    check(model, x, y, GRADIENT, given_loss, slope, weights)


LENGTH, WIDTH, SYMBOLS = 7, 12, 5
EMBEDDING = fg.Embedding(SYMBOLS, WIDTH)
BLOCK = fg.TransformerBlock(2)


class OwnDense(fg.Dense):
    """A layer that may compute anything."""


def sequential(*layers, shape=(LENGTH,)):
    return fg.Sequential(list(layers), shape, device="cpu")


def graph(**layers):
    """Return a model of symbols that begins with layer ``e``, of layers or of pairs of a layer and its inputs."""
    nodes = [fg.Node("e", EMBEDDING)]
    nodes += [
        fg.Node(name, *(given if isinstance(given, tuple) else (given,))) for name, given in layers.items()
    ]
    return fg.Graph(nodes, (LENGTH,), device="cpu")


def residual(*branch):
    """Return a model that adds a branch of layers, called b0, b1, …, to the embedding."""
    layers = {f"b{number}": layer for number, layer in enumerate(branch)}
    return graph(**layers, s=(fg.Add(), ("e", f"b{len(branch) - 1}")), out=fg.Dense(3))


NO_BRANCH = (
    "to 'e', Embedding; a branch that reads the latter is required: SelfAttention, or Dense and a Dense"
)
ATTENTION, DENSE = fg.SelfAttention(2), fg.Dense(WIDTH)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: sequential(EMBEDDING, BLOCK), "the model ends with Add; one Dense at the end is required"),
        (
            lambda: sequential(EMBEDDING, BLOCK, fg.Dense(3, "tanh")),
            "layer '2', Dense, has the activation 'tanh'",
        ),
        (
            lambda: sequential(EMBEDDING, BLOCK, fg.Dense(3), fg.Activation("relu")),
            "layer '2', Dense, has the activ",
        ),
        (
            lambda: sequential(EMBEDDING, BLOCK, OwnDense(3)),
            "the model ends with OwnDense; one Dense at the end",
        ),
        (
            lambda: sequential(EMBEDDING, fg.Dense(3)),
            "layer '1', Dense, reads '0', Embedding; TransformerBlock, or Add",
        ),
        (
            lambda: sequential(fg.Dense(3), shape=(LENGTH, 2)),
            "layer '0', Dense, reads the model's input; TransformerB",
        ),
        (
            lambda: sequential(EMBEDDING, BLOCK, fg.Dropout(), fg.Dense(3)),
            "layer '3', Dense, reads '2', Dropout; Tr",
        ),
        (
            lambda: sequential(EMBEDDING, BLOCK, fg.GRU(5), fg.Dense(3)),
            "layer '3', Dense, reads '2', GRU; Transform",
        ),
        (
            lambda: sequential(EMBEDDING, BLOCK, fg.LayerNorm(), fg.Activation("tanh"), fg.Dense(3)),
            "layer '4', Dense, reads '3', Activation; TransformerBlock",
        ),
        (
            lambda: sequential(EMBEDDING, BLOCK, fg.RMSNorm(), fg.LayerNorm(), fg.Dense(3)),
            "layer '4', Dense, reads '2', RMSNorm; TransformerBlock",
        ),
        (
            lambda: sequential(fg.Conv2d(4, 3), fg.Flatten(), fg.Dense(3), shape=(8, 8, 1)),
            "layer '2', Dense, reads '0', Conv2d; TransformerBlock",
        ),
        (
            lambda: sequential(EMBEDDING, BLOCK, fg.Activation("relu"), fg.Dense(3)),
            "layer '1', Add, has the activat",
        ),
        (
            lambda: sequential(EMBEDDING, BLOCK, fg.Flatten(), fg.Dense(3)),
            "layer '3', Dense, reads values flattened",
        ),
        (
            # No layer here takes positions as rows, so that nothing is copied to be read flattened.
            lambda: sequential(BLOCK, fg.Flatten(), fg.Dense(3), shape=(LENGTH, 4)),
            "layer '2', Dense, reads values flattened",
        ),
        (
            lambda: sequential(EMBEDDING, fg.LayerNorm(), BLOCK, fg.Dense(3)),
            "layer '1', LayerNorm, makes the input of the first block; Embedding, PositionalEmbedding or Dense without",
        ),
        (
            lambda: sequential(EMBEDDING, fg.Dropout(), BLOCK, fg.Dense(3)),
            "layer '1', Dropout, makes the input",
        ),
        (
            lambda: sequential(EMBEDDING, fg.GRU(4), BLOCK, fg.Dense(3)),
            "layer '1', GRU, makes the input of the first",
        ),
        (
            lambda: sequential(fg.Dense(4, "relu"), BLOCK, fg.Dense(3), shape=(7, 2)),
            "layer '0', Dense, makes the inp",
        ),
        (
            lambda: sequential(DENSE, DENSE, BLOCK, fg.Dense(3), shape=(7, 2)),
            "layer '1', Dense, reads another layer",
        ),
        (lambda: residual(ATTENTION, fg.Dropout()), f"layer 's', Add, adds 'b1', Dropout, {NO_BRANCH}"),
        (lambda: residual(fg.LSTM(WIDTH)), f"layer 's', Add, adds 'b0', LSTM, {NO_BRANCH}"),
        (
            lambda: residual(fg.GroupNorm(2), ATTENTION),
            f"layer 's', Add, adds 'b1', SelfAttention, {NO_BRANCH}",
        ),
        (lambda: residual(DENSE), f"layer 's', Add, adds 'b0', Dense, {NO_BRANCH}"),
        (lambda: residual(DENSE, DENSE, DENSE), f"layer 's', Add, adds 'b2', Dense, {NO_BRANCH}"),
        (lambda: residual(DENSE, fg.Dense(WIDTH, "relu")), f"layer 's', Add, adds 'b1', Dense, {NO_BRANCH}"),
        (lambda: residual(OwnDense(3), DENSE), f"layer 's', Add, adds 'b1', Dense, {NO_BRANCH}"),
        (
            lambda: residual(fg.LayerNorm(), fg.Activation("tanh"), ATTENTION),
            f"layer 's', Add, adds 'b2', SelfAttention, {NO_BRANCH}",
        ),
        (
            lambda: graph(a=ATTENTION, s=(fg.Add(), ("e", "a", "a")), out=fg.Dense(3)),
            "layer 'a', SelfAttention, is read by several layers; one is required",
        ),
        (
            lambda: graph(a=ATTENTION, s=(fg.Add(), ("a", "e", "e")), out=fg.Dense(3)),
            "layer 's', Add, adds 'e', Emb",
        ),
        (
            lambda: graph(h=DENSE, p=DENSE, q=(DENSE, "h"), s=(fg.Add(), ("e", "p", "q")), out=fg.Dense(3)),
            "layer 'h', Dense, is read by several layers; one is required",
        ),
        (
            lambda: graph(a=ATTENTION, c=(fg.Concatenate(), ("e", "a")), out=fg.Dense(3)),
            "layer 'out', Dense, reads 'c', Concatenate; TransformerBlock",
        ),
        (
            lambda: graph(
                a=ATTENTION,
                s=(fg.Add(), ("e", "a")),
                b=(ATTENTION, "e"),
                t=(fg.Add(), ("s", "b")),
                out=fg.Dense(3),
            ),
            "layer 't', Add, adds 'b', SelfAttention, to 's', Add; a branch that reads the latter",
        ),
        (
            lambda: graph(
                a=ATTENTION,
                b=(ATTENTION, "e"),
                i=(fg.Add(), ("a", "b")),
                s=(fg.Add(), ("e", "i")),
                out=fg.Dense(3),
            ),
            f"layer 's', Add, adds 'i', Add, {NO_BRANCH}",
        ),
        (
            lambda: graph(
                p=(fg.Embedding(SYMBOLS, WIDTH), "input"), s=(fg.Add(), ("e", "p")), out=fg.Dense(3)
            ),
            f"layer 's', Add, adds 'p', Embedding, {NO_BRANCH}",
        ),
        (
            lambda: fg.Sequential([fg.LSTM(4, symbols=3), fg.Dense(3)], (LENGTH,), device="cpu"),
            "layer '1', Dense, reads '0', LSTM; TransformerBlock",
        ),
    ],
)
def test_a_model_that_is_no_stream_is_refused_in_one_line(make, message):
    with pytest.raises(fg.ConfigError) as caught:
        fg.Trainer(make(), estimator=fg.BlockFeedback(), optimizer=fg.SGD(1e-3))
    assert str(caught.value).startswith(f"block feedback: {message}")
    assert "\n" not in str(caught.value)


def test_an_image_is_flattened_for_a_dense_layer_alone():
    nodes = [
        fg.Node("f", fg.Flatten()),
        fg.Node("h", DENSE),
        fg.Node("p", DENSE),
        fg.Node("s", fg.Add(), ("f", "p")),
    ]
    model = fg.Graph([*nodes, fg.Node("out", fg.Dense(3))], (2, 3, 2), device="cpu")
    with pytest.raises(
        fg.ConfigError, match="layer 'h', Dense, reads values flattened; only a Dense before the str"
    ):
        fg.Trainer(model, estimator=fg.BlockFeedback(), optimizer=fg.SGD(1e-3))


def test_states_are_not_carried():
    with pytest.raises(fg.ConfigError, match="carry_states: BlockFeedback cannot carry states"):
        fg.Trainer(
            sequential(EMBEDDING, BLOCK, fg.Dense(3)),
            estimator=fg.BlockFeedback(),
            optimizer=fg.SGD(1e-3),
            carry_states=True,
        )


@pytest.mark.parametrize("shape", [(2, 3, 2), (3, 4)], ids=["image", "sequence"])
def test_an_input_that_is_flattened_begins_a_stream(shape):
    rng = np.random.default_rng(0)
    nodes = [
        fg.Node("f", fg.Flatten()),
        fg.Node("x", DENSE),
        fg.Node("h", fg.Dense(5, "tanh")),
        fg.Node("p", DENSE),
    ]
    nodes += [fg.Node("s", fg.Add(), ("x", "p")), fg.Node("out", fg.Dense(3))]
    model = fg.Graph(nodes, shape, seed=1, device="cpu")
    x = rng.standard_normal((5, *shape)).astype(np.float32)
    assert min(check(model, x, rng.integers(0, 3, 5), GRADIENT, share=0.0).values()) > 0
