"""Layers as tables of plain values, such as ``{"type": "dense", "units": 10}``: in TOML files and in saved models."""

from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from typing import Any

import numpy.typing as npt

from fgnumba.errors import ConfigError, DtypeError, ShapeError, did_you_mean, shown
from fgnumba.kernels.layout.images import Border
from fgnumba.layers.attention import SelfAttention
from fgnumba.layers.attention_mask import AttentionMask
from fgnumba.layers.base import Element, Layer
from fgnumba.layers.composite import Composite
from fgnumba.layers.convolution import Conv2d
from fgnumba.layers.dense import Dense
from fgnumba.layers.embedding import Embedding
from fgnumba.layers.function import Function
from fgnumba.layers.normalization import GroupNorm, LayerNorm
from fgnumba.layers.own_activation import OwnActivation, activation_of
from fgnumba.layers.pooling import AvgPool2d, GlobalAveragePool2d, MaxPool2d
from fgnumba.layers.positional import PositionalEmbedding, RotaryEmbedding
from fgnumba.layers.recurrent_elementwise import ElementwiseLSTM, LinearRecurrentUnit, MinGRU
from fgnumba.layers.recurrent_full import GRU, LSTM
from fgnumba.layers.rms_norm import RMSNorm
from fgnumba.layers.structure import Activation, Add, Concatenate, Dropout, Elementwise, Flatten
from fgnumba.layers.transformer_block import TransformerBlock
from fgnumba.objects.code import code_of, is_code, name_of

Table = dict[str, Any]

LAYERS: dict[str, type[Any]] = {
    "activation": Activation,
    "add": Add,
    "avg_pool2d": AvgPool2d,
    "concatenate": Concatenate,
    "conv2d": Conv2d,
    "dense": Dense,
    "dropout": Dropout,
    "elementwise": Elementwise,
    "elementwise_lstm": ElementwiseLSTM,
    "embedding": Embedding,
    "flatten": Flatten,
    "function": Function,
    "global_average_pool2d": GlobalAveragePool2d,
    "group_norm": GroupNorm,
    "gru": GRU,
    "layer_norm": LayerNorm,
    "linear_recurrent_unit": LinearRecurrentUnit,
    "lstm": LSTM,
    "max_pool2d": MaxPool2d,
    "min_gru": MinGRU,
    "positional_embedding": PositionalEmbedding,
    "rms_norm": RMSNorm,
    "rotary_embedding": RotaryEmbedding,
    "self_attention": SelfAttention,
    "transformer_block": TransformerBlock,
}
"""The layers and composites that a table can describe, by its ``type``."""

_KINDS = {layer: kind for kind, layer in LAYERS.items()}

PLACE = ("name", "inputs")
"""The keys of a table that belong to the node and not to the layer."""

ROTARY = "rotary"
"""The key whose value is the table of a ``rotary_embedding``."""

OWN_FUNCTIONS = ("activation", "function")
"""The keys whose value may be the name of a function, ``package.module:name``."""


def layer_of(table: Any, where: str) -> Element:
    """Return the layer, or the composite, that a table describes. The table's ``name`` and ``inputs`` are ignored.

    Its ``type``, an activation and the function of ``elementwise`` may be names ``package.module:name``: a layer's
    class or a layer, and functions of one number; so may that of ``function``, a function of one example. That imports
    code, see :mod:`fgnumba.objects.code`.

    Parameters
    ----------
    table : mapping
        The table. It may come from anybody.
    where : str
        Where it comes from, for messages, such as ``model net.toml: layers[2]``.

    Raises
    ------
    ConfigError
        It is no table, its type or a key is unknown or missing, or a value is impossible.
    ShapeError, DtypeError
        A mask is no array of the shape or the dtype that is required.
    CodeError
        It names code that is not trusted or cannot be imported.
    """
    if not isinstance(table, Mapping):
        raise ConfigError(f"{where} is {shown(table)}; a table is required")
    given = {key: value for key, value in table.items() if key not in PLACE}
    kind = given.pop("type", None)
    if is_code(kind):
        layer = code_of(f"{where}: type", kind)
        made_already = isinstance(layer, Layer | Composite)
        if made_already and not given:
            return layer
        if not (isinstance(layer, type) and issubclass(layer, Layer | Composite) and is_dataclass(layer)):
            alone = "; a layer that is made already takes no other keys" if made_already else ""
            raise ConfigError(
                f"{where}: type is {shown(kind)}, which is {shown(layer)}; a layer's class, a dataclass, or a layer is "
                f"required{alone}"
            )
    elif isinstance(kind, str) and kind in LAYERS:
        layer = LAYERS[kind]
    else:
        raise ConfigError(f"{where}: type is {shown(kind)}{did_you_mean(shown(kind), LAYERS)}")
    for key in OWN_FUNCTIONS:
        if is_code(given.get(key)):
            own = code_of if layer is Function else activation_of
            given[key] = own(f"{where}: {key}", given[key])
    if isinstance(given.get(ROTARY), Mapping):
        given[ROTARY] = _rotary(given[ROTARY], f"{where}: {ROTARY}")
    keys = [field.name for field in fields(layer)]
    for key in given:
        if key not in keys:
            raise ConfigError(
                f"{where}: unknown key {shown(key)}{did_you_mean(key, [*keys, 'type', *PLACE])}"
            )
    for field in fields(layer):
        if field.default is MISSING and field.name not in given:
            raise ConfigError(f"{where}: {field.name} is missing")
    try:
        made: Element = layer(**given)
    except (ConfigError, ShapeError, DtypeError) as error:
        raise type(error)(f"{where}: {error}") from None
    return made


def _rotary(table: Mapping[str, Any], where: str) -> Element:
    # No other type, so that tables cannot stand in tables without end.
    if table.get("type") != _KINDS[RotaryEmbedding]:
        raise ConfigError(f"{where}: type is {shown(table.get('type'))}; 'rotary_embedding' is required")
    return layer_of(table, where)


def constants_of(layer: Any) -> dict[str, npt.NDArray[Any]]:
    """Return the arrays among the arguments of a layer, by their names: masks, which may be too large for a table."""
    if not is_dataclass(layer):
        return {}
    values = {field.name: getattr(layer, field.name) for field in fields(layer)}
    return {name: value.array for name, value in values.items() if isinstance(value, AttentionMask)}


def table_of(layer: Element, node: str | None = None) -> Table | None:
    """Return the table that describes a layer, without the arguments that have their defaults.

    Parameters
    ----------
    layer : Layer or Composite
        The layer.
    node : str, optional
        The name of the layer's node. If it is given, the table has the name of a tensor in place of an array among
        :func:`constants_of`: ``{"tensor": "<node>.mask"}``. By default it has the array as lists.

    Returns
    -------
    dict or None
        The table, of text, numbers, flags and lists. None if no table can describe the layer: its class is neither one
        of :data:`LAYERS` nor a dataclass that can be imported, or it holds something else.

    Raises
    ------
    ConfigError
        An activation was made of a function that cannot be imported.
    """
    kind = _KINDS.get(type(layer)) or (name_of(type(layer)) if is_dataclass(layer) else None)
    if kind is None:
        return None
    if isinstance(layer, Function):
        return {"type": kind, **layer.table()}
    given = {
        field.name: _plain(getattr(layer, field.name))
        for field in fields(layer)  # type: ignore[arg-type]
        if getattr(layer, field.name) != field.default
    }
    if type(layer) not in _KINDS and not all(map(_is_plain, given.values())):
        return None
    if node is not None:
        given |= {name: {"tensor": f"{node}.{name}"} for name in constants_of(layer)}
    return {"type": kind, **given}


def _plain(value: Any) -> Any:
    """Return a value as JSON and TOML have it: a border as two pairs, a tuple as a list."""
    if isinstance(value, OwnActivation):
        name = value.code_name
        if name is None:
            raise ConfigError(
                f"the activation {value.name} cannot be imported by a name, and a file cannot describe it; "
                "define its function at the top of a module"
            )
        return name
    if isinstance(value, AttentionMask):
        return value.array.tolist()
    if isinstance(value, RotaryEmbedding):
        return table_of(value)
    if isinstance(value, Border):
        return [[value.top, value.bottom], [value.left, value.right]]
    return list(value) if isinstance(value, tuple) else value


def _is_plain(value: Any) -> bool:
    """Return whether a value is one that JSON and TOML have."""
    if isinstance(value, list):
        return all(map(_is_plain, value))
    return isinstance(value, str | bool | int | float)
