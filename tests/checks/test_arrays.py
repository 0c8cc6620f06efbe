"""Arrays of every dtype, layout and library: the bits are the same, or an error says what is required."""

from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

import fgnumba
from fgnumba.bench import reverse
from fgnumba.training import evaluation
from fgnumba.validation.arrays import as_array, first_not_finite
from tests import number_cases

# What is given here is not what annotations ask for.
fg: Any = fgnumba
cases: Any = number_cases

WHOLE: Any = np.random.default_rng(0).integers(0, 2, (12, 4, 4, 3))
EXAMPLES = WHOLE.astype(np.float32)
LABELS = cases.Y
DIRECTION = fg.directions.Gaussian(3)


class Array:
    """An object that gives an array, as other libraries' do."""

    def __init__(self, array, **more):
        self._array = array
        self.__dict__ |= more

    def __array__(self, dtype=None, copy=None):
        return np.asarray(self._array, dtype)


class Tensor:
    """Behaves as a tensor of PyTorch on the CPU does."""

    def __init__(self, array, dtype="torch.float32", requires_grad=False):
        self._array, self.dtype, self.requires_grad = array, dtype, requires_grad
        self.shape, self.ndim = array.shape, array.ndim

    def __array__(self, dtype=None, copy=None):
        if self.requires_grad:
            raise RuntimeError("Can't call numpy() on Tensor that requires grad. Use tensor.detach().numpy()")
        if self.dtype == "torch.bfloat16":
            raise TypeError("Got unsupported ScalarType BFloat16")
        return np.asarray(self._array, dtype)

    def __dlpack_device__(self):
        return (1, 0)

    def detach(self):
        return Tensor(self._array, self.dtype)

    def float(self):
        return Tensor(self._array, "torch.float32", self.requires_grad)


def unaligned(array):
    """Return a copy that begins at an odd address."""
    found = np.frombuffer(b"\0" + array.tobytes(), np.uint8)[1:].view(array.dtype).reshape(array.shape)
    assert not found.flags.aligned
    return found


def read_only(array):
    array = array.copy()
    array.flags.writeable = False
    return array


def spread(array):
    """Return a view of every other element."""
    wide = np.zeros((*array.shape[:-1], 2 * array.shape[-1]), array.dtype)
    wide[..., ::2] = array
    return wide[..., ::2]


LAYOUTS: dict[str, Any] = {
    "Fortran": np.asfortranarray,
    "backwards": lambda array: np.flip(np.flip(array).copy()),
    "spread": spread,
    "read-only": read_only,
    "unaligned": unaligned,
    "big-endian": lambda array: array.astype(array.dtype.newbyteorder(">")),
    "list": lambda array: array.tolist(),
    "objects": lambda array: array.astype(object),
    "an object that gives an array": Array,
    "a nullable frame": lambda array: Array(array.astype(object)),
    "masked, but nothing is": np.ma.masked_array,
    "a tensor with gradients": lambda array: Tensor(array, requires_grad=True),
    "bfloat16": lambda array: Tensor(array, "torch.bfloat16", requires_grad=True),
}
KINDS = (*"bBhHiIlL", "e", "f", "d", "g", "?")


def everything(x, y):
    """Return what comes of x and y at every door."""
    model, loss = cases.model(seed=1), cases.LOSS
    trainer = fg.Trainer(model, optimizer=fg.SGD(0.125), seed=2)
    return [
        model(x),
        fg.jvp(model, loss, x, y, DIRECTION, training=True),
        tuple(fg.evaluate(model, x, y)),
        trainer.estimate(x, y),
        trainer.step(x, y),
        reverse.value_and_grad(model, loss, x, y),
        loss.value(model(x), y),
        model.parameters(),
    ]


@pytest.fixture(scope="module")
def expected():
    return repr_of(everything(EXAMPLES, LABELS))


def repr_of(found):
    """Return what differs where a bit does."""
    with np.printoptions(threshold=10**6, floatmode="unique"):
        return repr(found)


@pytest.mark.parametrize("kind", KINDS)
def test_examples_of_every_kind_of_number(kind, expected):
    assert repr_of(everything(WHOLE.astype(kind), LABELS)) == expected


@pytest.mark.parametrize("layout", LAYOUTS)
def test_examples_in_every_layout(layout, expected):
    assert repr_of(everything(LAYOUTS[layout](EXAMPLES), LABELS)) == expected


def test_one_example_that_stands_for_many():
    for one in (
        np.broadcast_to(EXAMPLES[:1], EXAMPLES.shape),
        np.broadcast_to(np.float32(1), EXAMPLES.shape),
    ):
        assert repr_of(everything(one, LABELS)) == repr_of(everything(one.copy(), LABELS))


@pytest.mark.parametrize("kind", "bBhHiIlL")
def test_labels_of_every_kind_of_number(kind, expected):
    assert repr_of(everything(EXAMPLES, LABELS.astype(kind))) == expected
    assert repr_of(everything(EXAMPLES, LABELS.astype(np.dtype(kind).newbyteorder(">")))) == expected


@pytest.mark.parametrize("layout", [name for name in LAYOUTS if name not in ("bfloat16",)])
def test_labels_in_every_layout(layout, expected):
    if layout == "Fortran":
        layout = "backwards"
    make = LAYOUTS[layout]
    labels = LABELS[::-1].copy()[::-1] if layout == "backwards" else make(LABELS)
    assert repr_of(everything(EXAMPLES, labels)) == expected


def refused(make, *kinds):
    """Return the line that a call is refused with."""
    with pytest.raises(kinds or fg.FgError) as caught:
        make()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def doors(x, y):
    """Return calls that take both."""
    model, loss = cases.model(seed=1), cases.LOSS
    return [
        lambda: fg.jvp(model, loss, x, y, DIRECTION),
        lambda: fg.forward_gradient(model, loss, x, y, DIRECTION),
        lambda: fg.evaluate(model, x, y),
        lambda: fg.Trainer(model, optimizer=fg.SGD(0.125)).step(x, y),
        lambda: fg.Trainer(model, optimizer=fg.SGD(0.125)).estimate(x, y),
        lambda: reverse.value_and_grad(model, loss, x, y),
        lambda: reverse.ReverseTrainer(model, 0.125).step(x, y),
    ]


@pytest.mark.parametrize("beyond", [1 << 63, (1 << 64) - 1, (1 << 64) - 4, (1 << 63) + 1])
def test_labels_beyond_64_bits_are_not_wrapped(beyond):
    labels = LABELS.astype(np.uint64)
    labels[3] = beyond
    for call in doors(EXAMPLES, labels):
        assert f"targets[3] is {beyond}; classes are 0 to 3" in refused(call, fg.DatasetError)


@pytest.mark.parametrize("label", [-1, 4, 127])
@pytest.mark.parametrize("kind", [np.int8, np.int64, ">i4"])
def test_labels_that_are_no_class(label, kind):
    labels = LABELS.astype(kind)
    labels[5] = label
    for call in doors(EXAMPLES, labels):
        assert f"targets[5] is {label}; classes are 0 to 3" in refused(call, fg.DatasetError)
    refused(lambda: cases.LOSS.value(np.zeros((12, 4)), labels), fg.DatasetError)


def lengths_of_time():
    """Return an array of NumPy's lengths of time, which count as whole numbers to Python."""
    found = np.empty(WHOLE.size, object)
    for index in range(found.size):
        found[index] = np.timedelta64(1)
    return found.reshape(WHOLE.shape)


NO_EXAMPLES: dict[str, Any] = {
    "a frame with a missing value": np.where(WHOLE == 0, None, WHOLE),
    "text among numbers": np.where(WHOLE == 0, "a", WHOLE.astype(object)),
    "text": np.full(WHOLE.shape, "1"),
    "lengths of time": WHOLE.astype("m8[s]"),
    "lengths of time as objects": lengths_of_time(),
    "complex": EXAMPLES.astype(complex),
    "decimals": np.full(WHOLE.shape, Decimal(1)),
    "too large": np.full(WHOLE.shape, 10**400, object),
    "ragged": [[[[1.0]]], [[1.0]]],
    "records": np.zeros(WHOLE.shape, [("a", "f4")]),
    "nothing": None,
    "a tensor of another device": type("Far", (), {"__array__": lambda *_, **__: int("x")})(),
    "masked": np.ma.masked_array(EXAMPLES, WHOLE == 1),
}


@pytest.mark.parametrize("name", NO_EXAMPLES)
def test_what_is_no_array_of_numbers(name):
    bad = NO_EXAMPLES[name]
    for call in (lambda: cases.model()(bad), *doors(bad, LABELS)):
        assert refused(call).startswith("x")


@pytest.mark.parametrize("name", [n for n in NO_EXAMPLES if n not in ("ragged", "nothing")])
def test_what_are_no_labels(name):
    bad = NO_EXAMPLES[name]
    bad = bad.reshape(-1)[:12] if isinstance(bad, np.ndarray) else bad
    for call in doors(EXAMPLES, bad):
        line = refused(call)
        assert line.startswith(("y", "targets")), line


def test_fractions_are_real_numbers():
    found = as_array("x", np.array([Fraction(1, 2), 3, 0.25, np.True_], object))
    assert found.dtype == np.float64
    np.testing.assert_array_equal(found, [0.5, 3, 0.25, 1])
    assert as_array("x", np.array([True, False], object)).dtype == bool
    assert as_array("x", np.array([1, 2], object)).dtype == np.int64
    kept = np.arange(3.0)
    assert as_array("x", kept) is kept


def test_numbers_beyond_float32_are_found():
    x = EXAMPLES.astype(np.float64)
    x[2, 1, 0, 2] = 1e300
    model = cases.model(seed=1)
    before = repr_of(model.parameters())
    trainer = fg.Trainer(model, optimizer=fg.SGD(0.125))
    line = refused(lambda: trainer.step(x, LABELS), fg.DivergenceError)
    assert "x holds inf in float32 at (2, 1, 0, 2)" in line
    assert repr_of(model.parameters()) == before
    y = np.zeros((12, 4))
    y[3, 1] = -1e300
    squares = fg.MeanSquaredError()
    message = refused(lambda: fg.jvp(model, squares, EXAMPLES, y, DIRECTION), fg.DatasetError)
    assert message == "targets[3, 1] is -1e+300; a number that is finite in float32 is required"
    squared = fg.Trainer(model, loss=squares, optimizer=fg.SGD(0.125))
    assert "targets[3, 1]" in refused(lambda: squared.step(EXAMPLES, y), fg.DatasetError)
    assert first_not_finite(np.array([1, 2])) is None
    assert first_not_finite(np.array([[1.0, 2.0], [np.nan, 1e39]])) == (1, 0)


@pytest.mark.parametrize("kind", [np.float16, np.float64, np.longdouble, np.uint8, ">f8"])
def test_targets_of_every_kind_of_number(kind):
    y = (np.arange(48) % 7).reshape(12, 4)

    def found(y):
        model, squares = cases.model(seed=1), fg.MeanSquaredError()
        trainer = fg.Trainer(model, loss=squares, optimizer=fg.SGD(0.125))
        return repr_of([trainer.step(EXAMPLES, y), model.parameters(), squares.value(model(EXAMPLES), y)])

    assert found(y.astype(kind)) == found(y.astype(np.float32))
    refused(lambda: fg.MeanSquaredError().value(np.zeros((12, 4)), np.zeros((12, 1))), fg.ShapeError)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e300, np.longdouble(1e300)])
def test_parameters_and_tangents_must_be_finite(bad):
    model = cases.model(seed=1)
    arrays = {name: array.astype(np.longdouble) for name, array in model.parameters().items()}
    arrays["3.weight"][7, 2] = bad
    before, plan_before = repr_of(model.parameters()), repr_of(model(EXAMPLES))
    where = r"'3.weight'[7, 2] is "
    assert refused(lambda: model.load_parameters(arrays), fg.ConfigError).startswith(f"parameters: {where}")
    assert (repr_of(model.parameters()), repr_of(model(EXAMPLES))) == (before, plan_before)
    assert where in refused(lambda: cases.model(initial=lambda _: arrays), fg.ConfigError)
    for call in (fg.jvp, fg.forward_gradient):
        message = refused(lambda call=call: call(model, cases.LOSS, EXAMPLES, LABELS, arrays), fg.ConfigError)
        assert message.startswith(f"tangents: {where}")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_parameters_in_every_layout(layout):
    model, other = cases.model(seed=1), cases.model(seed=2)
    other.load_parameters({name: LAYOUTS[layout](array) for name, array in model.parameters().items()})
    assert repr_of(other.parameters()) == repr_of(model.parameters())


def test_a_missing_number_among_parameters():
    model = cases.model()
    arrays = {**model.parameters(), "3.bias": np.array([1.0, None, 2.0, 3.0], object)}
    assert refused(lambda: model.load_parameters(arrays)).endswith("None at [1]; real numbers are required")
    for bad in (None, 3, [("a", 1)]):
        refused(lambda bad=bad: model.load_parameters(bad))


def test_functions_take_tensors():
    point = Tensor(np.array([1.5, -0.1]), requires_grad=True)
    assert fg.functions.beale(point) == fg.functions.beale([1.5, -0.1])
    assert "None at [1]" in refused(lambda: fg.functions.beale([1.5, None]), fg.DtypeError)


def test_tensors_of_pytorch(expected):
    torch = pytest.importorskip("torch")
    x = torch.tensor(EXAMPLES, requires_grad=True)
    assert repr_of(everything(x, torch.tensor(LABELS))) == expected
    assert repr_of(everything(x.bfloat16(), torch.tensor(LABELS, dtype=torch.int8))) == expected


def test_columns_of_pandas(expected):
    pandas = pytest.importorskip("pandas")
    labels = pandas.Series(LABELS, dtype="Int64")
    assert repr_of(everything(EXAMPLES, labels)) == expected
    model = fg.Sequential([fg.Dense(4)], 3)
    frame = pandas.DataFrame(np.arange(6.0).reshape(2, 3), dtype="Float32")
    np.testing.assert_array_equal(model(frame), model(np.arange(6.0).reshape(2, 3)))
    frame.iloc[1, 2] = pandas.NA
    assert refused(lambda: model(frame)).startswith("x")


def test_evaluation_takes_no_narrow_count():
    found = evaluation.evaluate(cases.model(seed=1), EXAMPLES, LABELS.astype(np.uint8))
    assert [type(one) for one in found] == [float, float, int, dict]


def test_masked_numbers_are_none():
    for make in (
        lambda: fg.SGD(0.1, momentum=np.ma.masked),
        lambda: fg.Dense(np.ma.masked),
        lambda: fg.callbacks.EarlyStopping(min_delta=np.ma.masked),
    ):
        with pytest.raises(fg.ConfigError, match="is required"):
            make()
    x, y = np.ma.masked_equal(np.eye(3, dtype=np.float32), 1), np.arange(3)
    with pytest.raises(fg.DatasetError, match="x_train is a MaskedArray"):
        fg.datasets.Dataset("a", x, y, np.eye(3, dtype=np.float32), y, 3)


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", ">f4", ">f8"])
@pytest.mark.parametrize("shape", [(0,), (3,), (30, 40, 9)])
def test_what_is_not_finite_is_found_without_a_warning(dtype, shape):
    array = np.ones(shape, dtype)
    assert first_not_finite(array) is None
    for value in (6e4, 1e30, np.nan, np.inf, -np.inf, -1e300)[: 6 * bool(array.size)]:
        with np.errstate(over="ignore"):
            array.flat[-1] = value
        finite = np.isfinite(array.flat[-1]) and abs(value) < 1e38
        last = tuple(size - 1 for size in shape)
        assert first_not_finite(array) == (None if finite else last), value
