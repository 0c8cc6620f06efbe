"""Paths with names of any bytes, of the greatest length, and with ``~`` at their beginning."""

import os
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest

import fgnumba as fg
from fgnumba.cli.run import named
from fgnumba.errors import ConfigError
from fgnumba.kernels.machine.cache import cache_folder
from fgnumba.runs.configuration import RunConfig
from fgnumba.validation.paths import expanded, path_of, quoted, shortened
from tests import apart

MODEL = '[[layers]]\ntype = "flatten"\n\n[[layers]]\ntype = "dense"\nunits = "classes"\n'
NOBODY = "~no-such-user-here"
TRAIN = ("--steps", 3, "--widths", 8, "--quiet")
NAMES = {
    "not UTF-8": b"d\xff\xfe",
    "a line break": b"a\nb",
    "quotes and markup": b'it\'s "q" %s [bold] $x^ {0}',
    "as long as possible": b"x" * 251,
    "long, three bytes a character": "数".encode() * 83,
    "like an option": b"--steps",
    "like a home folder": b"~no-such-user-here",
    "an escape sequence": b"\x1b[31mred",
}
posix = pytest.mark.skipif(sys.platform != "linux", reason="names are any bytes on Linux")


@pytest.fixture(params=list(NAMES.values()), ids=list(NAMES))
def name(request):
    return os.fsdecode(request.param)


def lines(outcome):
    """Assert that nothing went wrong, and return what was said, as lines that can be shown."""
    assert outcome.code == 0, outcome.err
    found = [*outcome.out.splitlines(), *outcome.err.splitlines()]
    assert all(line.isprintable() for line in found)
    return found


@posix
def test_data_of_any_name(fgtrain, folder, blobs, name):
    (folder / blobs).rename(folder / f"{name}.npz")
    lines(fgtrain("train", f"--data={name}.npz", *TRAIN, "--out", "run"))
    lines(fgtrain("evaluate", "run"))
    # The run's own settings repeat it.
    lines(fgtrain("train", "--config", "run/config.toml", *TRAIN))
    (again,) = (folder / "runs").iterdir()
    assert again.name.endswith("-1")
    assert (again / "model.safetensors").read_bytes() == (folder / "run/model.safetensors").read_bytes()


@posix
@pytest.mark.parametrize("bytes_of", [b"d\xff", b"$x^ [b] %s", b"a\nb"])
def test_a_comparison_on_data_of_any_name(fgtrain, folder, blobs, bytes_of):
    data = folder / f"{os.fsdecode(bytes_of)}.npz"
    (folder / blobs).rename(data)
    options = ("--estimators", "feedback", "--widths", 8, "--steps", 2)
    found = lines(fgtrain("compare", "--data", data, *options, "--out", "out"))
    assert found[-1] == "data and figure in out"
    assert sorted(path.name for path in (folder / "out").iterdir()) == ["data.json", "figure.svg"]
    search = ("--widths", 8, "--count", 1, "--steps", 2, "--out", data.with_suffix(".jsonl"))
    lines(fgtrain("search", "--data", data, *search))


@posix
def test_folders_and_files_of_any_name(fgtrain, folder, blobs, name):
    place = folder / name
    out = place / shortened(name, 250)
    model = folder / "model.toml"
    model.write_text(MODEL)
    place.mkdir()
    named_model = place / f"{shortened(name, 240)}.toml"
    model.rename(named_model)
    estimator = ("--estimator", "weight-perturbation")
    lines(fgtrain("train", "--model", named_model, *estimator, "--data", blobs, *TRAIN[:2], "--out", out))
    lines(fgtrain("train", "--resume", out))
    lines(fgtrain("replay", out, "--output", place / "theta.safetensors"))
    np.save(place / "x.npy", np.zeros((2, 5), np.float32))
    (place / "x.npy").rename(place / f"{shortened(name, 240)}.npy")
    output = place / shortened(f"p{name}", 255)
    lines(fgtrain("predict", out, place / f"{shortened(name, 240)}.npy", "--output", output))
    assert np.load(output).shape == (2, 3)
    lines(fgtrain("info", "--model", named_model, "--json"))


@posix
def test_a_working_folder_of_any_name(fgtrain, folder, blobs, name, monkeypatch):
    (folder / name).mkdir()
    (folder / blobs).rename(folder / name / blobs)
    monkeypatch.chdir(folder / name)
    lines(fgtrain("train", "--data", blobs, *TRAIN, "--out", "run"))
    monkeypatch.chdir(folder)
    lines(fgtrain("evaluate", folder / name / "run"))


@posix
def test_a_name_that_is_not_utf8_is_a_uri_in_toml(folder):
    config = RunConfig(data="/d\udcff?.npz", data_dir="/d\udcfe#", model="/m%\udcfd.toml")
    (folder / "config.toml").write_text(config.to_toml(), encoding="utf-8")
    held = tomllib.loads((folder / "config.toml").read_text(encoding="utf-8"))
    assert held["data"] == "file:///d%FF%3F.npz"
    assert RunConfig.from_toml(folder / "config.toml") == config


@posix
def test_uris_of_this_machine_and_of_others(folder):
    path = folder / "config.toml"
    for uri in ("file:///d%20e/x.npz", "file://localhost/d%20e/x.npz"):
        path.write_text(f'data = "{uri}"')
        assert RunConfig.from_toml(path).data == "/d e/x.npz"
    for uri in ("file://elsewhere/x.npz", "file://x.npz", "file://localhost", "file://"):
        path.write_text(f'data_dir = "{uri}"')
        with pytest.raises(fg.ConfigError, match=r"data_dir is '.*'; a file of this machine, file:///"):
            RunConfig.from_toml(path)


@posix
def test_names_in_a_locale_that_cannot_spell_them(fgtrain, folder, blobs):
    data, run = (os.fsdecode(name.encode()) for name in ("数.npz", "é"))
    (folder / blobs).rename(folder / data)
    lines(fgtrain("train", "--data", data, *TRAIN, "--out", run))
    script = (
        f"import os; from fgnumba.cli.main import main; os.chdir({os.fsencode(folder)!r}); "
        f"main(['evaluate', os.fsdecode({'é'.encode()!r})])"
    )
    c_locale = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = apart.python("-c", script, **c_locale)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.fixture
def home(folder, monkeypatch):
    """Return a home folder that is not the working folder."""
    found = folder / "home"
    found.mkdir()
    for variable in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(variable, str(found))
    return found


def test_home_folders_wherever_a_path_is_taken(fgtrain, home, blobs):
    Path(blobs).rename(home / blobs)
    (home / "m.toml").write_text(MODEL)
    (home / "c.toml").write_text(f'data = "~/{blobs}"\nmodel = "~/m.toml"\nsteps = 3\n')
    weights = ("--estimator", "weight-perturbation")
    lines(fgtrain("train", "--config", "~/c.toml", *weights, "--out", "~/run", "--quiet"))
    lines(fgtrain("train", "--resume", "~/run"))
    lines(fgtrain("evaluate", "~/run", "--data", f"~/{blobs}"))
    lines(fgtrain("replay", "~/run", "--output", "~/theta.safetensors"))
    np.save(home / "x.npy", np.zeros((2, 5), np.float32))
    lines(fgtrain("predict", "~/run", "~/x.npy", "--output", "~/p.npy"))
    lines(fgtrain("info", "--model", "~/m.toml"))
    search = ("--count", 1, "--steps", 2, "--out", "~/s.jsonl")
    lines(fgtrain("search", "--config", "~/c.toml", *search))
    lines(fgtrain("reproduce", "beale", "--quick", "--out", "~/beale"))
    compare = ("--estimators", "feedback", "--steps", 2, "--out", "~/compared")
    lines(fgtrain("compare", "--config", "~/c.toml", *compare))
    made = {"run", "theta.safetensors", "p.npy", "s.jsonl", "beale", "compared"}
    assert made <= {path.name for path in home.iterdir()}
    assert not any(path.name.startswith("~") for path in Path().iterdir())
    assert tomllib.loads((home / "run/config.toml").read_text(encoding="utf-8"))["data"] == str(home / blobs)


def test_home_folders_in_the_library(home, blobs, monkeypatch):
    Path(blobs).rename(home / blobs)
    assert fg.datasets.load(f"~/{blobs}").classes == 3
    assert fg.Checkpoints("~/run").folder == home / "run"
    assert path_of(Path("~", "x"), "path") == home / "x"
    assert path_of(b"~/x", "path") == home / "x"
    monkeypatch.setenv("FGNUMBA_CACHE_DIR", "~/cache")
    assert cache_folder() == home / "cache"


def test_users_whom_there_are_not(fgtrain, folder, finished, monkeypatch):
    there = (f"{NOBODY}/x", "no home folder of")
    for arguments in (
        ("train", "--out", there[0]),
        ("train", "--data", there[0]),
        ("train", "--model", f"{there[0]}.toml"),
        ("train", "--config", there[0]),
        ("train", "--resume", NOBODY),
        ("evaluate", NOBODY),
        ("evaluate", finished, "--data", there[0]),
        ("predict", finished, there[0]),
        ("predict", finished, "x.npy", "--output", there[0]),
        ("replay", there[0]),
        ("compare", "--out", there[0]),
        ("search", "--out", there[0]),
        ("reproduce", "beale", "--out", there[0]),
        ("bench", "--json", there[0]),
        ("bench", "--html", there[0]),
        ("info", "--model", f"{there[0]}.toml"),
        ("train", "--data", "mnist", "--data-dir", there[0]),
    ):
        assert there[1] in fgtrain(*arguments).error, arguments
    assert list(folder.iterdir()) == []
    monkeypatch.setenv("FGNUMBA_CACHE_DIR", there[0])
    with pytest.raises(ConfigError, match="FGNUMBA_CACHE_DIR is '~no-such-user-here/x'; no home folder"):
        cache_folder()


def test_a_file_whose_name_begins_like_a_home_folder(folder):
    (folder / NOBODY).write_text("")
    # As it is, while it is there; with "./" in any case, however often the path is taken.
    assert expanded(NOBODY, "path") == NOBODY
    (folder / NOBODY).unlink()
    once = path_of(f"./{NOBODY}", "path")
    assert path_of(once, "path") == once == folder / NOBODY


@posix
@pytest.mark.parametrize("bytes_of", [b"plain", b"it's", b"a b", b"\xff'\\\n\xc3\xa9", b"\x1b[31m", b"$(x)"])
def test_a_quoted_path_is_that_path_to_a_shell(bytes_of):
    import subprocess

    text = quoted(os.fsdecode(bytes_of))
    assert text.isprintable()
    done = subprocess.run(["bash", "-c", f"printf %s {text}"], capture_output=True, check=True)
    assert done.stdout == bytes_of


def test_names_of_runs_leave_room_for_a_number():
    # In a locale that cannot spell them, too.
    found = os.fsencode(named(RunConfig(data="数" * 90 + ".npz", model="é" * 120 + ".toml")))
    assert len(b"." + found + b"-1-abcdefgh") < 255
    assert found.startswith("数数".encode())
    assert "-éé".encode() in found
    assert os.fsencode(shortened("数数", 6)) == "数数".encode()
    assert os.fsencode(shortened("数数", 3)) == "数".encode()
