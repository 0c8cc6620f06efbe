"""The cotangent of a dense layer's pre-activations, dz = dy a'(z), in example panels and in panels of features."""

import numpy as np
import numpy.typing as npt
from numba import carray

from fgnumba.kernels.emit import call, pointer
from fgnumba.kernels.emit.vector import PANEL, InstructionSet
from fgnumba.kernels.machine.arguments import filled, record
from fgnumba.kernels.machine.compile import kernel
from fgnumba.kernels.machine.memory import address
from fgnumba.kernels.machine.program import Operation
from fgnumba.kernels.machine.work import ELEMENT_WORK, parts_for, split
from fgnumba.kernels.ops.example_panels.cpu import transpose
from fgnumba.kernels.rules.activations.rules import rule_of
from fgnumba.validation.launcher import launcher

_COTANGENT = record(
    *("by_examples", "by_features", "source", "source_rows", "bias", "rows", "features", "examples", "batch"),
    *("onto", "transpose"),
)


@launcher
def bind_cotangent(
    isa: InstructionSet,
    threads: int,
    *,
    by_examples: npt.NDArray[np.float32],
    by_features: npt.NDArray[np.float32],
    source: npt.NDArray[np.float32] | None,
    activation_name: str,
    bias: npt.NDArray[np.float32] | None,
    features: int,
    batch: int,
    onto: bool,
) -> Operation:
    """Bind dz = dy a'(z), the copy of dz in panels of features, and the sum of dz over examples.

    Parameters
    ----------
    isa : InstructionSet
        The instruction set to bind for.
    threads : int
        Number of threads that may share the work.
    by_examples : array, (ceil(B / PANEL), N rounded up, PANEL) float32
        dy in example panels. It is replaced by dz, with zeros in the padding.
    by_features : array, (ceil(N / PANEL), ceil(B / PANEL) * PANEL, PANEL) float32
        Written: dz in panels of features, with zeros in the padding.
    source : array, example panels, or None
        The values of which the slope is a function: z, or y for a rectifier. None: the activation is the identity.
    activation_name : str
        The activation a.
    bias : array, (at least N,) float32, or None
        Written: the sum of dz. None: the layer has no bias.
    features : int
        N.
    batch : int
        Number of examples B.
    onto : bool
        Whether the sum is added to what `bias` holds.

    Notes
    -----
    Cost: reads by_examples and source once, and writes dz once in each form.
    """
    fields = {
        "by_examples": address(by_examples),
        "by_features": address(by_features),
        "source": address(source),
        "source_rows": 0 if source is None else source.shape[1],
        "bias": address(bias),
        "rows": by_examples.shape[1],
        "features": features,
        "examples": by_features.shape[1],
        "batch": batch,
        "onto": onto,
        "transpose": transpose(isa),
    }
    return Operation(
        "cotangent",
        _cotangent_entry("identity" if source is None else activation_name),
        filled(_COTANGENT, fields),
        parts_for(batch * features * ELEMENT_WORK, by_features.shape[0], threads),
        scratch_bytes=PANEL * 4,
        keeps=(by_examples, by_features, source, bias),
    )


def _cotangent_entry(activation_name: str) -> int:
    rule, identity = rule_of(activation_name), activation_name == "identity"

    def cotangent(arguments: int, part: int, parts: int) -> None:
        a = carray(pointer(arguments, _COTANGENT), 1)[0]
        first, last = split((a.features + PANEL - 1) // PANEL, parts, part)
        zero = np.float32(0)
        for q in range(first, last):
            begin, end = q * PANEL, min(a.features, (q + 1) * PANEL)
            out = carray(pointer(a.by_features + q * a.examples * PANEL * 4, np.float32), (a.examples, PANEL))
            if end - begin < PANEL or a.batch < a.examples:
                for b in range(a.examples):
                    for n in range(PANEL):
                        out[b, n] = zero
            for p in range(a.examples // PANEL):
                at = p * a.rows * PANEL * 4
                dz = carray(pointer(a.by_examples + at, np.float32), (a.rows, PANEL))
                if not identity:
                    source_at = a.source + p * a.source_rows * PANEL * 4
                    source = carray(pointer(source_at, np.float32), (a.features, PANEL))
                    for n in range(begin, end):
                        for b in range(PANEL):
                            dz[n, b] *= rule(source[n, b])[1]
                for n in range(end, begin + PANEL):
                    for b in range(PANEL):
                        dz[n, b] = zero
                examples = min(PANEL, a.batch - p * PANEL)
                target = a.by_features + (q * a.examples + p * PANEL) * PANEL * 4
                top = a.by_examples + at + begin * PANEL * 4
                call(a.transpose, (end - begin, examples, top, PANEL, target, PANEL))
            if a.bias:
                bias = carray(pointer(a.bias, np.float32), a.features)
                sums = carray(pointer(a.scratch, np.float32), PANEL)
                for n in range(PANEL):
                    sums[n] = zero
                for i in range(a.batch):
                    for n in range(PANEL):
                        sums[n] += out[i, n]
                for n in range(begin, end):
                    bias[n] = sums[n - begin] + (bias[n] if a.onto else zero)

    return kernel(f"reverse-cotangent-{activation_name}", cotangent, 3)
