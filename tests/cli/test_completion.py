"""Completion in the shell: the names that it offers, and what it must not import."""

import os
import subprocess
import sys

import pytest
from click.shell_completion import ShellComplete

from fgnumba import optimizers
from fgnumba.bench.experiments import EXPERIMENTS
from fgnumba.bench.measure.networks import NETWORKS
from fgnumba.cli import completion
from fgnumba.cli.main import fgtrain as command
from fgnumba.datasets import NAMES
from fgnumba.errors import FgError
from fgnumba.estimators import RECIPES
from fgnumba.kernels.emit.precision import AUTO, PRECISIONS
from fgnumba.runs import configuration, loggers
from fgnumba.runs.presets import tables
from fgnumba.training.names import LOSSES


def offered(*arguments):
    """Return what completes the last argument."""
    *before, begun = arguments
    complete = ShellComplete(command, {}, "fgtrain", "_FGTRAIN_COMPLETE")
    return complete.get_completions(before, begun)


def names(*arguments):
    return [item.value for item in offered(*arguments) if item.type == "plain"]


def test_the_names_are_those_of_the_library():
    assert set(completion.DATA) == set(NAMES)
    assert set(completion.ESTIMATORS) == set(RECIPES)
    assert set(completion.DIRECTIONS) == set(configuration.DIRECTIONS)
    assert (
        set(completion.OPTIMIZERS)
        == set(configuration.OPTIMIZERS)
        == {optimizers.AUTO, *optimizers.OPTIMIZERS}
    )
    assert set(completion.OF_ANY_DEVICE) == set(configuration.PRECISIONS)
    assert set(completion.EXPERIMENTS) == set(EXPERIMENTS)
    assert set(completion.NETWORKS) == set(NETWORKS)
    assert set(completion.PRECISIONS) == {AUTO, *PRECISIONS}
    assert set(completion.LOGGERS) == set(loggers.LOGGERS)
    # Each loss once, by its shortest name.
    assert {LOSSES[name] for name in completion.LOSSES} == set(LOSSES.values())
    assert len(completion.LOSSES) == len(set(LOSSES.values()))
    with pytest.raises(FgError) as unknown:
        tables("?", 10)
    assert all(name in str(unknown.value) for name in completion.MODELS)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("tr",), ["train"]),
        (("train", "--mod"), ["--model"]),
        (("train", "--model", "c"), ["cnn", "char-lstm", "char-transformer"]),
        (("train", "--data", "f"), ["fashion-mnist"]),
        (("train", "--estimator", "f"), ["feedback", "fdfa"]),
        (("train", "--direction", "r"), ["rank1", "rademacher"]),
        (("train", "--optimizer", "adam"), ["adam", "adamw"]),
        (("train", "--device", ""), ["auto", "cpu", "cuda"]),
        (("train", "--precision", "bf16x"), ["bf16x3", "bf16x2"]),
        (("search", "--tangent-precision", "t"), ["tf32"]),
        (("train", "--logger", "t"), ["tensorboard"]),
        (("train", "--loss", "m"), ["mse"]),
        (("search", "--estimator", "fd"), ["fdfa"]),
        (("compare", "--estimators", "fdfa,rev"), ["fdfa,reverse-mode"]),
        (("compare", "--estimators", "fdfa,fd"), []),
        (("bench", "--network", "log"), ["logreg"]),
        (("reproduce", "be"), ["beale"]),
        (("info", "--model", "res"), ["resnet"]),
        (("evaluate", "run", "--data", "mn"), ["mnist"]),
    ],
)
def test_names_are_completed(arguments, expected):
    assert names(*arguments) == expected


def test_run_folders_are_completed(folder):
    for run in ("runs/digits-mlp-1", "runs/digits-mlp-2", "runs/empty", "mine", "other/b"):
        (folder / run).mkdir(parents=True)
        if run != "runs/empty":
            (folder / run / "config.toml").touch()
    numbered = ["runs/digits-mlp-1", "runs/digits-mlp-2"]
    assert names("evaluate", "") == [*numbered, "mine"]
    assert names("replay", "ru") == names("predict", "runs/d") == numbered
    assert names("train", "--resume", "mi") == ["mine"]
    assert names("evaluate", "other/") == ["other/b"]
    assert names("evaluate", "nowhere/") == []


@pytest.mark.parametrize(
    ("arguments", "kind"),
    [
        (("train", "--config", "s"), "file"),
        (("train", "--out", "s"), "dir"),
        (("train", "--data-dir", "s"), "dir"),
        (("train", "--model", "nets/"), "file"),
        (("evaluate", "x"), "dir"),
    ],
)
def test_paths_are_completed_by_the_shell(folder, arguments, kind):
    (item,) = offered(*arguments)
    assert (item.type, item.value) == (kind, arguments[-1])


@pytest.mark.parametrize("words", ["fgtrain ", "fgtrain train --estimator f", "fgtrain bench --network "])
def test_completion_imports_nothing_heavy(words):
    source = (
        "import sys\nfrom fgnumba.cli.main import main\n"
        "try:\n    main()\nexcept SystemExit: pass\n"
        "heavy = {'numpy', 'numba', 'rich', 'matplotlib', 'tomllib'} & set(sys.modules)\n"
        "sys.exit(repr(heavy) if heavy else 0)"
    )
    variables = {
        "COMP_WORDS": words,
        "COMP_CWORD": str(words.count(" ")),
        "_FGTRAIN_COMPLETE": "bash_complete",
    }
    done = subprocess.run(
        [sys.executable, "-c", source], env={**os.environ, **variables}, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("plain,")
