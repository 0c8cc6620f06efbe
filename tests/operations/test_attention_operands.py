"""What attention takes: arrays and tensors, and what it refuses in one line instead of dropping it."""

import re
from typing import Any

import numpy as np
import pytest

import fgnumba as fg

# What is given here is not what annotations ask for, or comes in a list.
attention_jvp: Any = fg.attention_jvp
X = np.random.default_rng(0).standard_normal((2, 3, 4, 5)).astype(np.float32)
BIAS = "a learned additive bias has no tangent here"

REFUSED: dict[str, tuple[Any, ...]] = {
    "another dtype": (fg.DtypeError, (X, X, X.astype(np.float64)), {}, "v is float64 and q float32"),
    "whole numbers": (fg.DtypeError, (X.astype(int), X, X), {}, "q is int64; float32 or float64"),
    "other byte order": (fg.DtypeError, (X.astype(">f4"), X, X), {}, "q is >f4"),
    "half precision": (fg.DtypeError, (X.astype(np.float16),) * 3, {}, "q is float16"),
    "a list": (fg.DtypeError, (X, X.tolist(), X), {}, "k is a list; a NumPy array or a CPU tensor"),
    "masked elements": (fg.DtypeError, (np.ma.masked_array(X), X, X), {}, "q is a MaskedArray"),
    "a vector": (fg.ShapeError, (X[0, 0, 0],) * 3, {}, "q (5,), k (5,), v (5,)"),
    "heads that do not divide": (fg.ShapeError, (X, X[:, :2], X[:, :2]), {}, "a multiple of that of q"),
    "no heads of keys": (fg.ShapeError, (X, X[:, :0], X[:, :0]), {}, "a multiple of that of q"),
    "other heads of values": (fg.ShapeError, (X, X, X[:, :1]), {}, "as many heads of v as of k"),
    "another batch": (fg.ShapeError, (X, X[:1], X[:1]), {}, "the same leading axes"),
    "another size": (fg.ShapeError, (X, X[..., :4], X), {}, "q and k of one size D"),
    "fewer values": (fg.ShapeError, (X, X, X[:, :, :3]), {}, "as many values as keys"),
    "no elements": (fg.ShapeError, (X[..., :0], X[..., :0], X), {}, "heads of 1 to 256 elements"),
    "a large head": (fg.ShapeError, (np.zeros((1, 257), np.float32),) * 3, {}, "heads of 1 to 256 elements"),
    "a mask of another shape": (
        fg.ShapeError,
        (X, X, X),
        {"mask": np.ones((3, 4), bool)},
        "mask has shape (3, 4)",
    ),
    "a mask of numbers": (
        fg.DtypeError,
        (X, X, X),
        {"mask": np.ones((4, 4), int)},
        "mask is int64; bool (True",
    ),
    "a wide mask": (fg.DtypeError, (X, X, X), {"mask": np.ones((4, 4))}, "mask is float64"),
    "a mask with a tangent": (fg.ConfigError, (X, X, X), {"mask": (X, X)}, BIAS),
    "all dropped": (fg.ConfigError, (X, X, X), {"dropout": 1.0}, "dropout is 1.0"),
    "an infinite scale": (fg.ConfigError, (X, X, X), {"scale": np.inf}, "scale is inf"),
    "a scale of text": (fg.ConfigError, (X, X, X), {"scale": "1"}, "scale is '1'"),
    "causal or not": (fg.ConfigError, (X, X, X), {"causal": 2}, "causal is 2"),
    "a negative seed": (fg.ConfigError, (X, X, X), {"seed": -1}, "seed is -1"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_fit_is_refused_in_one_line(name):
    error, operands, options, text = REFUSED[name]
    for call in (
        lambda: fg.attention(*operands, **options),
        lambda: attention_jvp(*operands, None, None, None, **options),
    ):
        with pytest.raises(error, match=re.escape(text)) as caught:
            call()
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("tangents", "error", "text"),
    [
        ((X[0], None, None), fg.ShapeError, "dq has shape (3, 4, 5); (2, 3, 4, 5) is required, or (T, ...)"),
        ((X[None, None], None, None), fg.ShapeError, "dq has shape (1, 1, 2, 3, 4, 5)"),
        (
            (X[None], None, X),
            fg.ShapeError,
            "dv has shape (2, 3, 4, 5); all tangents need the same directions",
        ),
        ((None, X.astype(np.float64), None), fg.DtypeError, "dk is float64 and q float32"),
        ((None, 0.0, None), fg.DtypeError, "dk is a float"),
    ],
)
def test_a_tangent_that_does_not_fit_is_refused(tangents, error, text):
    with pytest.raises(error, match=re.escape(text)):
        attention_jvp(X, X, X, *tangents)


def test_dropout_is_refused_where_its_counter_ends():
    q = np.broadcast_to(np.zeros(1, np.float32), (1, 1025, 1, 1))
    with pytest.raises(fg.ConfigError, match="1024 heads"):
        fg.attention(q, q, q, dropout=0.5)
    assert not fg.attention(q, q, q).any()


class OnAGpu:
    def __init__(self):
        self.__cuda_array_interface__ = {"shape": (4, 5), "typestr": "<f4", "data": (0, False), "version": 3}


def test_an_array_on_a_gpu_is_refused():
    with pytest.raises(fg.DeviceError, match="k is a OnAGpu on a GPU; an array in the CPU's memory"):
        fg.attention(X, OnAGpu(), X)


def test_tensors_come_out_where_they_go_in():
    torch = pytest.importorskip("torch")
    tensor = torch.from_numpy(X)
    y, dy = attention_jvp(tensor, tensor, tensor, tensor, None, tensor, causal=True)
    right = attention_jvp(X, X, X, X, None, X, causal=True)
    for one, expected in zip((y, dy), right, strict=True):
        assert one.dtype == torch.float32
        np.testing.assert_array_equal(one.numpy(), expected)
    seen = np.tri(4) > 0
    for mask in (seen, torch.from_numpy(seen)):
        found = fg.attention(tensor, tensor, tensor, mask=mask)
        np.testing.assert_array_equal(found.numpy(), right[0])
    turned = torch.from_numpy(np.ascontiguousarray(X.swapaxes(1, 2))).transpose(1, 2)
    np.testing.assert_array_equal(fg.attention(turned, turned, turned), fg.attention(X, X, X))
    negated = torch.complex(tensor, -tensor).conj().imag
    np.testing.assert_array_equal(fg.attention(negated, tensor, tensor), fg.attention(X, X, X))


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:`torch.jit.script` is:FutureWarning")
def test_a_tensor_is_refused_rather_than_its_derivative_dropped():
    torch = pytest.importorskip("torch")
    forward = torch.autograd.forward_ad
    tensor, square = torch.from_numpy(X), torch.zeros(4, 4)
    grown = tensor.clone().requires_grad_()
    refused = [
        (fg.ConfigError, lambda: fg.attention(tensor, grown, tensor), "k requires grad"),
        (fg.ConfigError, lambda: attention_jvp(tensor, tensor, tensor, grown, None, None), "dq requires grad"),
        (fg.ConfigError, lambda: fg.attention(X, X, X, mask=square.clone().requires_grad_()), BIAS),
        (fg.ConfigError, lambda: torch.func.jvp(lambda x: fg.attention(x, x, x), (tensor,), (tensor,)), "torch.func"),
        (fg.ConfigError, lambda: torch.func.vmap(lambda x: fg.attention(x, x, x))(tensor), "torch.func"),
        (fg.DtypeError, lambda: fg.attention(X, X, tensor), "v is a tensor and q an array"),
        (fg.DtypeError, lambda: fg.attention(*[tensor.bfloat16()] * 3), "q is a tensor of bfloat16"),
        (fg.DtypeError, lambda: fg.attention(*[tensor.to_sparse()] * 3), "q is a tensor of sparse_coo"),
        (fg.DtypeError, lambda: fg.attention(*[tensor > 0] * 3), "q is bool"),
        (fg.DeviceError, lambda: fg.attention(*[tensor.to("meta")] * 3), "q is a tensor on meta"),
    ]  # fmt: skip
    for error, call, text in refused:
        with pytest.raises(error, match=text):
            call()
    with forward.dual_level():
        moved = forward.make_dual(tensor, tensor)
        with pytest.raises(fg.ConfigError, match="q carries a tangent of PyTorch's forward mode"):
            fg.attention(moved, tensor, tensor)
        bias = forward.make_dual(torch.zeros(4, 4), torch.zeros(4, 4))
        with pytest.raises(fg.ConfigError, match=BIAS):
            fg.attention(tensor, tensor, tensor, mask=bias)
        np.testing.assert_array_equal(fg.attention(tensor, tensor, tensor), fg.attention(X, X, X))
