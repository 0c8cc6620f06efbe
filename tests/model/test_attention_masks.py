"""Constant masks of attention: values that are compared, hashed, copied, and saved beside the parameters."""

import copy
import json
import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save

import fgnumba as fg
from fgnumba.layers.attention_mask import AttentionMask
from fgnumba.layers.tables import layer_of
from fgnumba.model.described import KEY
from fgnumba.storage.safetensors import read_header
from tests.hostile import mutations, refusal

CAUSAL = np.tri(6) > 0
ADDED = np.where(np.tri(6) > 0, np.linspace(-1, 1, 6), -np.inf) * np.ones((2, 1, 1))


def model_of(mask, **more):
    return fg.Sequential([fg.SelfAttention(2, mask=mask, **more), fg.Dense(3)], (6, 4), seed=1, device="cpu")


def examples(batch=3):
    return np.random.default_rng(batch).standard_normal((batch, 6, 4)).astype(np.float32)


def test_masks_are_values():
    given = CAUSAL.copy()
    mask = AttentionMask(given)
    given[0, 0] = False
    assert mask == AttentionMask(CAUSAL.tolist()) == AttentionMask(np.asfortranarray(CAUSAL))
    assert hash(mask) == hash(AttentionMask(CAUSAL))
    for other in (AttentionMask(given), AttentionMask(CAUSAL.astype(float)), AttentionMask(CAUSAL[None])):
        assert mask != other
    assert mask != CAUSAL.tolist()
    for copied in (copy.deepcopy(mask), pickle.loads(pickle.dumps(mask))):
        assert copied == mask
        with pytest.raises(ValueError, match="read-only"):
            copied.array[0, 0] = False
    zeros = [AttentionMask(np.full((2, 2), zero)) for zero in (0.0, -0.0)]
    assert zeros[0] == zeros[1]
    assert hash(zeros[0]) == hash(zeros[1])
    assert repr(fg.SelfAttention(2, mask=ADDED)).endswith(
        "mask=AttentionMask((2, 6, 6), float32), dropout=0.0, scale=None, deviation=None)"
    )


def test_a_mask_says_what_causal_says():
    x = examples()
    y = model_of(CAUSAL)(x)
    np.testing.assert_array_equal(y, model_of(None, causal=True)(x))
    np.testing.assert_array_equal(y, model_of(np.where(CAUSAL, 0.0, -np.inf))(x))
    assert (y != model_of(None)(x)).any()


@pytest.mark.parametrize("mask", [CAUSAL, ADDED], ids=["boolean", "added"])
def test_a_mask_is_saved_beside_the_parameters(tmp_path, mask):
    path, model = tmp_path / "model", model_of(mask)
    model.save(path)
    loaded = fg.load(path, device="cpu")
    assert loaded.given == model.given
    np.testing.assert_array_equal(loaded(examples()), model(examples()))
    tensors = load_file(path)
    np.testing.assert_array_equal(tensors.pop("0.mask"), mask.astype(tensors["0.weight"].dtype) * 1)
    assert tensors.keys() == model.parameters().keys()
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(model))(examples()), model(examples()))


def test_a_large_mask_needs_no_long_description(tmp_path):
    mask = np.random.default_rng(0).random((2048, 2048)) < 0.5
    model = fg.Graph([fg.Node("a", fg.SelfAttention(1, mask=mask))], (2048, 1), device="cpu")
    model.save(tmp_path / "model")
    assert len(read_header(tmp_path / "model").metadata[KEY]) < 500
    assert fg.load(tmp_path / "model").nodes == model.nodes


def changed(path, tensors: Any = (), **layer):
    """Write a model whose mask, or what its description says of it, is changed."""
    model_of(CAUSAL).save(path)
    text, arrays = json.loads(read_header(path).metadata[KEY]), load_file(path)
    text["layers"][0] |= layer
    path.write_bytes(save({**arrays, **dict(tensors)}, {KEY: json.dumps(text)}))
    return path


FALSE: dict[str, tuple[dict[str, Any], str]] = {
    "another tensor": (
        {"mask": {"tensor": "0.weight"}},
        "mask is .*0.weight.*; a tensor of its own is required",
    ),
    "more than a tensor": ({"mask": {"tensor": "0.mask", "more": 1}}, "a tensor of its own is required"),
    "no tensor": ({"mask": {"tensor": "7.mask"}, "name": "7"}, "'7.mask' is missing"),
    "lists beside a tensor": ({"mask": CAUSAL.tolist()}, "unknown name '0.mask'"),
    "text": ({"mask": "all"}, r"layers\[0\]: SelfAttention: mask"),
    "another size": ({"tensors": {"0.mask": CAUSAL[:5, :5]}}, r"the mask's \(5, 5\)"),
    "another rank": (
        {"tensors": {"0.mask": CAUSAL[0]}},
        r"layers\[0\]: SelfAttention: mask has shape \(6,\)",
    ),
    "whole numbers": ({"tensors": {"0.mask": CAUSAL.astype(np.int8)}}, "'0.mask' has dtype I8; BOOL or F32"),
    "NaN": ({"tensors": {"0.mask": np.full((6, 6), np.nan, np.float32)}}, r"mask\[0, 0\] is nan"),
    "a tensor that is no parameter": ({"tensors": {"more": np.ones(3, np.float32)}}, "unknown name 'more'"),
}


@pytest.mark.parametrize(("changes", "message"), FALSE.values(), ids=FALSE)
def test_files_that_are_false(tmp_path, changes, message):
    with pytest.raises(fg.RunError, match=f"is damaged: .*{message}") as caught:
        fg.load(changed(tmp_path / "model", **changes))
    assert len(str(caught.value).splitlines()) == 1


@settings(max_examples=60)
@given(data=st.data())
def test_a_damaged_file_is_read_or_refused(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("damaged") / "model"
    model_of(ADDED).save(path)
    path.write_bytes(data.draw(mutations(path.read_bytes())))
    message = refusal(lambda: fg.load(path, "cpu"))
    assert message is None or message.startswith(str(path))


def test_bytes_other_than_0_and_1_are_true(tmp_path):
    path = tmp_path / "model"
    model_of(CAUSAL).save(path)
    header = read_header(path)
    content = bytearray(path.read_bytes())
    tensor = header.tensors["0.mask"]
    place = slice(header.size + tensor.start, header.size + tensor.end)
    content[place] = bytes(255 * byte for byte in content[place])
    path.write_bytes(content)
    assert fg.load(path).given == model_of(CAUSAL).given


def test_a_table_may_have_lists():
    assert layer_of(
        {"type": "self_attention", "heads": 2, "mask": CAUSAL.tolist()}, "here"
    ) == fg.SelfAttention(2, mask=CAUSAL)


REFUSED: dict[str, tuple[Any, type[fg.FgError], str]] = {
    "whole numbers": (np.ones((3, 3), int), fg.DtypeError, "mask has dtype int64; booleans"),
    "a row": (np.ones(3, bool), fg.ShapeError, r"mask has shape \(3,\); \(L, L\) or \(heads, L, L\)"),
    "no square": (np.ones((3, 4), bool), fg.ShapeError, r"mask has shape \(3, 4\)"),
    "nothing": (np.ones((0, 0), bool), fg.ShapeError, r"mask has shape \(0, 0\)"),
    "other heads": (np.ones((3, 4, 4), bool), fg.ShapeError, r"\(L, L\) or \(2, L, L\) is required"),
    "NaN": (np.full((2, 2), np.nan), fg.ConfigError, r"mask\[0, 0\] is nan; a number of float32, or -inf"),
    "infinity": (np.array([[0, 0], [0, np.inf]]), fg.ConfigError, r"mask\[1, 1\] is inf"),
    "too large": (np.array([[0, 1e39], [0, 0]]), fg.ConfigError, r"mask\[0, 1\] is 1e\+39"),
    "text": ("all", fg.FgError, "SelfAttention: mask"),
}


@pytest.mark.parametrize(("mask", "error", "message"), REFUSED.values(), ids=REFUSED)
def test_masks_that_are_none(mask, error, message):
    with pytest.raises(error, match=message):
        fg.SelfAttention(2, mask=mask)


def test_a_mask_fixes_the_length():
    with pytest.raises(
        fg.ShapeError, match=r"the input's shape is \(5, 4\), and the mask's \(6, 6\); a mask fixes"
    ):
        model_of(CAUSAL).at_length(5)
