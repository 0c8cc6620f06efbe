"""GPU kernels: a Python function, the types of its parameters, and the number of threads in a block.

A kernel's parameter is a number (``primitives.Address``, ``Size``, ``Real`` or ``Double``) or a *bundle*: a
``NamedTuple`` whose fields are numbers or bundles, such as the address and the strides of some images. A bundle exists
in Python source alone: the compiled kernel has one parameter for each number in it. A kernel is compiled when it is
first launched.
"""

from collections.abc import Callable
from functools import cache, cached_property, lru_cache
from typing import Any, get_type_hints

from fgnumba.errors import DeviceError
from fgnumba.kernels.machine import scalar

Kind = Any
"""Type of a kernel's parameter: the name of a number's type, or the class of a bundle."""

KERNELS: "dict[str, Kernel]" = {}
"""All kernels by name: what is compiled and checked without a GPU."""

_INT32_MAX = 2**31 - 1


class Kernel:
    """A function that runs on a GPU, once in each thread of a grid of blocks.

    Parameters
    ----------
    name : str
        Unique name, by which the table of machine code and error messages call the kernel.
    function : callable
        What a thread computes. Each parameter is annotated with a type of number of ``primitives`` or with a bundle;
        nothing is returned.
    threads : int
        Number of threads in a block.
    resident : int
        Number of blocks that a multiprocessor must be able to hold at once. It bounds the registers of a thread.
    opcodes : tuple of str
        Instructions that the machine code must contain: ``FFMA``, ``LDG.E.128``, ``HMMA``...
    family : str or None
        Name of the kernels that one rule generates, such as ``noise-{activation}``. The table of machine code has one
        row for a family, so that a new member needs no row of its own. None: the kernel has a row of its own.
    """

    def __init__(
        self,
        name: str,
        function: Callable[..., None],
        threads: int,
        resident: int = 1,
        opcodes: tuple[str, ...] = (),
        family: str | None = None,
    ) -> None:
        assert name not in KERNELS, name
        self.name, self.function, self.threads, self.resident = name, function, threads, resident
        self.opcodes, self.family = opcodes, family
        self.parameters = _kinds_of(function)
        KERNELS[name] = self

    @property
    def row(self) -> str:
        """Name of the kernel's row in the table of machine code."""
        return self.family or self.name

    @property
    def kinds(self) -> list[Kind]:
        """The types of the parameters, in order."""
        return list(self.parameters.values())

    @property
    def scalars(self) -> dict[str, str]:
        """The numbers that the compiled kernel takes: types by names such as ``n`` and ``x.block``, in order."""
        return _scalars(self.parameters)

    @cached_property
    def compiled(self) -> Any:
        """The kernel compiled for the GPU of this machine."""
        from fgnumba.kernels.cuda import target

        return target.dispatcher(self.function, self.kinds, self.threads, self.resident)

    def values(self, arguments: dict[str, Any]) -> tuple[Any, ...]:
        """Return the arguments in the order of the parameters.

        Parameters
        ----------
        arguments : dict
            The value of each parameter by its name.

        Returns
        -------
        tuple
            Numbers and bundles of numbers.

        Raises
        ------
        DeviceError
            A ``Size`` does not fit into 32 bits.
        """
        assert arguments.keys() == self.parameters.keys(), (
            self.name,
            arguments.keys() ^ self.parameters.keys(),
        )
        for parameter, kind in self.parameters.items():
            self._check(parameter, kind, arguments[parameter])
        return tuple(arguments[parameter] for parameter in self.parameters)

    def _check(self, parameter: str, kind: Kind, value: Any) -> None:
        if not isinstance(kind, str):
            assert isinstance(value, kind), (self.name, parameter, value)
            for (field, one), held in zip(fields(kind).items(), value, strict=True):
                self._check(f"{parameter}.{field}", one, held)
        elif kind == "int32" and not -_INT32_MAX <= value <= _INT32_MAX:
            raise DeviceError(
                f"{self.name}: {parameter} is {value}; below 2**31 is required on a GPU: "
                f"take a smaller batch or smaller layers"
            )


def _kinds_of(annotated: Any) -> dict[str, Kind]:
    """Return the types of a function's parameters, or of a bundle's fields."""
    hints = get_type_hints(annotated, include_extras=True)
    hints.pop("return", None)
    return {name: hint if isinstance(hint, type) else hint.__metadata__[0] for name, hint in hints.items()}


@cache
def fields(bundle: Any) -> dict[str, Kind]:
    """Return the types of a bundle's fields by their names, in order."""
    assert issubclass(bundle, tuple), bundle
    return _kinds_of(bundle)


def _scalars(kinds: dict[str, Kind]) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, kind in kinds.items():
        if isinstance(kind, str):
            found[name] = kind
        else:
            found |= {f"{name}.{inner}": one for inner, one in _scalars(fields(kind)).items()}
    return found


def converted(kind: Kind, value: Any, convert: Callable[[str, Any], Any]) -> Any:
    """Return an argument with every number in it converted.

    Parameters
    ----------
    kind : str or type
        Type of the parameter.
    value : number or bundle
        The argument.
    convert : callable
        Takes the name of a number's type and the number; returns the number as it is to be.

    Returns
    -------
    number or bundle
        The same structure, of what `convert` returned.
    """
    if isinstance(kind, str):
        return convert(kind, value)
    return kind(
        *(converted(one, held, convert) for one, held in zip(fields(kind).values(), value, strict=True))
    )


def device_function(function: scalar.Function) -> scalar.Function:
    """Make `function` callable from GPU kernels, and from them alone."""
    scalar.FUNCTIONS.append(function)
    return function


def pure_function(function: Callable[..., Any]) -> Callable[..., Any]:
    """Make `function` callable from GPU kernels, and let the simulator cache its results: it must read no memory."""
    remembered = lru_cache(maxsize=1 << 16)(function)
    scalar.REMEMBERED[remembered] = function
    return remembered


def kernel(
    name: str,
    threads: int = 256,
    resident: int = 1,
    opcodes: tuple[str, ...] = (),
    family: str | None = None,
) -> Callable[[Callable[..., None]], Kernel]:
    """Return the decorator that makes a function a kernel.

    Parameters
    ----------
    name : str
        Unique name of the kernel.
    threads : int
        Number of threads in a block.
    resident : int
        Number of blocks that a multiprocessor must be able to hold at once.
    opcodes : tuple of str
        Instructions that the machine code must contain.
    family : str or None
        Name of the kernels that one rule generates; None for a kernel by itself.

    Returns
    -------
    callable
        Takes the function and returns its :class:`Kernel`.
    """
    return lambda function: Kernel(name, function, threads, resident, opcodes, family)
