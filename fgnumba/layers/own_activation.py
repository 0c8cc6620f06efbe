"""Activations of one's own: a Python function of one number becomes a scalar rule, compiled for both devices."""

import hashlib
import linecache
from functools import cached_property
from types import FunctionType
from typing import Any

import numpy as np

from fgnumba.errors import ConfigError, shown
from fgnumba.functions.scalar_graph import Graph, Node
from fgnumba.functions.scalar_reader import read
from fgnumba.functions.scalar_source import source_of, values
from fgnumba.functions.scalar_text import plain_function
from fgnumba.kernels.machine.scalar import scalar
from fgnumba.kernels.rules import compound, elementary, trigonometric
from fgnumba.kernels.rules.activations.curvatures import OWN_CURVATURES, Curvature
from fgnumba.kernels.rules.activations.rules import OWN, Rule
from fgnumba.objects.code import code_of, name_of

WHAT = "activation"
_DIGITS = 12
"""Hexadecimal digits of a rule's digest in its key."""

_FUNCTIONS: dict[str, Any] = {
    name: getattr(module, name)
    for module, names in (
        (elementary, ("exp", "expm1", "log", "tanh", "erf")),
        (trigonometric, ("sin", "cos", "tan", "arcsin", "arccos", "arctan")),
        (compound, ("sqrt", "cbrt", "exp2", "log1p", "log2", "log10", "sinh", "cosh", "tanh_slope")),
        (compound, ("arcsinh", "arccosh", "arctanh", "erfc", "power", "floor")),
    )
    for name in names
}
"""What the source of a rule calls."""


class OwnActivation(str):
    """An activation that was made of a function. As text, it is the key by which kernels find its rule.

    It is made by :func:`fgnumba.activation`.

    Attributes
    ----------
    function : callable
        The function, as it was given.
    name : str
        The function's name.
    rule : callable
        The scalar rule z -> (a(z), a'(z)), of float32.
    graph : Graph
        The operations.
    outputs : tuple of Node
        The nodes of a and a'.
    """

    function: Any
    name: str
    rule: Rule
    graph: Graph
    outputs: tuple[Node, Node]
    text: str

    def __repr__(self) -> str:
        return f"fg.activation({self.code_name or self.name})"

    def __reduce__(self) -> tuple[Any, ...]:
        return activation, (self.function,)

    def __copy__(self) -> "OwnActivation":
        return self

    def __deepcopy__(self, memo: Any) -> "OwnActivation":
        return self

    def __call__(self, x: Any) -> Any:
        """Return the function's value at x, as Python computes it."""
        return self.function(x)

    @property
    def code_name(self) -> str | None:
        """The name ``package.module:name`` by which a file can say the activation; None if it cannot be imported."""
        found = name_of(self.function)
        if found is None:
            # As a decorator, fgnumba.activation puts this object in the function's place.
            found = name_of(self, self.function)
        return found

    def tangent_source(self) -> str:
        """Return the rule z -> (a(z), a'(z)) as source in Python."""
        return self.text

    @cached_property
    def curvature(self) -> Curvature:
        """The scalar rule (z, a(z), a'(z)) -> (a''(z), a'''(z)), of float32."""
        second = self.graph.derivative(self.outputs[1])
        name = f"curvature_{_identifier(self.name)}"
        text = source_of(name, (second, self.graph.derivative(second)), "z, a, slope")
        made: Curvature = _compiled(name, text)
        return made


def activation(f: Any) -> OwnActivation:
    """Return an activation made of a function of one number; its derivative is written by this function.

    The function's source is read, not run: assignments, ``if``, conditional expressions, loops over what is known,
    functions of ``math`` and NumPy, and calls of other such functions. Numbers of its module or its closure are
    constants. At kinks the derivative is JAX's: that of the branch that is taken, 1 of ``abs`` at 0, and a half of each
    where ``max`` or ``min`` has a tie.

    Parameters
    ----------
    f : function or Numba dispatcher
        A function of one number that returns one.

    Returns
    -------
    OwnActivation
        The activation, for ``Dense(64, activation=...)``, ``Conv2d``, ``Activation``, ``Add`` and
        ``layers.Elementwise``, on the CPU and on a GPU.

    Raises
    ------
    ConfigError
        `f` is no function, its source cannot be read, or something in it is not possible: the message names function,
        file and line.

    Notes
    -----
    Value and derivative are computed in float32 by operations that become vector instructions. Their error is that of
    the formula as it is written: :func:`fgnumba.testing.check_activation` compares it with a bound of its roundings. A
    weight before such an activation is drawn with gain 2, as before a rectifier.

    Examples
    --------
    >>> import math
    >>> import fgnumba as fg
    >>> def swish(z):
    ...     return z / (1 + math.exp(-z))
    >>> layer = fg.Dense(64, activation=fg.activation(swish))  # doctest: +SKIP
    """
    if isinstance(f, OwnActivation):
        return f
    if plain_function(f) is None:
        raise ConfigError(f"activation is {shown(f)}; a Python function of one number is required")
    graph, outputs = _read(f, guarded=False)
    if not _is_finite(outputs):
        graph, outputs = _read(f, guarded=True)
    plain = plain_function(f)
    assert isinstance(plain, FunctionType)
    name = _identifier(plain.__name__)
    text = source_of(f"activation_{name}", outputs)
    made = OwnActivation(f"{name}@{hashlib.sha256(text.encode()).hexdigest()[:_DIGITS]}")
    made.function, made.name, made.graph, made.outputs, made.text = f, plain.__name__, graph, outputs, text
    if str(made) not in OWN:
        OWN[str(made)] = _compiled(f"activation_{name}", text)
    made.rule = OWN[str(made)]
    # Written when it is asked for: a third derivative can be long.
    OWN_CURVATURES.setdefault(str(made), lambda: made.curvature)
    return made


def activation_of(what: str, given: Any) -> OwnActivation:
    """Return the activation that a file names by ``package.module:name``, of a function or what was made of it.

    Parameters
    ----------
    what : str
        What has the name, for messages.
    given : str
        The name.

    Raises
    ------
    ConfigError
        The name is not trusted, leads nowhere, or to something else.
    """
    found = code_of(what, given)
    if not isinstance(found, OwnActivation) and plain_function(found) is None:
        raise ConfigError(
            f"{what} is {shown(given)}, which is {shown(found)}; a function of one number is required"
        )
    return activation(found)


def _read(f: Any, guarded: bool) -> tuple[Graph, tuple[Node, Node]]:
    graph, value = read(f, WHAT, guarded)
    return graph, (value, graph.derivative(value))


_PROBES = np.concatenate(
    [
        np.arange(0, 2**32, 2**21 - 3, dtype=np.int64).astype(np.uint32).view(np.float32),
        np.linspace(-110, 110, 2201, dtype=np.float32),
    ]
)
_PROBES = _PROBES[np.isfinite(_PROBES)]


def _is_finite(outputs: tuple[Node, Node]) -> bool:
    """Return whether the derivative is a number wherever the value is, as float32 computes them.

    Where it is not, the chain rule multiplied zero by infinity, as for 1 / (1 + exp(-z)) where exp(-z) is too large.
    """
    value, slope = values(outputs, _PROBES)
    return not np.any(np.isfinite(value) & ~np.isfinite(slope))


def _identifier(name: str) -> str:
    return name if name.isidentifier() and name.isascii() else "function"


def _compiled(name: str, text: str) -> Any:
    """Return the function that a source defines, as a scalar rule."""
    digest = hashlib.sha256(text.encode()).hexdigest()[:_DIGITS]
    place = f"<fgnumba {name} {digest}>"
    # With its lines at hand, a debugger and Numba's messages can show them.
    linecache.cache[place] = (len(text), None, text.splitlines(keepends=True), place)
    # Numba imports the module of a function whose machine code it has read from the disk.
    names: dict[str, Any] = {"np": np, **_FUNCTIONS, "__name__": __name__}
    exec(compile(text, place, "exec"), names)
    rule = names[name]
    rule.__qualname__ = f"{name}_{digest}"
    return scalar(rule)
