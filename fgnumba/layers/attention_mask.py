"""The constant mask of an attention layer, as a value that can be compared, hashed and stored."""

from typing import Any

import numpy as np
import numpy.typing as npt

from fgnumba.errors import ConfigError, DtypeError, ShapeError
from fgnumba.validation.arrays import as_array, as_tensor


class AttentionMask:
    """Which keys each query may see, or what is added to their scores.

    Two masks are equal if their shapes, kinds and elements are.

    Parameters
    ----------
    array : array, (L, L) or (heads, L, L)
        Booleans: True may be seen. Floating-point numbers: they are added to the scores, as float32; -inf hides a key.

    Attributes
    ----------
    array : array, bool or float32
        The elements, which cannot be written.

    Raises
    ------
    ShapeError, DtypeError, ConfigError
        If it is no such array.
    """

    array: npt.NDArray[Any]

    def __init__(self, array: Any) -> None:
        given = as_array("SelfAttention: mask", as_tensor(array))
        if given.dtype.kind not in "bf":
            raise DtypeError(
                f"SelfAttention: mask has dtype {given.dtype}; booleans (true may be seen) or floating-point numbers "
                "(added to the scores) are required"
            )
        if given.ndim not in (2, 3) or given.shape[-1] != given.shape[-2] or given.size == 0:
            raise ShapeError(
                f"SelfAttention: mask has shape {given.shape}; (L, L) or (heads, L, L) is required"
            )
        with np.errstate(over="ignore"):
            own = given.astype(np.bool_ if given.dtype.kind == "b" else np.float32)
        possible = np.less(own, np.inf)
        if not possible.all():
            at = np.unravel_index(int(np.argmin(possible)), own.shape)
            raise ConfigError(
                f"SelfAttention: mask[{', '.join(map(str, at))}] is {given[at]}; a number of float32, or -inf, is "
                "required"
            )
        own = np.ascontiguousarray(own)
        own.flags.writeable = False
        self.array = own

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape, (L, L) or (heads, L, L)."""
        return self.array.shape

    @property
    def heads(self) -> int | None:
        """The number of heads that have a matrix each; None if all share one."""
        return self.shape[0] if len(self.shape) == 3 else None

    @property
    def length(self) -> int:
        """The number of positions L."""
        return self.shape[-1]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, AttentionMask):
            return NotImplemented
        return self.array.dtype == other.array.dtype and np.array_equal(self.array, other.array)

    def __hash__(self) -> int:
        # Zeros are equal whatever their sign, so that they must not differ in bytes here.
        return hash((self.shape, self.array.dtype.kind, (self.array != 0).tobytes()))

    def __repr__(self) -> str:
        return f"AttentionMask({self.shape}, {self.array.dtype})"

    def __reduce__(self) -> Any:
        return AttentionMask, (np.array(self.array),)
