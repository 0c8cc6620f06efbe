"""A Sphinx extension: execute cells that need MNIST only where MNIST is.

A page marks such a cell with the tag ``needs-mnist``. The page's comment ``<!-- needs-mnist -->`` becomes a sentence on
whether the cells were executed. The environment variable ``FGNUMBA_DOCS_MNIST`` names the folder of the four IDX files;
the module ``local_mnist`` reads it. Without it, the cells are shown and not executed.
"""

import os
from typing import Any

from sphinx.application import Sphinx

VARIABLE = "FGNUMBA_DOCS_MNIST"
TAG = "needs-mnist"
COMMENT = f"<!-- {TAG} -->"
EXECUTED = "*The blocks of this page that need MNIST were executed when the page was built.*"
SHOWN = "*The blocks of this page are shown without their output: the site was built without MNIST's files.*"


def setup(app: Sphinx) -> dict[str, Any]:
    """Register what this extension does to pages."""
    app.connect("source-read", _skip)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _skip(app: Sphinx, page: str, content: list[str]) -> None:
    executed = bool(os.environ.get(VARIABLE))
    content[0] = content[0].replace(COMMENT, EXECUTED if executed else SHOWN)
    if not executed:
        content[0] = content[0].replace(TAG, f"{TAG}, skip-execution")
