"""The differential test: derivatives of random programs beside those from differences in 50 digits.

``python -m tests.functions.differential FIRST LAST`` tests the programs of these numbers, and prints what fails: the
whole program, where it is evaluated, which number of its result is wrong, and by how many roundings of its own.

A program's number says what is asked of it: its derivative along a direction (7 of 10), its gradient with 4 or 8
tangents in one pass, a product with its Hessian, or its Taylor coefficients. Number n stands for the seeds from 100 n
on, of which the first one is used whose program stays away from kinks and poles.
"""

import argparse
import copy
import importlib.util
import sys
import tempfile
import traceback
import warnings
from pathlib import Path

import numba
import numpy as np

import fgnumba as fg
from tests.functions.exact_derivatives import Derivatives, Unsuitable, along
from tests.functions.programs import Program, program
from tests.tolerances_programs import DIFFERENCES, PROGRAM_ROUNDINGS

KINDS = ("jvp",) * 7 + ("gradient", "hvp", "taylor")
CHUNKS = (4, 8)
TAYLOR = (2, 3, 2, 4)
"""Orders of the derivatives that are asked for. Each order doubles what is compiled: these programs are short."""


def kind_of(number: int) -> str:
    return KINDS[number % len(KINDS)]


def imported(source: str, folder: Path, name: str):
    """Import a program from a file: its functions have line numbers and a file."""
    path = folder / f"{name}.py"
    path.write_text(source, encoding="utf-8")
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def chosen(number: int, kind: str, short: bool) -> tuple[Program, Derivatives]:
    """Return the program of a number, with its derivatives along its direction."""
    for seed in range(100 * number, 100 * number + 100):
        found = program(seed, scalar=kind != "jvp", short=short)
        try:
            if kind == "jvp":
                return found, along(found.source, "f", found.primals, found.tangents)
            order = 4 if kind == "taylor" else 1
            return found, along(found.source, "packed", (found.theta,), (found.v,), order)
        except Unsuitable:
            continue
    raise AssertionError(f"100 seeds without a program: number {number}")


def numbers(result, dtype=np.float64) -> np.ndarray:
    """Return the numbers of a result: a number, an array or a tuple of such; an integer's tangent is None, and 0."""
    if result is None:
        return np.zeros(1, dtype)
    if isinstance(result, tuple):
        return np.concatenate([numbers(part, dtype) for part in result])
    return np.asarray(result, dtype=dtype).ravel()


def wrong(what: str, found, exact, rounding) -> list[str]:
    """Return a line for each number that is too far away."""
    found = numbers(found)
    if found.shape != exact.shape:
        return [f"{what}: {found.size} numbers, {exact.size} expected"]
    distance = np.abs(found - exact)
    bad = ~(distance <= PROGRAM_ROUNDINGS * rounding + DIFFERENCES)
    return [
        f"{what}, number {i}: {found[i]!r}, exact {exact[i]!r},"
        f" wrong by {distance[i]:.2e}, one rounding {rounding[i]:.1e}"
        for i in np.flatnonzero(bad)
    ]


def _along_axes(found: Program, order: int, offset: np.ndarray) -> list[Derivatives]:
    axes = np.eye(found.theta.size)
    return [along(found.source, "packed", (found.theta,), (offset + axis,), order) for axis in axes]


def _jvp(module, found: Program, exact: Derivatives, number: int) -> list[str]:
    value, tangent = fg.jvp(module.f, copy.deepcopy(found.primals), found.tangents)
    lines = wrong("value", value, exact.exact[0], exact.rounding[0])
    return lines + wrong("tangent", tangent, exact.exact[1], exact.rounding[1])


def _gradient(module, found: Program, exact: Derivatives, number: int) -> list[str]:
    chunk = CHUNKS[number // len(KINDS) % len(CHUNKS)]
    gradient = fg.gradient(module.packed, chunk=chunk)(found.theta)
    axes = _along_axes(found, 1, np.zeros_like(found.theta))
    expected = np.array([one.exact[1, 0] for one in axes]), np.array([one.rounding[1, 0] for one in axes])
    return wrong(f"gradient ({chunk} at once)", gradient, *expected)


def _hvp(module, found: Program, exact: Derivatives, number: int) -> list[str]:
    product = numbers(fg.hvp(module.packed, found.theta, found.v))
    # e · H v = ((v + e) · H (v + e) − (v − e) · H (v − e)) / 4
    plus, minus = (_along_axes(found, 2, sign * found.v) for sign in (1, -1))
    pairs = list(zip(plus, minus, strict=True))
    expected = np.array([(a.exact[2, 0] - b.exact[2, 0]) / 4 for a, b in pairs])
    rounding = np.array([(a.rounding[2, 0] + b.rounding[2, 0]) / 4 for a, b in pairs])
    lines = wrong("product with the Hessian", product, expected, rounding)
    if number // len(KINDS) % 2 and not lines:
        hessian = fg.hessian(module.packed)(found.theta)
        lines = wrong(
            "symmetry of the Hessian", hessian - hessian.T, np.zeros(hessian.size), np.zeros(hessian.size)
        )
        # v is of order 1, so that roundings of the entries are those of the product.
        lines += wrong("Hessian times v", hessian @ found.v, expected, rounding)
    return lines


def _taylor(module, found: Program, exact: Derivatives, number: int) -> list[str]:
    order = TAYLOR[number // len(KINDS) % len(TAYLOR)]
    derivatives = fg.taylor(module.packed, found.theta, found.v, order)
    expected = exact.exact[: order + 1, 0], exact.rounding[: order + 1, 0]
    return wrong(f"derivatives up to order {order}", np.array(derivatives), *expected)


_CHECKS = {"jvp": _jvp, "gradient": _gradient, "hvp": _hvp, "taylor": _taylor}


def _numba_agrees(module, found: Program, exact: Derivatives, kind: str) -> bool:
    """Return whether Numba compiles the program, and its value is the exact one: if not, it is no test of ours."""
    function, given = (module.f, found.primals) if kind == "jvp" else (module.packed, (found.theta,))
    try:
        value = numba.njit(function)(*copy.deepcopy(given))
    except (numba.core.errors.NumbaError, ZeroDivisionError):
        return False
    return not wrong("value", value, exact.exact[0], exact.rounding[0])


def failure(number: int, folder: Path, kind: str | None = None, short: bool = False) -> str | None:
    """Return what is wrong with the derivatives of a program, or None."""
    kind = kind or kind_of(number)
    found, exact = chosen(number, kind, short or kind == "taylor")
    module = imported(found.source, folder, f"program_{number}_{kind}")
    with warnings.catch_warnings():
        # Products of views are slower than others; Numba says so.
        warnings.simplefilter("ignore", numba.NumbaPerformanceWarning)
        try:
            lines = _CHECKS[kind](module, found, exact, number)
        except Unsuitable:
            return None
        except Exception:
            lines = [traceback.format_exc(limit=-3)]
        if not lines or not _numba_agrees(module, found, exact, kind):
            return None
    return "\n".join((f"program {number}, {kind}", str(found), *lines))


def main() -> int:
    """Return 0 where nothing failed."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.functions.differential", description=__doc__.splitlines()[0]
    )
    parser.add_argument("first", type=int)
    parser.add_argument("last", type=int, help="the first number that is not tested")
    parser.add_argument("--kind", choices=sorted(_CHECKS), help="ask all programs for this")
    parser.add_argument(
        "--short", action="store_true", help="programs of a few lines, as in every run of the tests"
    )
    given = parser.parse_args()
    failed = []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(given.first, given.last):
            lines = failure(number, Path(folder), given.kind, given.short)
            if lines:
                failed.append(number)
                print(lines, end="\n\n", flush=True)
    print(f"{given.last - given.first} programs, {len(failed)} wrong: {failed}")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
