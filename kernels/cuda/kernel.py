"""GPU kernels: a function, the types of its parameters, the threads of a block. Compiled when first launched."""

from collections.abc import Callable
from functools import cached_property, lru_cache
from typing import Any, get_type_hints

from fgnumba.errors import DeviceError
from fgnumba.kernels.machine import scalar

KERNELS: "dict[str, Kernel]" = {}
"""All kernels by name: what is compiled and checked without a GPU."""

_INT32_MAX = 2**31 - 1


class Kernel:
    """A kernel.

    Parameters
    ----------
    name : unique.
    function : of parameters annotated with ``primitives.Address``, ``Size`` or ``Real``; returns nothing.
    threads : of a block. resident : blocks that a processor is to hold at once, which bounds the registers.
    opcodes : instructions that its machine code must hold: ``FFMA``, ``LDG.E.128``, ``HMMA``...
    """

    def __init__(
        self,
        name: str,
        function: Callable[..., None],
        threads: int,
        resident: int = 1,
        opcodes: tuple[str, ...] = (),
    ) -> None:
        assert name not in KERNELS, name
        self.name, self.function, self.threads, self.resident = name, function, threads, resident
        self.opcodes = opcodes
        hints = get_type_hints(function, include_extras=True)
        hints.pop("return", None)
        self.parameters = {parameter: hint.__metadata__[0] for parameter, hint in hints.items()}
        KERNELS[name] = self

    @property
    def kinds(self) -> list[str]:
        """The types of the parameters by their names."""
        return list(self.parameters.values())

    @cached_property
    def compiled(self) -> Any:
        """The kernel for the device that there is."""
        from fgnumba.kernels.cuda import target

        return target.dispatcher(self.function, self.kinds, self.threads, self.resident)

    def values(self, arguments: dict[str, Any]) -> tuple[Any, ...]:
        """Return arguments in order; DeviceError where a size does not fit into 32 bits."""
        assert arguments.keys() == self.parameters.keys(), (
            self.name,
            arguments.keys() ^ self.parameters.keys(),
        )
        for parameter, kind in self.parameters.items():
            if kind == "int32" and not -_INT32_MAX <= arguments[parameter] <= _INT32_MAX:
                raise DeviceError(
                    f"{self.name}: {parameter} is {arguments[parameter]}; below 2**31 is required on a GPU: "
                    f"take a smaller batch or smaller layers"
                )
        return tuple(arguments[parameter] for parameter in self.parameters)


def device_function(function: scalar.Function) -> scalar.Function:
    """Make `function` callable from GPU kernels, and from them alone."""
    scalar.FUNCTIONS.append(function)
    return function


def pure_function(function: Callable[..., Any]) -> Callable[..., Any]:
    """Make `function` callable from GPU kernels, and let the simulator remember what it returns: it reads no memory."""
    remembered = lru_cache(maxsize=1 << 16)(function)
    scalar.REMEMBERED[remembered] = function
    return remembered


def kernel(
    name: str, threads: int = 256, resident: int = 1, opcodes: tuple[str, ...] = ()
) -> Callable[[Callable[..., None]], Kernel]:
    """Return the decorator that makes a function a kernel."""
    return lambda function: Kernel(name, function, threads, resident, opcodes)
