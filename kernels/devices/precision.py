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


def automatic(isa: InstructionSet) -> str:
    """Return the fastest precision whose JVPs are as exact as float32's, with the instructions of `isa`."""
    return FLOAT32
