"""A Sphinx extension: the reference knows public names alone.

A docstring may name a class by the module that defines it, ``fgnumba.training.trainer.Trainer``. The reference has it
as ``fgnumba.Trainer``, and links of both kinds lead there. Of classes whose methods serve other modules of the library
too, the reference shows the methods that are meant for users.
"""

from typing import Any

from docutils.nodes import Node
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment

METHODS = {
    "fgnumba.Checkpoints": ("found", "replay_path"),
    "fgnumba.Graph": ("load_parameters", "parameter_count", "parameters", "plan"),
    "fgnumba.Sequential": (),
    "fgnumba.Trainer": ("estimate", "fit", "plan", "step", "stop"),
    "fgnumba.bench.reverse.ReversePlan": ("nbytes", "run", "value"),
}
"""The methods that are shown of a class, where these are not all of them."""


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the choice of methods and the search for names."""
    app.connect("autodoc-process-docstring", _follow)
    app.connect("autodoc-skip-member", _skip)
    app.connect("missing-reference", _resolve)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


_shown: list[str] = [""]


def _follow(app: Sphinx, kind: str, name: str, *_: Any) -> None:
    """Note the class that is being documented."""
    if kind in ("class", "exception"):
        _shown[0] = name


def _skip(app: Sphinx, kind: str, name: str, member: Any, skip: bool, options: Any) -> bool | None:
    """Leave a method out of a class's page."""
    methods = METHODS.get(_shown[0])
    return True if methods is not None and kind == "class" and name not in methods else None


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
