"""Functions that tests of GPU kernels share: they copy arrays to the GPU and back, and run operations."""

import numpy as np

from fgnumba.kernels.cuda.instructions import Instructions
from fgnumba.kernels.cuda.memory import DeviceArray
from fgnumba.kernels.layout.images import Images
from fgnumba.kernels.layout.packing import pack
from fgnumba.kernels.machine.memory import leading
from fgnumba.kernels.rules.philox import STREAM, set_stream


class Gpu:
    """A device that runs one operation after another."""

    def __init__(self, driver):
        self.driver, self.isa = driver, Instructions("sm_90")

    def array(self, values, dtype=None):
        """Return values on the device."""
        values = np.asarray(values, dtype)
        found = DeviceArray.zeros(self.driver, values.shape, values.dtype)
        found.upload(values)
        return found

    def zeros(self, shape, dtype=np.float32):
        """Return zeros on the device."""
        return DeviceArray.zeros(self.driver, shape, dtype)

    def nans(self, *shape):
        """Return float32 that must be written."""
        return self.array(np.full(shape, np.nan), np.float32)

    def stream(self, seed, step):
        """Return a stream on the device."""
        stream = np.zeros(1, STREAM)
        set_stream(stream, seed, step)
        return self.array(stream, STREAM)

    def packed(self, values, groups=1):
        """Return a matrix or a vector, packed."""
        return self.array(pack(values, groups))

    def stacked(self, values, groups=1):
        """Return matrices or vectors, each packed."""
        return self.array(np.stack([pack(one, groups) for one in values]))

    def images(self, values=None, *, shape=None, blocks=1, batch=1, has_tangent=None):
        """Return images (blocks, B, *shape) in rows at a distance, NaN between them; NaN all over without values."""
        if values is not None:
            values = np.asarray(values, np.float32)
            blocks, batch, shape = values.shape[0], values.shape[1], values.shape[2:]
        size = int(np.prod(shape))
        memory = np.full((blocks, batch, leading(size)), np.nan, np.float32)
        if values is not None:
            memory[:, :, :size] = values.reshape(blocks, batch, size)
        has_tangent = blocks > 1 if has_tangent is None else has_tangent
        return Images.of_batch(self.array(memory), shape, has_tangent)

    def values(self, images):
        """Return what images hold, (blocks, B, H, W, C)."""
        memory = images.memory.download()
        size = int(np.prod(images.shape))
        return memory[:, :, :size].reshape(*memory.shape[:2], *images.shape)

    def run(self, *operations):
        """Run operations, one after another."""
        for operation in operations:
            for launch in operation.launches:
                launch.run(self.driver)
        self.driver.synchronize()
