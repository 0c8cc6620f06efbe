"""Traces of diagonal recurrences on a GPU: gradients beside real-time recurrent learning in float64."""

from typing import Any

import numpy as np
import pytest

from fgnumba.kernels.layout.images import Images
from fgnumba.kernels.layout.packing import pack, unpack
from fgnumba.kernels.machine.memory import leading, round_up
from fgnumba.kernels.ops.traces import GATES, PARAMETERS, PARTS, cuda, trace_shapes
from tests.references import recurrences as reference
from tests.tolerances_traces import TRACES

PANEL = 32
PARTS_OF = (np.real, np.imag)
KINDS = [(kind, symbols) for kind in PARAMETERS for symbols in (True, False)]


class Traces:
    """One layer's traces on a GPU, beside what a forward pass would leave there."""

    def __init__(self, gpu, kind, batch, length, inputs, units, symbols):
        self.gpu, self.kind, self.symbols, self.units = gpu, kind, symbols, units
        self.batch, self.length, self.padded, self.parts = batch, length, round_up(units, PANEL), PARTS[kind]
        self.generator = np.random.default_rng(units)
        self.parameters = reference.random_layer(kind, inputs, units, self.generator)
        self.groups = {name: 1 if name in ("nu", "theta") else GATES[kind] for name in self.parameters}
        shapes = trace_shapes(kind, batch, units, inputs, symbols)
        self.traces = {name: gpu.zeros(shape) for name, shape in shapes.items()}
        self.state = np.zeros((batch, units), np.complex128 if self.parts == 2 else np.float64)

    def window(self, **options):
        """Run a window on random numbers; return its input, the state before, the signals and the gradients."""
        inputs, size = self.parameters["weight"].shape[0], (self.batch, self.length)
        normal = self.generator.standard_normal
        x = self.generator.integers(0, inputs, size) if self.symbols else normal((*size, inputs))
        signals = sum(normal((*size, self.units)) * (1, 1j)[part] for part in range(self.parts))
        x = x if self.symbols else x.astype(np.float32).astype(float)
        state = self.state
        states, gates = reference.run(self.kind, self.parameters, x, state)
        self.state = states[:, -1]
        packed = {name: pack(array, self.groups[name]) for name, array in self.parameters.items()}
        gradients = {name: self.gpu.nans(*array.shape) for name, array in packed.items()}
        self.gpu.run(
            *cuda.bind(
                None,
                1,
                recurrence=self.kind,
                batch=self.batch,
                units=self.units,
                x=self._input(x),
                symbols=inputs if self.symbols else 0,
                y=self._states(states),
                gates=self.gpu.array(self._columns(np.moveaxis(gates, 2, 0)), np.float32),
                first=self.gpu.array(self._columns([of(state) for of in PARTS_OF[: self.parts]]), np.float32),
                signals=self.gpu.array(self._panels(signals), np.float32),
                parameters={name: self.gpu.array(array) for name, array in packed.items()},
                traces=self.traces,
                gradients=gradients,
                **options,
            )
        )
        found = {}
        for name, array in gradients.items():
            values = array.download()
            found[name] = unpack(values, self.parameters[name].shape[-1], self.groups[name])
            assert np.count_nonzero(values) <= found[name].size, "the padding is zeros"
        return x, state, signals, found

    def _input(self, x):
        row = x.reshape(self.batch, -1)
        memory = np.full((1, self.batch, leading(row.shape[1])), np.nan)
        memory[0, :, : row.shape[1]] = row
        shape = (1, 1, self.length) if self.symbols else (self.length, 1, x.shape[-1])
        return Images.of_batch(self.gpu.array(memory, np.float32), shape)

    def _states(self, states):
        width = self.parts * self.units
        memory = np.full((1, self.batch * self.length, leading(width)), np.nan)
        parts = [of(states) for of in PARTS_OF[: self.parts]]
        memory[0, :, :width] = np.concatenate(parts, -1).reshape(-1, width)
        array = self.gpu.array(memory, np.float32)
        return Images.of_batch(array, (self.length, width), by_position=True)

    def _columns(self, parts):
        """Return numbers (parts, ..., H) as rows in which each part has columns of its own."""
        rows = np.full((np.prod(np.shape(parts[0])[:-1]), len(parts), self.padded), np.nan)
        for part, values in enumerate(parts):
            rows[:, part, : self.units] = np.reshape(values, (-1, self.units))
        return rows.reshape(len(rows), -1)

    def _panels(self, signals):
        rows, panels = self.batch * self.length, self.padded // PANEL
        told = np.zeros((self.parts * panels, round_up(rows, PANEL), PANEL))
        for part, of in enumerate(PARTS_OF[: self.parts]):
            padded = np.zeros((rows, self.padded))
            padded[:, : self.units] = of(signals).reshape(rows, -1)
            told[part * panels :, :rows][:panels] = padded.reshape(rows, panels, PANEL).swapaxes(0, 1)
        return told


def assert_close(found, expected):
    for name, array in expected.items():
        error = np.abs(found[name] - array).max()
        assert error <= TRACES * np.abs(array).max(), (name, error)


@pytest.mark.parametrize(("kind", "symbols"), KINDS)
@pytest.mark.parametrize("sizes", [(1, 1, 1, 1), (2, 5, 3, 33)])
def test_gradients_are_those_of_float64_over_several_windows(gpu, kind, symbols, sizes):
    batch, length, inputs, units = sizes
    bound, traces = Traces(gpu, kind, batch, length, inputs, units, symbols), None
    for _ in range(2):
        x, state, signals, found = bound.window()
        expected, traces = reference.real_time(kind, bound.parameters, x, state, signals, traces)
        assert_close(found, expected)


@pytest.mark.parametrize("kind", ["elementwise_lstm", "complex_linear"])
def test_fresh_traces_are_zeros(gpu, kind):
    bound = Traces(gpu, kind, 1, 3, 2, 5, True)
    bound.window()
    x, state, signals, found = bound.window(fresh=True)
    expected, _ = reference.real_time(kind, bound.parameters, x, state, signals, None)
    assert_close(found, expected)


@pytest.mark.parametrize("kind", PARAMETERS)
def test_without_traces_each_position_is_a_window_of_its_own(gpu, kind):
    bound = Traces(gpu, kind, 1, 3, 2, 5, False)
    x, state, signals, found = bound.window(carried=False)
    total = dict.fromkeys(bound.parameters, 0.0)
    for t in range(3):
        at = slice(t, t + 1)
        expected, _ = reference.real_time(kind, bound.parameters, x[:, at], state, signals[:, at], None)
        states, _ = reference.run(kind, bound.parameters, x[:, at], state)
        state, total = states[:, -1], {name: total[name] + array for name, array in expected.items()}
    assert_close(found, total)


def test_a_symbol_that_is_none_adds_nothing(gpu):
    bound = Traces(gpu, "min_gru", 1, 4, 3, 5, True)
    draw = bound.generator.bit_generator.state
    x, _, _, found = bound.window()
    values = bound._input

    def without(x):
        return values(np.where(np.arange(4) == 3, np.nan, x))

    again: Any = Traces(gpu, "min_gru", 1, 4, 3, 5, True)
    again.generator.bit_generator.state, again._input = draw, without
    *_, other = again.window()
    kept = np.arange(3) != x[0, 3]
    np.testing.assert_array_equal(other["weight"][kept], found["weight"][kept])
    assert np.isfinite(other["weight"]).all()


@pytest.mark.parametrize(("inputs", "outputs", "first", "units"), [(1, 1, 0, 1), (90, 37, 5, 40)])
def test_rows_of_a_readout_are_turned(gpu, inputs, outputs, first, units):
    weight = np.random.default_rng(units).standard_normal((inputs, outputs)).astype(np.float32)
    turned = gpu.zeros((-(-units // PANEL), round_up(outputs, PANEL), PANEL))
    gpu.run(cuda.bind_turned(None, 1, weight=gpu.packed(weight), first=first, units=units, turned=turned))
    expected = np.zeros((turned.shape[1], round_up(units, PANEL)))
    expected[:outputs, :units] = weight[first : first + units].T
    found = turned.download().swapaxes(0, 1).reshape(turned.shape[1], -1)
    np.testing.assert_array_equal(found, expected)
