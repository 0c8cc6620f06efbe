"""Other frameworks, where installed: their loss and gradient are ours, and their computations run."""

import numpy as np
import pytest

import fgnumba as fg
from fgnumba.bench import reverse
from fgnumba.bench.measure import networks
from fgnumba.bench.measure.jax_peers import jax_loss
from fgnumba.bench.measure.peer_networks import CALLS, WIDTHS
from fgnumba.bench.measure.peers import FLOAT32_PEERS, FRAMEWORKS, PEERS, peers, versions
from fgnumba.bench.measure.torch_peers import torch_layout, torch_loss
from tests import tolerances

LOSS = fg.SoftmaxCrossEntropy()


@pytest.fixture(params=["mlp", "cnn"])
def problem(request):
    model = networks.network(request.param)
    rng = np.random.default_rng(3)
    biases = {
        name: array if name.endswith("weight") else 0.1 * rng.standard_normal(array.shape)
        for name, array in model.parameters().items()
    }
    model.load_parameters(biases)
    x, y = networks.data(5)
    return model, x if request.param == "cnn" else x.reshape(5, -1), y


def check(model, x, y, value, gradients):
    """Compare with reverse mode here; both are float32 sums in their own order."""
    found, gradient = reverse.value_and_grad(model, LOSS, x.reshape(5, 28, 28, 1), y)
    tolerances.MODEL_LOSS.check(found, value)
    for (name, ours), theirs in zip(gradient.items(), gradients, strict=True):
        error = np.linalg.norm(ours - theirs)
        assert error <= tolerances.PEERS_GRADIENT * np.linalg.norm(theirs), f"{name}: {error:.3g}"


def test_jax_agrees(problem):
    jax = pytest.importorskip("jax")
    model, x, y = problem
    value, gradients = jax.value_and_grad(jax_loss)(list(model.parameters().values()), x, y)
    check(model, x, y, float(value), map(np.asarray, gradients))


def channels_first(array):
    """Return weights behind images channels last as those behind images channels first."""
    if array.shape[0] != 7 * 7 * 64:
        return array
    return array.reshape(7, 7, 64, -1).transpose(2, 0, 1, 3).reshape(array.shape)


def channels_last(array):
    if array.shape[0] != 7 * 7 * 64:
        return array
    return array.reshape(64, 7, 7, -1).transpose(1, 2, 0, 3).reshape(array.shape)


def test_pytorch_agrees(problem):
    torch = pytest.importorskip("torch")
    model, x, y = problem
    arrays = [channels_first(array) for array in model.parameters().values()]
    parameters = [torch_layout(array).requires_grad_() for array in arrays]
    inputs = torch.from_numpy(x)
    inputs = inputs.permute(0, 3, 1, 2) if x.ndim == 4 else inputs
    value = torch_loss(parameters, inputs, torch.from_numpy(y))
    value.backward()
    back = {2: (1, 0), 4: (2, 3, 1, 0)}
    gradients = [channels_last(p.grad.permute(back.get(p.dim(), (0,))).numpy()) for p in parameters]
    check(model, x, y, value.item(), gradients)


@pytest.mark.parametrize("network", ["mlp", "cnn"])
@pytest.mark.parametrize("name", [name for name in PEERS if name not in FLOAT32_PEERS])
def test_peers_of_bfloat16_compute_the_same_less_exactly(name, network):
    pytest.importorskip(PEERS[name].package)
    images, y = networks.data(16)
    x = images if network == "cnn" else images.reshape(16, -1)
    exact = next(peer for peer in FLOAT32_PEERS if name.startswith(peer))
    calls = peers(WIDTHS[network], x, y, names=(exact, name))
    found, expected = (float(calls[peer]["f"]()) for peer in (name, exact))
    assert found != expected
    tolerances.PEERS_BF16_LOSS.check(found, expected)
    gradients, exact_gradients = (arrays(calls[peer]["grad"]()) for peer in (name, exact))
    for array, reference in zip(gradients, exact_gradients, strict=True):
        error = np.linalg.norm(array - reference)
        assert error <= tolerances.PEERS_BF16_GRADIENT * np.linalg.norm(reference)


def arrays(gradient):
    """Return a peer's gradient as float32 arrays; JAX's comes with the loss."""
    if not hasattr(gradient[0], "detach"):
        return [np.asarray(array, np.float32) for array in gradient[1]]
    return [array.detach().float().numpy() for array in gradient]


# PyTorch's own forward mode compiles with what it deprecates; the category is its version's.
@pytest.mark.filterwarnings("ignore:`torch.jit.script` is:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:`torch.jit.script` is:FutureWarning")
@pytest.mark.parametrize("direction", ["rank1", "rademacher", "gaussian"])
def test_every_call_runs(direction):
    x, y = networks.data(4)
    found = peers(WIDTHS["logreg"], x.reshape(4, -1), y, direction, tuple(PEERS))
    if not found:
        pytest.skip("neither JAX nor PyTorch is installed")
    assert {name for name in found if name in FLOAT32_PEERS} == versions().keys()
    assert {PEERS[name].package for name in found} == {FRAMEWORKS[name] for name in versions()}
    for calls in found.values():
        assert tuple(calls) == CALLS
        for call in calls.values():
            call()
            call()
