"""A scalar rule z → (a(z), a'(z)) in every form in which it runs, and the numbers at which it is tried."""

import re
from functools import cache
from typing import Any

import numba
import numpy as np
import numpy.typing as npt
from numba.core.errors import NumbaError
from numba.extending import register_jitable

from fgnumba.kernels.machine.scalar import FUNCTIONS
from fgnumba.kernels.rules.activations.rules import Rule
from fgnumba.testing.comparison import require

Array = npt.NDArray[Any]
MOST = float(np.finfo(np.float32).max)
FORMS = {"fused": {"contract", "nsz"}, "unfused": False}
"""Ways to compile a rule: as kernels are, where a product and a sum may become one operation, and exactly."""
SMALLEST = 2.0**-120
"""The smallest size of z, beside 0, at which differences are taken: in float32 their steps are still exact."""

EDGES = np.array(
    [0.0, 2.0**-149, 1e-40, 2.0**-126, 1.0, 9.02, 14.5, 15.0, 17.33, 87.5, 104.0, 1e4, 1e30, MOST], np.float32
)


@cache
def numbers() -> Array:
    """Return every 12,289th float32, the edges of what exponentials can be, and small numbers densely."""
    bits = np.arange(0, 2**32, 12289, dtype=np.int64).astype(np.uint32).view(np.float32)
    dense = np.concatenate([np.linspace(-110, 110, 100_001), np.linspace(-4, 4, 100_001)]).astype(np.float32)
    z = np.concatenate([bits, EDGES, -EDGES, dense])
    return z[np.isfinite(z)]


def binade(size: Array) -> Array:
    """Return the largest powers of two that are at most so large."""
    return np.ldexp(1.0, np.frexp(size)[1] - 1)


def _where_differenced() -> Array:
    """Return numbers of 16 bits, densely between -12 and 12 and between -110 and 110, and of every size."""
    sizes = SMALLEST * 2.0 ** np.arange(0, 247.9, 1 / 16)
    z = np.concatenate([np.linspace(-12, 12, 4801), np.linspace(-110, 110, 9_901), sizes, -sizes])
    unit = binade(np.maximum(np.abs(z), SMALLEST)) * 2.0**-15
    return (np.round(z / unit) * unit).astype(np.float32)


WHERE_DIFFERENCED = _where_differenced()


def compiled(what: str, rule: Rule, fastmath: Any) -> Any:
    if rule not in FUNCTIONS and not hasattr(rule, "py_func"):
        register_jitable(rule)

    def loop(z: Any, value: Any, derivative: Any) -> None:
        for i in range(z.size):
            value[i], derivative[i] = rule(z[i])

    signature = "void(float32[::1], float32[::1], float32[::1])"
    try:
        return numba.njit(signature, error_model="numpy", fastmath=fastmath)(loop)
    except NumbaError as error:
        reason = " ".join(line.strip() for line in str(error).splitlines() if line.strip())
        raise AssertionError(f"{what}: it does not compile: {reason[:300]}") from error


def evaluated(loop: Any, z: Array) -> tuple[Array, Array]:
    value, derivative = np.empty_like(z), np.empty_like(z)
    loop(z, value, derivative)
    return value, derivative


def plain_python(what: str, rule: Rule, z: Array) -> tuple[Array, Array]:
    rule = getattr(rule, "py_func", rule)
    value, derivative = np.empty_like(z), np.empty_like(z)
    with np.errstate(all="ignore"):
        for i, number in enumerate(z):
            try:
                result = rule(number)
            except Exception as error:
                raise AssertionError(
                    f"{what}: of {number!r} it raises {type(error).__name__}: {error}"
                ) from error
            is_pair = isinstance(result, tuple | list)
            kinds = [type(one).__name__ for one in result] if is_pair else type(result).__name__
            require(
                kinds == ["float32", "float32"],
                f"{what}: of {number!r} it returns {kinds}; two np.float32 are expected",
            )
            value[i], derivative[i] = result
    return value, derivative


def within(what: str, z: Array, found: Array, right: Array, allowed: Array) -> None:
    error = np.abs(found.astype(np.float64) - right)
    wrong = ~(error <= allowed)
    if not wrong.any():
        return
    worst = int(np.argmax(np.where(wrong, np.where(np.isnan(error), np.inf, error - allowed), -np.inf)))
    raise AssertionError(
        f"{what} at z = {z[worst]!r} is {found[worst]!r}; {right[worst]:.9g} is expected "
        f"(error {error[worst]:.3g}, allowed {allowed[worst]:.3g}); {int(wrong.sum())} of {len(z)} numbers are wrong"
    )


def vector_code(what: str, loop: Any) -> None:
    (module,) = loop.inspect_llvm().values()
    body = module[module.index("define") :]
    body = body[: body.index("\n}")]
    called = {
        line.split("@", 1)[1].split("(", 1)[0].strip('"')
        for line in body.splitlines()
        if " call " in line and "@" in line
    }
    outside = sorted(one for one in called if not one.startswith(("llvm.", "NRT_")))
    require(not outside, f"{what}: it calls {', '.join(outside)}; a loop over it cannot become vector code")
    require(
        "double" not in body,
        f"{what}: it computes in float64; write constants as np.float32(...), or make results np.float32",
    )
    is_vector = re.search(r"store <\d+ x float>", body) is not None
    require(is_vector, f"{what}: a loop over it does not become vector code")
