"""Expressions with every function that has a derivative, in groups that are compiled as one program each.

In all of them x is a vector of nine numbers, a has four of them, b three, s is 0.3 or so, p is positive, A is a matrix
and S a symmetric positive definite one.
"""

import ast
from typing import Any

import numpy as np

POINT = np.array([0.31, -0.62, 0.94, -0.27, 0.53, 0.78, -0.45, 0.66, -0.83])
DIRECTION = np.array([0.7, -1.2, 0.4, 0.9, -0.3, 1.1, 0.6, -0.8, 0.5])

PREAMBLE = {
    "s": "s = x[0]",
    "p": "p = x[1] * x[1] + 0.5",
    "a": "a = x[:4] * 1.0",
    "b": "b = x[4:7] * 1.0",
    "A": "A = x.copy().reshape((3, 3))",
    "S": "S = x.copy().reshape((3, 3))\n    S = np.dot(S, S.T) + 3.0 * np.eye(3)",
}

SCALARS: dict[str, str] = {
    **{
        f"np.{name}": f"np.{name}(s)"
        for name in [
            "absolute",
            "fabs",
            "exp",
            "exp2",
            "expm1",
            "square",
            "sin",
            "cos",
            "tan",
            "arcsin",
            "arccos",
            "arctan",
            "sinh",
            "cosh",
            "tanh",
            "arcsinh",
            "arctanh",
            "degrees",
            "radians",
            "deg2rad",
            "rad2deg",
            "sinc",
            "reciprocal",
            "negative",
            "positive",
            "conjugate",
            "nan_to_num",
            "real",
        ]
    },
    **{f"np.{name}": f"np.{name}(p)" for name in ["log", "log2", "log10", "log1p", "sqrt", "cbrt"]},
    "np.arccosh": "np.arccosh(1.0 + p)",
    **{
        f"math.{name}": f"math.{name}(s)"
        for name in [
            "acos",
            "asin",
            "asinh",
            "atan",
            "atanh",
            "cos",
            "cosh",
            "degrees",
            "erf",
            "erfc",
            "exp",
            "exp2",
            "expm1",
            "fabs",
            "radians",
            "sin",
            "sinh",
            "tan",
            "tanh",
        ]
    },
    **{
        f"math.{name}": f"math.{name}(p)"
        for name in ["gamma", "lgamma", "log", "log10", "log1p", "log2", "sqrt"]
    },
    "math.acosh": "math.acosh(1.0 + p)",
    "math.frexp": "math.frexp(s)[0]",
}
PAIRS: dict[str, str] = {
    **{
        f"np.{name}": f"np.{name}(s, p)"
        for name in [
            "add",
            "subtract",
            "multiply",
            "divide",
            "maximum",
            "minimum",
            "fmax",
            "fmin",
            "arctan2",
            "hypot",
            "copysign",
            "logaddexp",
            "logaddexp2",
            "fmod",
            "remainder",
            "nextafter",
        ]
    },
    "np.power": "np.power(p, s)",
    "np.float_power": "np.float_power(p, s)",
    "np.ldexp": "np.ldexp(s, 3)",
    "np.divmod": "np.divmod(5.0 * p, s)[1]",
    **{f"math.{name}": f"math.{name}(s, p)" for name in ["atan2", "copysign", "hypot", "nextafter"]},
    "math.pow": "math.pow(p, s)",
    "math.ldexp": "math.ldexp(s, 3)",
    "abs": "abs(s)",
    "divmod": "divmod(5.0 * p, s)[1]",
    "max": "max(s, p, 0.1)",
    "min": "min(s, p)",
    "pow": "pow(p, s)",
    "float": "float(s)",
}
ELEMENTWISE: dict[str, str] = {
    "np.exp": "np.exp(a) * a",
    "np.hypot": "np.hypot(a, p)",
    "np.sinc": "np.sinc(a)",
    "np.nan_to_num": "np.nan_to_num(a)",
    "np.where": "np.where(a > 0.0, a * a, p)",
    "np.clip": "np.clip(a, -0.3, p)",
    "np.select": "np.select([a > 0.5, a > -0.5], [a * a, 2.0 * a], 0.0)",
    "np.interp": "np.interp(a, np.array([-1.0, 0.1, 1.0]), b)",
    "np.unwrap": "np.unwrap(9.0 * a)",
}
REDUCTIONS: dict[str, str] = {
    "np.sum": "np.sum(A)",
    "np.mean": "np.mean(A)",
    "np.prod": "np.prod(A)",
    "np.max": "np.max(A)",
    "np.amax": "np.amax(a)",
    "np.amin": "np.amin(a)",
    "np.min": "np.min(A)",
    "np.ptp": "np.ptp(A)",
    "np.var": "np.var(A)",
    "np.std": "np.std(A)",
    "np.average": "np.average(a, weights=a * a)",
    "np.trace": "np.trace(A)",
    "np.cumsum": "np.cumsum(a)",
    "np.cumprod": "np.cumprod(a)",
    "sum": "sum([s, p, 1.0])",
}
WITHOUT_NAN: dict[str, str] = {
    **{
        f"np.{name}": f"np.{name}(a)"
        for name in [
            "nanmax",
            "nanmin",
            "nansum",
            "nanmean",
            "nanvar",
            "nanstd",
            "nanprod",
            "nancumsum",
            "nancumprod",
        ]
    },
}
STATISTICS: dict[str, str] = {
    "np.median": "np.median(A)",
    "np.nanmedian": "np.nanmedian(a)",
    "np.percentile": "np.percentile(a, 30.0)",
    "np.quantile": "np.quantile(a, np.array([0.2, 0.7]))",
    "np.nanpercentile": "np.nanpercentile(a, 30.0)",
    "np.nanquantile": "np.nanquantile(a, 0.3)",
    "np.cov": "np.cov(A)",
    "np.corrcoef": "np.corrcoef(A)",
    "np.trapezoid": "np.trapezoid(a, a * a)",
    "np.bincount": "np.bincount(np.array([0, 2, 1, 0]), a)",
}
PRODUCTS: dict[str, str] = {
    "np.dot": "np.dot(A, b)",
    "np.vdot": "np.vdot(a[1:], b)",
    "np.outer": "np.outer(a, b)",
    "np.kron": "np.kron(a, b)",
    "np.cross": "np.cross(a[1:], b)",
    "np.convolve": "np.convolve(a, b)",
    "np.correlate": "np.correlate(a, b, 'same')",
    "np.vander": "np.vander(b)",
}
EQUATIONS: dict[str, str] = {
    "np.linalg.solve": "np.linalg.solve(S, b)",
    "np.linalg.inv": "np.linalg.inv(S)",
    "np.linalg.det": "np.linalg.det(A)",
    "np.linalg.slogdet": "np.linalg.slogdet(S)[1]",
    "np.linalg.cholesky": "np.linalg.cholesky(S)",
    "np.linalg.norm": "np.linalg.norm(a)",
}
FACTORS: dict[str, str] = {
    "np.linalg.eigh": "np.linalg.eigh(S)[0]",
    "np.linalg.eigvalsh": "np.linalg.eigvalsh(S)",
    "np.linalg.qr": "np.abs(np.linalg.qr(S)[1])",
    "np.linalg.matrix_power": "np.linalg.matrix_power(S, 3)",
    "np.linalg.pinv": "np.linalg.pinv(S)",
    "np.linalg.cond": "np.linalg.cond(S, 1)",
}
ORDERS: dict[str, str] = {
    "np.sort": "np.sort(a)",
    "np.partition": "np.sort(np.partition(a, 2))",
    "np.flip": "np.flip(a)",
    "np.fliplr": "np.fliplr(A)",
    "np.flipud": "np.flipud(A)",
    "np.roll": "np.roll(a, 1)",
    "np.rot90": "np.rot90(A)",
    "np.repeat": "np.repeat(a, 2)",
    "np.take": "np.take(a, np.array([2, 0]))",
    "np.extract": "np.extract(a > 0.0, a)",
    "np.delete": "np.delete(a, 1)",
    "np.insert": "np.insert(a, 1, b[0])",
    "np.append": "np.append(a, b)",
    "np.resize": "np.resize(a, 6)",
    "np.take_along_axis": "np.take_along_axis(a, np.array([1, 0]), 0)",
}
SHAPES: dict[str, str] = {
    "np.reshape": "np.reshape(a, (2, 2))",
    "np.ravel": "np.ravel(A)",
    "np.transpose": "np.transpose(A)",
    "np.swapaxes": "np.swapaxes(A, 0, 1)",
    "np.moveaxis": "np.moveaxis(A, 0, 1)",
    "np.expand_dims": "np.expand_dims(a, 0)",
    "np.broadcast_to": "np.broadcast_to(a, (2, 4))",
    "np.broadcast_arrays": "np.broadcast_arrays(A, A)[0]",
    "np.atleast_1d": "np.atleast_1d(a)",
    "np.atleast_2d": "np.atleast_2d(a)",
    "np.atleast_3d": "np.atleast_3d(a)",
    "np.copy": "np.copy(a)",
    "np.ascontiguousarray": "np.ascontiguousarray(A.T)",
    "np.asfortranarray": "np.asfortranarray(A)",
    "np.asarray": "np.asarray(a)",
    "np.asarray_chkfinite": "np.asarray_chkfinite(a)",
    "np.imag": "np.imag(a)",
    "np.real": "np.real(a)",
}
JOINS: dict[str, str] = {
    "np.array": "np.array([[s, 1.0], [p, s * p]])",
    "np.full": "np.full(3, s)",
    "np.full_like": "np.full_like(a, s)",
    "np.concatenate": "np.concatenate((a, b))",
    "np.stack": "np.stack((a, a))",
    "np.hstack": "np.hstack((a, b))",
    "np.vstack": "np.vstack((a, a))",
    "np.row_stack": "np.row_stack((a, b[0] * a))",
    "np.dstack": "np.dstack((a, a))",
    "np.column_stack": "np.column_stack((a, a))",
    "np.split": "np.split(a, 2)[1]",
    "np.array_split": "np.array_split(b, 2)[0]",
    "np.hsplit": "np.hsplit(A, np.array([1]))[1]",
    "np.vsplit": "np.vsplit(A, np.array([1]))[1]",
    "np.dsplit": "np.dsplit(np.atleast_3d(A), np.array([1]))[0]",
    "np.diag": "np.diag(A)",
    "np.diagflat": "np.diagflat(b)",
    "np.tril": "np.tril(A)",
    "np.triu": "np.triu(A)",
    "np.diff": "np.diff(a)",
    "np.ediff1d": "np.ediff1d(a)",
    "np.linspace": "np.linspace(s, p, 5)",
    "np.logspace": "np.logspace(s, p, 3)",
    "np.geomspace": "np.geomspace(s, p, 3)",
}
ITERATORS: dict[str, str] = {
    "np.ndenumerate": "through_ndenumerate(a)",
    "enumerate": "through_enumerate(a)",
    "zip": "through_zip(a, b)",
}

GROUPS: dict[str, dict[str, str]] = {
    "scalars": SCALARS,
    "pairs": PAIRS,
    "elementwise": ELEMENTWISE,
    "reductions": REDUCTIONS,
    "without_nan": WITHOUT_NAN,
    "statistics": STATISTICS,
    "products": PRODUCTS,
    "equations": EQUATIONS,
    "factors": FACTORS,
    "orders": ORDERS,
    "shapes": SHAPES,
    "joins": JOINS,
    "iterators": ITERATORS,
}


def program_of(expressions: dict[str, str], space: dict[str, Any]) -> Any:
    """Return the Python function of x whose value is a vector with the values of all expressions."""
    scope: dict[str, Any] = dict(space)
    exec("def values(x):\n    " + "\n    ".join(PREAMBLE.values()) + "\n    return locals()\n", scope)
    known = scope["values"](POINT)
    stores, place = [], 0
    for text in expressions.values():
        value = np.asarray(eval(text, {**space, **known}))
        here = f"{place}" if value.ndim == 0 else f"{place}:{place + value.size}"
        stores.append(f"    y[{here}] = {text if value.ndim == 0 else f'np.ravel({text})'}")
        place += value.size
    used = [
        line
        for name, line in PREAMBLE.items()
        if any(name in names_in(text) for text in expressions.values())
    ]
    lines = [
        "def program(x):",
        *(f"    {line}" for line in used),
        f"    y = np.zeros({place})",
        *stores,
        "    return y",
    ]
    scope = dict(space)
    exec("\n".join(lines) + "\n", scope)
    return scope["program"]


def names_in(text: str) -> set[str]:
    """Return the names in a piece of Python."""
    return {node.id for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Name)}
