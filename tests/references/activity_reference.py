"""Activity perturbation of perceptrons in float64 NumPy: noise from Philox's definition, derivatives by hand."""

from dataclasses import dataclass, field

import numpy as np

from tests.kernels.test_activations import REFERENCES
from tests.references import reference

NOISE = 5  # the purpose of noise in the counter


def signs(seed, step, slot, parameter, rows, columns):
    """Return u (rows, columns)."""
    return reference.sign_matrix(rows, columns, NOISE, slot, parameter, step, seed)


def residual(z, y):
    """Return softmax(z) - onehot(y)."""
    p = np.exp(z - z.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    p[np.arange(len(y)), y] -= 1
    return p


@dataclass
class Estimate:
    """Gradients by name, and what feedback would learn: (N, C) matrices by layer."""

    gradient: dict = field(default_factory=dict)
    feedback: dict = field(default_factory=dict)


def estimate(
    layers,
    parameters,
    x,
    y,
    seed,
    step,
    *,
    draws=1,
    layerwise=False,
    feedback=None,
    control=1.0,
    rate=0.0,
    heads=None,
):
    """Return the estimate of a perceptron.

    Parameters
    ----------
    feedback : B (N, C) by hidden layer, None without. heads : (weight, bias) by hidden layer but the last, None for the
        global loss.
    """
    theta = {name: array.astype(np.float64) for name, array in parameters.items()}
    hidden, last = range(len(layers) - 1), len(layers) - 1
    numbers = {name: index for index, name in enumerate(parameters)}
    inputs, slopes = [x.astype(np.float64)], []
    for index in hidden:
        z = inputs[-1] @ theta[f"{index}.weight"] + theta.get(f"{index}.bias", 0.0)
        slopes.append(REFERENCES[layers[index].activation].derivative(z))
        inputs.append(REFERENCES[layers[index].activation].value(z))
    logits = inputs[-1] @ theta[f"{last}.weight"] + theta.get(f"{last}.bias", 0.0)
    blocks = [list(hidden)] if heads is None else [[index] for index in hidden]
    found = Estimate()
    signals = {last: residual(logits, y)}
    for block in blocks:
        outputs = theta[f"{last}.weight"]
        e = signals[last]
        if heads is not None and block[-1] in heads:
            outputs, bias = (array.astype(np.float64) for array in heads[block[-1]])
            e = residual(inputs[block[-1] + 1] @ outputs + bias, y)
            found.gradient[f"head.{block[-1]}.0.weight"] = inputs[block[-1] + 1].T @ e / len(x)
            found.gradient[f"head.{block[-1]}.0.bias"] = e.mean(axis=0)
        slots = draws * (len(block) if layerwise else 1)
        noise = {}
        for place, index in enumerate(block):
            first = place * draws if layerwise else 0
            shape = len(x), layers[index].units
            for t in range(first, first + draws):
                noise[index, t] = signs(seed, step, t, numbers[f"{index}.weight"], *shape)
        response = []
        for t in range(slots):
            da = 0.0
            for index in block:
                dz = noise.get((index, t), 0.0)
                if index != block[0]:
                    dz = dz + da @ theta[f"{index}.weight"]
                da = slopes[index] * dz
            response.append(da @ outputs)
        power = sum(np.sum(slopes[index] ** 2) for index in block) / len(x)
        if feedback is not None:
            for (index, t), u in noise.items():
                response[t] = response[t] - (slopes[index] * u) @ feedback[index]
        for index in block:
            delta = np.zeros((len(x), layers[index].units))
            if feedback is not None:
                delta += slopes[index] * (e @ feedback[index].T)
                learned = sum(
                    (slopes[index] * u).T @ response[t] for (where, t), u in noise.items() if where == index
                )
                gain = rate / max(1.0, power + len(x) * draws)
                found.feedback[index] = feedback[index] + gain * learned
            for (where, t), u in noise.items():
                if where == index:
                    r = control / draws * np.sum(e * response[t], axis=1, keepdims=True)
                    delta += r * u * (slopes[index] != 0)
            signals[index] = delta
    for index, delta in signals.items():
        found.gradient[f"{index}.weight"] = inputs[index].T @ delta / len(x)
        if f"{index}.bias" in theta:
            found.gradient[f"{index}.bias"] = delta.mean(axis=0)
    return found
