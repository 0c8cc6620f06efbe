"""Noise on activities on a GPU: dy_t = a'(z) u_t, or this is added to dy_t; signs u for each example; see ``cpu``."""

import numpy as np

from fgnumba.kernels.cuda.kernel import Kernel, kernel
from fgnumba.kernels.cuda.layout import element, elementwise, place
from fgnumba.kernels.cuda.primitives import Size, divide, load_f32, store_f32
from fgnumba.kernels.cuda.program import Operation
from fgnumba.kernels.rules.activations.cuda import Members
from fgnumba.kernels.rules.activations.rules import Rule
from fgnumba.kernels.rules.directions.cuda import pick, turned
from fgnumba.kernels.shared.perturbed_units import cuda as sites
from fgnumba.kernels.shared.perturbed_units.cpu import Perturbed
from fgnumba.kernels.shared.perturbed_units.cuda import Units
from fgnumba.validation.launcher import launcher


@launcher
def bind(
    isa: object,
    threads: int,
    *,
    site: Perturbed,
    onto: bool,
    gap: tuple[int, int] = (0, 0),
    beyond: tuple[int, int] = (0, 0),
) -> Operation:
    """Bind the noise of one layer, as ``cpu.bind`` does.

    Parameters
    ----------
    isa, threads : object, int
        Not used.
    site : Perturbed
        The layer's units, and their noise.
    onto : bool
        Whether the noise is added to the tangents that are there; else it replaces them.
    gap, beyond : tuple of int
        First and last (exclusive) of tangents that are filled with zeros.

    Returns
    -------
    Operation
        The launch.

    Notes
    -----
    Cost: reads y once a slot; writes `slots` tangents once, and reads them too where `onto`. A thread draws the signs
    of four elements and a slot.
    """
    rows = sites.rows_of(site)
    n = sites.quads(rows) * site.y.shape[2]
    arguments = {
        "units": sites.perturbed(site),
        "n": n,
        "rows": rows,
        "onto": int(onto),
        "gap": gap[0],
        "gap_end": gap[1],
        "beyond": beyond[0],
        "zeros_end": max(gap[1], beyond[1]),
    }
    launch = elementwise(_KERNELS[site.activation_name], n, arguments)
    return Operation("noise", (launch,), keeps=(site.y.memory, site.stream))


def _kernel(name: str, rule: Rule) -> Kernel:
    @kernel(f"noise-{name}", family="noise-{activation}")
    def noise(
        units: Units,
        n: Size,
        rows: Size,
        onto: Size,
        gap: Size,
        gap_end: Size,
        beyond: Size,
        zeros_end: Size,
    ) -> None:
        e = element()
        if e >= n:
            return
        quad, c = divide(e, units.channels)
        last = min(4 * quad + 4, rows)
        for t in range(units.slots):
            four = sites.signs(units, quad, c, units.slot + t)
            for q in range(4 * quad, last):
                i, _, h, w = sites.row_place(q, units.pixels, units.width)
                at = place(units.y, i, h, w, c)
                out = at + 4 * (1 + units.slot + t) * units.y.block
                u = turned(rule(load_f32(at))[1], pick(four, q & 3), c & 31)
                if onto:
                    u = load_f32(out) + u
                store_f32(out, u)
        for t in range(gap, zeros_end):
            if t < gap_end or t >= beyond:
                for q in range(4 * quad, last):
                    i, _, h, w = sites.row_place(q, units.pixels, units.width)
                    at = place(units.y, i, h, w, c)
                    store_f32(at + 4 * (1 + t) * units.y.block, np.float32(0))

    return noise


_KERNELS = Members(_kernel)
