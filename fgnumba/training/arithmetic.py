"""The arithmetic of a run: in which precision its products are computed, which its checkpoints hold.

Only products in float32 are the same bits whatever multiplies bfloat16. Those of another precision depend on the
instruction set, too; a set and its twin compute the same bits.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fgnumba.errors import RunError, shown
from fgnumba.kernels.devices.device import Cpu, Device
from fgnumba.kernels.devices.precision import described
from fgnumba.kernels.emit.precision import AUTO, FLOAT32, PRECISIONS
from fgnumba.kernels.emit.vector import OVERRIDE, TWINS

KEY = "arithmetic"
"""The name of the arithmetic among the facts of a checkpoint."""


def arithmetic_of(device: Device) -> dict[str, str]:
    """Return the precisions of a device's products, and on the CPU the instruction set, if bits depend on it."""
    precision, tangent_precision = device.precisions
    facts = {"precision": precision, "tangent_precision": tangent_precision}
    if device.by_parts and {precision, tangent_precision} != {FLOAT32}:
        facts["instructions"] = device.isa.name.removesuffix("-twin")
    return facts


def difference(path: Path, facts: Mapping[str, Any], device: Device) -> str | None:
    """Return how a run that continues will differ from the one that wrote a checkpoint, or None if it will not.

    Parameters
    ----------
    path : Path
        The checkpoint.
    facts : mapping
        The facts that it holds. Earlier versions kept no arithmetic: on the CPU, it was float32.
    device : Device
        The device of the model that continues.

    Raises
    ------
    RunError
        The precisions differ, and nobody named those of the device: they are what ``auto`` stands for here.
    """
    theirs, ours = facts.get(KEY), arithmetic_of(device)
    if theirs is None:
        if not device.by_parts:
            return None
        theirs = {"precision": FLOAT32, "tangent_precision": FLOAT32}
    names = ("precision", "tangent_precision")
    if not isinstance(theirs, dict) or not all(isinstance(theirs.get(name), str) for name in names):
        raise RunError(f"{path}: {KEY} is {shown(theirs)}, which is impossible")
    before, after = (described(*(each[name] for name in names)) for each in (theirs, ours))
    if before != after:
        if isinstance(device, Cpu) and AUTO in (device.precision, device.tangent_precision):
            # A GPU's precisions are others.
            same = all(theirs[name] in PRECISIONS for name in names)
            meant = Cpu(*(theirs[name] for name in names)) if same else Cpu(*device.precisions)
            raise RunError(
                f"{path}: the products of its steps are in {before}; here, auto stands for {after}: a model with "
                f"device={meant!r} of fgnumba.device continues with {'the same' if same else 'other'} bits"
            )
        return (
            f"{path}: the products of its steps are in {before}; the run goes on in {after}, with other bits"
        )
    instructions = theirs.get("instructions")
    if instructions == ours.get("instructions"):
        return None
    twin = f"{instructions}-twin"
    way = f"; {OVERRIDE}={twin}, which is slow, gives the same" if twin in TWINS else ""
    return (
        f"{path}: the products of its steps are in {before}, computed with {shown(instructions)}; the run goes on with "
        f"{shown(ours.get('instructions'))}, whose bits differ{way}"
    )
