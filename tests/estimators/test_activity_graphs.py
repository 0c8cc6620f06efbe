"""Activity perturbation of images and graphs: unbiased, laid out by the wiring, independent of the threads."""

import numpy as np
import pytest

import fgnumba as fg
from fgnumba.bench import reverse
from fgnumba.estimators.activity.plan import analyzed
from fgnumba.kernels.emit.vector import instruction_set
from fgnumba.kernels.layout.images import Border, Images
from fgnumba.kernels.machine import threads
from fgnumba.kernels.machine.memory import aligned
from fgnumba.kernels.machine.program import Program
from fgnumba.kernels.ops.error_signal import cpu as signal
from fgnumba.kernels.rules.philox import STREAM, set_stream
from fgnumba.kernels.shared.perturbed_units.cpu import Perturbed
from tests import tolerances

LOSS = fg.SoftmaxCrossEntropy()


def images(batch=3, shape=(9, 8, 3), classes=4, seed=0):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((batch, *shape), np.float32), rng.integers(0, classes, batch)


def convolutional(activation="tanh"):
    return fg.Sequential(
        [
            fg.Conv2d(16, padding="same", activation=activation),
            fg.MaxPool2d(2),
            fg.Conv2d(5, 2, activation=activation, stride=2),
            fg.GroupNorm(1),
            fg.Flatten(),
            fg.Dense(6, activation=activation),
            fg.Dense(4),
        ],
        (9, 8, 3),
        seed=1,
    )


def residual():
    return fg.Graph(
        [
            fg.Node("stem", fg.Conv2d(32, padding="same", bias=False)),
            fg.Node("norm", fg.GroupNorm(4)),
            fg.Node("relu", fg.Activation("relu")),
            fg.Node("conv", fg.Conv2d(32, padding="same")),
            fg.Node("sum", fg.Add("relu"), inputs=("conv", "relu")),
            fg.Node("half", fg.Conv2d(8, 1), inputs="stem"),
            fg.Node("both", fg.Concatenate(), inputs=("half", "sum")),
            fg.Node("mean", fg.GlobalAveragePool2d()),
            fg.Node("ln", fg.LayerNorm()),
            fg.Node("head", fg.Dense(4)),
        ],
        (9, 8, 3),
        seed=1,
    )


def branches():
    # Layer by layer, each branch has tangents that others lack: before its own noise, and after.
    return fg.Graph(
        [
            fg.Node("stem", fg.Conv2d(4, padding="same", activation="tanh")),
            *(
                fg.Node(f"b{i}", fg.Conv2d(6, 3 - i, padding="same", activation="tanh"), inputs="stem")
                for i in range(3)
            ),
            fg.Node("sum", fg.Add(), inputs=("b0", "b1", "b2")),
            fg.Node("plain", fg.GroupNorm(2, affine=False)),
            fg.Node("flat", fg.Flatten()),
            fg.Node("rms", fg.RMSNorm(affine=False)),
            fg.Node("head", fg.Dense(4)),
        ],
        (9, 8, 3),
        seed=1,
    )


@pytest.mark.parametrize("model", [convolutional(), convolutional("relu"), residual(), branches()])
@pytest.mark.parametrize("layerwise", [False, True])
def test_images_average_to_the_gradient(model, layerwise):
    x, y = images()
    _, exact = reverse.value_and_grad(model, LOSS, x, y)
    number = 300
    trainer = fg.Trainer(model, estimator=fg.ActivityPerturbation(4, layerwise), optimizer=fg.SGD(1.0))
    total = {name: np.zeros(array.shape) for name, array in exact.items()}
    squares = dict.fromkeys(exact, 0.0)
    for step in range(number):
        trainer.steps_done = step
        for name, array in trainer.estimate(x, y).items():
            total[name] += array
            squares[name] += float(np.sum((array - exact[name]) ** 2))
    for name, array in exact.items():
        error = float(np.sum((total[name] / number - array) ** 2))
        rounding = tolerances.MEAN_ROUNDING * np.sum(array**2)
        assert error < tolerances.SQUARED_ERROR * squares[name] / number**2 + rounding, name


def test_layout_of_slots():
    model = residual()
    *_, joint = analyzed(model, 2, False, None)
    assert joint.slots == [2]
    assert {place.slot for place in joint.places} == {0}
    *_, each = analyzed(model, 2, True, None)
    assert [place.slot for place in each.places] == [2 * i for i in range(len(each.places))]
    assert each.slots == [2 * len(each.places)]
    *_, parted = analyzed(branches(), 2, True, None)
    assert sorted(parted.gap.values()) == [(2, 4), (2, 6)]
    assert sorted(parted.beyond.values()) == [(4, 8), (6, 8)]
    *_, local = analyzed(model, 1, False, fg.LocalLosses())
    assert [end.names[0] for end in local.ends] == ["relu"]


def test_steps_do_not_depend_on_threads(monkeypatch):
    if threads.thread_count() < 2:
        pytest.skip("needs two processors")
    x, y = images(32)
    found = []
    for number in ("1", "2"):
        monkeypatch.setenv(threads.OVERRIDE, number)
        model = fg.Sequential(
            [
                fg.Conv2d(32, padding="same", activation="tanh"),
                fg.Flatten(),
                fg.Dense(300, activation="tanh"),
                fg.Dense(4),
            ],
            (9, 8, 3),
        )
        estimator = fg.ActivityPerturbation(local=fg.LocalLosses(), feedback=fg.Feedback(control=0.3))
        trainer = fg.Trainer(model, estimator=estimator, optimizer=fg.Adam(1e-3))
        for _ in range(3):
            trainer.step(x, y)
        found.append(model.parameters())
    for name, array in found[0].items():
        np.testing.assert_array_equal(array, found[1][name])


def test_blocks_follow_the_wiring_not_the_order_of_the_list():
    def nodes(late):
        shortcut = fg.Node("shortcut", fg.Dense(16), inputs="input")
        inner = [fg.Node("a", fg.Dense(16, "relu"), inputs="input"), fg.Node("b", fg.Dense(16), inputs="a")]
        rest = [fg.Node("sum", fg.Add("relu"), inputs=("b", "shortcut")), fg.Node("c", fg.Dense(9, "relu"))]
        first = [*inner, shortcut] if late else [shortcut, *inner]
        return fg.Graph([*first, *rest, fg.Node("out", fg.Dense(3))], 5, seed=1)

    for late in (False, True):
        *_, layout = analyzed(nodes(late), 1, False, fg.LocalLosses())
        blocks = {step.names[0]: block for step, block in layout.block.items()}
        assert blocks == {"a": 0, "b": 1, "shortcut": 1, "sum": 1, "c": 2, "out": 2}
        assert {place.step.names[0]: place.block for place in layout.places}["shortcut"] == 1


@pytest.mark.parametrize("border", [Border(0, 1, 0, 1), Border(0, 2, 0, 0), Border(0, 0, 0, 1)])
def test_a_group_of_channels_clears_no_border_but_its_own(border):
    batch, shape, group = 2, (3, 5, 64), 32
    height, width, channels = shape
    bordered = (batch, height + border.bottom, width + border.right, channels)
    size = int(np.prod(bordered))
    memory = aligned((size + 1024,))
    memory[:] = np.nan
    strides = (size, size // batch, bordered[2] * channels, channels, 0)
    out = Images(memory, 0, shape, *strides, has_tangent=False, border=border)
    slopes = aligned((1, batch, int(np.prod(shape))))
    slopes[...] = 1
    y = Images.of_batch(slopes, shape)
    stream = np.zeros(1, STREAM)
    set_stream(stream, 1, 1)
    operations = [
        signal.bind(
            instruction_set(),
            1,
            site=Perturbed(
                batch, 0, y.channels_from(first, group), "identity", 0, stream, first_channel=first
            ),
            out=out.channels_from(first, group),
            scale=np.ones(1),
            known=np.full((batch, group), 1 + first, np.float32),
            cells=np.zeros(height * width, np.int64),
        )
        for first in range(0, channels, group)
    ]
    Program(operations).run()
    expected = np.zeros(bordered, np.float32)
    expected[:, :height, :width] = np.repeat(1 + np.arange(0, channels, group), group)
    np.testing.assert_array_equal(memory[:size].reshape(bordered), expected)
    assert np.isnan(memory[size:]).all()
