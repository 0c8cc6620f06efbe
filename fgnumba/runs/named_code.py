"""The names of code, ``package.module:name``, that the configuration of a run folder has."""

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

from fgnumba.objects.code import DATASETS_GROUP, ESTIMATORS_GROUP, LOSSES_GROUP, installed, is_code
from fgnumba.runs.toml_file import read_toml
from fgnumba.validation.paths import path_of

if TYPE_CHECKING:
    from fgnumba.runs.configuration import RunConfig

_GROUPS = {"data": DATASETS_GROUP, "loss": LOSSES_GROUP, "estimator": ESTIMATORS_GROUP}


def code_in(config: "RunConfig", given: Collection[str]) -> list[tuple[str, str]]:
    """Return the names of code that a configuration has, each with the setting that has it.

    They are those of its settings, of its layers, and of the file of layers that it names in their place. Names of
    entry points, ``package:name``, are left out: whoever installed the package trusts it.

    Parameters
    ----------
    config : RunConfig
        The configuration.
    given : collection of str
        The settings that are not the file's but the user's, which are left out.
    """
    found = []
    for key, group in _GROUPS.items():
        name = getattr(config, key)
        if key not in given and is_code(name) and name not in installed(group):
            found.append((key, name))
    tables, where = config.layers, "layers"
    if tables is None and "model" not in given and config.model.endswith(".toml"):
        # What is no list of tables is refused where the model is made of it.
        tables, where = read_toml(path_of(config.model, "model"), "model").get("layers"), "model: layers"
    for index, table in enumerate(tables if isinstance(tables, list | tuple) else ()):
        if isinstance(table, Mapping):
            names = [(key, name) for key, name in table.items() if key != "name" and is_code(name)]
            found += [(f"{where}[{index}].{key}", name) for key, name in names]
    return found
