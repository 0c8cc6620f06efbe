"""A Sphinx extension: the reference knows public names alone.

A docstring may name a class by the module that defines it, ``fgnumba.training.trainer.Trainer``. The reference has it
as ``fgnumba.Trainer``, and links of both kinds lead there.
"""

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
    """Return a link to the public object that a target's last parts name; None where there is none, or several.

    An attribute that has no entry of its own leads to its class.
    """
    if node.get("refdomain") != "py":
        return None
    domain = env.domains.python_domain
    for part in reversed(node["reftarget"].lstrip("~.").split(".")):
        names = [
            name
            for name, entry in domain.objects.items()
            if name.rsplit(".", 1)[-1] == part and entry.objtype != "module" and not entry.aliased
        ]
        if len(names) == 1:
            return domain.resolve_xref(env, node["refdoc"], app.builder, "obj", names[0], node, content)
    return None
