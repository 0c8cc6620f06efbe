"""A Sphinx extension: links in included files of the repository lead to the site's pages.

README.md and its sisters link to each other by their places in the repository. On the site each of them has a page.
A link to a folder or a file that has no page becomes plain text, with the name that it had. A page's link to the folder
``examples`` leads to the gallery, which exists on the site alone.
"""

import re
from pathlib import Path, PurePosixPath
from typing import Any

from sphinx.application import Sphinx

PAGES = {
    "README.md": "/index.md",
    "CHANGELOG.md": "/project/changelog.md",
    "CONTRIBUTING.md": "/project/contributing.md",
    "RELIABILITY.md": "/project/reliability.md",
    "SECURITY.md": "/project/security.md",
    "bench/results/README.md": "/project/results.md",
    "bench/results/ESTIMATORS.md": "/project/estimators.md",
    "fgnumba/datasets/README.md": "/reference/datasets.md",
    "fgnumba/estimators/README.md": "/reference/estimators.md",
}
_LINK = re.compile(r"(?P<image>!?)\[(?P<text>[^\]]*)\]\((?P<target>[^)#\s]*)(?P<anchor>#[^)\s]*)?\)")

_EXAMPLES = re.compile(r"\]\((\.\./)+examples\)")


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the rewriting of links."""
    app.connect("include-read", _rewrite)
    app.connect("source-read", _to_gallery)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _to_gallery(app: Sphinx, page: str, content: list[str]) -> None:
    """Let a page's links to the folder of examples lead to the gallery."""
    content[0] = _EXAMPLES.sub("](/examples/index.rst)", content[0])


def _rewrite(app: Sphinx, relative_path: Path, parent: str, content: list[str]) -> None:
    """Rewrite the links of a file that a page includes."""
    root = Path(app.srcdir).parent
    folder = (Path(app.srcdir) / relative_path).resolve().relative_to(root.resolve()).parent

    def rewritten(match: re.Match[str]) -> str:
        target, anchor = match["target"], match["anchor"] or ""
        if not target or "://" in target:
            return match[0]
        place = _place(folder.as_posix(), target)
        if place in PAGES:
            return f"[{match['text']}]({PAGES[place]}{anchor})"
        if match["image"]:
            return f"![{match['text']}](/../{place})"
        return match["text"]

    content[0] = _LINK.sub(rewritten, content[0])


def _place(folder: str, target: str) -> str:
    """Return the path, from the repository's root, of a link's target."""
    parts: list[str] = []
    for part in (PurePosixPath(folder) / target).parts:
        if part == "..":
            parts.pop()
        else:
            parts.append(part)
    return "/".join(parts)
