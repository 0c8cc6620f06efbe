"""Chooses the precision of a CPU's products, where nobody names one.

Three bfloat16 are as exact as a float32, and take six products in place of one. So an instruction pays that multiplies
more than six times as fast as float32 are multiplied, and AMX's alone does. Where a processor has it, both precisions
are timed once, with the dense kernel along a direction of rank 1, and a product is compared with float64. The result is
stored beside the compiled kernels, as that of the trial of register tiles is.

To measure again, delete the file ``precision-*.json`` in the cache folder.
"""

import os
from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np

from fgnumba.errors import ConfigError, did_you_mean, shown
from fgnumba.kernels.devices import tuning
from fgnumba.kernels.emit.precision import AUTO, EXACT, FLOAT32, PRECISIONS
from fgnumba.kernels.emit.vector import PANEL, InstructionSet
from fgnumba.kernels.machine.memory import aligned, leading

OVERRIDE = "FGNUMBA_PRECISION"
"""Environment variable that says which precision ``auto`` stands for."""

LARGEST_ERROR = 1e-6
"""Largest error of a product that is as exact as float32's, as a share of what is added up; 3e-7 was seen."""

BATCH = 64
"""Examples of a trial. With more of them, splitting and packing W matters less."""

RESULTS = (FLOAT32, EXACT, "error")
"""What a trial stores: the seconds of a row by precision, and the error of `EXACT`."""


def checked(name: str, value: str) -> str:
    """Return `value`, the name of a precision or ``auto``. ConfigError is raised if it is neither."""
    known = (AUTO, *PRECISIONS)
    if not isinstance(value, str) or value not in known:
        raise ConfigError(f"{name} is {shown(value)}{did_you_mean(str(value), known)}")
    return value


def named(precision: str) -> str:
    """Return `precision`, or what the environment says in place of ``auto``: ``auto`` if it says nothing."""
    return checked(OVERRIDE, os.environ.get(OVERRIDE) or AUTO) if precision == AUTO else precision


def meant(precision: str, isa: InstructionSet) -> str:
    """Return the precision that a name stands for with the instructions of `isa`.

    Parameters
    ----------
    precision : str
        The name of a precision, which stands for itself, or ``auto``.
    isa : InstructionSet
        The instruction set, with its register tile.
    """
    name = named(precision)
    return automatic(isa) if name == AUTO else name


def described(precision: str, tangent_precision: str) -> str:
    """Return the precisions of the primal's products and of the tangents' as text: one name if they are the same."""
    if precision == tangent_precision:
        return precision
    return f"{precision}, tangents in {tangent_precision}"


def explained(isa: InstructionSet) -> str:
    """Return a text for people: the precision that ``auto`` stands for with the instructions of `isa`, and why."""
    name = meant(AUTO, isa)
    if named(AUTO) != AUTO:
        lacking = PRECISIONS[name].parts and not isa.dots
        why = f"{OVERRIDE}, but {isa.name} does not multiply bfloat16" if lacking else OVERRIDE
    elif not isa.dots:
        why = f"{isa.name} does not multiply bfloat16"
    elif name == FLOAT32 and isa.dots == "tiles" and not isa.twin and _wrong(_result(isa)):
        why = f"products of {isa.name} are wrong on this machine"
    elif name == FLOAT32:
        why = f"with {isa.name}, none that is as exact is faster"
    else:
        why = f"with {isa.name}, the fastest that is as exact as {FLOAT32}"
    return f"{name} ({why})"


def for_tangents(isa: Any) -> Any:
    """Return the instructions with which the product of a primal has the tangents' precision on the CPU.

    Error signals, and what feedback makes of them, are products of primals as far as a dense layer knows, but are as
    exact as tangents.
    """
    return isa.multiplying(isa.tangent_precision) if isinstance(isa, InstructionSet) else isa


def automatic(isa: InstructionSet) -> str:
    """Return the fastest precision whose JVPs are as exact as float32's, with the instructions of `isa`."""
    if isa.dots != "tiles" or isa.twin:
        return FLOAT32
    return chosen(_result(isa))


def chosen(result: Mapping[str, float] | None) -> str:
    """Return the precision that a trial's result speaks for: `EXACT`, if it is exact and faster than float32."""
    if result is None or _wrong(result):
        return FLOAT32
    return EXACT if result[EXACT] < (1 - tuning.ADVANTAGE) * result[FLOAT32] else FLOAT32


def _wrong(result: Mapping[str, float] | None) -> bool:
    return result is not None and not result["error"] <= LARGEST_ERROR


@cache
def _result(isa: InstructionSet) -> Mapping[str, float] | None:
    """Return the stored result of a trial, or that of a trial now. None in a forked child, which makes none."""
    return tuning.remembered(f"precision-{isa.name}", RESULTS, lambda: trial(isa))


def trial(isa: InstructionSet) -> dict[str, float]:
    """Return `RESULTS`: the seconds of a row of a dense layer in both precisions, and the error of `EXACT`."""
    exact = isa.multiplying(EXACT)
    error = largest_error(exact)
    seconds = tuning.trial([isa.multiplying(FLOAT32), exact], BATCH)
    return dict(zip(RESULTS, (*seconds, error), strict=True))


def largest_error(isa: InstructionSet) -> float:
    """Return the largest error of a dense layer's product, as a share of what is added up."""
    from fgnumba.kernels.layout.images import Images
    from fgnumba.kernels.machine.program import Program
    from fgnumba.kernels.ops.dense import cpu as dense
    from fgnumba.kernels.shared.product import dot_tiles
    from fgnumba.kernels.shared.product.product import Weights

    # Fewer would be multiplied in float32.
    rows, inputs, panels = dot_tiles.LEAST_ROWS + 5, 300, dot_tiles.LEAST_PANELS
    outputs = panels * PANEL
    rng = np.random.default_rng(2)
    x, y = aligned((1, rows, leading(inputs))), aligned((1, rows, leading(outputs)))
    weight = aligned((panels, inputs, PANEL))
    x[...], weight[...] = rng.standard_normal(x.shape), rng.standard_normal(weight.shape)
    operation = dense.bind(
        isa,
        1,
        batch=rows,
        x=Images.of_batch(x, (inputs,), has_tangent=False),
        y=Images.of_batch(y, (outputs,), has_tangent=False),
        outputs=outputs,
        weights=Weights(weight, aligned((outputs,))),
        activation_name="identity",
    )
    Program([operation]).run()
    factors = x[0, :, :inputs].astype(np.float64), np.concatenate(list(weight), axis=1).astype(np.float64)
    error = np.abs(y[0, :, :outputs] - factors[0] @ factors[1])
    share = error / (np.abs(factors[0]) @ np.abs(factors[1]))
    return max(float(share.max()), float(np.finfo(np.float64).eps))
