"""Chooses the precision of a CPU's products, where nobody names one."""

from fgnumba.errors import ConfigError, did_you_mean
from fgnumba.kernels.emit.precision import AUTO, FLOAT32, PRECISIONS
from fgnumba.kernels.emit.vector import InstructionSet


def checked(name: str, value: str) -> str:
    """Return `value`, the name of a precision or ``auto``. ConfigError is raised if it is neither."""
    if value != AUTO and value not in PRECISIONS:
        known = (AUTO, *PRECISIONS)
        raise ConfigError(
            f"{name} is {value!r}{did_you_mean(str(value), known)}; known are {', '.join(known)}"
        )
    return value


def automatic(isa: InstructionSet) -> str:
    """Return the fastest precision whose JVPs are as exact as float32's, with the instructions of `isa`."""
    return FLOAT32
