"""Examples as people have them, such as data frames or images of bytes, in the form in which a model takes them."""

import logging
import math
import warnings
from typing import Any

import numpy as np
import numpy.typing as npt

from fgnumba.errors import DtypeError, FgWarning, ShapeError
from fgnumba.layers.base import Shape
from fgnumba.validation.arrays import REAL, as_array, as_tensor, check_finite
from fgnumba.validation.frames import is_frame, of_frame

LOG = logging.getLogger("fgnumba")


def examples_of(what: str, x: Any, shape: Shape, number: int = 0) -> npt.NDArray[np.float32]:
    """Return examples as a C-contiguous float32 array (n, *shape).

    An array of that dtype and order is not copied; what is converted is said in the log. Images without their one
    channel, and flattened examples, get the model's shape.

    Parameters
    ----------
    what : str
        The name of the argument, for messages.
    x : array_like or data frame
        The examples: (n, *shape), (n, K) with K the product of `shape`, or (n, H, W) for `shape` (H, W, 1).
    shape : tuple of int
        The model's input shape.
    number : int
        Number of the batch, if they are one of several; what is said of the first is not repeated. Default: 0.

    Raises
    ------
    ShapeError, DtypeError, DatasetError
        The examples do not fit, are no real numbers, or a number is too large for float32.
    """
    array = of_frame(what, x) if is_frame(x) else as_array(what, as_tensor(x))
    if array.dtype.kind not in REAL:
        raise DtypeError(f"{what} has dtype {array.dtype}; real numbers are required")
    if array.ndim == 1 and shape == (1,):
        array = array[:, None]
    flat = array.ndim == 2 and array.shape[1] == math.prod(shape)
    if array.shape[1:] != shape and not flat and (*array.shape[1:], 1) != shape:
        required = ", ".join(("n", *map(str, shape)))
        raise ShapeError(
            f"{what} has shape {array.shape}; ({required}) is required{channels_first(array.shape, shape)}"
        )
    if len(array) == 0:
        raise ShapeError(f"{what} has no examples; at least one is required")
    if not number:
        _warn_of_bytes(what, array, shape)
    with np.errstate(over="ignore"):
        examples = np.ascontiguousarray(array.reshape(len(array), *shape), np.float32)
    if array.dtype != np.float32 or not array.flags.c_contiguous:
        if not number:
            LOG.info("%s: %s converted once to C-contiguous float32", what, array.dtype)
        check_finite(what, examples, array)
    return examples


def channels_first(given: tuple[int, ...], shape: Shape) -> str:
    """Return a question for the end of a message, if a batch of images has its channels first; else ``""``.

    Parameters
    ----------
    given : tuple of int
        The batch's shape.
    shape : tuple of int
        The model's input shape.
    """
    if len(given) == 4 and len(shape) == 3 and (*given[2:], given[1]) == shape:
        return ". Do the channels come first? They must come last: np.moveaxis(x, 1, -1)"
    return ""


def _warn_of_bytes(what: str, array: npt.NDArray[Any], shape: Shape) -> None:
    """Warn of images whose values are bytes: weight perturbation diverges on them, and other estimators learn less."""
    if len(shape) == 3 and array.dtype == np.uint8 and array.max() > 1:
        warnings.warn(
            f"{what} are images of bytes, 0 to {array.max()}; divide them by 255: networks learn best near 1",
            FgWarning,
            stacklevel=5,
        )
