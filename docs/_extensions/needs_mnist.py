"""A Sphinx extension: execute cells that need MNIST only where MNIST is.

A page marks such a cell with the tag ``needs-mnist`` and says ``{{ needs_mnist }}`` above it, which becomes a sentence
on whether the cell was executed. The environment variable ``FGNUMBA_DOCS_MNIST`` names the folder of the four IDX
files; cells read it. Without it, the cells are shown and not executed.
"""

import os
from typing import Any

from sphinx.application import Sphinx
from sphinx.config import Config

VARIABLE = "FGNUMBA_DOCS_MNIST"
TAG = "needs-mnist"
EXECUTED = "*The blocks of this page that need MNIST were executed when the page was built.*"
SHOWN = (
    "*The blocks of this page that need MNIST are shown without their output: the page was built without the data "
    f"(the environment variable `{VARIABLE}` names their folder).*"
)


def setup(app: Sphinx) -> dict[str, Any]:
    """Register what this extension does to pages."""
    app.connect("config-inited", _say)
    app.connect("source-read", _skip)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _say(app: Sphinx, config: Config) -> None:
    config.myst_substitutions = {
        **config.myst_substitutions,
        "needs_mnist": EXECUTED if os.environ.get(VARIABLE) else SHOWN,
    }


def _skip(app: Sphinx, page: str, content: list[str]) -> None:
    if not os.environ.get(VARIABLE):
        content[0] = content[0].replace(TAG, f"{TAG}, skip-execution")
