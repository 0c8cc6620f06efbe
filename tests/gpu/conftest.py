"""The GPU for the tests of its kernels: the machine's own if it has one, else the simulator."""

import pytest

from fgnumba.errors import DeviceError
from fgnumba.kernels.cuda.cuda_driver import CudaDriver
from fgnumba.kernels.cuda.driver import SimulatedDriver
from tests.gpu.harness import Gpu


@pytest.fixture(scope="session")
def driver():
    """Return the driver that kernels of a test are launched by."""
    try:
        return CudaDriver()
    except DeviceError:
        return SimulatedDriver()


@pytest.fixture(autouse=True)
def _real_gpu(request, driver):
    """Skip what is marked ``gpu`` where there is none."""
    if request.node.get_closest_marker("gpu") and isinstance(driver, SimulatedDriver):
        pytest.skip("needs an NVIDIA GPU")


@pytest.fixture
def gpu(driver):
    """Return what puts arrays on the device and runs operations there."""
    return Gpu(driver)
