"""Kernels that cannot be identified with certainty are compiled anew: the same key always means the same code."""

import subprocess
import sys

import numpy as np
import pytest

import fgnumba as fg
from fgnumba.kernels.machine import numba_settings
from fgnumba.kernels.machine.compile import kernel
from fgnumba.kernels.machine.identity import identity
from tests.apart import python

START = """
import collections, ctypes, types as python
import numpy as np
from numba import carray, njit, types
from numba.extending import intrinsic, overload, overload_attribute, overload_method, register_jitable
from fgnumba.kernels.machine.compile import kernel
from fgnumba.kernels.emit import pointer

outer = python.ModuleType("outer")
outer.inner = python.ModuleType("inner")
VALUE = outer.inner.VALUE = 1.0
ARRAY = np.array([1.0])
def run(function):
    values = np.zeros(1)
    address = kernel("of a test", function, 2)
    ctypes.CFUNCTYPE(None, ctypes.c_int64, ctypes.c_int64)(address)(values.ctypes.data, 1)
    print(values[0])
def write(at, n):
    carray(pointer(at, np.float64), n)[0] = {value}
"""

# How a value comes into the kernel: definitions, the value in the kernel, and what binds it anew.
WAYS = {
    "a jitted helper": ("@njit\ndef f():\n    return VALUE\n", "f()", "VALUE = {}"),
    "a helper of a helper": (
        "@njit\ndef g():\n    return VALUE\n@njit\ndef f():\n    return g()\n",
        "f()",
        "VALUE = {}",
    ),
    "a registered helper": ("@register_jitable\ndef f():\n    return VALUE\n", "f()", "VALUE = {}"),
    "an overload": (
        "def f(n):\n    pass\n@overload(f)\ndef of_f(n):\n    return lambda n: VALUE\n",
        "f(n)",
        "VALUE = {}",
    ),
    "an intrinsic": (
        "@intrinsic\ndef f(context):\n    def generate(context, builder, signature, arguments):\n"
        "        return context.get_constant(types.float64, VALUE)\n    return types.float64(), generate\n",
        "f()",
        "VALUE = {}",
    ),
    "a method": (
        "@overload_method(types.Integer, 'scaled')\ndef f(n):\n    return lambda n: VALUE\n",
        "n.scaled()",
        "VALUE = {}",
    ),
    "an attribute": (
        "@overload_attribute(types.Integer, 'scaled')\ndef f(n):\n    return lambda n: VALUE\n",
        "n.scaled",
        "VALUE = {}",
    ),
    "a function of Python's": (
        "@overload(len)\ndef f(n):\n    if isinstance(n, types.Integer):\n        return lambda n: VALUE\n",
        "len(n)",
        "VALUE = {}",
    ),
    "a function that says it is NumPy's": (
        "def f():\n    return VALUE\nf.__module__ = 'numpy'\nf = njit(f)\n",
        "f()",
        "VALUE = {}",
    ),
}
FRESH = {
    "a module in a module": ("", "outer.inner.VALUE", "outer.inner.VALUE = {}"),
    "a large array": ("ARRAY = np.ones(200_000)", "ARRAY[0]", "ARRAY[0] = {}"),
    "an array with gaps": ("ARRAY = np.ones((4, 4))[::2, ::2]", "ARRAY[0, 0]", "ARRAY[0, 0] = {}"),
    "an array in a named tuple": (
        "P = collections.namedtuple('P', 'a')(ARRAY)",
        "P.a[0]",
        "ARRAY[0] = {}",
    ),
}


def processes(tmp_path, way, *steps):
    """Return what a process prints that binds and runs in turn."""
    definitions, value, bound = way
    source = START.replace("{value}", value) + definitions + "\n"
    source += "\n".join("run(write)" if step is None else bound.format(step) for step in steps)
    done = python("-", text=source, FGNUMBA_CACHE_DIR=str(tmp_path / "cache"))
    assert done.stderr == ""
    return [float(line) for line in done.stdout.split()]


QUICK = 6
"""Of the ways by which a value goes into a kernel, so many are tried each time: each takes five processes."""


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.slow] if number >= QUICK else [])
        for number, name in enumerate([*WAYS, *FRESH])
    ],
)
def test_what_was_bound_anew_gives_no_other_process_the_code_of_then(tmp_path, name):
    way = (WAYS | FRESH)[name]
    seen = processes(tmp_path, way, None, 2.0, None, 1.0, None)
    assert seen[::2] == [1, 1]
    assert name in WAYS or seen[1] == 2
    assert processes(tmp_path, way, 2.0, None) == [2]
    assert processes(tmp_path, way, None) == [1]


def test_a_helper_that_was_called_from_python_first_gives_no_other_process_its_code(tmp_path):
    way = ("@njit\ndef f():\n    return VALUE\nf()", "f()", "VALUE = {}")
    assert processes(tmp_path, way, 2.0, None) == [1]
    assert processes(tmp_path, WAYS["a jitted helper"], 2.0, None) == [2]


def test_a_module_in_a_closure_counts(tmp_path):
    definitions = (
        "def make(held):\n    def write(at, n):\n        carray(pointer(at, np.float64), n)[0] = held.VALUE\n"
    )
    way = (definitions + "    return write\nwrite = make(outer.inner)", "0.0", "outer.inner.VALUE = {}")
    assert processes(tmp_path, way, None, 2.0, None) == [1, 2]
    assert processes(tmp_path, way, 2.0, None) == [2]


def test_a_kernel_with_an_array_that_numba_reads_where_it_stands_is_not_kept(tmp_path):
    assert processes(tmp_path, FRESH["a large array"], None) == [1]
    assert not list(tmp_path.glob("cache/*"))


def test_a_helper_with_files_of_numbas_own_is_not_identified_by_what_it_holds():
    from numba import njit

    def helper():
        return 1

    kept, plain = njit(cache=True)(helper), njit(helper)
    assert not identity(lambda: kept()).lasting
    assert identity(lambda: plain()).lasting


def test_a_kernel_of_other_arguments_is_refused_in_one_line():
    def defaulted(at, n, v=2.0):
        return None

    def starred(*all_of_them):
        return None

    def named(at, *, n=1):
        return None

    for function in (defaulted, starred, named, np.sin):
        with pytest.raises(fg.ConfigError, match="must") as caught:
            kernel("of other arguments", function, 2)
        assert "\n" not in str(caught.value)
    assert kernel("with a default that is given", defaulted, 3) > 0


@pytest.mark.parametrize("executable", [None, "", "/opt/program/bin/uwsgi"])
def test_where_python_is_embedded_no_process_is_tried(monkeypatch, executable):
    def refused(*arguments, **options):
        raise AssertionError("a process was started")

    monkeypatch.setattr(subprocess, "run", refused)
    monkeypatch.setattr(sys, "executable", executable)
    assert numba_settings._processor_problem("no such processor", "") is None
    assert "begins neither" in str(numba_settings._processor_problem("", "avx2"))
