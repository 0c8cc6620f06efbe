"""Sphinx's settings for the documentation site.

    sphinx-build -W --keep-going -n docs OUT

builds the site into OUT. The build needs no network and writes nothing beside the sources (see the extension
``copied_sources``). Every code cell of every page is executed.
"""

import os
import sys
from importlib.util import find_spec
from pathlib import Path

import fgnumba

EXTENSIONS = Path(__file__).parent / "_extensions"
sys.path.insert(0, str(EXTENSIONS))

# A page's cells run in a process of their own, which inherits these: ``fgtrain`` is the one of this Python.
os.environ["PATH"] = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", "")))
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(EXTENSIONS), os.environ.get("PYTHONPATH"))))
os.environ["FGNUMBA_DEVICE"], os.environ["FGNUMBA_PRECISION"] = "cpu", "float32"

project = "fgnumba"
author = "The fgnumba developers"
project_copyright = f"2026, {author}"
version = release = fgnumba.__version__

# `copied_sources` first: it empties the folder that others write to.
extensions = [
    "copied_sources",
    "shell_cells",
    "repository_links",
    "needs_mnist",
    "needs_extras",
    "myst_nb",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "docstring_text",
    "public_names",
    "sphinx.ext.mathjax",
    "sphinx-mathjax-offline",
    "sphinx_click",
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = [
    "_extensions",
    "_templates",
    # What sphinx-gallery writes beside the pages of the gallery.
    "examples/*.ipynb",
    "examples/*/*.ipynb",
    "**/sg_execution_times.rst",
]
templates_path = ["_templates"]
# Two hyphens stay two hyphens: the help texts of commands name options such as --epochs, which readers copy.
smartquotes = False

# Pages.
myst_enable_extensions = ["amsmath", "colon_fence", "deflist", "dollarmath", "substitution"]
myst_heading_anchors = 4
nb_execution_mode = "force"
nb_execution_in_temp = True
nb_execution_raise_on_error = True
nb_execution_timeout = 120
nb_merge_streams = True

# Reference. Docstrings say the types of parameters, so that signatures need not.
autodoc_typehints = "none"
toc_object_entries_show_parents = "hide"
autodoc_member_order = "bysource"
autosummary_imported_members = True
# The methods that are shown of a class, where these are not all of them: the others serve the library's own modules.
METHODS = {
    "fgnumba.Checkpoints": ("found", "replay_path"),
    "fgnumba.Graph": ("load_parameters", "parameter_count", "parameters", "plan", "save", "summary"),
    "fgnumba.PhysicsLoss": (
        "__call__",
        "forward_gradient",
        "gauss_newton_step",
        "jvp",
        "residual_jvp",
        "residuals",
    ),
    "fgnumba.Sequential": (),
    "fgnumba.Trainer": ("bind", "estimate", "fit", "step", "stop"),
    "fgnumba.model.laplacian.ModelLaplacian": ("__call__", "derivatives"),
    "fgnumba.sklearn.ForwardGradientClassifier": ("fit", "partial_fit", "predict", "predict_proba"),
    "fgnumba.sklearn.ForwardGradientRegressor": ("fit", "partial_fit", "predict"),
    "fgnumba.bench.reverse.ReversePlan": ("nbytes", "run", "value"),
}
autosummary_context = {"shown_methods": METHODS}
numpydoc_show_class_members = False
numpydoc_xref_param_type = False

# Where a name cannot be a link, and why.
nitpick_ignore_regex = [
    # Other projects: linking to them needs their inventories, and so a network.
    (r"py:.*", r"(collections|numba|np|numpy|numpy\.typing|npt|pathlib|typing)\..*"),
    # Python's own names, for the same reason.
    (
        r"py:.*",
        r"(abc\.)?ABC|bool|bytes|dict|float|int|list|object|str|tuple|type|(\w+Error)|Any|Callable|Iterable",
    ),
]

EXAMPLES = Path(__file__).parent.parent / "examples"


BEHIND = {"pandas": "narwhals", "polars": "narwhals", "pyarrow": "narwhals", "onnxruntime": "onnx"}
"""Packages by which fgnumba reads or writes what those that a script imports hold."""


def executed(script: Path) -> bool:
    """Return whether all packages are installed that a script needs."""
    lines = script.read_text(encoding="utf-8").splitlines()
    imports = {line.split()[1].partition(".")[0] for line in lines if line.startswith(("import ", "from "))}
    return all(
        find_spec(package) is not None for package in imports | {BEHIND.get(one, one) for one in imports}
    )


sphinx_gallery_conf = {
    "examples_dirs": str(EXAMPLES),
    "gallery_dirs": "examples",
    # Those whose packages are missing are shown without their output.
    "filename_pattern": "|".join(
        rf"/{script.stem}\.py$" for script in EXAMPLES.rglob("*.py") if executed(script)
    ),
    "within_subsection_order": "gallery_order.Order",
    "abort_on_example_error": False,
    "download_all_examples": False,
    "show_signature": False,
    "min_reported_time": 1e9,
    "plot_gallery": True,
}

# Appearance.
html_theme = "pydata_sphinx_theme"
html_title = "fgnumba"
html_static_path = ["_static"]
html_css_files = ["fgnumba.css"]
html_show_sourcelink = False
# A page without pages beside it needs no list of them.
html_sidebars = {"index": [], "getting-started": []}
html_theme_options = {
    "header_links_before_dropdown": 8,
    "navigation_with_keys": False,
    "secondary_sidebar_items": ["page-toc"],
    "show_toc_level": 2,
    "footer_start": ["copyright"],
    "footer_end": [],
}
html_context = {"default_mode": "auto"}
