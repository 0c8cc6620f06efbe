"""A Sphinx extension: the reference knows public names alone.

A docstring may name a class by the module that defines it, ``fgnumba.training.trainer.Trainer``. The reference has it
as ``fgnumba.Trainer``, and links of both kinds lead there. A name that the library has and does not make public stays
plain text; a name that it does not have at all is a warning, as Sphinx would have it.
"""

import inspect
import sys
from functools import cache
from typing import Any

from docutils.nodes import Node
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the search for names."""
    app.connect("missing-reference", _resolve)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _resolve(app: Sphinx, env: BuildEnvironment, node: pending_xref, content: Node) -> Node | None:
    """Return a link to the public object that a target's last parts name, or the text of a name that is not public.

    An attribute that has no entry of its own leads to its class. None: there is no such name.
    """
    if node.get("refdomain") != "py":
        return None
    domain = env.domains.python_domain
    parts = node["reftarget"].lstrip("~.").split(".")
    for part in reversed(parts):
        names = [
            name
            for name, entry in domain.objects.items()
            if name.rsplit(".", 1)[-1] == part and entry.objtype != "module" and not entry.aliased
        ]
        if len(names) == 1:
            return domain.resolve_xref(env, node["refdoc"], app.builder, "obj", names[0], node, content)
    return content if parts[-1] in _names() else None


@cache
def _names() -> frozenset[str]:
    """Return the names in the library's modules and of their classes' attributes."""
    modules = [module for name, module in sys.modules.items() if name.startswith("fgnumba")]
    members = [value for module in modules for value in vars(module).values()]
    classes = [
        value for value in members if inspect.isclass(value) and value.__module__.startswith("fgnumba")
    ]
    return frozenset(
        [module.__name__.rpartition(".")[2] for module in modules]
        + [name for owner in (*modules, *classes) for name in vars(owner)]
        # Attributes of objects are known by their annotations.
        + [name for owner in classes for name in inspect.get_annotations(owner)]
    )
