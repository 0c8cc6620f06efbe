"""Bytes that GPU kernels read."""

import numpy as np

from fgnumba.kernels.cuda.kernel import Kernel
from fgnumba.kernels.cuda.layout import element, elementwise
from fgnumba.kernels.cuda.primitives import Address, Size, load_u8, store_f32
from fgnumba.kernels.cuda.program import Operation


def _read(source: Address, out: Address, n: Size) -> None:
    e = element()
    if e < n:
        store_f32(out + 4 * e, np.float32(load_u8(source + e)))


READ = Kernel("test-read-bytes", _read, 256)


def test_bytes_are_numbers_from_0_to_255(gpu):
    values = np.array([0, 1, 127, 128, 255], np.uint8)
    out = gpu.nans(len(values))
    arguments = {"source": gpu.array(values, np.uint8), "out": out, "n": len(values)}
    gpu.run(Operation("read", (elementwise(READ, len(values), arguments),)))
    np.testing.assert_array_equal(out.download(), values)
