"""A Sphinx extension: build from a copy of the sources, so that the source tree may be read-only.

autosummary and sphinx-gallery write the pages that they generate beside the pages that exist. This extension copies
the pages, and the files of the repository that pages include, into the folder of doctrees, and makes the copy Sphinx's
source folder.
"""

import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx

ROOT = Path(__file__).parent.parent.parent
INCLUDED = (
    "README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "RELIABILITY.md",
    "SECURITY.md",
    "bench/figures",
    "bench/results",
    "fgnumba/datasets/README.md",
    "fgnumba/estimators/README.md",
)


def setup(app: Sphinx) -> dict[str, Any]:
    """Copy the sources and make the copy Sphinx's source folder."""
    # Every build reads all pages: Sphinx looks for generated pages among those of the build before.
    shutil.rmtree(app.doctreedir, ignore_errors=True)
    copy = Path(app.doctreedir) / "source"
    pages = Path(app.srcdir)
    built = (Path(app.outdir), Path(app.doctreedir), pages / "_extensions")
    for file in _files([ROOT / name for name in INCLUDED] + [pages]):
        if not any(folder in file.parents for folder in built):
            target = copy / file.relative_to(ROOT)
            target.parent.mkdir(parents=True, exist_ok=True)
            # The times, by which Sphinx knows a page that has changed; not the permissions: the copy is written to.
            shutil.copyfile(file, target)
            times = file.stat()
            os.utime(target, ns=(times.st_atime_ns, times.st_mtime_ns))
    app.srcdir = type(app.srcdir)(copy / "docs")
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _files(paths: Iterable[Path]) -> Iterator[Path]:
    """Yield the files that the paths are, or hold."""
    for path in paths:
        yield from (file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
