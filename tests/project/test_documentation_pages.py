"""The pages of the documentation: links lead somewhere, code is executed, and the reference leaves nothing out."""

import ast
import importlib
import inspect
import re
from dataclasses import fields

import pytest

import fgnumba as fg
from fgnumba.callbacks import Record
from fgnumba.kernels.rules.activations.rules import RULES
from fgnumba.runs.configuration import RunConfig
from tests.places import ROOT

DOCS = ROOT / "docs"
REFERENCE = DOCS / "reference"
PAGES = sorted(DOCS.rglob("*.md"))
FILES = [*PAGES, *ROOT.glob("*.md"), *ROOT.glob(".github/**/*.md"), *ROOT.glob("bench/results/*.md")]
FILES += [ROOT / "fgnumba" / folder / "README.md" for folder in ("datasets", "estimators")]
MODULES = (
    "callbacks",
    "datasets",
    "device",
    "directions",
    "estimators",
    "functions",
    "layers",
    "layers",
    "losses",
    "replay",
    "schedules",
    "testing",
)
UNDOCUMENTED = {"by_name", "result_of"}
"""What a module exports for the library's own use."""


def text_of(path):
    """Return a file without its blocks of code."""
    return re.sub(r"^(```+|:::+).*?^\1$", "", path.read_text(encoding="utf-8"), flags=re.M | re.S)


def anchors(path):
    """Return what links into a Markdown file can lead to: its headings, as GitHub and MyST write them."""
    headings = re.findall(r"^#+ +(.*)$", text_of(path), re.M)
    labels = re.findall(r"^\((.+)\)=$", path.read_text(encoding="utf-8"), re.M)
    return {re.sub(r"[^\w -]", "", heading.lower()).strip().replace(" ", "-") for heading in headings} | set(
        labels
    )


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_link_leads_somewhere(path):
    for target in re.findall(r"\]\(([^)\s]+)\)", text_of(path)):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        # Sphinx reads a leading slash as the folder of the pages.
        place = DOCS / name[1:] if name.startswith("/") else path.parent / name
        file = place if name else path
        assert file.exists(), target
        if anchor and file.suffix == ".md":
            assert anchor in anchors(file), target


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_path_that_a_page_names_is_there(path):
    folders = "fgnumba|kernels|cli|bench|tests|docs|examples"
    for name in re.findall(rf"`((?:{folders})/[\w./*-]*)`", text_of(path)):
        assert list(ROOT.glob(name.rstrip("/"))), name


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.relative_to(DOCS).as_posix())
def test_the_code_of_a_page_is_executed_when_the_site_is_built(path):
    text = path.read_text(encoding="utf-8")
    assert not re.search(r"^```+ *(python|py|bash|sh|console)\b", text, re.M), "write {code-cell}"
    if "{code-cell}" in text:
        assert text.startswith("---\nfile_format: mystnb\nkernelspec:\n  name: python3\n---\n")


def documented():
    """Return the names that the reference of the library lists, each with its module."""
    found = set()
    for page in (REFERENCE / "api").glob("*.md"):
        for module, names in re.findall(
            r"currentmodule:: (\S+)\n\n.. autosummary::\n.*?\n\n(.*?)```",
            page.read_text(encoding="utf-8"),
            re.S,
        ):
            found |= {f"{module}.{name}" for name in names.split()}
    return found


def test_the_reference_lists_every_public_name():
    names = documented()
    shown = {getattr(importlib.import_module(m), n) for m, _, n in (name.rpartition(".") for name in names)}
    for name in fg.__all__:
        if name not in (*MODULES, "errors"):
            assert f"fgnumba.{name}" in names
    for module in MODULES:
        for name in getattr(importlib.import_module(f"fgnumba.{module}"), "__all__", ()):
            value = getattr(getattr(fg, module), name)
            if (inspect.isclass(value) or inspect.isroutine(value)) and name not in UNDOCUMENTED:
                assert value in shown, f"fgnumba.{module}.{name}"


def test_the_methods_that_the_reference_shows_are_there():
    settings = (DOCS / "conf.py").read_text(encoding="utf-8")
    (table,) = re.findall(r"^METHODS = (.*?^})", settings, re.M | re.S)
    for name, methods in ast.literal_eval(table).items():
        module, _, kind = name.rpartition(".")
        for method in methods:
            assert hasattr(getattr(importlib.import_module(module), kind), method), f"{name}.{method}"


def test_the_page_of_environment_variables_has_all_that_the_code_reads():
    sources = [
        path for folder in ("fgnumba", "kernels", "cli", "bench") for path in (ROOT / folder).rglob("*.py")
    ]
    sources += [*(DOCS / "_extensions").glob("*.py"), *(ROOT / "examples").rglob("*.py")]
    read = {
        name
        for path in sources
        for name in re.findall(r'"(FGNUMBA_[A-Z_]+)"', path.read_text(encoding="utf-8"))
    }
    page = (REFERENCE / "environment.md").read_text(encoding="utf-8")
    assert read == set(re.findall(r"^\| `(FGNUMBA_[A-Z_]+)` \|", page, re.M))


def test_the_page_of_files_has_every_setting_and_every_figure_of_a_record():
    page = (REFERENCE / "files.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`(\w+)`", "".join(re.findall(r"^\| (`.*?) \|", page, re.M))))
    of_records = {field.name for field in fields(Record)} - {"metrics"} | {"validation_NAME", "test_NAME"}
    assert {field.name for field in fields(RunConfig)} | of_records <= named


@pytest.mark.parametrize(
    "path", ["fgnumba/layers/dense.py", "docs/reference/api/models.md", "docs/concepts/models.md"]
)
def test_lists_of_activations_are_whole(path):
    text = (ROOT / path).read_text(encoding="utf-8")
    missing = {name for name in RULES if not re.search(rf"\b{name}\b", text)}
    assert not missing, f"{path} lacks {sorted(missing)}"
