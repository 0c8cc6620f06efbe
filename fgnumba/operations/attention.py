"""Attention by itself, and its JVP: fused, exact, and in memory that does not grow with the length."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fgnumba.errors import ConfigError, DtypeError, ShapeError, shown
from fgnumba.kernels.devices.device import Cpu
from fgnumba.kernels.emit.precision import FLOAT32
from fgnumba.kernels.layout.heads import Heads, Mask
from fgnumba.kernels.rules.philox import MAX_SEED, STREAM, set_stream
from fgnumba.operations import operands
from fgnumba.validation import as_float, flag, real_number, whole_number

__all__ = ["attention", "attention_jvp"]

_GIVEN = "give its tangent to attention_jvp as an argument, and detach it"
_OF_TANGENT = "derivatives of derivatives are not computed; detach it"
_BIAS = "a learned additive bias has no tangent here; detach it if it is a constant"

_LARGEST = 256

_DEVICE = Cpu(FLOAT32)
"""What computes. Operands are not rounded, whatever the products of models are."""


@dataclass(frozen=True)
class _Operands:
    """The operands of one call, with the axes (B, H, L, D); tangents have one more before them."""

    q: npt.NDArray[Any]
    k: npt.NDArray[Any]
    v: npt.NDArray[Any]
    tangents: tuple[npt.NDArray[Any] | None, ...]
    count: int
    """Number of directions."""
    shape: tuple[int, ...]
    """Shape of the result."""
    directions: tuple[int, ...]
    """(T,) if tangents have an axis of directions, else ()."""


def attention(
    q: Any,
    k: Any,
    v: Any,
    mask: Any = None,
    causal: bool = False,
    scale: float | None = None,
    dropout: float = 0.0,
    seed: int = 0,
) -> Any:
    r"""Return scaled dot-product attention, without ever holding the matrix of scores.

    .. math:: S = \mathrm{scale} \; q k^\top + \mathrm{mask}, \qquad y = \mathrm{softmax}(S) \, v

    Parameters
    ----------
    q : array or tensor, (..., H, Lq, D)
        Queries, float32 or float64: a NumPy array, or a CPU tensor of PyTorch. D is from 1 to 256. Without leading axes
        there is one example; with (L, D) alone, one head.
    k, v : array or tensor, (..., G, Lk, D) and (..., G, Lk, Dv)
        Keys and values, of the kind, the dtype and the leading axes of `q`. H is a multiple of G: query head h reads
        head h // (H // G) of keys and values, which is called grouped queries.
    mask : array or tensor, optional
        Broadcastable to (..., H, Lq, Lk). Boolean: True where a key may be seen. Otherwise it has the dtype of `q`
        and is added to the scores; a key at -inf is not seen. By default every key is seen.
    causal : bool, optional
        Whether query i sees only keys up to i + Lk - Lq, so that the last query sees the last key. (``is_causal`` of
        PyTorch aligns the first query with the first key.) By default False.
    scale : float, optional
        What scores are multiplied by, a finite number. By default 1 / sqrt(D).
    dropout : float, optional
        The share of the probabilities that is replaced by zero, while the others are divided by 1 - dropout. By default
        0.
    seed : int, optional
        Which probabilities are dropped: the same ones for the same seed, also by :func:`attention_jvp`. By default 0.

    Returns
    -------
    array or tensor, (..., H, Lq, Dv)
        y. Rows of queries that see no key are zero. Keys and values that are not seen have no influence, even if they
        are infinite or NaN.

    Raises
    ------
    ShapeError
        The shapes do not fit each other.
    DtypeError
        An operand is no array or tensor, is of another dtype than float32 and float64, or of another than `q`.
    DeviceError
        An operand lies on a GPU.
    ConfigError
        A number is out of its range, or a tensor carries a derivative of PyTorch's own.

    Notes
    -----
    Keys are taken in blocks beside a running maximum and sum, so that the memory beside operands and result does not
    depend on Lq and Lk. Sums are divided by that of the exponentials at the end: values above the largest float over Lk
    overflow. The same bits come out with any number of threads.

    References
    ----------
    M. N. Rabe, C. Staats, Self-attention does not need O(n²) memory, arXiv 2112.05682; T. Dao et al., FlashAttention,
    arXiv 2205.14135.

    Examples
    --------
    >>> import fgnumba as fg
    >>> import numpy as np
    >>> q = k = v = np.eye(3, dtype=np.float32)
    >>> fg.attention(q, k, v, causal=True).round(2)
    array([[1.  , 0.  , 0.  ],
           [0.36, 0.64, 0.  ],
           [0.26, 0.26, 0.47]], dtype=float32)
    """
    found = _operands(q, k, v, (None, None, None))
    y, _ = _computed(found, mask, causal, scale, dropout, seed, moved=False)
    return operands.like(q, y)


def attention_jvp(
    q: Any,
    k: Any,
    v: Any,
    dq: Any,
    dk: Any,
    dv: Any,
    mask: Any = None,
    causal: bool = False,
    scale: float | None = None,
    dropout: float = 0.0,
    seed: int = 0,
) -> tuple[Any, Any]:
    r"""Return scaled dot-product attention and its directional derivatives, from one pass over keys and values.

    .. math::

        S = \mathrm{scale} \; q k^\top + \mathrm{mask}, \quad p = \mathrm{softmax}(S), \quad y = p v

        dS = \mathrm{scale} \, (dq \, k^\top + q \, dk^\top), \quad
        dy = \sum_j p_j (dv_j + dS_j v_j) - y \sum_j p_j dS_j

    Parameters
    ----------
    q, k, v, mask, causal, scale, dropout, seed :
        As those of :func:`attention`. The mask has no tangent.
    dq, dk, dv : array or tensor, or None
        Tangents of `q`, `k` and `v`, with their shapes and dtype. None: a symbolic zero, whose products are not
        computed. For T directions at once, all that are given have one more axis (T, ...) before the others.

    Returns
    -------
    y : array or tensor, (..., H, Lq, Dv)
        As :func:`attention` returns it.
    dy : array or tensor, (..., H, Lq, Dv), or (T, ..., H, Lq, Dv)
        The derivative of y along each direction. It is zero for queries that see no key, and where all tangents are
        None.

    Raises
    ------
    ShapeError, DtypeError, DeviceError, ConfigError
        As :func:`attention`.

    Notes
    -----
    With all three tangents and D = Dv, a direction costs four products of Lq Lk D multiply-adds a head beside the two
    of y, and half of that if it is causal. More directions than seven (than fewer if D > 64, or in float64) are taken
    in groups, each of which computes the scores again.

    References
    ----------
    T. Dao et al., FlashAttention, arXiv 2205.14135; M. N. Rabe, C. Staats, arXiv 2112.05682; A. G. Baydin et al.,
    Gradients without backpropagation, arXiv 2202.08587.

    Examples
    --------
    >>> import fgnumba as fg
    >>> import numpy as np
    >>> q = k = v = np.eye(3, dtype=np.float32)
    >>> y, dy = fg.attention_jvp(q, k, v, None, None, np.ones_like(v))
    >>> dy.round(2)
    array([[1., 1., 1.],
           [1., 1., 1.],
           [1., 1., 1.]], dtype=float32)
    """
    found = _operands(q, k, v, (dq, dk, dv))
    y, dy = _computed(found, mask, causal, scale, dropout, seed, moved=True)
    return operands.like(q, y), operands.like(q, dy)


def _operands(q: Any, k: Any, v: Any, tangents: tuple[Any, ...]) -> _Operands:
    """Read and check the operands of a call."""
    primal = {name: operands.read(name, value, _GIVEN) for name, value in (("q", q), ("k", k), ("v", v))}
    given = {"q": q, "k": k, "v": v} | dict(zip(("dq", "dk", "dv"), tangents, strict=True))
    kinds = {name: operands.is_tensor(value) for name, value in given.items() if value is not None}
    if len(set(kinds.values())) > 1:
        odd = next(name for name, tensor in kinds.items() if tensor != kinds["q"])
        this, other = ("a tensor", "an array") if kinds["q"] else ("an array", "a tensor")
        raise DtypeError(f"{odd} is {other} and q {this}; operands of one kind are required")
    moved = {
        name: None if value is None else operands.read(name, value, _OF_TANGENT)
        for name, value in given.items()
        if name.startswith("d")
    }
    operands.check_dtypes(**primal, **moved)
    _check_shapes(primal["q"], primal["k"], primal["v"])
    directions: tuple[int, ...] | None = None
    for name, array in moved.items():
        if array is None:
            continue
        own = primal[name[1]].shape
        extra = array.shape[: array.ndim - len(own)]
        if array.shape[len(extra) :] != own or len(extra) > 1:
            raise ShapeError(f"{name} has shape {array.shape}; {own} is required, or (T, ...) of it")
        if directions is not None and extra != directions:
            raise ShapeError(
                f"{name} has shape {array.shape}; all tangents need the same directions (T, ...)"
            )
        directions = extra
    directions = directions or ()
    count, shape = math.prod(directions), (*primal["q"].shape[:-1], primal["v"].shape[-1])
    q, k, v = (_with_axes(array, 4) for array in primal.values())
    apart = tuple(
        None if x is None else _with_axes(x.reshape(count, *x.shape[len(directions) :]), 5)
        for x in moved.values()
    )
    return _Operands(q, k, v, apart, count, shape, directions)


def _check_shapes(q: npt.NDArray[Any], k: npt.NDArray[Any], v: npt.NDArray[Any]) -> None:
    shapes = f"q {q.shape}, k {k.shape}, v {v.shape}"
    if q.ndim < 2 or not q.ndim == k.ndim == v.ndim:
        raise ShapeError(f"{shapes}: (..., H, Lq, D), (..., G, Lk, D) and (..., G, Lk, Dv) are required")
    if not q.shape[:-3] == k.shape[:-3] == v.shape[:-3]:
        raise ShapeError(f"{shapes}: the same leading axes are required")
    if q.shape[-1] != k.shape[-1] or k.shape[-2] != v.shape[-2]:
        raise ShapeError(f"{shapes}: q and k of one size D, and as many values as keys, are required")
    if not 1 <= q.shape[-1] <= _LARGEST or not 1 <= v.shape[-1] <= _LARGEST:
        raise ShapeError(f"{shapes}: heads of 1 to {_LARGEST} elements are required")
    heads, groups, of_values = (x.shape[-3] if x.ndim > 2 else 1 for x in (q, k, v))
    if groups != of_values or (heads % groups if groups else heads):
        raise ShapeError(f"{shapes}: as many heads of v as of k, and a multiple of that of q, are required")


def _with_axes(array: npt.NDArray[Any], n: int) -> npt.NDArray[Any]:
    """Return an array with `n` axes: leading ones added, or those before the heads' merged."""
    front = array.shape[: n - 4]
    rest = array.shape[n - 4 :]
    rest = (1,) * (4 - len(rest)) + rest
    return array.reshape(*front, math.prod(rest[:-3]), *rest[-3:])


def _computed(
    found: _Operands,
    mask: Any,
    causal: bool,
    scale: float | None,
    dropout: float,
    seed: int,
    moved: bool,
) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Return y and, if `moved`, dy."""
    q, k, v = found.q, found.k, found.v
    causal = flag("causal", causal)
    factor = 1 / math.sqrt(q.shape[-1]) if scale is None else as_float(scale)
    if factor is None or not math.isfinite(factor):
        raise ConfigError(f"scale is {shown(scale)}; a finite number, or None for 1 / sqrt(D), is required")
    rate = real_number("dropout", dropout, below=1)
    stream = np.zeros(1, STREAM)
    set_stream(stream, whole_number("seed", seed, 0, MAX_SEED), 0)
    lead = (*found.shape[:-3], *q.shape[1:3], k.shape[2])
    seen = None if mask is None else _mask(mask, lead, q.dtype)
    y = operands.empty(found.shape, q.dtype)
    dy = operands.empty((*found.directions, *found.shape) if moved else (0,), q.dtype)
    if y.size == 0:
        return y, dy
    count = found.count if moved and any(x is not None for x in found.tangents) else 0
    out = Heads.of_array(_with_axes(y, 4)[np.newaxis], count > 0)
    batch, heads, queries, size = _with_axes(y, 4).shape
    operation = _DEVICE.kernels.attention.bind(
        _DEVICE.isa,
        _DEVICE.threads,
        batch=batch,
        count=count,
        q=_heads(q, found.tangents[0]),
        k=_heads(k, found.tangents[1]),
        v=_heads(v, found.tangents[2]),
        y=Heads(y, 0, (heads, queries, size), y.size, out.example, out.head, out.row, count > 0, dy),
        scale=factor,
        causal=causal,
        mask=seen,
        dropout=rate,
        stream=stream,
    )
    _DEVICE.program([operation]).run()
    return y, dy


def _heads(primal: npt.NDArray[Any], tangents: npt.NDArray[Any] | None) -> Heads:
    """Return an operand (B, H, L, D) and its tangents (T, B, H, L, D) as heads. What lies otherwise is copied."""
    alike = tangents is None or (primal.strides == tangents.strides[1:] and _strides(tangents))
    if not (_strides(primal) and alike):
        primal = np.ascontiguousarray(primal)
        tangents = None if tangents is None else np.ascontiguousarray(tangents)
    example, head, row = _strides(primal)
    block = 0 if tangents is None else tangents.strides[0] // tangents.itemsize
    shape = primal.shape[1:]
    return Heads(primal, 0, shape, block, example, head, row, tangents is not None, tangents)


def _strides(array: npt.NDArray[Any]) -> tuple[int, ...]:
    """Return the strides of examples, heads and rows in elements; empty if an array does not lie as kernels need."""
    *strides, last = array.strides
    inside = last == array.itemsize or array.shape[-1] == 1
    whole = all(stride >= 0 and stride % array.itemsize == 0 for stride in strides)
    usable = inside and whole and array.flags.aligned
    return tuple(stride // array.itemsize for stride in strides) if usable else ()


def _mask(mask: Any, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Mask:
    """Return a mask, broadcast to (..., H, Lq, Lk), without a copy unless a row's elements lie apart."""
    if isinstance(mask, tuple | list):
        raise ConfigError(f"mask is a {type(mask).__name__}; an array or a tensor is required: {_BIAS}")
    array = operands.read("mask", mask, _BIAS)
    if array.dtype not in (np.bool_, dtype):
        raise DtypeError(f"mask is {array.dtype}; bool (True may be seen), or {dtype} as q is, is required")
    try:
        np.broadcast_to(array, shape)
    except ValueError:
        raise ShapeError(
            f"mask has shape {array.shape}; one that can be broadcast to {shape} is required"
        ) from None
    if array.ndim == 0 or array.shape[-1] != shape[-1] or array.strides[-1] != array.itemsize:
        array = np.ascontiguousarray(np.broadcast_to(array, (*array.shape[:-1], shape[-1])))
    if not array.flags.aligned or any(stride < 0 or stride % array.itemsize for stride in array.strides):
        array = array.copy()
    full = np.broadcast_to(array, shape)
    return Mask.of_array(full.reshape(math.prod(shape[:-3]), *shape[-3:]))
