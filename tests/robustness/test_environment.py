"""Environment variables: Numba's, which are checked, and ``os.environ``, which an import leaves unchanged."""

import re
import sys

import numpy as np
import pytest

import fgnumba as fg
from fgnumba.cli.main import main
from fgnumba.datasets.download import fetch
from fgnumba.kernels.machine import cache
from tests.apart import python

KERNEL = """
import ctypes
import numpy as np
from numba import carray
from fgnumba.errors import FgError
from fgnumba.kernels.machine.compile import kernel
from fgnumba.kernels.emit import pointer


def write(at, n):
    values = carray(pointer(at, np.int64), n)
    values[0] = 5


values = np.zeros(1, np.int64)
call = ctypes.CFUNCTYPE(None, ctypes.c_int64, ctypes.c_int64)(kernel("written", write, 2))
call(values.ctypes.data, 1)
print(values[0])
"""

CAUGHT = """
from fgnumba.errors import DeviceError
try:
    import fgnumba as fg
    model = fg.Sequential([fg.Dense(2)], 3)
    fg.Trainer(model, optimizer=fg.SGD(1e-3))
    model([[1, 2, 3]])
except DeviceError as error:
    print(error)
"""

FGTRAIN = "import sys; from fgnumba.cli.main import main; main(sys.argv[1:])"


@pytest.fixture(scope="module")
def empty(tmp_path_factory):
    return str(tmp_path_factory.mktemp("cache"))


@pytest.mark.parametrize(
    "setting",
    [
        *("THREADING_LAYER=nonsense", "OPT=0", "OPT=max", "BOUNDSCHECK=1", "CAPTURED_ERRORS=nonsense"),
        *("CACHE_DIR=/proc/nothing", "ENABLE_CUDASIM=1", "DEBUG_CACHE=1", "CPU_NAME=x86-64-v2", "CPU_NAME="),
        *("LOOP_VECTORIZE=0", "FUNCTION_CACHE_SIZE=0", "DISABLE_CUDA=1", "DEBUGINFO=1", "FULL_TRACEBACKS=1"),
    ],
)
def test_settings_that_kernels_are_compiled_under(setting, empty):
    name, value = setting.split("=")
    if (
        value.startswith("x86")
        and python("-c", "import platform; print(platform.machine())").stdout != "x86_64\n"
    ):
        pytest.skip("another kind of processor")
    # Numba itself warns of some of them, and for debugging reads sources in the locale's encoding.
    done = python(
        "-",
        text=KERNEL,
        FGNUMBA_CACHE_DIR=empty,
        PYTHONWARNINGS="",
        PYTHONUTF8="1",
        **{f"NUMBA_{name}": value},
    )
    assert done.stdout.endswith("5\n"), done.stderr
    assert done.returncode == 0


BROKEN = {
    "DISABLE_JIT=1": r"NUMBA_DISABLE_JIT is set: .* unset it",
    "NUM_THREADS=0": r".*NUMBA_NUM_THREADS.* must be > 0",
    "NUM_THREADS=-2": r".*NUMBA_NUM_THREADS.* must be > 0",
    "NUM_THREADS=abc": r"NUMBA_NUM_THREADS: 'abc' is no",
    "OPT=7": r"NUMBA_OPT: '7' is no value that Numba can read",
    "DISABLE_JIT=yes": r"NUMBA_DISABLE_JIT: 'yes' is no value that Numba can read",
    "CPU_NAME=nonsense": r"NUMBA_CPU_NAME='nonsense', .* is not a recognized processor",
    "CPU_FEATURES=nonsense": r"NUMBA_CPU_FEATURES: 'nonsense' begins neither with \+ nor with -",
}


@pytest.mark.parametrize("setting", BROKEN)
def test_settings_that_nothing_is_compiled_under_are_a_line(setting, match, empty):
    name, value = setting.split("=")
    variables = {f"NUMBA_{name}": value, "FGNUMBA_CACHE_DIR": empty}
    without = ["FGNUMBA_THREADS"]
    done = python("-", text=CAUGHT, without=without, **variables)
    assert done.stderr == ""
    (line,) = done.stdout.splitlines()
    match(BROKEN[setting], line)


@pytest.fixture
def match():
    def check(pattern, line):
        assert re.match(pattern, line), line

    return check


@pytest.fixture(scope="module")
def replayable(tmp_path_factory):
    """Return a small finished run that every command can read."""
    path = tmp_path_factory.mktemp("replayable") / "run"
    arguments = [
        "train",
        "--model",
        "logreg",
        "--estimator",
        "weight-perturbation",
        "--steps",
        "3",
        "--quiet",
    ]
    with pytest.raises(SystemExit) as caught:
        main([*arguments, "--out", str(path)])
    assert caught.value.code == 0
    return path


@pytest.mark.parametrize(
    "arguments",
    [
        *(["train", "--steps", "3"], ["search", "--estimator", "activity"], ["info", "--model", "mlp"]),
        *(["compare", "--steps", "3"], ["bench", "--quick"], ["evaluate", "RUN"]),
        *(["predict", "RUN", "x.npy"], ["replay", "RUN"]),
    ],
    ids=lambda arguments: arguments[0],
)
def test_every_command_says_it_in_a_line(arguments, replayable, tmp_path, match):
    np.save(tmp_path / "x.npy", np.zeros((1, 8, 8, 1), np.float32))
    given = [argument.replace("RUN", str(replayable)) for argument in arguments]
    done = python("-c", FGTRAIN, *given, folder=tmp_path, NUMBA_DISABLE_JIT="1")
    assert done.returncode == 2, (done.stdout, done.stderr)
    assert done.stdout == ""
    # Some have said before what they are about to do.
    *begun, line = done.stderr.splitlines()
    assert len(begun) <= 1
    match("fgtrain: error: NUMBA_DISABLE_JIT is set: .* unset it", line)
    assert [path.name for path in tmp_path.iterdir()] == ["x.npy"]


def test_info_says_it_and_the_rest(match):
    done = python("-c", FGTRAIN, "info", NUMBA_DISABLE_JIT="1")
    assert (done.returncode, done.stderr) == (0, "")
    lines = {line.split("  ")[0]: line.split("  ")[-1].strip() for line in done.stdout.splitlines()}
    match("NUMBA_DISABLE_JIT is set", lines["compiler"])
    assert "threads" in lines
    done = python("-c", FGTRAIN, "info")
    assert re.search(r"^compiler +works$", done.stdout, re.M)


@pytest.mark.parametrize(
    ("content", "pattern"),
    [
        ("[1, 2", r"Numba's settings \(.*\.numba_config\.yaml.*\): "),
        ("- a\n- b\n", r"Numba's settings \(.*\.numba_config\.yaml.*\): "),
        ("disable_jit: 1\n", "NUMBA_DISABLE_JIT is set"),
        ("opt: 9\n", "NUMBA_OPT: '9' is no value"),
    ],
)
def test_numbas_file_in_the_working_folder(content, pattern, tmp_path, match):
    pytest.importorskip("yaml")
    (tmp_path / ".numba_config.yaml").write_text(content, encoding="ascii")
    done = python("-", text=CAUGHT, folder=tmp_path)
    assert done.stderr == ""
    (line,) = done.stdout.splitlines()
    match(pattern, line)


CHANGED = """
import os
import fgnumba as fg
from fgnumba.kernels.machine.compile import kernel

model = fg.Sequential([fg.Dense(2)], 3)
{use}
os.environ["NUMBA_NUM_THREADS"] = "{value}"
try:
    kernel("after the change", lambda at, n: None, 2)
    print("compiled")
except fg.DeviceError as error:
    print(error)
"""

PARALLEL = """
import numba
@numba.njit(parallel=True)
def total(n):
    found = 0
    for i in numba.prange(n):
        found += i
    return found
total(10)
"""


@pytest.mark.parametrize(
    ("use", "value", "pattern"),
    [
        ("", "2", "compiled"),
        (PARALLEL, "2", r"Numba's settings \(.*NUMBA_NUM_THREADS.*\): Cannot set NUMBA_NUM_THREADS"),
        ("", "abc", "NUMBA_NUM_THREADS: 'abc' is no value that Numba can read"),
    ],
)
def test_a_variable_that_changes_after_the_import(use, value, pattern, tmp_path, match):
    done = python("-", text=CHANGED.format(use=use, value=value), FGNUMBA_CACHE_DIR=str(tmp_path))
    assert done.stderr == ""
    (line,) = done.stdout.splitlines()
    match(pattern, line)


UNCHANGED = """
import ctypes
import importlib
import os
import pkgutil
import sys

library = ctypes.CDLL(None)


def environment():
    # Also what C code has changed, which Python does not notice.
    at = ctypes.POINTER(ctypes.c_char_p).in_dll(library, "environ")
    found = []
    while at[len(found)] is not None:
        found.append(at[len(found)])
    return sorted(found), dict(os.environ)


before = environment()
import fgnumba as fg

for module in pkgutil.walk_packages(fg.__path__, "fgnumba."):
    # What needs a package that is not installed, or is a program.
    if module.name.endswith(".__main__"):
        continue
    try:
        importlib.import_module(module.name)
    except ImportError:
        pass
assert environment() == before, "import"
model = fg.Sequential([fg.Flatten(), fg.Dense(10)], (8, 8, 1), device="auto")
trainer = fg.Trainer(model, optimizer=fg.SGD(1e-3))
trainer.fit(fg.datasets.load("digits"), steps=3)
assert environment() == before, "training"
print(len(sys.modules))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="where a process keeps its variables differs")
def test_importing_and_training_leave_the_environment_as_it_was():
    done = python("-c", UNCHANGED, without=["FGNUMBA_DEVICE", "GOMP_SPINCOUNT"], FGNUMBA_DEVICE="")
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 100


@pytest.mark.skipif(sys.platform == "win32", reason="a home is another variable")
def test_a_user_without_a_home_gets_no_folder_that_is_called_tilde(folder, monkeypatch):
    def nobody(user):
        raise KeyError(user)

    for name in ("HOME", "XDG_CACHE_HOME", "FGNUMBA_CACHE_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("pwd.getpwuid", nobody)
    cache.write_whole(cache.cache_folder() / "a file", b"content")
    with pytest.raises(fg.DatasetError, match="mnist: there is no home folder to download to"):
        fetch("mnist")
    assert list(folder.iterdir()) == []
