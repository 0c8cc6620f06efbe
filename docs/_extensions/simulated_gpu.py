"""Give a page's cells a simulated GPU.

A page about GPUs begins with a cell tagged ``remove-cell`` that imports this module: ``device="cuda"`` is then the
simulator that the tests of GPU kernels use, on any machine.
"""

import fgnumba.device
from fgnumba.kernels.cuda.driver import SimulatedDriver

fgnumba.device._driver = SimulatedDriver  # type: ignore[assignment]
