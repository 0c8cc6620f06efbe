"""``Trainer.fit`` on data as people have them: arrays, lists, data frames, tensors, labels of any kind, batches."""

import logging
import math

import numpy as np
import pytest

import fgnumba as fg
from fgnumba.training import scoring
from tests.tolerances_metrics import METRIC

rng = np.random.default_rng(3)
X = rng.standard_normal((60, 4)).astype(np.float32)
LABELS = (X @ rng.standard_normal((4, 3))).argmax(axis=1)
REAL = (X @ rng.standard_normal((4, 2))).astype(np.float32)
NAMES = np.array(["cat", "dog", "eel"])


def classifier(outputs=3, **more):
    return fg.Trainer(
        fg.Sequential([fg.Dense(8, activation="tanh"), fg.Dense(outputs)], 4, seed=1, device="cpu"),
        **{"estimator": "feedback", "optimizer": fg.SGD(0.1), "seed": 5, **more},
    )


def regressor(outputs=2):
    return classifier(outputs, loss="mse")


def trained(trainer, *data, **more):
    trainer.fit(*data, **{"steps": 7, "batch_size": 16, **more})
    return {name: array.tobytes() for name, array in trainer.model.parameters().items()}


@pytest.fixture(scope="module")
def expected():
    dataset = fg.datasets.Dataset("points", X, LABELS.astype(np.int64), X[:5], LABELS[:5].astype(np.int64), 3)
    return trained(classifier(), dataset)


ARRAYS = {
    "float64": X.astype(np.float64),
    "float16 as good": X.astype(np.float16).astype(np.float32),
    "Fortran order": np.asfortranarray(X),
    "a view": np.repeat(X, 2, axis=1)[:, ::2],
    "big-endian": X.astype(">f4"),
    "read-only": np.frombuffer(X.tobytes(), np.float32).reshape(X.shape),
    "lists": X.astype(np.float64).tolist(),
}


@pytest.mark.parametrize("form", ARRAYS)
def test_arrays_of_any_dtype_and_order_train_alike(form, expected):
    given = ARRAYS[form]
    if form == "float16 as good":
        assert trained(classifier(), given.astype(np.float16), LABELS) == trained(classifier(), given, LABELS)
    else:
        assert trained(classifier(), given, LABELS) == expected


def test_whole_numbers_and_flags_are_examples(expected):
    counts = np.arange(24).reshape(6, 4)
    labels = [0, 1, 2, 0, 1, 2]
    as_float = trained(classifier(), counts.astype(np.float32), labels)
    assert trained(classifier(), counts, labels) == as_float
    assert trained(classifier(), counts > 3, labels) == trained(
        classifier(), (counts > 3).astype(np.float32), labels
    )


def test_a_pair_is_examples_and_targets(expected):
    assert trained(classifier(), (X, LABELS)) == expected


def test_what_is_converted_is_said_once(caplog):
    with caplog.at_level(logging.INFO, "fgnumba"):
        classifier().fit(X.astype(np.float64), LABELS, steps=3)
        assert [r.message for r in caplog.records] == ["X: float64 converted once to C-contiguous float32"]
        caplog.clear()
        classifier().fit(X, LABELS, steps=3)
    assert not caplog.records


@pytest.mark.parametrize(
    "labels",
    [
        *(LABELS.astype(dtype) for dtype in (np.int8, np.uint8, np.int16, np.uint64, np.float32, np.float64)),
        LABELS.tolist(),
        LABELS[:, None],
        NAMES[LABELS],
        NAMES[LABELS].astype(object),
        NAMES[LABELS].tolist(),
        LABELS + 1,
        np.array([1, 5, 9])[LABELS],
        np.array([-3.0, 0.0, 1e9])[LABELS],
    ],
    ids=lambda labels: f"{np.asarray(labels).dtype}-{np.ravel(labels)[0]}-{np.ndim(labels)}",
)
def test_labels_of_any_kind_are_classes_in_sorted_order(labels, expected):
    assert trained(classifier(), X, labels) == expected


def test_a_model_keeps_what_its_classes_are_called():
    trainer = classifier()
    trainer.fit(X, NAMES[LABELS], epochs=40, batch_size=16, validation=(X[:9], NAMES[LABELS][:9]))
    assert trainer.model.classes == ("cat", "dog", "eel")
    by_name = fg.evaluate(trainer.model, X, NAMES[LABELS].tolist())
    numbered = fg.Sequential(
        trainer.model.layers, 4, device="cpu", initial=lambda _: trainer.model.parameters()
    )
    assert by_name == fg.evaluate(numbered, X, LABELS)
    assert by_name.accuracy > 0.8
    with pytest.raises(
        fg.DatasetError, match=r"y\[1\] is 'cow'; the model's classes are \['cat', 'dog', 'eel'\]"
    ):
        fg.evaluate(trainer.model, X[:2], ["cat", "cow"])
    with pytest.raises(fg.DatasetError, match=r"y\[0\] is 'ant'; the model's classes"):
        trainer.fit(X[:2], ["ant", "cat"], steps=1)


def test_flags_are_two_classes():
    assert trained(classifier(2), X, X[:, 0] > 0) == trained(classifier(2), X, (X[:, 0] > 0).astype(int))


def test_classes_without_an_example_are_named():
    with pytest.warns(fg.errors.FgWarning, match="y: no example of classes 1, 3; the model has 4 outputs"):
        classifier(4).fit(X, np.where(LABELS > 0, 2, 0), steps=2)


@pytest.mark.parametrize("library", ["pandas", "polars", "pyarrow"])
@pytest.mark.parametrize("kind", ["classes", "real"])
def test_data_frames(library, kind, expected):
    frames = pytest.importorskip(library)
    pytest.importorskip("narwhals")
    make = frames.table if library == "pyarrow" else frames.DataFrame
    names = [f"f{i}" for i in range(4)]
    frame = make({name: X[:, i].astype(np.float64) for i, name in enumerate(names)})
    targets = make({"kind": NAMES[LABELS], **{f"t{i}": REAL[:, i] for i in range(2)}})
    if kind == "real":
        both = targets.drop_columns("kind") if library == "pyarrow" else targets[["t0", "t1"]]
        assert trained(regressor(), frame, both) == trained(regressor(), X, REAL)
        assert trained(regressor(1), frame, targets["t0"]) == trained(regressor(1), X, REAL[:, 0])
        return
    assert trained(classifier(), frame, targets["kind"]) == expected
    alone = targets.select(["kind"]) if library != "pandas" else targets[["kind"]]
    assert trained(classifier(), frame, alone) == expected


def test_categories_and_nullable_columns_of_pandas(expected):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(X).convert_dtypes()
    for series in (
        pandas.Series(NAMES[LABELS]).astype("category"),
        pandas.Series(LABELS).astype("Int64"),
        pandas.Series(NAMES[LABELS], dtype="string"),
    ):
        assert trained(classifier(), frame, series) == expected


@pytest.mark.parametrize(
    ("columns", "error", "message"),
    [
        ({"a": [1.0, None], "b": [1.0, 2.0]}, fg.DatasetError, "X: column 'a' has 1 missing values"),
        ({"a": ["x", "y"], "b": [1.0, 2.0]}, fg.DtypeError, "X: column 'a' is String; numbers are required"),
    ],
)
def test_frames_that_are_no_examples(columns, error, message):
    polars = pytest.importorskip("polars")
    with pytest.raises(error, match=message):
        classifier().fit(polars.DataFrame(columns), [0, 1], steps=1)


def test_tensors(expected):
    torch = pytest.importorskip("torch")
    assert trained(classifier(), torch.tensor(X, requires_grad=True), torch.tensor(LABELS)) == expected
    assert trained(classifier(), torch.tensor(X).double(), torch.tensor(LABELS)) == expected


@pytest.mark.parametrize("shape", [(60, 6, 6), (60, 36), (60, 6, 6, 1)])
def test_images_without_their_channel_and_flattened_examples(shape):
    def trainer():
        layers = [fg.Conv2d(4), fg.Flatten(), fg.Dense(3)]
        model = fg.Sequential(layers, (6, 6, 1), device="cpu")
        return fg.Trainer(model, estimator="feedback", optimizer=fg.SGD(0.1))

    images = np.random.default_rng(1).random((60, 6, 6, 1), np.float32)
    assert trained(trainer(), images.reshape(shape), LABELS) == trained(trainer(), images, LABELS)


def test_channels_that_come_first_are_asked_about():
    model = fg.Sequential([fg.Conv2d(4), fg.Flatten(), fg.Dense(3)], (6, 6, 2), device="cpu")
    trainer = fg.Trainer(model, optimizer="sgd")
    with pytest.raises(fg.ShapeError, match=r"Do the channels come first\? They must come last: np.moveaxis"):
        trainer.fit(np.zeros((5, 2, 6, 6)), np.zeros(5, int), steps=1)


def test_images_of_bytes_are_doubted():
    model = fg.Sequential([fg.Flatten(), fg.Dense(3)], (4, 4, 1), device="cpu")
    images = np.random.default_rng(0).integers(0, 256, (60, 4, 4), np.uint8)
    with pytest.warns(fg.errors.FgWarning, match="images of bytes, 0 to 255; divide them by 255"):
        fg.Trainer(model, optimizer="sgd").fit(images, LABELS, steps=1)


def test_regression_is_judged_by_its_loss_and_r2():
    trainer = regressor()
    history = trainer.fit(X, REAL, epochs=60, batch_size=10, validation=0.25, metrics=["mae", "rmse"])
    final = history.final
    assert math.isnan(final.validation_accuracy)
    assert final.validation_loss < 0.5 * history.records[0].validation_loss
    assert set(final.metrics) == {"validation_r2", "validation_mae", "validation_rmse"}
    METRIC.check(final.metrics["validation_rmse"] ** 2, final.validation_loss)
    result = fg.evaluate(trainer.model, X, REAL, "mse")
    sklearn = pytest.importorskip("sklearn.metrics")
    METRIC.check(result.metrics["r2"], sklearn.r2_score(REAL.astype(float), trainer.model(X).astype(float)))
    assert result.metrics["r2"] > 0.5


def test_metrics_of_scikit_learn_and_of_ones_own():
    metrics = pytest.importorskip("sklearn.metrics")

    def macro_f1(targets, predictions):
        return metrics.f1_score(targets, predictions, average="macro")

    dataset = fg.datasets.Dataset("p", X, LABELS.astype(np.int64), X, LABELS.astype(np.int64), 3)
    trainer = classifier()
    history = trainer.fit(
        dataset, steps=9, validation=(X, LABELS), metrics=[macro_f1, metrics.balanced_accuracy_score]
    )
    predictions = trainer.model(X).argmax(axis=1)
    for part in ("validation", "test"):
        assert history.final.metrics[f"{part}_macro_f1"] == macro_f1(LABELS, predictions)
        assert history.final.metrics[f"{part}_balanced_accuracy_score"] == metrics.balanced_accuracy_score(
            LABELS, predictions
        )
    assert history.final.test_accuracy == history.final.validation_accuracy
    named = fg.evaluate(trainer.model, X, LABELS, metrics={"f": macro_f1})
    assert named.metrics == {"accuracy": named.accuracy, "f": macro_f1(LABELS, predictions)}


@pytest.mark.parametrize("seed", range(4))
def test_r2_is_that_of_scikit_learn(seed):
    metrics = pytest.importorskip("sklearn.metrics")
    draws = np.random.default_rng(seed)
    y, p = draws.standard_normal((2, int(draws.integers(2, 30)), int(draws.integers(1, 4)))).astype(
        np.float32
    )
    y[:, 0] = y[0, 0] if seed == 3 else y[:, 0]
    METRIC.check(scoring.r2(y, p), metrics.r2_score(y.astype(float), p.astype(float)))


@pytest.mark.parametrize(
    ("metrics", "message"),
    [
        ("acuracy", r"metrics: unknown metric 'acuracy' \(did you mean 'accuracy'\?\)"),
        ([3], "metrics: int is 3; a function of targets and predictions, or one of accuracy, mae, r2, rmse"),
        ([lambda y, p: 1.0], "metrics: the name '<lambda>' is no word"),
        (["accuracy", "accuracy"], "metrics: two are called 'accuracy'"),
        ({"bad": lambda y, p: "high"}, "metrics: bad returned 'high'; a number is required"),
    ],
)
def test_metrics_that_are_none(metrics, message):
    with pytest.raises(fg.ConfigError, match=message):
        classifier().fit(X, LABELS, steps=1, validation=(X, LABELS), metrics=metrics)


def test_without_a_length_a_run_is_ended_by_its_held_out_data():
    history = classifier().fit(X, LABELS)
    assert history.ended_by == "callback"
    assert history.final.validation_accuracy >= 0
    # A twentieth of the limit on the steps lies between two records.
    assert {r.step % 40 for r in history.records} == {0}
    assert regressor().fit(X, REAL).ended_by in ("callback", "steps")


def test_too_few_examples_to_hold_some_out_take_all_steps(caplog):
    with caplog.at_level(logging.INFO, "fgnumba"):
        history = classifier().fit(X[:3], [0, 1, 2], evaluate_every=10_000)
    assert "too few examples to hold some out" in caplog.text
    assert history.ended_by == "steps"
    assert history.final.step == 800


WRONG = [
    (X, None, fg.ConfigError, "y is missing; fit takes examples and their targets"),
    (3, None, fg.ConfigError, "dataset is a int, 3; arrays X and y, data frames"),
    (fg.datasets.Dataset, None, fg.ConfigError, "dataset is a type"),
    (X, LABELS[:9], fg.ShapeError, "X has 60 examples and y 9 targets"),
    (X[:, :3], LABELS, fg.ShapeError, r"X has shape \(60, 3\); \(n, 4\) is required"),
    (X[:0], LABELS[:0], fg.ShapeError, "X has no examples"),
    (X.astype(complex), LABELS, fg.DtypeError, "X has dtype complex128; real numbers are required"),
    (NAMES[np.tile(LABELS[:, None], 4)], LABELS, fg.DtypeError, "X has dtype <U3"),
    (X + np.nan, LABELS, fg.DatasetError, r"X, y: x_train\[0, 0\] is nan"),
    (
        X.astype(np.float64) * 1e300,
        LABELS,
        fg.DatasetError,
        r"X\[0, 0\] is .*e\+300; a number that is finite in float32",
    ),
    (X, REAL, fg.ShapeError, r"y has shape \(60, 2\); labels \(n,\) are required"),
    (X, np.eye(3)[LABELS], fg.ShapeError, r"for one-hot rows, y.argmax\(axis=1\)"),
    (X, REAL[:, 0], fg.DtypeError, r'y\[0\] is .*, which is no class label; for regression, .* loss="mse"'),
    (
        X,
        np.arange(60),
        fg.ShapeError,
        r"y has 60 classes, \[0, 1, 2, 3, 4, 5\] and so on; the model has 3 out",
    ),
    (X, [None, *LABELS[1:].tolist()], fg.DatasetError, r"y\[0\] is None; every label is required"),
    (X, ["a", 3, *LABELS[2:].tolist()], fg.DtypeError, "y has labels of two kinds, such as 'a' and 3"),
    ([], None, fg.DatasetError, "the iterable yields no batch"),
    ([X, X, X], None, fg.ConfigError, "batch 0 is .*not a pair"),
    ([(X, LABELS), (X[:, :2], LABELS)], None, fg.ShapeError, r"batch 1: x has shape \(60, 2\)"),
    ("digits", LABELS, fg.ConfigError, "y is given beside the data set 'digits', which has its own targets"),
    ("digits", None, fg.ShapeError, r"digits: examples have shape \(8, 8, 1\); the model takes \(4,\)"),
]


@pytest.mark.parametrize(
    ("data", "y", "error", "message"), WRONG, ids=[message[:30] for *_, message in WRONG]
)
def test_what_is_no_data_is_refused_in_a_line(data, y, error, message):
    trainer = classifier()
    with pytest.raises(error, match=message) as caught:
        trainer.fit(data, y, steps=2)
    assert "\n" not in str(caught.value)
    assert trainer.model.classes is None


@pytest.mark.parametrize(
    ("y", "error", "message"),
    [
        (NAMES[LABELS], fg.DtypeError, 'MeanSquaredError takes real numbers. .* loss="cross-entropy"'),
        (LABELS, fg.ShapeError, r'y has shape \(60,\); \(n, 2\) is required .* loss="cross-entropy"'),
        (REAL[:, :1].repeat(3, 1), fg.ShapeError, r"y has shape \(60, 3\); \(n, 2\) is required"),
        (REAL * np.inf, fg.DatasetError, r"y\[0, 0\] is -?inf; a number that is finite in float32"),
    ],
)
def test_targets_that_are_no_real_numbers(y, error, message):
    with np.errstate(all="ignore"), pytest.raises(error, match=message):
        regressor().fit(X, y, steps=1)


def test_a_data_set_with_targets_of_the_other_kind():
    model = fg.Sequential([fg.Flatten(), fg.Dense(10)], (8, 8, 1), device="cpu")
    trainer = fg.Trainer(model, loss="mse", optimizer="sgd")
    with pytest.raises(fg.ConfigError, match="digits: targets are class labels; MeanSquaredError takes real"):
        trainer.fit("digits", steps=1)
    real = fg.datasets.Dataset("real", X, REAL)
    with pytest.raises(
        fg.ConfigError, match="real: targets are real numbers; SoftmaxCrossEntropy takes class"
    ):
        classifier(2).fit(real, steps=1)
    assert not real.has_test
    assert math.isnan(regressor().fit(real, steps=1).final.test_loss)


def test_a_name_is_loaded():
    model = fg.Sequential([fg.Flatten(), fg.Dense(10)], (8, 8, 1), device="cpu")
    assert fg.Trainer(model, optimizer="sgd").fit("digits", steps=2).final.test_accuracy >= 0
