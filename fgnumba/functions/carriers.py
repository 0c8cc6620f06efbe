"""Which types of values can carry a tangent, and of what type the tangent is."""

from collections.abc import Iterator

from numba.core import types

from fgnumba.functions.tangents import Tangents, tangents_array

NUMBERS = (types.Float, types.Complex)
_PLAIN = (
    types.Integer,
    types.Boolean,
    types.StringLiteral,
    types.UnicodeType,
    types.NoneType,
    types.SliceType,
)


def carries(kind: types.Type) -> bool:
    """Return whether a value of this type can carry a tangent: floats, and what is made of them."""
    if isinstance(kind, types.Optional):
        return carries(kind.type)
    if isinstance(kind, types.Array):
        return isinstance(kind.dtype, NUMBERS)
    if isinstance(kind, types.BaseTuple):
        return any(carries(member) for member in kind.types)
    if isinstance(kind, types.Pair):
        return carries(kind.first_type)
    if isinstance(kind, types.SimpleIteratorType):
        return carries(kind.yield_type)
    if isinstance(kind, types.List):
        return carries(kind.dtype)
    if isinstance(kind, types.SimpleIterableType):
        return carries(kind.iterator_type)
    return isinstance(kind, NUMBERS)


def carries_nothing(kind: types.Type) -> bool:
    """Return whether a value of this type certainly carries no tangent: integers, truth values, strings, None.

    Types that are neither these nor what :func:`carries` names, as dictionaries and classes, might hide a float.
    """
    if isinstance(kind, types.Optional):
        return carries_nothing(kind.type)
    if isinstance(kind, types.Array):
        return isinstance(kind.dtype, (*_PLAIN, types.NPDatetime, types.NPTimedelta))
    if isinstance(kind, types.BaseTuple):
        return all(carries_nothing(member) for member in kind.types)
    if isinstance(kind, (types.List, types.ListType)):
        return carries_nothing(kind.dtype)
    if isinstance(kind, types.Literal):
        return carries_nothing(kind.literal_type)
    return isinstance(kind, _PLAIN) or kind in (types.none, types.boolean)


_NO_MEMORY = (
    *(
        types.Number,
        types.Boolean,
        types.Literal,
        types.UnicodeType,
        types.UnicodeCharSeq,
        types.CharSeq,
        types.Bytes,
    ),
    *(types.SliceType, types.NPDatetime, types.NPTimedelta, types.EnumMember, types.FunctionType),
    *(types.Opaque, types.Phantom, types.Dummy, Tangents),
)


def holds_arrays(kind: types.Type) -> bool:
    """Return whether a value of this type is, or may hold, memory that another variable can name, too."""
    if isinstance(kind, types.BaseTuple):
        return any(holds_arrays(member) for member in kind.types)
    if isinstance(kind, types.Pair):
        return holds_arrays(kind.first_type)
    if isinstance(kind, types.Optional):
        return holds_arrays(kind.type)
    return not isinstance(kind, _NO_MEMORY)


def hides(kind: types.Type) -> bool:
    """Return whether a value of this type may hold floats or arrays of which tangents know nothing, as a dictionary."""
    return holds_arrays(kind) and not carries(kind) and not carries_nothing(kind)


def tangent_type(kind: types.Type, vectors: Tangents | None) -> types.Type:
    """Return the type of the tangent of a value.

    Parameters
    ----------
    kind : numba.types.Type
        Type of the value. Members of a tuple that carry nothing have None for a tangent.
    vectors : Tangents or None
        The vectors in which several tangents travel; None for one tangent.
    """
    if not carries(kind):
        return types.none
    if isinstance(kind, types.BaseTuple):
        return types.BaseTuple.from_types([tangent_type(member, vectors) for member in kind.types])
    if isinstance(kind, types.Array):
        if vectors is None:
            return types.Array(kind.dtype, kind.ndim, kind.layout)
        return tangents_array(kind, vectors)
    if isinstance(kind, types.List):
        return types.List(tangent_type(kind.dtype, vectors))
    return kind if vectors is None else vectors.with_dtype(kind)


def vectors_in(kinds: tuple[types.Type, ...]) -> Iterator[Tangents]:
    """Yield the types of vectors among the types of tangents."""
    for kind in kinds:
        if isinstance(kind, Tangents):
            yield kind
        elif isinstance(kind, types.Array) and isinstance(kind.dtype, Tangents):
            yield kind.dtype
        elif isinstance(kind, types.BaseTuple):
            yield from vectors_in(kind.types)
