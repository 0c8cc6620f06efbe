"""Named models, models as TOML tables, and the learning rate that suits a model where none is given."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from fgnumba.errors import ConfigError, did_you_mean

if TYPE_CHECKING:
    from fgnumba.layers import Layer

Table = dict[str, Any]

MLP_WIDTHS = (32,)
"""Hidden layers of ``mlp``: found by search on the digits, as its activation was."""

NAMES = ("logreg", "mlp")


def tables(name: str, classes: int, widths: Sequence[int] | None = None) -> list[Table]:
    """Return the layers of the model called `name` as TOML tables.

    ``logreg`` is multinomial logistic regression, ``mlp`` a perceptron with tanh and hidden layers of `widths`.

    Raises
    ------
    ConfigError
        There is no such model, or it has no widths to choose.
    """
    if name not in NAMES:
        raise ConfigError(f"model: unknown model {name!r}{did_you_mean(name, NAMES)}, or a TOML file")
    if widths is not None and name != "mlp":
        raise ConfigError(f"widths: model {name!r} has no hidden layers to choose; mlp has")
    hidden = (MLP_WIDTHS if widths is None else widths) if name == "mlp" else ()
    return [
        {"type": "flatten"},
        *({"type": "dense", "units": units, "activation": "tanh"} for units in hidden),
        {"type": "dense", "units": classes},
    ]


def layers_from(tables: Sequence[Mapping[str, Any]], classes: int, where: str) -> "list[Layer]":
    """Return the layers that `tables` describe; ``units = "classes"`` stands for `classes`.

    Parameters
    ----------
    where : what the tables stand in, for messages.

    Raises
    ------
    ConfigError
        A type or key is unknown or missing, a value impossible, or the model does not end in `classes` outputs.
    """
    from dataclasses import fields

    from fgnumba.kernels.philox import MAX_COLUMNS
    from fgnumba.layers import Dense, Flatten

    types: dict[Any, type[Dense] | type[Flatten]] = {"dense": Dense, "flatten": Flatten}
    layers: list[Layer] = []
    for index, table in enumerate(tables):
        here = f"{where}: layers[{index}]"
        if not isinstance(table, Mapping):
            raise ConfigError(f"{here} is {table!r}; a table is required")
        given = dict(table)
        kind = given.pop("type", None)
        if not isinstance(kind, str) or kind not in types:
            raise ConfigError(f"{here}: type is {kind!r}{did_you_mean(str(kind), types)}")
        keys = [field.name for field in fields(types[kind])]
        for key in given:
            if key not in keys:
                raise ConfigError(f"{here}: unknown key {key!r}{did_you_mean(key, [*keys, 'type'])}")
            if isinstance(given[key], (list, dict)):
                raise ConfigError(f"{here}: {key} is {given[key]!r}; a single value is required")
        if kind == "dense" and "units" not in given:
            raise ConfigError(f"{here}: units is missing")
        if given.get("units") == "classes":
            given["units"] = classes
        try:
            layers.append(types[kind](**given))
        except ConfigError as error:
            raise ConfigError(f"{here}: {error}") from None
        if given.get("units", 1) > MAX_COLUMNS:
            raise ConfigError(f"{here}: units is {given['units']}; at most {MAX_COLUMNS} are possible")
    last = layers[-1] if layers else None
    if not isinstance(last, Dense) or last.units != classes:
        raise ConfigError(f"{where}: the last layer must be dense with {classes} units, one a class")
    return layers


def default_learning_rate(parameters: int, directions: int, momentum: float = 0.0) -> float:
    """Return a learning rate for weight perturbation with T directions of P parameters.

        η = (1 - μ) 0.16 √P T / (P + T + 1)

    T / (P + T + 1) is what the estimator's variance allows beside exact gradients. 0.16 √P was found by search: on
    the digits and MNIST, for 650 to 1.9 million parameters and 1 to 64 directions, it is within a factor
    of three of the best. Momentum μ makes every step 1 / (1 - μ) times as long in the end.
    """
    return (1.0 - momentum) * 0.16 * math.sqrt(parameters) * directions / (parameters + directions + 1)
