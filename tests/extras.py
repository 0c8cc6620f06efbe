"""Which tests need an optional package that the base environment lacks: ``pytest -m extras`` runs these alone."""

import ast
import inspect
import re
import sys

PACKAGES = (
    *("torch", "onnx", "onnxruntime", "optuna", "pandas", "polars", "pyarrow", "narwhals", "tensorboard"),
    *("tensorboardX", "mlflow", "wandb", "trackio", "sqlalchemy", "alembic", "jax"),
)
_NAMED = re.compile(rf"""importorskip\((?:"(?:{"|".join(PACKAGES)})["."]|library|package)""")


def needs_extras(item):
    """Return whether a test, or the module that it stands in, asks for one of these packages."""
    if "script" in getattr(getattr(item, "callspec", None), "params", {}):
        # An example imports what it needs at its top.
        tree = ast.parse(item.callspec.params["script"].read_text(encoding="utf-8"))
        imported = {alias.name for node in tree.body if isinstance(node, ast.Import) for alias in node.names}
        imported |= {str(node.module) for node in tree.body if isinstance(node, ast.ImportFrom)}
        return any(name.partition(".")[0] in PACKAGES for name in imported)
    top = "".join(line for line in _source(item.module).splitlines(True) if not line.startswith((" ", "\t")))
    return bool(_NAMED.search(top) or _NAMED.search(_source(item.function)))


def _source(one):
    return inspect.getsource(sys.modules[one.__name__] if inspect.ismodule(one) else one)
