"""Read operands, NumPy arrays or CPU tensors of PyTorch, without a copy, and return results of the same kind.

A tensor must carry no derivative of PyTorch's own: neither a tangent of forward mode nor a record for reverse mode,
because what is returned would have none.
"""

import sys
from typing import Any

import numpy as np
import numpy.typing as npt

from fgnumba.errors import ConfigError, DeviceError, DtypeError
from fgnumba.kernels.machine.memory import aligned

DTYPES = (np.dtype(np.float32), np.dtype(np.float64))


def is_tensor(value: Any) -> bool:
    """Return whether a value is a tensor of PyTorch, which is not imported for it."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


def read(name: str, value: Any, carried: str) -> npt.NDArray[Any]:
    """Return an operand as an array that shares its memory.

    Parameters
    ----------
    name : str
        The operand's name, for messages.
    value : object
        The operand.
    carried : str
        What the message says of an operand that carries a derivative: it ends the sentence.

    Raises
    ------
    DeviceError
        It lies on a GPU or another device.
    ConfigError
        It carries a tangent, records gradients, or is inside a transformation of ``torch.func``.
    DtypeError
        It is neither an array nor a dense tensor.
    """
    if is_tensor(value):
        return _of_tensor(name, value, carried)
    if hasattr(value, "__cuda_array_interface__"):
        raise DeviceError(
            f"{name} is a {type(value).__name__} on a GPU; an array in the CPU's memory is required"
        )
    if not isinstance(value, np.ndarray) or isinstance(value, np.ma.MaskedArray):
        raise DtypeError(
            f"{name} is a {type(value).__name__}; a NumPy array or a CPU tensor of PyTorch is required"
        )
    return np.asarray(value)


def _of_tensor(name: str, value: Any, carried: str) -> npt.NDArray[Any]:
    torch: Any = sys.modules["torch"]
    if torch._C._functorch.is_functorch_wrapped_tensor(value):
        raise ConfigError(f"{name} is inside a transformation of torch.func; {carried}")
    if torch.autograd.forward_ad.unpack_dual(value).tangent is not None:
        raise ConfigError(f"{name} carries a tangent of PyTorch's forward mode; {carried}")
    if value.requires_grad:
        raise ConfigError(f"{name} requires grad, and no gradient would come back; {carried}")
    if value.device.type != "cpu":
        raise DeviceError(f"{name} is a tensor on {value.device}; a tensor on the CPU is required")
    if value.layout != torch.strided or value.dtype not in (torch.float32, torch.float64, torch.bool):
        kind = str(value.layout if value.layout != torch.strided else value.dtype).removeprefix("torch.")
        raise DtypeError(f"{name} is a tensor of {kind}; a dense tensor of float32 or float64 is required")
    found: npt.NDArray[Any] = value.resolve_neg().numpy()
    return found


def check_dtypes(**operands: npt.NDArray[Any] | None) -> np.dtype[Any]:
    """Return the dtype of all operands, float32 or float64, or raise DtypeError."""
    (first, example), *others = ((name, array) for name, array in operands.items() if array is not None)
    if example.dtype not in DTYPES:
        raise DtypeError(f"{first} is {example.dtype}; float32 or float64 is required")
    for name, array in others:
        if array.dtype != example.dtype:
            raise DtypeError(
                f"{name} is {array.dtype} and {first} {example.dtype}; the same dtype is required"
            )
    return example.dtype


def empty(shape: tuple[int, ...], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """Return an array for a result."""
    return aligned(shape, dtype)


def like(value: Any, result: npt.NDArray[Any]) -> Any:
    """Return a result as a tensor that shares its memory if `value` is a tensor, else the array itself."""
    return sys.modules["torch"].from_numpy(result) if is_tensor(value) else result
