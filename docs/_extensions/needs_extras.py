"""A Sphinx extension: execute cells that need an optional package only where it is installed.

A page marks such a cell with the tag ``needs-torch`` or ``needs-onnx``. The page's comment ``<!-- needs-torch -->``
becomes a sentence on whether the cells were executed. So the site can be built without these packages.
"""

from importlib.util import find_spec
from typing import Any

from sphinx.application import Sphinx

PACKAGES = {"needs-torch": ("torch", "PyTorch"), "needs-onnx": ("onnx", "the package onnx")}
"""For each tag, the package that a cell imports, and what people call it."""


def setup(app: Sphinx) -> dict[str, Any]:
    """Register what this extension does to pages."""
    app.connect("source-read", _skip)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _skip(app: Sphinx, page: str, content: list[str]) -> None:
    for tag, (package, name) in PACKAGES.items():
        executed = find_spec(package) is not None
        sentence = (
            f"*The blocks of this page that need {name} were executed when the page was built.*"
            if executed
            else f"*The blocks of this page that need {name} are shown without their output.*"
        )
        content[0] = content[0].replace(f"<!-- {tag} -->", sentence)
        if not executed:
            content[0] = content[0].replace(tag, f"{tag}, skip-execution")
