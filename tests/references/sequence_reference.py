"""References of layers of sequences in NumPy, for real and for complex numbers.

Every function here is analytic, so that Im f(θ + i h v) / h is its derivative along v to the last digit even where h is
1e-30. Complex states of layers are pairs of numbers, since the imaginary unit is taken.
"""

import numpy as np

STEP = 1e-30


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def forward(layer, parameters, x, cuts=()):
    """Return the output of a layer; the states before the positions `cuts` count as constants."""
    kind = type(layer).__name__
    if kind == "Embedding":
        return parameters["weight"][x]
    if kind == "Dense":
        return np.tensordot(x, parameters["weight"], 1) + parameters["bias"]
    if kind == "RMSNorm":
        return parameters.get("scale", 1) * x / np.sqrt((x * x).mean(-1, keepdims=True) + layer.epsilon)
    if kind == "LayerNorm":
        centred = x - x.mean(-1, keepdims=True)
        inverse = 1 / np.sqrt((centred * centred).mean(-1, keepdims=True) + layer.epsilon)
        return parameters.get("scale", 1) * centred * inverse + parameters.get("shift", 0)
    return recurrent(kind, layer, parameters, x, cuts)


def recurrent(kind, layer, parameters, x, cuts):
    units, p = layer.units, parameters
    product = p["weight"][x] if layer.symbols else np.tensordot(x, p["weight"], 1)
    product = product + p.get("bias", 0)
    state = [np.zeros((len(product), units), product.dtype) for _ in range(2)]
    outputs = []
    for position in range(product.shape[1]):
        if position in cuts:
            state = [part.real.astype(product.dtype) for part in state]
        state, y = STEPS[kind](p, np.split(product[:, position], product.shape[-1] // units, -1), *state)
        outputs.append(y)
    return np.stack(outputs, 1)


def elementwise_lstm(p, product, c, _):
    (z, f), (wz, wf) = product, np.split(p["recurrent"], 2)
    z, f = np.tanh(z + wz * c), sigmoid(f + wf * c)
    c = f * c + (1 - f) * z
    return [c, _], c


def min_gru(p, product, h, _):
    candidate, z = product[0], sigmoid(product[1])
    h = (1 - z) * h + z * candidate
    return [h, _], h


def linear(p, product, h, hi):
    size = np.exp(-np.exp(p["nu"]))
    gamma = np.sqrt(1 - size * size)
    if "theta" not in p:
        h = size * h + gamma * product[0]
        return [h, hi], h
    real, imaginary = size * np.cos(p["theta"]), size * np.sin(p["theta"])
    h, hi = (
        real * h - imaginary * hi + gamma * product[0],
        real * hi + imaginary * h + gamma * product[1],
    )
    return [h, hi], np.concatenate([h, hi], -1)


def lstm(p, product, h, c):
    i, f, n, o = (a + b for a, b in zip(product, np.split(h @ p["recurrent"], 4, -1), strict=True))
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(n)
    h = sigmoid(o) * np.tanh(c)
    return [h, c], h


def gru(p, product, h, _):
    r, z, n = np.split(h @ p["recurrent"], 3, -1)
    r, z = sigmoid(product[0] + r), sigmoid(product[1] + z)
    n = np.tanh(product[2] + r * (n + p["recurrent_bias"]))
    h = (1 - z) * n + z * h
    return [h, _], h


STEPS = {
    "ElementwiseLSTM": elementwise_lstm,
    "MinGRU": min_gru,
    "LinearRecurrentUnit": linear,
    "LSTM": lstm,
    "GRU": gru,
}


def cross_entropy(layers, parameters, x, y, cuts=()):
    """Return the mean over all positions of softmax cross-entropy."""
    for index, layer in enumerate(layers):
        own = {
            name.partition(".")[2]: array
            for name, array in parameters.items()
            if name.partition(".")[0] == str(index)
        }
        x = forward(layer, own, x, cuts)
    z = x.reshape(-1, x.shape[-1])
    log_sum = np.log(np.exp(z).sum(-1))
    return (log_sum - z[np.arange(len(z)), y.reshape(-1)]).mean()


def gradient(layers, parameters, x, y, cuts=()):
    """Return the gradient of that loss, number by number."""
    moved = {name: array.astype(np.complex128) for name, array in parameters.items()}
    found = {name: np.empty(array.shape) for name, array in parameters.items()}
    for name, array in moved.items():
        for index in np.ndindex(array.shape):
            array[index] += 1j * STEP
            found[name][index] = cross_entropy(layers, moved, x, y, cuts).imag / STEP
            array[index] = array[index].real
    return found


def derivative(layers, parameters, x, y, direction):
    """Return the derivative of that loss along a direction, a mapping like the parameters."""
    moved = {name: array + 1j * STEP * direction[name] for name, array in parameters.items()}
    return cross_entropy(layers, moved, x, y).imag / STEP
