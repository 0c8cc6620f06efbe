"""Kernels and training at full size, on a real GPU only: products of gigabytes, graphs, errors of the driver.

They are compared with float64 on some of the rows or images.
"""

import re
import subprocess
import sys

import numpy as np
import pytest

import fgnumba as fg
from fgnumba.errors import DeviceError
from fgnumba.estimators import recipe
from fgnumba.kernels.cuda.instructions import Instructions
from fgnumba.kernels.cuda.memory import DeviceArray
from fgnumba.kernels.devices.gpu import Gpu
from fgnumba.kernels.layout.geometry import Geometry
from fgnumba.kernels.layout.images import Border
from fgnumba.kernels.ops.conv2d import cuda as conv2d
from fgnumba.kernels.ops.dense import cuda as dense
from fgnumba.runs.presets import model_from, tables
from fgnumba.training.defaults import defaults
from tests import tolerances
from tests.gpu import test_norms, test_pooling
from tests.gpu.moved_weights import check, moved, random
from tests.gpu.patches import grouped_product, patches
from tests.references.graph_reference import normalized

pytestmark = pytest.mark.gpu

DENSE = (8192, 1024, 1024)
"""B, K, N."""
IMAGES, FILTERS = (256, 28, 28, 64), 64
ROWS, SOME = 300, 6
"""Rows and images that are compared."""
BATCH, STEPS = 64, 10


def instructions(gpu, precision="float32"):
    major, minor = gpu.driver.capability
    return Instructions(f"sm_{major}{minor}", precision)


def chosen(n, count):
    """Return numbers below n: the first, the last, and others."""
    between = np.random.default_rng(0).choice(n, min(n, count), replace=False)
    return np.unique([0, *between, n - 1])


def check_dual(found, z, dz, inputs, whole):
    """Compare with a rectified z and its tangents: where z is so small that its sign may be another, z alone."""
    check(found[0], np.maximum(z, 0), inputs, whole)
    clear = np.abs(z) > (0 if whole else tolerances.UNDECIDED)
    check(found[1:, clear], np.where(z > 0, dz, 0)[:, clear], inputs, whole)


@pytest.mark.parametrize(
    ("precision", "kind"),
    [
        *(("float32", kind) for kind in ("rank1", "rademacher", "gaussian")),
        ("tf32", "rank1"),
        ("bf16", "rank1"),
    ],
)
def test_dense(gpu, precision, kind):
    batch, inputs, outputs = DENSE
    # Small whole numbers are exact in every precision, and so are their sums.
    whole = precision != "float32"
    x = random(1, (2, batch, inputs), whole)
    one = moved(gpu, kind, 1, inputs, outputs, whole=whole)
    y = gpu.images(shape=(outputs,), blocks=2, batch=batch)
    operation = dense.bind(
        instructions(gpu, precision),
        gpu.driver.processors,
        batch=batch,
        x=gpu.images(x),
        y=y,
        outputs=outputs,
        weights=one.weights,
        activation_name="relu",
    )
    gpu.run(operation)
    rows = chosen(batch, ROWS)
    z = x[0, rows] @ one.weight + one.bias
    dz = x[0, rows] @ one.v + one.v_bias[:, None] + x[1:, rows] @ one.weight
    check_dual(gpu.values(y)[:, rows, 0, 0], z, dz, inputs, whole)


@pytest.mark.parametrize("precision", ["float32", "tf32", "bf16"])
@pytest.mark.parametrize("channels", [1, 64])
def test_convolutions(gpu, precision, channels):
    geometry, whole = Geometry((3, 3), padding=Border(1, 1, 1, 1)), precision != "float32"
    images = (*IMAGES[:3], channels)
    x = random(1, (2, *images), whole)
    one = moved(gpu, "rank1", 1, 9 * channels, FILTERS, whole=whole)
    y = gpu.images(shape=(*images[1:3], FILTERS), blocks=2, batch=images[0])
    operations = conv2d.bind(
        instructions(gpu, precision),
        gpu.driver.processors,
        batch=images[0],
        images_a_part=1,
        x=gpu.images(x),
        y=y,
        geometry=geometry,
        weights=one.weights,
        activation_name="relu",
    )
    gpu.run(*operations)
    some = chosen(images[0], SOME)
    columns = patches(x[:, some], geometry)
    z = grouped_product(columns[0], one.weight, 1) + one.bias
    dz = grouped_product(columns[0], one.v[0], 1) + one.v_bias[0] + grouped_product(columns[1], one.weight, 1)
    check_dual(gpu.values(y)[:, some], z, dz[None], 9 * channels, whole)


@pytest.mark.parametrize("kind", test_pooling.POOLS)
def test_pooling_of_images(gpu, kind):
    window, padding = (2, 2), (0, 0, 0, 0)
    values = test_pooling.arrays(IMAGES[0], IMAGES[1:], 2)
    out = (2, IMAGES[0], IMAGES[1] // 2, IMAGES[2] // 2, IMAGES[3])
    y = test_pooling.run(gpu, kind, gpu.images(values), out, IMAGES[0], 1, window, window, padding)
    some = chosen(IMAGES[0], SOME)
    expected = test_pooling.expected(values[:, some], window, window, padding, kind)
    # Halves of whole numbers: exact, and so is a quarter of their sums.
    np.testing.assert_array_equal(y[:, some], expected)


@pytest.mark.parametrize(
    ("batch", "shape", "groups"), [(IMAGES[0], IMAGES[1:], 8), (DENSE[0], (1, 1, DENSE[2]), None)]
)
def test_normalisation(gpu, batch, shape, groups):
    x = random(2, (2, batch, *shape))
    p, v, weights = test_norms.drawn(gpu, test_norms.RANK1, 1, shape[-1])
    y = gpu.images(shape=shape, blocks=2, batch=batch)
    found = test_norms.run(gpu, gpu.images(x), y, batch, groups, weights)
    some = chosen(batch, SOME)
    value, tangent = normalized((x[0, some], x[1:, some]), groups, test_norms.EPSILON, p, v)
    tolerances.NORMALISED_MANY.check(found[:, some], np.concatenate([value[None], tangent]))


def data(batch):
    rng = np.random.default_rng(0)
    return rng.random((batch, 28, 28, 1), np.float32), rng.integers(0, 10, batch)


def preset(name, device):
    return model_from(tables(name, 10), 10, name, (28, 28, 1), seed=1, device=device)


def estimators(name):
    """Return weight perturbation and the default estimator of a preset, each with an optimiser."""
    default = defaults(name).estimator
    return {
        "weight-perturbation": (fg.WeightPerturbation(), fg.SGD(1e-4)),
        "default": (recipe(default).build(default, None, None), fg.Adam(1e-4)),
    }


def trained(name, which, device):
    """Return losses of some steps, and the parameters before and after."""
    model, (estimator, optimizer) = preset(name, device), estimators(name)[which]
    trainer, before = (
        fg.Trainer(model, estimator=estimator, optimizer=optimizer, seed=3),
        model.parameters(),
    )
    losses = [trainer.step(*data(BATCH)).loss for _ in range(STEPS)]
    return losses, before, model.parameters()


@pytest.mark.parametrize("which", ["weight-perturbation", "default"])
@pytest.mark.parametrize("name", ["mlp", "cnn"])
def test_captured_steps_are_those_that_are_not_bit_for_bit(driver, name, which):
    captured, launched = (trained(name, which, Gpu(driver, graph=graph)) for graph in (True, False))
    assert captured[0] == launched[0]
    for one, array in captured[2].items():
        np.testing.assert_array_equal(array, launched[2][one], err_msg=one)


@pytest.mark.parametrize(("name", "which"), tolerances.APART)
def test_training_is_as_on_the_cpu(driver, name, which):
    losses, before, found = trained(name, which, Gpu(driver))
    expected_losses, start, expected = trained(name, which, "cpu")
    apart = tolerances.APART[name, which]
    tolerances.Within(tolerances.APART_LOSS * apart).check(losses, expected_losses)
    for one, array in expected.items():
        np.testing.assert_array_equal(before[one], start[one])
        way, error = np.linalg.norm(array - start[one]), np.linalg.norm(found[one] - array)
        assert error <= apart * way, f"{one}: {error:.3g} apart after a way of {way:.3g}"


def test_the_gpu_is_chosen_where_there_is_one():
    for device in ("auto", "cuda"):
        assert preset("logreg", device).device == "cuda"


def test_memory_that_is_not_there_is_named_in_bytes(driver):
    with pytest.raises(DeviceError) as caught:
        DeviceArray.zeros(driver, (1 << 50,))
    assert re.search(
        r"has no room: 4,503,599,627,370,496 bytes asked for, [\d,]+ bytes free", str(caught.value)
    )
    # The driver is as good as before.
    assert not DeviceArray.zeros(driver, (5,)).download().any()


STRAY = """
import os
import numpy as np
from fgnumba.errors import DeviceError
from fgnumba.kernels.cuda.driver import CudaDriver
from fgnumba.kernels.cuda.kernel import kernel
from fgnumba.kernels.cuda.primitives import Address, store_f32

@kernel("stray")
def stray(out: Address) -> None:
    store_f32(out, np.float32(1))

driver = CudaDriver()
driver.launch(stray, (1, 1, 1), (8,))
try:
    driver.synchronize()
except DeviceError as error:
    print(error, flush=True)
# The process can do nothing more with the GPU, at its end either.
os._exit(0)
"""


def test_a_failure_of_a_kernel_is_an_error_when_it_is_waited_for(tmp_path):
    # In a process of its own: CUDA gives none of its memory back after this.
    file = tmp_path / "stray.py"
    file.write_text(STRAY, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, str(file)],
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=120,
        check=False,
    )
    assert done.stdout.startswith("device: the GPU failed: "), done.stderr
    assert "CUDA_ERROR_ILLEGAL_ADDRESS" in done.stdout
