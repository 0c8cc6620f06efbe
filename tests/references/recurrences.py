"""Diagonal recurrences in float64, and their gradients by real-time recurrent learning and by backpropagation.

A layer is (kind, parameters); its inputs are x (B, L, K) or symbols (B, L). All arrays are float64.
"""

from typing import Any

import numpy as np


def sigmoid(x):
    return 0.5 * (1 + np.tanh(0.5 * x))


def product(x, weight):
    """Return x W, or rows of W for symbols."""
    return weight[x] if x.ndim == 2 else x @ weight


def constants(kind, parameters):
    """Return λ and γ of a linear recurrent unit."""
    rate = np.exp(parameters["nu"])
    factor = np.exp(-rate + 1j * parameters["theta"]) if kind == "complex_linear" else np.exp(-rate)
    return factor, np.sqrt(-np.expm1(-2 * rate))


def run(kind, parameters, x, state):
    """Return the states (B, L, H) and the gates (B, L, G, H); `state` (B, H) is the one before the first step."""
    units = state.shape[1]
    pre = product(x, parameters["weight"]) + parameters.get("bias", 0.0)
    states, gates = [], []
    gate: tuple[Any, ...]
    for t in range(x.shape[1]):
        p = pre[:, t]
        if kind == "elementwise_lstm":
            w = parameters["recurrent"]
            z = np.tanh(p[:, :units] + w[:units] * state)
            f = sigmoid(p[:, units:] + w[units:] * state)
            state, gate = f * state + (1 - f) * z, (z, f)
        elif kind == "min_gru":
            candidate, z = p[:, :units], sigmoid(p[:, units:])
            state, gate = (1 - z) * state + z * candidate, (candidate, z)
        else:
            factor, gain = constants(kind, parameters)
            u = p[:, :units] + 1j * p[:, units:] if kind == "complex_linear" else p
            state, gate = factor * state + gain * u, (u.real, u.imag) if kind == "complex_linear" else (u,)
        states.append(state)
        gates.append(np.stack(gate, 1))
    return np.stack(states, 1), np.stack(gates, 1)


def derivatives(kind, parameters, gate, before):
    """Return the factor ∂c/∂c' of a step, and its immediate derivatives: of each gate, and of each other parameter."""
    if kind == "elementwise_lstm":
        (z, f), w = gate, parameters["recurrent"].reshape(2, -1)
        of_z, of_f = (1 - f) * (1 - z * z), (before - z) * f * (1 - f)
        gates = [of_z, of_f]
        return f + of_z * w[0] + of_f * w[1], gates, {"recurrent": [a * before for a in gates], "bias": gates}
    if kind == "min_gru":
        candidate, z = gate
        gates = [z, (candidate - before) * z * (1 - z)]
        return 1 - z, gates, {"bias": gates}
    factor, gain = constants(kind, parameters)
    rate = np.exp(parameters["nu"])
    factor_slope, gain_slope = -rate * factor, rate * np.abs(factor) ** 2 / gain
    u = gate[0] + 1j * gate[1] if kind == "complex_linear" else gate[0]
    own = {"nu": [factor_slope * before + gain_slope * u]}
    if kind == "linear":
        return factor + 0 * before, [gain + 0 * before], own
    return (
        factor + 0 * before,
        [gain + 0 * before, 1j * gain + 0 * before],
        {**own, "theta": [1j * factor * before]},
    )


def real_time(kind, parameters, x, state, signals, traces=None):
    """Return gradients and the traces at the end, by real-time recurrent learning, step by step.

    `signals` (B, L, H) are ∂f/∂c, complex ones ∂f/∂Re c + i ∂f/∂Im c.
    """
    states, gates = run(kind, parameters, x, state)
    before = np.concatenate([state[:, None], states[:, :-1]], 1)
    batch, length, units = states.shape
    count = gates.shape[2]
    inputs = parameters["weight"].shape[0]
    dtype = states.dtype
    rows = np.eye(inputs)[x] if x.ndim == 2 else x
    if traces is None:
        traces = {"weight": np.zeros((batch, inputs, count, units), dtype)}
        _, _, own = derivatives(kind, parameters, np.moveaxis(gates[:, 0], 1, 0), before[:, 0])
        traces |= {name: np.zeros((batch, len(a), units), dtype) for name, a in own.items()}
    else:
        traces = {name: array.copy() for name, array in traces.items()}
    gradients: dict[str, Any] = dict.fromkeys(traces, 0.0)
    for t in range(length):
        factor, immediate, own = derivatives(kind, parameters, np.moveaxis(gates[:, t], 1, 0), before[:, t])
        own = {name: np.stack(a, 1) for name, a in own.items()}
        own["weight"] = rows[:, t, :, None, None] * np.stack(immediate, 1)[:, None]
        for name, trace in traces.items():
            shape = (batch, *(1,) * (trace.ndim - 2), units)
            trace *= factor.reshape(shape)
            trace += own[name]
            told = (np.conj(signals[:, t]).reshape(shape) * trace).real
            gradients[name] = gradients[name] + told.sum(0)
    shapes = {name: parameters[name].shape for name in gradients}
    return {name: g.reshape(shapes[name]) for name, g in gradients.items()}, traces


def backward(kind, parameters, x, state, signals):
    """Return gradients by backpropagation through all steps, and ∂f/∂x where x are numbers."""
    states, gates = run(kind, parameters, x, state)
    before = np.concatenate([state[:, None], states[:, :-1]], 1)
    batch, length, _ = states.shape
    rows = np.eye(parameters["weight"].shape[0])[x] if x.ndim == 2 else x
    gradients = {name: np.zeros(array.shape) for name, array in parameters.items()}
    of_x = np.zeros((batch, length, parameters["weight"].shape[0]))
    error = np.zeros_like(state)
    for t in reversed(range(length)):
        factor, immediate, own = derivatives(kind, parameters, np.moveaxis(gates[:, t], 1, 0), before[:, t])
        error = error + signals[:, t]
        of_gates = np.concatenate([(np.conj(error) * a).real for a in immediate], 1)
        gradients["weight"] += rows[:, t].T @ of_gates
        of_x[:, t] = of_gates @ parameters["weight"].T
        for name, arrays in own.items():
            gradients[name] += np.concatenate([(np.conj(error) * a).real for a in arrays], 1).sum(0)
        error = np.conj(factor) * error
    return gradients, of_x


def random_layer(kind, inputs, units, generator):
    """Return parameters as the layers draw them, so that states remember for tens of steps."""
    normal = generator.standard_normal
    groups = 1 if kind == "linear" else 2
    parameters = {"weight": normal((inputs, groups * units)) / np.sqrt(inputs)}
    if kind in ("elementwise_lstm", "min_gru"):
        parameters["bias"] = 0.1 * normal(groups * units)
    if kind == "elementwise_lstm":
        parameters["recurrent"] = 0.3 * normal(2 * units)
        parameters["bias"][units:] += np.linspace(-1, 4, units)
    elif kind != "min_gru":
        size = generator.uniform(0.9, 0.999, units)
        parameters["nu"] = np.log(-np.log(size))
        if kind == "complex_linear":
            parameters["theta"] = generator.uniform(0, np.pi / 10, units)
    return {name: array.astype(np.float32).astype(np.float64) for name, array in parameters.items()}
