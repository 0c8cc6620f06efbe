"""Launchers of kernels that are given numbers of types other than Python's."""

import inspect
from importlib import import_module
from typing import Any, get_args, get_type_hints

import numpy as np
import pytest

from fgnumba.errors import ConfigError
from fgnumba.kernels import DEVICES, OPERATIONS, RULES, module_name
from fgnumba.kernels.devices import signatures
from fgnumba.kernels.devices.device import CPU
from fgnumba.kernels.devices.kernels import Kernels
from fgnumba.kernels.layout import geometry, images
from fgnumba.kernels.ops.descent import STORE
from fgnumba.kernels.ops.descent import cpu as descent
from fgnumba.kernels.rules.directions import RANK1
from fgnumba.kernels.rules.philox import STREAM, set_stream
from fgnumba.kernels.shared.loss import RESULT
from fgnumba.validation.launcher import launcher, with_plain_numbers

# What is given here is not what annotations ask for.
Border: Any = images.Border
Geometry: Any = geometry.Geometry


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", [*OPERATIONS, *RULES])
def test_every_launcher_computes_with_pythons_numbers(name, device):
    module = import_module(module_name(name, device))
    bound = [one for key, one in vars(module).items() if key.startswith("bind") and inspect.isfunction(one)]
    assert all(hasattr(one, "__wrapped__") for one in bound), name


def test_numbers_are_converted_wherever_they_are():
    border, moves = Border(np.uint8(1), 0, 0, np.int64(2)), Geometry(*[np.uint8(3)] * 5)
    found = with_plain_numbers([np.uint8(3), (np.float32(0.5), np.True_), border, moves, "a", None])
    assert repr(found) == repr([3, (0.5, True), Border(1, 0, 0, 2), Geometry(*[3] * 5), "a", None])
    same = [np.zeros(3), (1, 2)]
    assert with_plain_numbers(same) is same


def test_a_size_does_not_wrap():
    @launcher
    def bind(batch: int, *, width: int, share: float = 0.5) -> Any:
        return [batch * width, batch + 1, share]

    call: Any = bind
    assert call(np.uint8(255), width=np.array(200), share=np.float16(0.25)) == [51000, 256, 0.25]
    for bad in (True, np.True_, 2.0, "3", None, 1 << 70, np.array([3])):
        with pytest.raises(ConfigError, match=r"^width is .*; a whole number of 64 bits is required$"):
            call(3, width=bad)


def drawn(kind):
    """Return two hundred directions' sum over an array, as the descent kernel stores it."""
    stream, values = np.zeros(1, STREAM), np.ones(201)
    set_stream(stream, kind(100), kind(100))
    theta = CPU.zeros((kind(4), 8, 32))
    operations = descent.bind_all(
        CPU.isa,
        kind(1),
        thetas=[theta],
        kind=kind(RANK1),
        count=kind(200),
        parameters=[kind(1)],
        stream=stream,
        values=values,
        result=np.ones(1, RESULT),
        rates=None,
        rule=kind(STORE),
        first=kind(100),
    )
    CPU.program(operations).run()
    return theta


@pytest.mark.parametrize("kind", [np.uint8, np.uint64, np.int16])
def test_a_launcher_of_narrow_numbers_computes_the_same_bits(kind):
    np.testing.assert_array_equal(drawn(kind), drawn(int))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", OPERATIONS)
def test_type_checkers_see_the_functions_of_every_operation(name, device):
    declared = get_type_hints(Kernels, vars() | {"signatures": signatures})
    assert sorted(declared) == sorted(OPERATIONS)
    (functions,) = get_args(declared[name])
    seen = {key: value for key, value in vars(functions).items() if isinstance(value, staticmethod)}
    module = import_module(module_name(name, device))
    own = {key for key, value in vars(module).items() if getattr(value, "__module__", "") == module.__name__}
    assert set(seen) >= {key for key in own if key.startswith("bind")}
    for key, function in seen.items():
        assert function.__func__ is getattr(import_module(module_name(name, "cpu")), key)
        assert list(inspect.signature(function.__func__).parameters) == list(
            inspect.signature(getattr(module, key)).parameters
        )


def test_an_operation_is_an_attribute_of_its_device_and_imported_when_asked_for():
    kernels: Any = Kernels("cpu")
    assert not vars(kernels).keys() & set(OPERATIONS)
    assert kernels.descent is descent
    assert vars(kernels).keys() & set(OPERATIONS) == {"descent"}
    with pytest.raises(AttributeError, match=r"^'dens' is not the name of an operation$"):
        kernels.dens  # noqa: B018
