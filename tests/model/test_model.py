"""Models: shapes, reading and loading of parameters, outputs, errors."""

import copy
import pickle

import numpy as np
import pytest

import fgnumba as fg


def perceptron(seed=0):
    return fg.Sequential(
        [fg.Flatten(), fg.Dense(7, activation="relu"), fg.Dense(3, bias=False)],
        input_shape=(2, 3, 1),
        seed=seed,
    )


def test_parameters_are_named_by_layer_and_canonical():
    shapes = {name: array.shape for name, array in perceptron().parameters().items()}
    assert shapes == {"1.weight": (6, 7), "1.bias": (7,), "2.weight": (7, 3)}
    assert all(array.dtype == np.float32 for array in perceptron().parameters().values())
    assert perceptron().parameter_count == 6 * 7 + 7 + 7 * 3


def test_parameters_are_copies_and_load_back():
    model = perceptron()
    taken = model.parameters()
    taken["1.weight"][...] = 0
    assert model.parameters()["1.weight"].any()
    rng = np.random.default_rng(0)
    new = {name: rng.standard_normal(array.shape).astype(np.float32) for name, array in taken.items()}
    model.load_parameters(new)
    for name, array in model.parameters().items():
        np.testing.assert_array_equal(array, new[name])


def test_seed_decides_initial_parameters():
    same, other = perceptron(seed=5).parameters(), perceptron(seed=6).parameters()
    for name, array in perceptron(seed=5).parameters().items():
        np.testing.assert_array_equal(array, same[name])
    assert not np.array_equal(same["1.weight"], other["1.weight"])


def test_initial_weights_keep_the_scale_of_activations():
    model = fg.Sequential([fg.Dense(400, activation="relu"), fg.Dense(300, activation="tanh")], 500)
    first, second = model.parameters()["0.weight"], model.parameters()["1.weight"]
    # Standard error of a standard deviation over n draws: σ / sqrt(2 n); five of them.
    for weight, variance in ((first, 2 / 500), (second, 1 / 400)):
        sigma = np.sqrt(variance)
        assert abs(weight.std() - sigma) < 5 * sigma / np.sqrt(2 * weight.size)
    assert not model.parameters()["0.bias"].any()


@pytest.mark.parametrize("batch", [1, 2, 64, 255, 256, 257, 700])
def test_output_does_not_depend_on_the_batch_around_an_example(batch):
    model = perceptron()
    x = np.random.default_rng(1).standard_normal((batch, 2, 3, 1), np.float32)
    outputs = model(x)
    assert outputs.shape == (batch, 3)
    assert outputs.dtype == np.float32
    chosen = [0, batch // 2, batch - 1]
    alone = np.concatenate([model(x[i : i + 1]) for i in chosen])
    np.testing.assert_array_equal(outputs[chosen], alone)


@pytest.mark.parametrize("width", [1, 64, 255, 256, 784, 1024])
def test_input_is_read_alike_in_place_and_copied(width):
    model = fg.Sequential([fg.Dense(5, activation="tanh")], width)
    x = np.random.default_rng(2).standard_normal((9, width), np.float32)
    expected = model(x)
    wide = np.zeros((9, 2 * width), np.float32)
    wide[:, ::2] = x
    for form in (wide[:, ::2], np.asfortranarray(x), x.astype(np.float64), x.copy()):
        np.testing.assert_array_equal(model(form), expected)
    misaligned = np.frombuffer(b"\0" * 4 + x.tobytes(), np.float32, offset=4).reshape(x.shape)
    np.testing.assert_array_equal(model(misaligned), expected)


def test_integers_and_booleans_are_numbers():
    model = fg.Sequential([fg.Dense(2)], 3)
    x = np.array([[0, 1, 1]])
    np.testing.assert_array_equal(model(x), model(x.astype(bool)))


def test_a_model_copies_and_pickles_with_its_parameters():
    model = perceptron(seed=3)
    x = np.random.default_rng(3).standard_normal((4, 2, 3, 1), np.float32)
    expected = model(x)
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        np.testing.assert_array_equal(twin(x), expected)
        twin.load_parameters({name: 0 * array for name, array in twin.parameters().items()})
    np.testing.assert_array_equal(model(x), expected)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p: p.pop("1.bias"), r"'1.bias' is missing; its shape is \(7,\)"),
        (lambda p: p.update({"1.wieght": 0}), r"unknown name '1.wieght' \(did you mean '1.weight'\?\)"),
        (lambda p: p.update({"1.weight": np.zeros((7, 6))}), r"'1.weight' has shape \(7, 6\); \(6, 7\) is"),
    ],
)
def test_parameters_that_do_not_fit_change_nothing(change, message):
    model = perceptron()
    before = model.parameters()
    wrong = {name: array + 1 for name, array in before.items()}
    change(wrong)
    with pytest.raises(fg.ShapeError, match=message):
        model.load_parameters(wrong)
    for name, array in model.parameters().items():
        np.testing.assert_array_equal(array, before[name])


def test_parameters_must_be_real_numbers():
    model = perceptron()
    wrong = {**model.parameters(), "1.bias": np.array(["a"] * 7)}
    with pytest.raises(fg.DtypeError, match=r"'1.bias' has dtype <U1; real numbers"):
        model.load_parameters(wrong)


@pytest.mark.parametrize(
    ("x", "error", "message"),
    [
        (np.zeros((2, 6), np.float32), fg.ShapeError, r"\(2, 6\); \(B, 2, 3, 1\) with B >= 1 is required"),
        (np.zeros((0, 2, 3, 1), np.float32), fg.ShapeError, "B >= 1"),
        (np.float32(0), fg.ShapeError, r"x has shape \(\)"),
        (np.zeros((1, 2, 3, 1), complex), fg.DtypeError, "complex128; real numbers"),
    ],
)
def test_inputs_that_do_not_fit(x, error, message):
    with pytest.raises(error, match=message):
        perceptron()(x)


@pytest.mark.parametrize(
    ("build", "error", "message"),
    [
        (lambda: fg.Sequential([], 3), fg.ConfigError, "at least one that computes"),
        (lambda: fg.Sequential([fg.Flatten()], 3), fg.ConfigError, "at least one that computes"),
        (lambda: fg.Sequential(["dense"], 3), fg.ConfigError, r"layers\[0\] is 'dense'"),  # type: ignore[list-item]
        (lambda: fg.Sequential([fg.Dense(2)], (2, 2, 1)), fg.ShapeError, r"layers\[0\]: .*Flatten"),
        (lambda: fg.Sequential([fg.Dense(2)], 0), fg.ShapeError, "input_shape is 0"),
        (lambda: fg.Sequential([fg.Dense(2)], ()), fg.ShapeError, r"input_shape is \(\)"),
        (lambda: fg.Sequential([fg.Dense(2)], 3, seed=-1), fg.ConfigError, "seed is -1"),
        (lambda: fg.Sequential([fg.Dense(2)], 3, seed=2**64), fg.ConfigError, "seed is 18446744073709551616"),
        (lambda: fg.Sequential([fg.Dense(2)], 3, device="gpu"), fg.DeviceError, "unknown device 'gpu'"),
        (lambda: fg.Sequential([fg.Dense(2)], 3, device="cuda"), fg.DeviceError, "'cuda' is not available"),
        (lambda: fg.Dense(0), fg.ConfigError, "units is 0"),
        (lambda: fg.Dense(True), fg.ConfigError, "units is True"),
        (lambda: fg.Dense(2, activation="rleu"), fg.ConfigError, "did you mean 'relu'"),
        (lambda: fg.Dense(2, bias=1), fg.ConfigError, "bias is 1"),  # type: ignore[arg-type]
    ],
)
def test_models_that_cannot_be(build, error, message):
    with pytest.raises(error, match=message):
        build()


def test_every_public_name_is_there():
    for name in fg.__all__:
        assert getattr(fg, name) is not None
    assert set(fg.__all__) == set(fg._HOME) | set(fg._MODULES)
    with pytest.raises(AttributeError, match="no attribute 'Sequental'"):
        fg.Sequental  # noqa: B018


@pytest.mark.parametrize("units", [1, 31, 32, 33, 64])
def test_parameters_are_copies(units):
    model = fg.Sequential([fg.Dense(units)], 5)
    before = model.parameters()
    before["0.weight"][...] = 7
    before["0.bias"][...] = 7
    after = model.parameters()
    assert not (after["0.weight"] == 7).any()
    assert not (after["0.bias"] == 7).any()
