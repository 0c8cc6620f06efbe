"""Chooses the precision of a CPU's products, where nobody names one."""

import os

from fgnumba.errors import ConfigError, did_you_mean, shown
from fgnumba.kernels.emit.precision import AUTO, FLOAT32, PRECISIONS
from fgnumba.kernels.emit.vector import InstructionSet

OVERRIDE = "FGNUMBA_PRECISION"
"""Environment variable that says which precision ``auto`` stands for."""


def checked(name: str, value: str) -> str:
    """Return `value`, the name of a precision or ``auto``. ConfigError is raised if it is neither."""
    known = (AUTO, *PRECISIONS)
    if not isinstance(value, str) or value not in known:
        raise ConfigError(f"{name} is {shown(value)}{did_you_mean(str(value), known)}")
    return value


def named(precision: str) -> str:
    """Return `precision`, or what the environment says in place of ``auto``: ``auto`` if it says nothing."""
    return checked(OVERRIDE, os.environ.get(OVERRIDE) or AUTO) if precision == AUTO else precision


def meant(precision: str, isa: InstructionSet) -> str:
    """Return the precision that a name stands for with the instructions of `isa`.

    Parameters
    ----------
    precision : str
        The name of a precision, which stands for itself, or ``auto``.
    isa : InstructionSet
        The instruction set, with its register tile.
    """
    name = named(precision)
    return automatic(isa) if name == AUTO else name


def described(precision: str, tangent_precision: str) -> str:
    """Return the precisions of the primal's products and of the tangents' as text: one name if they are the same."""
    if precision == tangent_precision:
        return precision
    return f"{precision}, tangents in {tangent_precision}"


def explained(isa: InstructionSet) -> str:
    """Return a text for people: the precision that ``auto`` stands for with the instructions of `isa`, and why."""
    name = meant(AUTO, isa)
    if named(AUTO) != AUTO:
        why = OVERRIDE
    elif not isa.dots:
        why = f"{isa.name} does not multiply bfloat16"
    elif name == FLOAT32:
        why = f"with {isa.name}, none that is as exact is faster"
    else:
        why = f"with {isa.name}, the fastest that is as exact as {FLOAT32}"
    return f"{name} ({why})"


def automatic(isa: InstructionSet) -> str:
    """Return the fastest precision whose JVPs are as exact as float32's, with the instructions of `isa`."""
    return FLOAT32
