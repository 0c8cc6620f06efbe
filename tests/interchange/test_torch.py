"""Models of PyTorch's modules, and modules of models."""

import copy

import numpy as np
import pytest

import fgnumba as fg
from fgnumba.errors import ConfigError, ShapeError
from tests import tolerances_interchange as tolerances
from tests.graph_cases import CONVOLUTIONS, WIRINGS
from tests.interchange.networks import batch, first, random_chain, relative_difference, trained
from tests.testing.own_layer import ScaleShift

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402


def run(module, x):
    module = copy.deepcopy(module).eval()
    with torch.no_grad():
        return module(torch.from_numpy(first(x))).numpy()


def assert_alike(model, module, seed=1):
    """Hold a model and a module to the same outputs, on other numbers than those of the built-in check."""
    x = batch(model.input_shape, seed)
    assert relative_difference(first(model(x)), run(module, x)) < tolerances.SAME_NETWORK


@pytest.mark.parametrize("seed", range(60))
def test_random_rows_of_layers_go_out_and_come_back(seed):
    model = random_chain(seed)
    module = fg.to_torch(model)
    assert_alike(model, module)
    if isinstance(module, nn.Sequential):
        back = fg.from_torch(module, model.input_shape, "cpu")
        assert isinstance(back, fg.Sequential)
        x = batch(model.input_shape, 2)
        assert relative_difference(back(x), model(x)) < tolerances.SAME_NETWORK


@pytest.mark.parametrize("name", WIRINGS)
def test_graphs_go_out(name):
    nodes, shape = WIRINGS[name]
    model = trained(fg.Graph(nodes, shape, device="cpu"))
    assert_alike(model, fg.to_torch(model))


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_convolutions_go_out_and_come_back(name):
    model = trained(fg.Sequential([CONVOLUTIONS[name]], (7, 6, 6), device="cpu"))
    module = fg.to_torch(model)
    assert isinstance(module, nn.Sequential)
    assert_alike(model, module)
    assert_alike(fg.from_torch(module, (7, 6, 6), "cpu"), module)


def test_the_weight_after_flatten_is_permuted():
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 5, 3), nn.ReLU(), nn.Flatten(), nn.Linear(5 * 4 * 2, 7))
    model = fg.from_torch(module, (6, 4, 3), "cpu")
    assert_alike(model, module)
    # The obvious transposition is another network.
    parameters = model.parameters()
    parameters["3.weight"] = module.state_dict()["3.weight"].numpy().T
    model.load_parameters(parameters)
    x = batch((6, 4, 3))
    assert relative_difference(model(x), run(module, x)) > 1e4 * tolerances.SAME_NETWORK


def test_parameters_have_the_names_that_they_have_in_pytorch():
    module = nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Identity(), nn.Linear(3, 2, bias=False))
    model = fg.from_torch(module, 4, "cpu")
    assert set(model.parameters()) == set(module.state_dict())
    assert tuple(node.layer for node in model.nodes) == (
        fg.Dense(3),
        fg.Activation("tanh"),
        fg.Activation("identity"),
        fg.Dense(2, bias=False),
    )


ACTIVATIONS = [
    *(nn.ReLU(), nn.Tanh(), nn.Sigmoid(), nn.GELU(), nn.ELU(), nn.Softplus(), nn.SiLU(), nn.LeakyReLU()),
    nn.Identity(),
]


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=lambda one: type(one).__name__)
def test_every_activation_comes_in(activation):
    module = nn.Sequential(activation, nn.Flatten(), nn.Linear(3 * 4 * 5, 3))
    assert_alike(fg.from_torch(module, (4, 5, 3), "cpu"), module)


def row(size, *between):
    """Return the modules from an image to two numbers."""
    return nn.Flatten(), *between, nn.Linear(size, 2)


def modules():
    """Return modules that come in, each with the shape of its input."""
    relu = nn.ReLU()
    return {
        "nested": (
            nn.Sequential(nn.Sequential(nn.Conv2d(2, 4, 3, padding="same"), nn.Sequential(nn.GELU())), *row(20)),
            (5, 1, 2),
        ),
        "same with an even kernel": (nn.Conv2d(2, 3, (2, 4), padding="same", dilation=(2, 1)), (6, 7, 2)),
        "circular without padding": (nn.Conv2d(2, 3, 2, padding_mode="circular"), (3, 3, 2)),
        "strides and groups": (nn.Conv2d(6, 9, 3, (2, 1), (1, 0), groups=3, bias=False), (7, 5, 6)),
        "depthwise": (nn.Conv2d(7, 14, 3, padding=1, groups=7), (5, 5, 7)),
        "padding apart": (nn.Sequential(nn.ZeroPad2d((1, 0, 2, 1)), nn.Conv2d(2, 3, 3, padding=1)), (4, 5, 2)),
        "pools": (nn.Sequential(nn.MaxPool2d(3, 1, 1), nn.AvgPool2d((2, 1), (1, 2))), (5, 7, 3)),
        "a mean without padding": (nn.AvgPool2d(3, 2, 1, count_include_pad=False), (5, 6, 2)),
        "rounded up": (nn.MaxPool2d(2, 2, ceil_mode=True), (5, 7, 3)),
        "rounded up, padded": (nn.MaxPool2d(3, 2, 1, ceil_mode=True), (6, 4, 1)),
        "rounded up, a mean": (nn.AvgPool2d(3, 2, 1, ceil_mode=True, count_include_pad=False), (6, 7, 1)),
        "a global mean": (nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 2)), (3, 4, 5)),
        "a global mean that stays an image": (
            nn.Sequential(nn.AdaptiveAvgPool2d((1, 1)), nn.Conv2d(5, 2, 1), nn.Flatten()),
            (3, 4, 5),
        ),
        "normalisations": (
            nn.Sequential(nn.GroupNorm(2, 4), nn.Flatten(), nn.LayerNorm(24, eps=1e-3), nn.Linear(24, 2)),
            (3, 2, 4),
        ),
        "normalisations without parameters": (
            nn.Sequential(nn.GroupNorm(2, 4, affine=False), *row(24, nn.LayerNorm(24, elementwise_affine=False))),
            (3, 2, 4),
        ),
        "a normalisation without a shift": (nn.Sequential(*row(24, nn.LayerNorm(24, bias=False))), (3, 2, 4)),
        "one group of a flattened image": (nn.Sequential(*row(24, nn.GroupNorm(1, 24))), (3, 2, 4)),
        "dropout": (nn.Sequential(nn.Linear(3, 50), nn.Dropout(0.9), nn.Linear(50, 2)), (3,)),
        "one pixel": (nn.Sequential(nn.Flatten(), nn.Linear(3, 2)), (1, 1, 3)),
        "an image out": (nn.Conv2d(1, 3, 3), (7, 5, 1)),
        "a flattened image of one channel out": (nn.Sequential(nn.ReLU(), nn.Flatten()), (3, 5, 1)),
        "one layer": (nn.Linear(3, 2), (3,)),
        "the same activation twice": (nn.Sequential(nn.Linear(3, 3), relu, nn.Linear(3, 3), relu), (3,)),
        "float64": (nn.Sequential(nn.Linear(3, 2)).double(), (3,)),
    }  # fmt: skip


@pytest.mark.parametrize("name", modules())
def test_modules_come_in(name):
    module, shape = modules()[name]
    for parameter in module.parameters():
        nn.init.normal_(parameter)
    assert_alike(fg.from_torch(module, shape, "cpu"), module.float())


def test_normalisations_without_parameters_have_none_on_either_side():
    module = nn.Sequential(
        nn.Linear(3, 4), nn.LayerNorm(4, elementwise_affine=False), nn.GroupNorm(2, 4, affine=False)
    )
    model = fg.from_torch(module, 3, "cpu")
    assert list(model.parameters()) == ["0.weight", "0.bias"]
    assert list(fg.to_torch(model).state_dict()) == ["0.weight", "0.bias"]


def test_the_module_is_left_as_it_is():
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.5), nn.Linear(4, 2)).train()
    before = {name: array.clone() for name, array in module.state_dict().items()}
    state = torch.get_rng_state()
    model = fg.from_torch(module, 3, "cpu")
    fg.Trainer(model, optimizer=fg.SGD(0.1)).step(batch((3,)), np.array([0, 1, 0]))
    assert all(part.training for part in module.modules())
    assert all(torch.equal(array, before[name]) for name, array in module.state_dict().items())
    assert all(array.dtype == torch.float32 and array.requires_grad for array in module.parameters())
    fg.to_torch(model)
    assert torch.equal(torch.get_rng_state(), state)


class Own(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(3, 3)

    def forward(self, x):
        return self.linear(x) + x


class Turned(nn.Sequential):
    def forward(self, x):
        return super().forward(-x)


def refused():
    """Return modules that have no counterpart, each with the shape of its input and what is said."""
    shared = nn.Linear(3, 3)
    block = nn.Sequential(nn.Conv2d(2, 3, 1), nn.BatchNorm2d(3))
    return {
        "a batch's norm": (nn.Sequential(nn.ReLU(), block), (4, 4, 2), r"1\.1: BatchNorm2d has no counterpart; use"),
        "a forward pass of its own": (nn.Sequential(nn.Linear(3, 3), Own()), 3, "1: Own has no counterpart"),
        "alone": (Own(), 3, "the module: Own has no counterpart"),
        "a sequence of its own": (Turned(nn.Linear(3, 3)), 3, "the module: Turned has no counterpart"),
        "a recurrent one": (nn.Sequential(nn.LSTM(3, 3)), 3, "0: LSTM has no counterpart"),
        "softmax": (nn.Sequential(nn.Linear(3, 3), nn.Softmax(1)), 3, "1: Softmax has no counterpart; leave it out"),
        "a slope": (nn.Sequential(nn.Linear(3, 3), nn.LeakyReLU(0.2)), 3, r"1: LeakyReLU: negative_slope 0\.2 has no"),
        "an approximation": (nn.GELU("tanh"), 3, "GELU: approximate 'tanh' has no"),
        "a sharper softplus": (nn.Softplus(beta=2), 3, "Softplus: beta 2"),
        "reflected padding": (nn.Conv2d(2, 3, 3, padding=1, padding_mode="reflect"), (4, 4, 2), "mode 'reflect'"),
        "padding that counts": (nn.AvgPool2d(3, 1, 1), (4, 4, 2), "AvgPool2d: padding with count_include_pad=True"),
        "a divisor": (nn.AvgPool2d(2, divisor_override=3), (4, 4, 2), "divisor_override"),
        "a dilated pool": (nn.MaxPool2d(2, dilation=2), (4, 4, 2), "MaxPool2d: dilation 2"),
        "an adaptive pool": (nn.AdaptiveAvgPool2d(2), (4, 4, 2), "output_size 2"),
        "a norm of images": (nn.LayerNorm((2, 4, 4)), (4, 4, 2), r"LayerNorm: normalized_shape \(2, 4, 4\)"),
        "a part flattened": (nn.Flatten(2), (4, 4, 2), "Flatten: start_dim 2"),
        "padding at the end": (nn.ZeroPad2d(1), (4, 4, 2), "ZeroPad2d has no counterpart unless a Conv2d follows"),
        "padding before a pool": (nn.Sequential(nn.ZeroPad2d(1), nn.MaxPool2d(2)), (4, 4, 2), "0: ZeroPad2d has no"),
        "shared": (nn.Sequential(shared, nn.ReLU(), shared), 3, "2: Linear: its weight is also that of 0; shared"),
        "tied": (tied(), 3, "2: Linear: its bias is also that of 0; shared parameters have no counterpart"),
        "complex numbers": (nn.Linear(3, 3, dtype=torch.complex64), 3, "a parameter has dtype torch.complex64; real"),
        "everything dropped": (nn.Sequential(nn.Linear(3, 3), nn.Dropout(1.0)), 3, "1: Dropout: Dropout: rate is 1"),
        "a flattened output": (nn.Sequential(nn.ReLU(), nn.Flatten()), (2, 2, 2), "output is a flattened image"),
        "another number of channels": (nn.GroupNorm(1, 4, affine=False), 3, "GroupNorm: num_channels 4"),
        "groups of a flattened image": (
            nn.Sequential(*row(8, nn.GroupNorm(2, 8))), (2, 2, 2), "1: GroupNorm: groups of a flattened"
        ),
        "no size yet": (nn.Sequential(nn.LazyLinear(3)), 3, "0: LazyLinear has no counterpart"),
        "not finite": (nn.Sequential(infinite()), 3, "weight"),
        "no module": (3, 3, "module is a int; a torch.nn.Module"),
    }  # fmt: skip


def tied():
    module = nn.Sequential(nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 3))
    module[2].bias = module[0].bias
    return module


def infinite():
    module = nn.Linear(3, 3)
    nn.init.constant_(module.weight, float("inf"))
    return module


@pytest.mark.parametrize("name", refused())
def test_what_has_no_counterpart_is_named(name):
    module, shape, message = refused()[name]
    with pytest.raises(ConfigError, match=message) as caught:
        fg.from_torch(module, shape, "cpu")
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("module", "shape", "message"),
    [
        (nn.Linear(3, 2), 4, r"Linear: weight has shape \(2, 3\); \(N, 4\) is required"),
        (nn.Sequential(nn.Conv2d(2, 3, 2), nn.Linear(3, 2)), (3, 3, 2), "1: Linear: its input is an image"),
        (nn.Conv2d(2, 3, 5), (3, 3, 2), "Conv2d: Conv2d: the input's shape is"),
        (nn.Conv2d(1, 3, 2), (3, 3, 2), r"Conv2d: weight has shape \(2, 2, 1, 3\)"),
        (nn.MaxPool2d(2), 4, r"MaxPool2d: its input has shape \(4,\); an image"),
        (nn.Linear(3, 2), (2, 3), r"input_shape is \(2, 3\)"),
        (nn.Linear(3, 2), 0, "input_shape is 0"),
    ],
)
def test_shapes_that_do_not_fit(module, shape, message):
    with pytest.raises(ShapeError, match=message):
        fg.from_torch(module, shape, "cpu")


@pytest.mark.parametrize("kind", [np.uint8, np.int64, np.array])
def test_a_shape_of_numpys_numbers(kind):
    module = nn.Sequential(nn.Flatten(), nn.Linear(16 * 20, 2))
    shape = (kind(16), kind(20), kind(1))
    assert fg.from_torch(module, shape, "cpu").input_shape == (16, 20, 1)


def test_a_module_that_computes_something_else_is_found_out():
    module = nn.Sequential(nn.Linear(3, 2))
    module[0].register_forward_hook(lambda part, given, output: 2 * output)
    with pytest.raises(ConfigError, match=r"from_torch: the outputs .* differ by 0\.\d+ of the largest"):
        fg.from_torch(module, 3, "cpu")


def test_a_module_that_cannot_be_run():
    module = nn.Sequential(nn.Linear(3, 2))
    module[0].register_forward_pre_hook(lambda part, given: 1 / 0)
    with pytest.raises(ConfigError, match=r"cannot be run on inputs of shape \(4, 3\): division by zero"):
        fg.from_torch(module, 3, "cpu")


def test_a_transformer_does_not_go_out():
    block = fg.TransformerBlock(2)
    for layers, shape, message in (
        (
            [block, fg.Dense(3)],
            (5, 4),
            r"layer '0_norm': LayerNorm reads a sequence \(5, 4\); models of vectors and",
        ),
        ([fg.Embedding(5, 4), block], (5,), "layer '0': Embedding has no counterpart"),
    ):
        with pytest.raises(ConfigError, match=message):
            fg.to_torch(fg.Sequential(layers, shape))


def test_a_layer_of_ones_own_does_not_go_out():
    with pytest.raises(ConfigError, match="layer '1': a ScaleShift is not one of fgnumba's layers"):
        fg.to_torch(fg.Sequential([fg.Dense(3), ScaleShift("")], 5))
    with pytest.raises(ConfigError, match="model is a int; a Sequential or a Graph is required"):
        fg.to_torch(3)  # type: ignore[arg-type]


def test_a_module_can_be_trained_on():
    module = fg.to_torch(fg.Sequential([fg.Dense(4, "relu"), fg.Dense(2)], 3))
    assert not module.training
    module(torch.ones(2, 3)).sum().backward()
    assert all(parameter.grad is not None for parameter in module.parameters())


def test_a_model_without_pytorch_says_what_to_install(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "torch", None)
    for call in (lambda: fg.to_torch(fg.Sequential([fg.Dense(3)], 5)), lambda: fg.from_torch(None, 3)):
        with pytest.raises(ConfigError, match=r"needs torch.*: pip install 'fgnumba\[torch\]'"):
            call()
