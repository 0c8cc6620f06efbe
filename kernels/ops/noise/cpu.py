"""Noise on activities on the CPU: dy_t = a'(z) u_t, or dy_t + a'(z) u_t, with random signs u for each example.

If the tangent of z is u, the loss's directional derivative is Σ ∂f/∂z · u: it is taken along the pre-activations
instead of the parameters. A unit whose slope is 0 gets no noise.

Sources: J. Werfel, X. Xie, H. S. Seung, Neural Computation 17 (2005), node perturbation; M. Ren et al.,
arXiv 2210.03310.
"""

import numpy as np
from numba import carray

from fgnumba.kernels.emit import pointer
from fgnumba.kernels.emit.vector import PANEL, InstructionSet
from fgnumba.kernels.layout.images import operands
from fgnumba.kernels.machine.arguments import filled, record
from fgnumba.kernels.machine.compile import kernel
from fgnumba.kernels.machine.program import Operation
from fgnumba.kernels.machine.work import ELEMENT_WORK, parts_for
from fgnumba.kernels.rules.activations.rules import rule_of
from fgnumba.kernels.shared.perturbed_units import cpu as sites
from fgnumba.validation.launcher import launcher

_ARGUMENTS = record(*sites.FIELDS, "onto", "gap", "gap_end", "beyond", "beyond_end")


@launcher
def bind(
    isa: InstructionSet,
    threads: int,
    *,
    site: sites.Perturbed,
    onto: bool,
    gap: tuple[int, int] = (0, 0),
    beyond: tuple[int, int] = (0, 0),
) -> Operation:
    """Bind the noise of one layer.

    Parameters
    ----------
    isa : InstructionSet
        The instruction set to bind for.
    threads : int
        Number of threads that may share the work.
    site : Perturbed
        The layer's units, in dual images. For what their primal holds see ``SLOPE_FROM_OUTPUT``.
    onto : bool
        Whether the noise is added to the tangents that are there; else it replaces them.
    gap, beyond : (int, int)
        First and last (exclusive) of tangents that are filled with zeros.

    Notes
    -----
    Cost: reads y once; writes `slots` tangents once, and reads them before with `onto`; one random bit for each
    element.
    """
    values, memory = operands(y=site.y)
    flags = {
        "onto": onto,
        "gap": gap[0],
        "gap_end": gap[1],
        "beyond": beyond[0],
        "beyond_end": beyond[1],
    }
    memory["keeps"] = (memory["keeps"], site.stream)
    return Operation(
        "noise",
        _entry(site.activation_name),
        filled(_ARGUMENTS, values | site.fields(isa) | flags),
        parts_for(site.elements * site.slots * ELEMENT_WORK, site.panels, threads),
        scratch_bytes=sites.WORD_BYTES,
        **memory,
    )


def _entry(activation_name: str) -> int:
    rule = rule_of(activation_name)

    def noise(arguments: int, part: int, parts: int) -> None:
        a = carray(pointer(arguments, _ARGUMENTS), 1)[0]
        first, last = sites.examples(a, part, parts, True)
        low, high = sites.panels(a, part, parts, True)
        pixels = a.height * a.width
        begin, end = (a.example + first) * pixels, (a.example + last) * pixels
        origin = sites.origin(a, a.y, a.y_part, a.y_image, part, first)
        words = carray(pointer(a.scratch, np.uint32), sites.BLOCK)
        for block in range(begin // 4 * 4, end, sites.BLOCK):
            rows = min(sites.BLOCK, end - block)
            for panel in range(low, high):
                lanes = min(PANEL, a.channels - panel * PANEL)
                for t in range(a.slots):
                    sites.draw(a, t, block, rows, panel, a.scratch)
                    for q in range(max(block, begin), block + rows):
                        at = sites.unit(a, origin, q, first, panel)
                        y = carray(pointer(at, np.float32), PANEL)
                        dy = carray(pointer(at + (1 + a.slot + t) * a.y_block * 4, np.float32), PANEL)
                        word = words[q - block]
                        if lanes == PANEL and a.onto:
                            for lane in range(PANEL):
                                dy[lane] += sites.signed(rule(y[lane])[1], word, lane)
                        elif lanes == PANEL:
                            for lane in range(PANEL):
                                dy[lane] = sites.signed(rule(y[lane])[1], word, lane)
                        else:
                            for lane in range(lanes):
                                u = sites.signed(rule(y[lane])[1], word, lane)
                                dy[lane] = dy[lane] + u if a.onto else u
                for t in range(a.gap, max(a.gap_end, a.beyond_end)):
                    if a.gap_end <= t < a.beyond:
                        continue
                    for q in range(max(block, begin), block + rows):
                        at = sites.unit(a, origin, q, first, panel)
                        dy = carray(pointer(at + (1 + t) * a.y_block * 4, np.float32), PANEL)
                        for lane in range(lanes):
                            dy[lane] = np.float32(0)

    return kernel(f"noise-{activation_name}", noise, 3)
