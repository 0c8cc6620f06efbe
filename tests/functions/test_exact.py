"""The reference of the differential test is itself right: beside formulas, plain NumPy and the complex step."""

import copy
import math
import re
import types

import numpy as np
import pytest

from tests.functions.differential import numbers, wrong
from tests.functions.exact_derivatives import Unsuitable, along
from tests.functions.programs import program
from tests.tolerances import D
from tests.tolerances_programs import COMPLEX_STEP, DIFFERENCES

NOT_COMPLEX = re.compile(
    r"abs|max|min|sort|median|where|clip|sign|floor|ceil|norm|std|var|hypot|arctan2|interp|cholesky|cbrt|erf|gamma"
    r"|logaddexp|deg|radians|\bif\b|while s"
)
"""What the complex step does not go through: choices and absolute values, and functions without a complex form."""
STEP = 1e-30


def suitable(seeds):
    """Return the programs of `seeds` that stay away from kinks, with their derivatives."""
    for seed in seeds:
        found = program(seed)
        try:
            yield found, along(found.source, "f", found.primals, found.tangents)
        except Unsuitable:
            continue


def run(source, arguments, numpy=np, scalars=math):
    """Run a program in plain Python."""
    body = "\n".join(line for line in source.splitlines() if not line.startswith(("import ", "from ")))
    space = {"np": numpy, "math": scalars, "njit": lambda function: function}
    exec(compile(body, "<program>", "exec"), space)
    return space["f"](*arguments)


def complex_numpy():
    """Return what stands for ``numpy`` in complex128: new arrays are complex."""

    def in_complex(make):
        return lambda *given: make(*given).astype(np.complex128)

    made = {
        name: in_complex(getattr(np, name)) for name in ("array", "zeros", "empty", "ones", "full", "eye")
    }
    return types.SimpleNamespace(**(vars(np) | made))


def complex_math():
    names = {f"a{name}": f"arc{name}" for name in ("sin", "cos", "tan", "sinh", "cosh", "tanh")}
    plain = (
        "sin",
        "cos",
        "tan",
        "sinh",
        "cosh",
        "tanh",
        "exp",
        "expm1",
        "log",
        "log2",
        "log10",
        "log1p",
        "sqrt",
    )
    return types.SimpleNamespace(**{name: getattr(np, names.get(name, name)) for name in (*plain, *names)})


def moved(primal, tangent):
    if tangent is None:
        return primal
    if isinstance(primal, tuple):
        return tuple(moved(*pair) for pair in zip(primal, tangent, strict=True))
    return primal + STEP * 1j * tangent


def test_derivatives_of_a_power_up_to_the_fourth():
    found = along("def f(x):\n    return x**5", "f", (1.5,), (2.0,), order=4)
    expected = [math.perm(5, k) * 1.5 ** (5 - k) * 2.0**k for k in range(5)]
    assert np.all(np.abs(found.exact[:, 0] - expected) <= DIFFERENCES)


def test_a_rounding_is_large_where_terms_cancel():
    # exp is rounded by D of itself, and nothing else is left of the difference.
    found = along("def f(x):\n    return (1000.0 + np.exp(x)) - 1000.0", "f", (0.0,), (1.0,))
    value, derivative = found.rounding[:, 0] / D
    assert 500 < value < 2000
    assert 0.5 < derivative < 5


def test_a_rounding_is_that_of_a_result_whose_terms_do_not_cancel():
    # One operation, and the input: two signs at random.
    found = along("def f(x):\n    return 3.0 * x", "f", (1.0,), (1.0,))
    assert np.all((found.rounding / D > 0.5) & (found.rounding / D < 10))


@pytest.mark.parametrize(
    "line",
    [
        "abs(x)",
        "max(x, 0.0)",
        "np.floor(x)",
        "x if x > 0.0 else -x",
        "math.log(x)",
        "1.0 / x",
        "math.sqrt(x - 1.0)",
    ],
)
def test_a_program_at_a_kink_or_outside_its_domain_is_not_used(line):
    with pytest.raises(Unsuitable):
        along(f"def f(x):\n    return {line}", "f", (0.0,), (1.0,))


def test_exact_numbers_compute_what_numpy_computes():
    tried = 0
    for found, exact in suitable(range(100)):
        with np.errstate(all="ignore"):
            value = run(found.source, copy.deepcopy(found.primals))
        lines = wrong("value", value, exact.exact[0], exact.rounding[0])
        assert not lines, "\n".join((str(found), *lines))
        tried += 1
    assert tried > 60


def test_differences_are_the_complex_step():
    tried = 0
    for found, exact in suitable(seed for seed in range(400) if not NOT_COMPLEX.search(_body(seed))):
        arguments = [moved(*pair) for pair in zip(found.primals, found.tangents, strict=True)]
        result = numbers(run(found.source, arguments, complex_numpy(), complex_math()), np.complex128)
        far = np.abs(result.imag / STEP - exact.exact[1]) > COMPLEX_STEP * exact.rounding[1] + DIFFERENCES
        assert not far.any(), f"{found}\n{result.imag / STEP}\n{exact.exact[1]}\n{exact.rounding[1]}"
        tried += 1
    assert tried > 10


def _body(seed):
    return program(seed).source.partition("return w\n")[2]
