"""Kernels of the same name and other code: in notebook cells, in scripts without a file, in other processes."""

import ctypes
import sys
import types
from typing import Any

import numpy as np
import pytest

import fgnumba as fg
from fgnumba.kernels.machine.cache import KernelCache
from fgnumba.kernels.machine.compile import compiled_count, kernel, on_compile
from fgnumba.kernels.machine.identity import identity
from fgnumba.kernels.machine.scalar import scalar
from fgnumba.kernels.rules.activations.rules import RULES
from tests.apart import python

IMPORTS = """
import numpy as np
from numba import carray, njit
from numba.extending import intrinsic, overload, register_jitable
from fgnumba.kernels.emit import pointer
"""

CELL = """
def write(at, n):
    values = carray(pointer(at, np.int64), n)
    values[0] = {value}
"""


@pytest.fixture
def notebook():
    """Return a function that runs a cell, and returns what its kernel computes."""
    names = {"__name__": "__main__"}
    cells = 0

    def run(source):
        nonlocal cells
        cells += 1
        exec(compile(source, f"<ipython-input-{cells}-0a1b2c>", "exec"), names)
        return computed(names["write"]) if "write" in names else None

    run(IMPORTS)
    return run


def computed(function, name="a cell's"):
    values = np.zeros(1, np.int64)
    call = ctypes.CFUNCTYPE(None, ctypes.c_int64, ctypes.c_int64)(kernel(name, function, 2))
    call(values.ctypes.data, 1)
    return int(values[0])


CHANGES = {
    "a constant": ("", CELL.format(value="{}")),
    "a statement": ("", CELL.format(value="n + {}")),
    "a global number": ("SCALE = {}", CELL.format(value="SCALE")),
    "a global array": ("TABLE = np.array([7, {}])", CELL.format(value="TABLE[1]")),
    "a global tuple": ("PAIR = (7, {})", CELL.format(value="PAIR[1]")),
    "a NumPy number": ("SCALE = np.int32({})", CELL.format(value="SCALE")),
    "a jitted function": ("@njit\ndef f(n):\n    return n * {}\n", CELL.format(value="f(n)")),
    "a registered function": ("@register_jitable\ndef f(n):\n    return n * {}\n", CELL.format(value="f(n)")),
    "a function of a function": (
        "def make(v):\n    @njit\n    def f(n):\n        return n * v\n    return f\ng = make({})\n"
        "@njit\ndef f(n):\n    return g(n)\n",
        CELL.format(value="f(n)"),
    ),
    "an overload": (
        "def f(n):\n    raise NotImplementedError\n@overload(f)\ndef of_f(n):\n    return lambda n: n * {}\n",
        CELL.format(value="f(n)"),
    ),
    "a default": ("@njit\ndef f(n, v={}):\n    return n * v\n", CELL.format(value="f(n)")),
    "a closure": (
        "",
        "def make(v):\n    def write(at, n):\n        values = carray(pointer(at, np.int64), n)\n"
        "        values[0] = v\n    return write\nwrite = make({})\n",
    ),
}


@pytest.mark.parametrize("before", CHANGES)
def test_a_cell_that_is_run_again_with_other_code_computes_other_things(notebook, before):
    helper, cell = CHANGES[before]
    for value in (2, 3, 2):
        expected = value + (before == "a statement")
        assert notebook(helper.format(value) + "\n" + cell.format(value)) == expected


def test_a_global_name_that_is_bound_anew_counts(notebook):
    assert notebook("SCALE = 2\n" + CELL.format(value="SCALE")) == 2
    assert notebook("SCALE = 3") == 3
    assert notebook("TABLE = np.array([1])\n" + CELL.format(value="TABLE[0]")) == 1
    # The array is the same, and what is in it was compiled.
    assert notebook("TABLE[0] = 4") == 4


def test_what_a_module_holds_counts(notebook, monkeypatch):
    module = types.ModuleType("a_users_module")
    vars(module)["VALUE"] = 2
    monkeypatch.setitem(sys.modules, "a_users_module", module)
    assert notebook("import a_users_module as m\n" + CELL.format(value="m.VALUE")) == 2
    vars(module)["VALUE"] = 3
    assert notebook("") == 3


def test_the_same_cell_run_again_compiles_nothing(notebook):
    source = "SCALE = 7\n" + CELL.format(value="SCALE + 1")
    assert notebook(source) == 8
    before = compiled_count()
    assert notebook(source) == 8
    assert compiled_count() == before


def test_numbers_that_are_equal_are_not_the_same():
    def of(value):
        return identity(lambda: value).digest

    values: list[Any] = [
        0,
        0.0,
        -0.0,
        False,
        None,
        "0",
        b"0",
        np.float32(0),
        np.float64(0),
        np.int64(0),
        (0,),
        [0],
    ]
    values += [np.zeros(1), np.zeros((1, 1)), np.zeros(1, np.float32), np.asfortranarray(np.zeros((2, 2)))]
    values += [np.zeros((2, 2)), {0}, frozenset({0}), {0: 0}, (0, (0,)), ((0,), 0), 1, True, ""]
    assert len({of(value) for value in values}) == len(values)
    assert of((1, "a")) == of((1, "a"))


def test_options_of_compilation_count():
    def same(at, n):
        return None

    assert kernel("options", same, 2) != kernel("options", same, 2, fastmath=set())
    assert kernel("options", same, 2) == kernel("options", same, 2)


def test_what_is_known_by_its_address_is_not_kept_on_disk(tmp_path, monkeypatch):
    foreign = ctypes.CFUNCTYPE(ctypes.c_int64)(lambda: 5)
    found = identity(lambda: foreign())
    assert not found.lasting
    assert found.keeps == (foreign,)
    other = ctypes.CFUNCTYPE(ctypes.c_int64)(lambda: 5)
    assert identity(lambda: other()).digest != found.digest
    monkeypatch.setenv("FGNUMBA_CACHE_DIR", str(tmp_path / "cache"))

    def write(at, n):
        values = carray(pointer(at, np.int64), n)
        values[0] = foreign()

    from numba import carray

    from fgnumba.kernels.emit import pointer

    assert computed(write) == 5
    assert not (tmp_path / "cache").exists()


def test_a_cache_without_an_identity_keeps_nothing():
    assert KernelCache("kernel", None)._path("signature", None) is None


def test_every_kernel_of_ours_is_kept_on_disk(monkeypatch):
    from fgnumba.kernels.machine import compile as compilation

    found = []

    def noted(function, *more):
        found.append((function.__qualname__, identity(function, *more).lasting))
        return identity(function, *more)

    monkeypatch.setattr(compilation, "identity", noted)
    monkeypatch.setattr(compilation, "_addresses", {})
    layers = [
        fg.Conv2d(4, 3, padding="same", activation="gelu"),
        fg.GroupNorm(2),
        fg.MaxPool2d(2),
        fg.Flatten(),
    ]
    for estimator in (
        fg.WeightPerturbation("rank1"),
        fg.ActivityPerturbation(feedback=fg.Feedback(control=0.3)),
    ):
        model = fg.Sequential(
            [*layers, fg.Dense(5, activation="relu"), fg.Dropout(0.1), fg.LayerNorm(), fg.Dense(3)], (5, 5, 1)
        )
        trainer = fg.Trainer(model, estimator=estimator, optimizer=fg.Adam(1e-3))
        trainer.step(np.ones((4, 5, 5, 1), np.float32), np.zeros(4, np.int64))
    assert len(found) > 30
    assert [name for name, lasting in found if not lasting] == []


RULE = """
@scalar
def mine(z):
    return z * np.float32({slope}), np.float32({slope})

RULES["mine"] = mine
"""


def test_an_activation_that_is_defined_anew_is_the_new_one():
    names = {"scalar": scalar, "RULES": RULES, "np": np, "__name__": "__main__"}
    try:
        for slope in (2, 3, 2):
            exec(compile(RULE.format(slope=slope), "<ipython-input-9>", "exec"), names)
            x = np.array([[1, 2, 4]], np.float32)
            for row in (["dense"], ["norm", "activation"]):
                kinds = {
                    "dense": fg.Dense(4, "mine"),
                    "norm": fg.LayerNorm(),
                    "activation": fg.Activation("mine"),
                }
                model = fg.Sequential([kinds[kind] for kind in row], 3)
                plain = fg.Sequential([fg.Dense(4) if row == ["dense"] else fg.LayerNorm()], 3)
                plain.load_parameters(model.parameters())
                assert np.array_equal(model(x), np.float32(slope) * plain(x))
    finally:
        RULES.pop("mine", None)


# A loss whose kernel takes half of another's, and of its derivatives.
LOSS = """
import numpy as np
from numba import carray
import fgnumba as fg
from fgnumba.kernels.machine.arguments import filled, record
from fgnumba.kernels.machine.compile import kernel, on_compile
from fgnumba.kernels.emit import pointer
from fgnumba.kernels.machine.memory import address
from fgnumba.kernels.machine.program import Operation

ARGUMENTS = record("values", "count")


def scale(arguments, part, parts):
    a = carray(pointer(arguments, ARGUMENTS), 1)[0]
    values = carray(pointer(a.values, np.float64), a.count)
    for i in range(a.count):
        values[i] *= 0.5


class Scaled(fg.MeanSquaredError):
    def bind(self, device, z, outputs, targets, result, values):
        fields = {"values": address(values), "count": values.size}
        scaled = Operation("scale", kernel("a user's scale", scale, 3), filled(ARGUMENTS, fields), keeps=(values,))
        return [*super().bind(device, z, outputs, targets, result, values), scaled]


compiled = []
on_compile(compiled.append)
model = fg.Sequential([fg.Dense(3)], 4, seed=0)
x, y = np.ones((2, 4), np.float32), np.zeros((2, 3), np.float32)
trainers = [fg.Trainer(fg.Sequential([fg.Dense(3)], 4, seed=0), loss=loss, optimizer=fg.SGD(1e-3))
            for loss in (fg.MeanSquaredError(), Scaled())]
plain, scaled = (trainer.step(x, y).loss for trainer in trainers)
print(scaled / plain, "a user's scale" in compiled)
"""


def test_a_loss_with_a_kernel_is_defined_where_there_is_no_file(tmp_path):
    done = python("-", text=LOSS, FGNUMBA_CACHE_DIR=str(tmp_path / "cache"))
    assert (done.stdout, done.stderr) == ("0.5 True\n", "")


SCRIPT = """
import ctypes
import numpy as np
from numba import carray
from fgnumba.kernels.machine.compile import kernel, on_compile
from fgnumba.kernels.emit import pointer


def write(at, n):
    values = carray(pointer(at, np.int64), n)
    values[0] = {value}


compiled = []
on_compile(compiled.append)
values = np.zeros(1, np.int64)
call = ctypes.CFUNCTYPE(None, ctypes.c_int64, ctypes.c_int64)(kernel("of a script", write, 2))
call(values.ctypes.data, 1)
print(values[0], len(compiled))
"""


def test_processes_share_a_kernel_however_they_came_by_its_code_and_never_anothers(tmp_path):
    file, seen = tmp_path / "script.py", set()

    def ways(source):
        file.write_text(source, encoding="utf-8")
        yield ["-c", source], None
        yield ["-"], source
        yield [str(file)], None
        yield ["-c", f"exec(compile({source!r}, '<ipython-input-1>', 'exec'))"], None

    for value in (2, 3):
        for arguments, text in ways(SCRIPT.format(value=value)):
            done = python(*arguments, text=text, FGNUMBA_CACHE_DIR=str(tmp_path / "cache"))
            assert (done.stdout, done.stderr) == (f"{value} {int(value not in seen)}\n", "")
            seen.add(value)


DOCTEST = '''
def f():
    """
    >>> from fgnumba.kernels.machine.compile import kernel
    >>> def nothing(at, n):
    ...     return None
    >>> kernel("of a doctest", nothing, 2) > 0
    True
    """
'''


def test_a_kernel_in_a_doctest(tmp_path):
    (tmp_path / "documented.py").write_text(DOCTEST, encoding="utf-8")
    done = python("-m", "doctest", tmp_path / "documented.py", FGNUMBA_CACHE_DIR=str(tmp_path / "cache"))
    assert (done.stdout, done.stderr) == ("", "")


def test_names_of_kernels_are_no_paths(tmp_path, monkeypatch):
    monkeypatch.setenv("FGNUMBA_CACHE_DIR", str(tmp_path / "cache"))
    compiled: list[str] = []
    stop = on_compile(compiled.append)
    try:
        kernel("../../etc/ä name" + "x" * 300, lambda at, n: None, 2)
    finally:
        stop()
    assert len(compiled) == 1
    (file,) = (tmp_path / "cache").iterdir()
    assert file.name.startswith(".._.._etc___name")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache"]
