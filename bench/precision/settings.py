"""The precisions that are compared, the instruction sets that multiply in them here, and the goals."""

import os
from dataclasses import dataclass

from fgnumba.kernels.devices.device import Cpu
from fgnumba.kernels.devices.tuning import tuned
from fgnumba.kernels.emit.precision import AUTO, FLOAT32, PRECISIONS
from fgnumba.kernels.emit.vector import OVERRIDE, InstructionSet, executable, instruction_set

BF16 = "bf16"


@dataclass(frozen=True)
class Setting:
    """A pair of precisions.

    Parameters
    ----------
    precision : str
        Precision of the primal's products.
    tangent_precision : str, optional
        Precision of the tangents' products. None (the default): the primal's.
    """

    precision: str
    tangent_precision: str | None = None

    def __str__(self) -> str:
        other = self.tangent_precision
        return self.precision if other is None else f"{self.precision} with {other} tangents"

    @property
    def device(self) -> Cpu:
        """The processor with these precisions."""
        return Cpu(self.precision, self.tangent_precision)


MIXED = Setting(FLOAT32, BF16)

STEPS = (
    *(Setting(name) for name in (AUTO, FLOAT32, "bf16x3", "bf16x2", BF16)),
    MIXED,
)
"""The settings whose training steps are compared, in the order of the table."""

STEP_CASES = (("mlp", 64), ("mlp", 1024), ("cnn", 64))
"""Networks and batch sizes whose training steps are compared."""

ROWS, WIDTH = (64, 66, 256, 1024), 1024
"""Rows of the dense products that are compared, and their K and N. 66 rows are no whole tiles."""

OVER_PEER = {
    ("tiles", "mlp", 64): {AUTO: 0.7, "bf16x2": 0.55, BF16: 0.4},
    ("tiles", "mlp", 1024): {AUTO: 1.15, "bf16x2": 0.8, BF16: 0.5},
    ("tiles", "cnn", 64): {AUTO: 0.5},
}
"""Largest ratio of a step to the reverse-mode step of PyTorch in bfloat16, by the way that the set multiplies, network,
batch size and the primal's and tangents' precision."""

OVER_FLOAT32 = {("pairs", "mlp"): {Setting(BF16): 0.75}}
"""Largest ratio of a step to the same in float32, by the way that the set multiplies, network and setting.

Tangents alone in bfloat16 have no goal: with a primal in float32, and an input without tangents, the products of the
perceptron take 0.82 of the time at best where the instruction does two multiply-adds for one.
"""

PRODUCTS_OVER_FLOAT32 = {"pairs": {BF16: 1.6}}
"""Smallest ratio of a product's rate to that in float32."""

RF_OF_BF16_TANGENTS = {"tiles": {"bf16x3": 1.25}}
"""Largest Rf of a perceptron with bfloat16 tangents, by the way that the set multiplies and the primal's precision."""


def here() -> list[InstructionSet]:
    """Return the sets that multiply bfloat16 and that this processor executes, widest first.

    If the environment names a set, it is the only one.
    """
    names = (None,) if os.environ.get(OVERRIDE) else executable()
    return [tuned(isa) for isa in map(instruction_set, names) if isa.dots]


def possible(setting: Setting) -> bool:
    """Return whether training uses a set that has the precisions of `setting`."""
    given = {setting.precision, setting.tangent_precision} - {AUTO, FLOAT32, None}
    return not given or bool(instruction_set().dots)


def multiplies() -> str:
    """Return how the set that training uses multiplies bfloat16; empty if it does not, or if it is a twin.

    Goals are for hardware.
    """
    isa = instruction_set()
    return "" if isa.twin else isa.dots


def precisions() -> list[str]:
    """Return the precisions that the set that training uses multiplies in."""
    return [name for name, each in PRECISIONS.items() if not each.parts or instruction_set().dots]
