"""Traces of diagonal recurrences: gradients beside real-time recurrent learning and backpropagation in float64."""

import numpy as np
import pytest

from fgnumba.kernels.devices.device import CPU
from fgnumba.kernels.emit.vector import PANEL, executable, instruction_set
from fgnumba.kernels.layout.images import Images
from fgnumba.kernels.layout.packing import pack, unpack
from fgnumba.kernels.machine.memory import aligned, leading, round_up
from fgnumba.kernels.ops.traces import GATES, PARAMETERS, PARTS, cpu, trace_shapes
from tests.references import recurrences as reference
from tests.tolerances_traces import TRACES

PARTS_OF = (np.real, np.imag)


class Traces:
    """One layer's traces, bound to arrays that a test fills with what a forward pass would leave there."""

    def __init__(self, kind, batch, length, inputs, units, symbols, isa=None, carried=True, threads=1):
        self.kind, self.batch, self.length, self.units, self.symbols = kind, batch, length, units, symbols
        self.generator = np.random.default_rng(units)
        self.parameters = reference.random_layer(kind, inputs, units, self.generator)
        self.groups = {name: 1 if name in ("nu", "theta") else GATES[kind] for name in self.parameters}
        packed = {name: pack(array, self.groups[name]) for name, array in self.parameters.items()}
        self.padded, self.parts = round_up(units, PANEL), PARTS[kind]
        shapes = trace_shapes(kind, batch, units, inputs, symbols)
        self.traces = {name: aligned(shape) for name, shape in shapes.items()}
        self.gradients = {name: aligned(array.shape) for name, array in packed.items()}
        shape = (1, 1, length) if symbols else (length, 1, inputs)
        self.x = aligned((1, batch, leading(length if symbols else length * inputs)))
        row = leading(self.parts * units)
        self.y = aligned((1, batch * length, row))
        self.gates = aligned((batch * length, GATES[kind] * self.padded))
        self.first = aligned((batch, self.parts * self.padded))
        panels = self.padded // PANEL
        self.signals = aligned((self.parts * panels, round_up(batch * length, PANEL), PANEL))
        operations = cpu.bind(
            isa or CPU.isa,
            threads,
            recurrence=kind,
            batch=batch,
            units=units,
            x=Images.of_batch(self.x, shape),
            symbols=inputs if symbols else 0,
            y=Images.of_batch(self.y, (length, self.parts * units), by_position=True),
            gates=self.gates,
            first=self.first,
            signals=self.signals,
            parameters=packed,
            traces=self.traces,
            gradients=self.gradients,
            carried=carried,
        )
        self.program = CPU.program(operations)

    def draw(self):
        """Return an input and signals."""
        inputs = self.parameters["weight"].shape[0]
        size, normal = (self.batch, self.length), self.generator.standard_normal
        x = self.generator.integers(0, inputs, size) if self.symbols else normal((*size, inputs))
        signals = sum(normal((*size, self.units)) * (1, 1j)[part] for part in range(self.parts))
        return x if self.symbols else x.astype(np.float32).astype(float), signals

    def run(self, x, state, signals):
        """Run a window, and return its gradients and the last state."""
        states, gates = reference.run(self.kind, self.parameters, x, state)
        rows, panels = self.batch * self.length, self.padded // PANEL
        self.x[0, :, : x[0].size] = x.reshape(self.batch, -1)
        for part in range(self.parts):
            of = PARTS_OF[part]
            self.first[:, part * self.padded :][:, : self.units] = of(state)
            self.y[0, :, part * self.units : (part + 1) * self.units] = of(states).reshape(rows, -1)
            told = np.zeros((rows, self.padded))
            told[:, : self.units] = of(signals).reshape(rows, -1)
            self.signals[part * panels : (part + 1) * panels, :rows] = told.reshape(
                rows, panels, PANEL
            ).swapaxes(0, 1)
        for gate in range(GATES[self.kind]):
            self.gates[:, gate * self.padded :][:, : self.units] = gates[:, :, gate].reshape(rows, -1)
        for array in self.gradients.values():
            array[...] = 7
        self.program.run()
        found = {}
        for name, array in self.gradients.items():
            found[name] = unpack(array, self.parameters[name].shape[-1], self.groups[name])
            assert np.count_nonzero(array) <= found[name].size, "the padding is zeros"
        return found, states[:, -1]

    def start(self):
        return np.zeros((self.batch, self.units), np.complex128 if self.parts == 2 else np.float64)


def assert_close(found, expected):
    for name, array in expected.items():
        error = np.abs(found[name] - array).max()
        assert error <= TRACES * np.abs(array).max(), (name, error)


KINDS = [(kind, symbols) for kind in PARAMETERS for symbols in (True, False)]


@pytest.mark.parametrize(("kind", "symbols"), KINDS)
@pytest.mark.parametrize("sizes", [(1, 1, 1, 1), (2, 13, 5, 33), (3, 70, 17, 40)])
def test_gradients_are_those_of_float64_over_several_windows(kind, symbols, sizes):
    batch, length, inputs, units = sizes
    bound = Traces(kind, batch, length, inputs, units, symbols)
    state, traces = bound.start(), None
    for _ in range(3):
        x, signals = bound.draw()
        expected, traces = reference.real_time(kind, bound.parameters, x, state, signals, traces)
        found, state = bound.run(x, state, signals)
        assert_close(found, expected)


@pytest.mark.parametrize(("kind", "symbols"), KINDS)
def test_a_gradient_is_that_of_backpropagation_through_two_hundred_steps(kind, symbols):
    bound = Traces(kind, 2, 50, 5, 33, symbols)
    state, xs, told = bound.start(), [], []
    total = dict.fromkeys(bound.parameters, 0.0)
    for _ in range(4):
        x, signals = bound.draw()
        found, state = bound.run(x, state, signals)
        total = {name: array + found[name] for name, array in total.items()}
        xs.append(x)
        told.append(signals)
    x, signals = np.concatenate(xs, 1), np.concatenate(told, 1)
    expected, _ = reference.backward(kind, bound.parameters, x, bound.start(), signals)
    assert_close(total, expected)


@pytest.mark.parametrize("symbols", [True, False])
def test_without_traces_a_gradient_has_the_immediate_derivatives_alone(symbols):
    kind = "elementwise_lstm"
    bound, state = Traces(kind, 2, 13, 5, 33, symbols, carried=False), None
    for _ in range(2):
        x, signals = bound.draw()
        state = bound.start() if state is None else state
        states, gates = reference.run(kind, bound.parameters, x, state)
        before = np.concatenate([state[:, None], states[:, :-1]], 1)
        expected = dict.fromkeys(bound.parameters, 0.0)
        for t in range(13):
            gate = np.moveaxis(gates[:, t], 1, 0)
            _, immediate, own = reference.derivatives(kind, bound.parameters, gate, before[:, t])
            rows = np.eye(5)[x[:, t]] if symbols else x[:, t]
            of_gates = np.concatenate([signals[:, t] * a for a in immediate], 1)
            expected["weight"] = expected["weight"] + rows.T @ of_gates
            for name, arrays in own.items():
                expected[name] = expected[name] + np.concatenate([signals[:, t] * a for a in arrays], 1).sum(
                    0
                )
        found, state = bound.run(x, state, signals)
        assert_close(found, expected)


def test_a_symbol_that_is_none_adds_nothing():
    bound = Traces("min_gru", 1, 4, 3, 5, True)
    x, signals = bound.draw()
    found, _ = bound.run(x, bound.start(), signals)
    for wrong in (np.nan, -1.0, 3.0, np.inf):
        for array in bound.traces.values():
            array[...] = 0
        bound.x[0, 0, 3] = wrong
        bound.program.run()
        again = unpack(bound.gradients["weight"], 10, 2)
        kept = np.arange(3) != x[0, 3]
        np.testing.assert_array_equal(again[kept], found["weight"][kept])
        assert np.isfinite(again).all()


@pytest.mark.parametrize(
    ("name", "kind", "symbols"), [("avx2", "elementwise_lstm", True), ("generic", "complex_linear", False)]
)
def test_instruction_sets_agree(name, kind, symbols):
    if name not in executable():
        pytest.skip(f"this processor has no {name}")
    widest = Traces(kind, 2, 13, 5, 33, symbols)
    x, signals = widest.draw()
    found, _ = widest.run(x, widest.start(), signals)
    narrow = Traces(kind, 2, 13, 5, 33, symbols, instruction_set(name))
    assert_close(narrow.run(x, narrow.start(), signals)[0], found)


def test_results_do_not_depend_on_the_number_of_parts():
    bits = []
    for threads in (1, 3):
        bound = Traces("elementwise_lstm", 2, 13, 5, 200, True, threads=threads)
        assert (bound.program.operations[0].parts > 1) == (threads > 1)
        x, signals = bound.draw()
        found, _ = bound.run(x, bound.start(), signals)
        bits.append([array.tobytes() for array in (*found.values(), *bound.traces.values())])
    assert bits[0] == bits[1]


def test_traces_of_a_linear_unit_of_128_by_256_take_less_than_a_megabyte():
    shapes = trace_shapes("complex_linear", 1, 256, 128, False)
    assert sum(4 * int(np.prod(shape)) for shape in shapes.values()) < 1_000_000
