"""Unusual installations: bytecode only, archives, read-only folders, loaders without information about modules."""

import compileall
import shutil
import zipfile

import pytest

from tests.apart import ROOT, python

KERNEL = """
import sys
{before}
import fgnumba
from fgnumba.kernels.machine.compile import on_compile
from fgnumba.kernels.machine.subnormals import flushed

assert not fgnumba.__file__.startswith({root!r}), fgnumba.__file__
compiled = []
on_compile(compiled.append)
with flushed():
    pass
print(len(compiled))
"""

TRAINING = """
import fgnumba as fg

data = fg.datasets.load("digits")
model = fg.Sequential([fg.Flatten(), fg.Dense(10)], data.input_shape, seed=0)
trainer = fg.Trainer(model, optimizer=fg.SGD(1e-3))
print(fg.__file__)
print(trainer.fit(data, steps=3).final.loss.hex())
"""


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """Return a folder with the packages as they install."""
    site = tmp_path_factory.mktemp("site")
    ignored = shutil.ignore_patterns("__pycache__", "results", "*.md")
    # The links inside are followed.
    shutil.copytree(ROOT / "fgnumba", site / "fgnumba", ignore=ignored)
    return site


@pytest.fixture(scope="module")
def bytecode(sources, tmp_path_factory):
    """Return a folder with bytecode alone."""
    site = tmp_path_factory.mktemp("bytecode") / "site"
    shutil.copytree(sources, site)
    assert compileall.compile_dir(site, quiet=1, legacy=True, maxlevels=10)
    for path in site.rglob("*.py"):
        path.unlink()
    return site


def archived(site, path):
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(site.rglob("*")):
            if "__pycache__" not in file.parts:
                archive.write(file, file.relative_to(site))
    return path


@pytest.fixture(scope="module")
def archive(sources, tmp_path_factory):
    return archived(sources, tmp_path_factory.mktemp("archive") / "fgnumba.zip")


@pytest.fixture(scope="module")
def bytecode_archive(bytecode, tmp_path_factory):
    return archived(bytecode, tmp_path_factory.mktemp("archive") / "bytecode.zip")


def compiled(site, folder, *options, before=""):
    """Return how many kernels a process compiled, and did not find in the cache."""
    script = KERNEL.format(root=str(ROOT), before=before)
    done = python(
        *options, "-c", script, folder=folder, PYTHONPATH=str(site), FGNUMBA_CACHE_DIR=str(folder / "cache")
    )
    assert (done.returncode, done.stderr) == (0, "")
    return int(done.stdout)


@pytest.mark.parametrize("kind", ["sources", "bytecode", "archive", "bytecode_archive"])
@pytest.mark.parametrize("options", [(), ("-OO", "-B")], ids=["plain", "optimized"])
def test_kernels_are_compiled_once_in_every_installation(kind, options, request, tmp_path):
    site = request.getfixturevalue(kind)
    assert compiled(site, tmp_path, *options) == 2
    assert compiled(site, tmp_path, *options) == 0


def test_training_from_bytecode_in_an_archive_without_docstrings_and_asserts(bytecode_archive, tmp_path):
    variables = {"PYTHONPATH": str(bytecode_archive), "FGNUMBA_CACHE_DIR": str(tmp_path / "cache")}
    done = python("-OO", "-c", TRAINING, folder=tmp_path, **variables)
    assert done.stderr == ""
    where, loss = done.stdout.splitlines()
    assert where.startswith(str(bytecode_archive))
    plain = python("-c", TRAINING)
    assert plain.stdout.splitlines()[1] == loss


def test_a_kernel_of_other_sources_is_compiled_anew(sources, tmp_path):
    changed = tmp_path / "changed"
    shutil.copytree(sources, changed)
    assert compiled(changed, tmp_path) == 2
    with (changed / "fgnumba" / "kernels" / "philox.py").open("a", encoding="utf-8") as file:
        file.write("# another line\n")
    first = archived(changed, tmp_path / "changed.zip")
    assert compiled(changed, tmp_path) == 2
    # What is in an archive is the same, and so is its code.
    assert compiled(first, tmp_path) == 0


FROZEN = """
import importlib.abc, importlib.machinery, pathlib

class Frozen(importlib.abc.MetaPathFinder, importlib.abc.InspectLoader):
    # A loader that gives out code, and neither sources, nor data, nor what there is.
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] != "fgnumba":
            return None
        folder = pathlib.Path({site!r}, *name.split("."))
        file = folder / "__init__.py" if folder.is_dir() else folder.with_suffix(".py")
        if not file.is_file():
            return None
        spec = importlib.machinery.ModuleSpec(name, self, origin="frozen", is_package=folder.is_dir())
        spec.loader_state = file
        return spec

    def get_source(self, name):
        raise ImportError(name)

    def get_code(self, name):
        file = self.find_spec(name).loader_state
        return compile(file.read_text(encoding="utf-8"), "<frozen>", "exec")

    def exec_module(self, module):
        module.__file__ = "<frozen>"
        exec(self.get_code(module.__name__), vars(module))

sys.meta_path.insert(0, Frozen())
"""


def test_a_loader_that_tells_nothing_is_worked_with_and_nothing_is_kept(sources, tmp_path):
    before = FROZEN.format(site=str(sources))
    assert compiled(tmp_path / "nothing", tmp_path, before=before) == 2
    assert compiled(tmp_path / "nothing", tmp_path, before=before) == 2
    assert not list(tmp_path.glob("cache/*.bin"))


def test_estimators_are_there_where_a_folder_cannot_be_searched(sources, tmp_path):
    before = "import sys\n" + FROZEN.format(site=str(sources))
    script = before + "from fgnumba.estimators import RECIPES; print(sorted(RECIPES))"
    done = python("-c", script, folder=tmp_path, PYTHONPATH=str(tmp_path))
    plain = python("-c", "from fgnumba.estimators import RECIPES; print(sorted(RECIPES))")
    assert (done.stdout, done.stderr) == (plain.stdout, "")
    assert "feedback" in done.stdout


def test_an_installation_that_cannot_be_written(sources, tmp_path):
    site = tmp_path / "site"
    shutil.copytree(sources, site)
    folders = [path for path in (site, *site.rglob("*")) if path.is_dir()]
    for path in folders:
        path.chmod(0o555)
    try:
        assert compiled(site, tmp_path) == 2
    finally:
        for path in folders:
            path.chmod(0o755)
