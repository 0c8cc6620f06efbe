"""Second derivatives of scalar functions, for tangents whose first lane is a sum of second derivatives.

Along directions i, with Jᵢa for the first derivatives of an argument a,

    Σᵢ D²y[Jᵢ, Jᵢ] = Σ_ab ∂²y/∂a∂b Σᵢ Jᵢa Jᵢb

is what a function adds to lane 0 beyond Σ_a ∂y/∂a times the arguments' lanes 0.
"""

import ast
from functools import cache
from typing import Any

from numba import njit
from numba.core import cgutils
from numba.core.typing.templates import signature
from numba.extending import intrinsic

from fgnumba.functions.auxiliary import CALLABLES, INNER, quotient
from fgnumba.functions.generated import generated
from fgnumba.functions.names import callable_of
from fgnumba.functions.partials import SCALAR_FUNCTIONS
from fgnumba.functions.tangents import Tangents


@intrinsic
def bent(typingctx: Any, tangent: Any, coefficient: Any, first: Any, second: Any) -> Any:
    """``bent(dy, c, da, db)``: dy with c Σᵢ daᵢ dbᵢ, over all lanes but 0, added to lane 0."""
    if not all(isinstance(kind, Tangents) for kind in (tangent, first, second)):
        return None
    kind = tangent

    def lowered(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        dy, factor, one, other = (
            context.cast(builder, value, source, target)
            for value, source, target in zip(arguments, sig.args, (kind, kind.dtype, kind, kind), strict=True)
        )
        products = builder.fmul(one, other)
        total = builder.extract_element(products, cgutils.int32_t(1))
        for index in range(2, kind.count):
            total = builder.fadd(total, builder.extract_element(products, cgutils.int32_t(index)))
        lane = builder.extract_element(dy, cgutils.int32_t(0))
        lane = builder.fadd(lane, builder.fmul(factor, total))
        return builder.insert_element(dy, lane, cgutils.int32_t(0))

    return signature(kind, kind, coefficient, first, second), lowered


@cache
def slopes(name: str) -> Any:
    """Return the Numba function of a scalar function's arguments and value whose value is the tuple of its partials."""
    function = SCALAR_FUNCTIONS[name]
    space: dict[str, Any] = {"quotient": quotient}
    texts = []
    for partial in function.partials:
        tree = ast.parse(partial, mode="eval")
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                called = node.func.id
                space[called] = CALLABLES.get(called) or callable_of(called)
        tree = ast.fix_missing_locations(_Quotients().visit(tree))
        texts.append(ast.unparse(tree))
    arguments = ", ".join((*function.arguments, "y"))
    values = ", ".join(f"1.0 * ({text})" for text in texts)
    made = generated("slopes", [f"def slopes({arguments}):", f"    return ({values},)"], **space)
    return njit(error_model="numpy", **INNER)(made)


class _Quotients(ast.NodeTransformer):
    """Replaces divisions by calls that raise no exception."""

    def visit_BinOp(self, node: ast.BinOp) -> ast.AST:
        self.generic_visit(node)
        if isinstance(node.op, ast.Div):
            return ast.Call(ast.Name("quotient", ast.Load()), [node.left, node.right], [])
        return node


def is_linear(name: str) -> bool:
    """Return whether all partial derivatives of a scalar function are constants."""
    return all(partial in ("0", "1", "-1") for partial in SCALAR_FUNCTIONS[name].partials)
