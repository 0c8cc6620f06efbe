"""Named models such as ``cnn``, and models as TOML tables."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from fgnumba.errors import ConfigError, ShapeError, did_you_mean, shown
from fgnumba.validation import flag, several
from fgnumba.validation.images import channels_seem_first

if TYPE_CHECKING:
    from fgnumba.kernels.devices.device import Device
    from fgnumba.layers.base import Element
    from fgnumba.model.graph import Graph, Provider

Table = dict[str, Any]

MLP_WIDTHS = (1024, 1024)
"""Default number of units in each hidden layer of ``mlp``: the network of arXiv 2202.08587."""

LSTM_UNITS = 512
"""Default number of units of ``char-lstm``."""

VGG_FILTERS = (64, 128, 256)
"""Default number of filters of each convolution of ``vgg``."""

HEADS, BLOCK_WIDTHS = 4, (128, 128, 128, 128)
"""Heads of attention of ``char-transformer``, and the default width of each of its blocks."""

CONTEXT = 64
"""Default length of the windows that ``char-transformer`` reads."""

TEXT_MODELS = ("char-lstm", "char-transformer")
"""Models that predict the next symbol of a text."""
NAMES = ("logreg", "mlp", "cnn", "resnet", "vgg")
"""Models that tell classes of images, or of other examples, apart."""


def tables(
    name: str, classes: int, widths: Sequence[int] | None = None, context: int | None = None
) -> list[Table]:
    """Return the layers of a named model as TOML tables.

    ``logreg`` is multinomial logistic regression. ``mlp`` is a perceptron with ReLU and hidden layers of `widths`.
    ``cnn`` is the convolutional network of arXiv 2202.08587: four 3x3 convolutions of 64 channels with ReLU, 2x2
    max-pooling after the second and fourth, dense 1024. ``resnet`` is a small residual network (K. He et al., arXiv
    1512.03385) with group normalisation: three blocks of two 3x3 convolutions, of 16, 32 and 64 channels. ``vgg`` is
    for colour images: 3x3 convolutions with ReLU that get wider as max-pooling makes the images smaller (K. Simonyan,
    A. Zisserman, arXiv 1409.1556), each on pixels that are normalised. ``char-lstm`` predicts the next
    symbol of a text: an element-wise LSTM (K. Irie et al., arXiv 2305.19044), or several, one upon the other, and a
    dense layer. ``char-transformer`` predicts it from a window: embeddings of symbols and positions, blocks of causal
    attention and a perceptron (A. Radford et al., 2019), a normalisation and a dense layer.

    Parameters
    ----------
    name : str
        ``logreg``, ``mlp``, ``cnn``, ``resnet``, ``vgg``, ``char-lstm`` or ``char-transformer``.
    classes : int
        Number of classes, the units of the last layer; of a text, the number of different symbols.
    widths : sequence of int, optional
        Number of units in each hidden layer of ``mlp``, of filters in each convolution of ``vgg``, of units in each
        layer of ``char-lstm`` or in each block of ``char-transformer``, whose blocks are all of one width. None (the
        default) takes two layers of 1024; 64, 128 and 256 filters; one layer of 512; or four blocks of 128.
    context : int, optional
        The length of the windows that ``char-transformer`` reads. None (the default): 64.

    Returns
    -------
    list of dict
        One table for each layer, such as ``{"type": "dense", "units": 10}``.

    Raises
    ------
    ConfigError
        There is no such model, `widths` is given for a model that has none to choose, or those of blocks differ.
    """
    known = (*NAMES, *TEXT_MODELS)
    if name not in known:
        raise ConfigError(f"model: unknown model {shown(name)}{did_you_mean(name, known)}, or a TOML file")
    if widths is not None and name not in ("mlp", "vgg", *TEXT_MODELS):
        raise ConfigError(f"widths: model {name!r} has no hidden layers to choose; mlp has")
    head: Table = {"type": "dense", "units": classes}
    if name == "char-lstm":
        return _recurrent_tables(classes, _units(widths, (LSTM_UNITS,)), head)
    if name == "char-transformer":
        return _transformer_tables(classes, _units(widths, BLOCK_WIDTHS), context or CONTEXT, head)
    if name == "cnn":
        convolution: Table = {"type": "conv2d", "filters": 64, "padding": "same", "activation": "relu"}
        half: list[Table] = [convolution, convolution, {"type": "max_pool2d"}]
        hidden: Table = {"type": "dense", "units": 1024, "activation": "relu"}
        return [dict(table) for table in (*half, *half, {"type": "flatten"}, hidden, head)]
    if name == "vgg":
        return [*_plain_tables(_units(widths, VGG_FILTERS)), head]
    if name == "resnet":
        return [*_residual_tables(), {"name": "head", **head}]
    sizes = _units(widths, MLP_WIDTHS) if name == "mlp" else ()
    hidden_layers = [{"type": "dense", "units": units, "activation": "relu"} for units in sizes]
    return [{"type": "flatten"}, *hidden_layers, head]


def _units(widths: Sequence[int] | None, default: tuple[int, ...]) -> tuple[int, ...]:
    units = default if widths is None else several(widths)
    if units is None:
        raise ConfigError(f"widths is {shown(widths)}; several whole numbers are required")
    return units


def _recurrent_tables(classes: int, units: Sequence[int], head: Table) -> list[Table]:
    """Return element-wise LSTMs, each of which reads the states of the one before, and the head after the last.

    On tiny Shakespeare, two layers of 512 with a loss of each were at 1.61 nats a character after 1,000 steps, and at
    1.67 where one head read the states of both and told both (32 streams of 64 positions).
    """
    first, *others = ({"type": "elementwise_lstm", "units": count} for count in units)
    return [{**first, "symbols": classes}, *others, head]


def _transformer_tables(classes: int, widths: Sequence[int], context: int, head: Table) -> list[Table]:
    """Return embeddings of symbols and of positions, a block for each width, a normalisation and the head.

    The sizes are those of nanoGPT's setting for a CPU.
    """
    if len(set(widths)) != 1:
        raise ConfigError(
            f"widths are {shown(list(widths))}; the blocks of char-transformer add to one stream: equal ones are "
            "required, one for each block"
        )
    embeddings: list[Table] = [
        {"type": "embedding", "symbols": classes, "width": widths[0], "deviation": 0.02},
        {"type": "positional_embedding", "length": context},
    ]
    blocks: list[Table] = [{"type": "transformer_block", "heads": HEADS, "affine": False} for _ in widths]
    return [*embeddings, *blocks, {"type": "layer_norm"}, head]


def _plain_tables(widths: Sequence[int]) -> list[Table]:
    """Return a convolution for each width. The normalisation before each has no parameters to be trained.

    So it belongs to the block of the convolution after it, and local losses need no error signal through it. Without
    that of the images, the loss on CIFAR-10 is 1.86 after 500 steps of 32 images in place of 1.62.
    """
    result: list[Table] = []
    for filters in widths:
        if result:
            result += [{"type": "max_pool2d", "padding": "same"}, {"type": "layer_norm", "affine": False}]
        else:
            result.append({"type": "group_norm", "groups": 1, "affine": False})
        result.append({"type": "conv2d", "filters": filters, "padding": "same", "activation": "relu"})
    return [*result, {"type": "avg_pool2d", "pool_size": 4, "padding": "same"}, {"type": "flatten"}]


def _residual_tables() -> list[Table]:
    def convolution(name: str, filters: int, stride: int = 1, size: int = 3, **more: Any) -> Table:
        table = {"name": name, "type": "conv2d", "filters": filters, "kernel_size": size, "stride": stride}
        return {**table, "padding": "same", "bias": False, **more}

    def norm(name: str) -> Table:
        return {"name": name, "type": "group_norm", "groups": 8}

    def relu(name: str) -> Table:
        return {"name": name, "type": "activation", "activation": "relu"}

    result = [convolution("stem", 16), norm("stem_norm"), relu("stem_relu")]
    before = "stem_relu"
    for block, (filters, stride) in enumerate(((16, 1), (32, 2), (64, 2)), 1):
        b = f"block{block}"
        result += [convolution(f"{b}_conv1", filters, stride, inputs=[before]), norm(f"{b}_norm1")]
        result += [relu(f"{b}_relu1"), convolution(f"{b}_conv2", filters), norm(f"{b}_norm2")]
        shortcut = before
        if stride > 1:
            shortcut = f"{b}_shortcut"
            result.append(convolution(shortcut, filters, stride, 1, inputs=[before]))
        inputs = [f"{b}_norm2", shortcut]
        result.append({"name": b, "type": "add", "activation": "relu", "inputs": inputs})
        before = b
    return [*result, {"name": "mean", "type": "global_average_pool2d"}]


def layers_from(tables: Sequence[Mapping[str, Any]], classes: int, where: str) -> "list[Element]":
    """Return the layers that tables describe. The tables' ``name`` and ``inputs`` are ignored.

    Parameters
    ----------
    tables : sequence of mapping
        One table for each layer, such as ``{"type": "dense", "units": "classes"}``.
    classes : int
        Number of classes, which ``units = "classes"`` and ``symbols = "classes"`` stand for.
    where : str
        Where the tables come from, for error messages, such as ``model net.toml``.

    Raises
    ------
    ConfigError
        A type or key is unknown or missing, or a value is impossible.
    """
    from fgnumba.layers.tables import layer_of

    layers: list[Element] = []
    for index, table in enumerate(tables):
        if isinstance(table, Mapping):
            table = {**table, **written_out(table, classes)}
        layers.append(layer_of(table, f"{where}: layers[{index}]"))
    return layers


def written_out(table: Mapping[str, Any], classes: int) -> Table:
    """Return those keys of a layer's table for which ``"classes"`` stands, with the number of classes."""
    return {key: classes for key in ("units", "symbols") if table.get(key) == "classes"}


def model_from(
    tables: Sequence[Mapping[str, Any]],
    classes: int,
    where: str,
    input_shape: tuple[int, ...],
    seed: int = 0,
    device: "str | Device" = "auto",
    initial: "Provider | None" = None,
    saved: bool = False,
) -> "Graph":
    """Return the classifier that tables describe.

    It is a :class:`fgnumba.Graph` if any table has ``name`` or ``inputs``, else a :class:`fgnumba.Sequential`. In a
    graph, the name of a layer without one is its index, such as ``"3"``.

    Parameters
    ----------
    tables : sequence of mapping
        One table for each layer, as :func:`layers_from` takes them.
    classes : int
        Number of classes, which must be the number of the model's outputs.
    where : str
        Where the tables come from, for error messages, such as ``model net.toml``.
    input_shape : tuple of int
        Shape of one example, as :class:`fgnumba.Graph` takes it.
    seed : int
        Seed of the initial parameters. Default: 0.
    device : str or Device
        Where the model runs. Default: ``"auto"``.
    initial : callable, optional
        Returns the initial parameters, as :class:`fgnumba.Graph` takes it. None (the default) draws them.
    saved : bool
        Whether the tables are those of a run that is saved, whose input shape is as it was meant. Default: False.

    Raises
    ------
    ConfigError, ShapeError
        A table is wrong (see :func:`layers_from`), the layers' connections or shapes do not fit, or the output is not
        one number for each class.
    """
    from fgnumba.model.saved_model import graph_of

    layers = layers_from(tables, classes, where)
    try:
        # With its output named, it is a Graph, which takes any shape.
        as_meant = flag("saved", saved) and tables and channels_seem_first(input_shape)
        output = tables[-1].get("name", str(len(tables) - 1)) if as_meant else None
        model = graph_of(tables, layers, input_shape, output, seed=seed, device=device, initial=initial)
    except (ConfigError, ShapeError) as error:
        raise type(error)(f"{where}: {error}") from None
    # Of a sequence, there is one number a class at each position.
    positions = model.input_shape[:1] if len(model.output_shape) == 2 else ()
    if model.output_shape != (*positions, classes):
        shape = f"the output's shape is {model.output_shape}"
        raise ConfigError(f"{where}: {shape}; ({classes},), one number a class, is required")
    return model
