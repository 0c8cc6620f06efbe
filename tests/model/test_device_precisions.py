"""The precision of a CPU's products as a part of a device: what is refused, copies, and models that keep it."""

import copy
import pickle

import numpy as np
import pytest

import fgnumba as fg
from fgnumba.interchange.agreement import on_cpu
from fgnumba.kernels.devices import precision
from fgnumba.kernels.devices.device import CPU
from fgnumba.kernels.emit import vector
from fgnumba.operations import attention
from fgnumba.testing.given import OfThreads

TWIN = "avx512bf16-twin"
COPIES = {
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "pickle": lambda one: pickle.loads(pickle.dumps(one)),
}


@pytest.fixture(autouse=True)
def twin(monkeypatch):
    monkeypatch.setenv(vector.OVERRIDE, TWIN)


def model_of(*precisions):
    return fg.Sequential([fg.Dense(4, "relu"), fg.Dense(3)], 5, device=fg.device.cpu(*precisions))


def test_a_device_has_the_precisions_that_are_named():
    assert fg.device.cpu("bf16").precisions == ("bf16", "bf16")
    assert fg.device.cpu("bf16x3", "bf16").precisions == ("bf16x3", "bf16")
    assert fg.device.resolve("cpu", "bf16x2").precisions == ("bf16x2", "bf16x2")
    # What the environment says is for "auto" alone.
    assert fg.device.cpu().precisions == fg.device.cpu("float32").precisions == ("float32", "float32")


def test_equal_devices_are_those_of_equal_precisions():
    one = fg.device.cpu("bf16", "bf16x2")
    assert one == fg.device.cpu("bf16", "bf16x2")
    assert hash(one) == hash(fg.device.cpu("bf16", "bf16x2"))
    assert one != fg.device.cpu("bf16")
    assert fg.device.cpu("bf16", "bf16") == fg.device.cpu("bf16")
    assert one != "cpu"
    assert OfThreads(1, one) != OfThreads(1, fg.device.cpu("bf16"))
    assert OfThreads(1) == OfThreads(1)
    # One that has bound its kernels is still the same device.
    assert one.kernels is not None
    assert one == fg.device.cpu("bf16", "bf16x2")
    for plain in (fg.device.cpu(), fg.device.cpu("auto"), fg.device.resolve("cpu")):
        assert plain is CPU
    assert pickle.loads(pickle.dumps(CPU)) is CPU


@pytest.mark.parametrize(
    ("precisions", "shown", "described"),
    [
        ((), "cpu()", "cpu"),
        (("float32",), "cpu(precision='float32')", "cpu"),
        (("bf16",), "cpu(precision='bf16')", "cpu, bf16"),
        (
            ("bf16x3", "bf16"),
            "cpu(precision='bf16x3', tangent_precision='bf16')",
            "cpu, bf16x3, tangents in bf16",
        ),
        (("auto", "bf16"), "cpu(tangent_precision='bf16')", "cpu, float32, tangents in bf16"),
    ],
)
def test_a_device_as_text(precisions, shown, described):
    device = fg.device.cpu(*precisions)
    assert repr(device) == shown
    assert device.description == described
    model = repr(model_of(*precisions))
    assert model.endswith(f"device={shown if precisions else repr('cpu')})")


@pytest.mark.parametrize("how", COPIES)
def test_copies_of_models_keep_the_precision(how):
    model = model_of("bf16", "bf16x2")
    found = COPIES[how](model)
    assert found.processor == model.processor
    assert found.device == "cpu"
    x = np.random.default_rng(0).standard_normal((6, 5), np.float32)
    np.testing.assert_array_equal(found(x), model(x))
    trainer = COPIES[how](fg.Trainer(model, optimizer=fg.SGD(1e-3)))
    assert trainer.model.processor == model.processor


def test_a_precision_that_is_unknown_or_of_another_device():
    with pytest.raises(fg.ConfigError, match=r"precision is 'bf17' \(did you mean 'bf16'\?\)"):
        fg.device.cpu("bf17")
    with pytest.raises(fg.ConfigError, match=r"tangent_precision is 3 \(choose from auto, bf16"):
        fg.device.cpu("bf16", 3)  # type: ignore[arg-type]
    with pytest.raises(fg.ConfigError, match=r"device cpu: precision is 'tf32'"):
        fg.device.resolve("cpu", "tf32")
    with pytest.raises(fg.ConfigError, match="the device is no name, and has its own"):
        fg.device.resolve(CPU, "bf16")


@pytest.mark.parametrize("precisions", [("bf16",), ("float32", "bf16x2"), ("auto", "bf16x3")])
def test_a_set_that_lacks_a_precision_is_refused_before_a_step(precisions, monkeypatch):
    model = model_of(*precisions)
    content = pickle.dumps(model)
    monkeypatch.setenv(vector.OVERRIDE, "generic")
    for attempt in (
        lambda: fg.device.cpu(*precisions),
        lambda: fg.Sequential([fg.Dense(3)], 5, device=model.processor),
        lambda: pickle.loads(content),
    ):
        with pytest.raises(fg.DeviceError, match=rf"{precisions[-1]} needs a processor that") as caught:
            attempt()
        assert "\n" not in str(caught.value)


def test_the_refusal_says_what_named_the_precision_and_which_set_is_used(monkeypatch):
    monkeypatch.setattr(vector, "executable", lambda: ("avx512bf16", "generic"))
    monkeypatch.setenv(vector.OVERRIDE, "generic")
    used = "this one has avx512bf16, generic, of which generic is used; use float32, or FGNUMBA_VECTOR=avx512bf16"
    with pytest.raises(fg.DeviceError, match=rf"^tangent_precision: bf16 needs a .*; {used}$"):
        fg.device.cpu("float32", "bf16")
    monkeypatch.setenv(precision.OVERRIDE, "bf16x2")
    for attempt in (fg.device.cpu, lambda: CPU.isa):
        with pytest.raises(fg.DeviceError, match=rf"^FGNUMBA_PRECISION: bf16x2 needs a .*; {used}$"):
            attempt()
    assert (
        precision.explained(vector.instruction_set())
        == "bf16x2 (FGNUMBA_PRECISION, but generic does not multiply bfloat16)"
    )
    monkeypatch.setattr(vector, "executable", lambda: ("generic",))
    with pytest.raises(
        fg.DeviceError, match=r"this one has generic; use float32, or FGNUMBA_VECTOR=amx-twin \(slow\)$"
    ):
        fg.device.cpu()


def test_what_is_compared_with_another_library_multiplies_in_float32():
    model = model_of("bf16")
    plain = on_cpu(model)
    assert plain.processor.precisions[0] == "float32"
    for name, values in model.parameters().items():
        np.testing.assert_array_equal(plain.parameters()[name], values)
    assert on_cpu(plain) is plain


def test_attention_of_arrays_is_in_float32_whatever_models_are(monkeypatch):
    monkeypatch.setenv("FGNUMBA_PRECISION", "bf16")
    assert CPU.precisions == ("bf16", "bf16")
    assert attention._DEVICE.precisions == ("float32", "float32")


def test_a_classifier_keeps_the_device_that_it_is_given():
    base = pytest.importorskip("sklearn.base")
    from fgnumba.sklearn import ForwardGradientClassifier

    device = fg.device.cpu("bf16x2")
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((40, 4)), np.arange(40) % 2
    one = base.clone(ForwardGradientClassifier((4,), max_iter=1, device=device, random_state=0))
    assert one.get_params()["device"] == device
    assert one.fit(x, y).model_.processor == device
    assert pickle.loads(pickle.dumps(one)).model_.processor == device
