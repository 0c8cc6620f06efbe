"""Feedback matrices on a GPU: B (A N, C) predicts how C outputs respond to N channels in A cells; see ``cpu``.

    gather     w_t = Σ over a cell's pixels of a'(z) u_t           (T B, A N), the noise that was put in
    subtract   ε_t = ȯ_t - w_t B                                   the response that B does not predict
    weigh      k and c ε                                           for B ← k B + c wᵀ ε
    turn       Bᵀ                                                  for h = e Bᵀ

Everything after a loss runs even where the loss is not finite, and B must then stay as it is. So w is finite whatever
the slopes are, and where c or a response is not finite, c ε is replaced by zeros and k by 1.
"""

import numpy as np
import numpy.typing as npt

from fgnumba.kernels.cuda.kernel import Kernel, kernel
from fgnumba.kernels.cuda.layout import THREADS as _THREADS
from fgnumba.kernels.cuda.layout import BlockImages, element, elementwise, images, place
from fgnumba.kernels.cuda.memory import DeviceArray
from fgnumba.kernels.cuda.primitives import (
    WARP,
    Address,
    Size,
    barrier,
    block_x,
    divide,
    finite,
    lanes_xor_f32,
    load_f32,
    load_f64,
    load_i64,
    shared,
    shared_load_f32,
    shared_store_f32,
    store_f32,
    thread,
)
from fgnumba.kernels.cuda.program import Launch, Operation
from fgnumba.kernels.emit.vector import PANEL
from fgnumba.kernels.ops.example_panels.cuda import transposition
from fgnumba.kernels.ops.feedback import COEFFICIENTS
from fgnumba.kernels.rules.activations.cuda import Members
from fgnumba.kernels.rules.activations.rules import Rule
from fgnumba.kernels.rules.directions.cuda import pick, turned
from fgnumba.kernels.shared.perturbed_units import cuda as sites
from fgnumba.kernels.shared.perturbed_units.cpu import Perturbed
from fgnumba.kernels.shared.perturbed_units.cuda import Units
from fgnumba.validation.launcher import launcher

_KEEP, _GAIN = (COEFFICIENTS.fields[name][1] for name in ("keep", "gain"))  # type: ignore[index]
_CHECKS = WARP
"""Most blocks that look for numbers which are not finite: one warp reads what they found in one access."""
_ZERO, _ONE, _NO_SIGN = np.float32(0), np.float32(1), np.uint32(0)


@launcher
def bind_gather(
    isa: object,
    threads: int,
    *,
    site: Perturbed,
    cells: npt.NDArray[np.int64],
    out: DeviceArray,
    power: DeviceArray,
) -> Operation:
    """Bind the noise that was put into a layer, cell by cell, as ``cpu.bind_gather`` does.

    A slope that is not finite counts as 0 in `out`, and makes `power` not finite.

    Parameters
    ----------
    isa, threads : object, int
        Not used.
    site : Perturbed
        The layer's units, and their noise.
    cells : ndarray
        (H W,) int64 on the host, the cell of each pixel. They are sorted and copied to the GPU when the operation is
        bound.
    out : DeviceArray
        (slots B, at least A N) float32, written: w, with row t B + i and column cell N + n.
    power : DeviceArray
        (B,) float32; Σ a'(z)² of each example is added to it.

    Returns
    -------
    Operation
        The launches.

    Notes
    -----
    Cost: reads y once a slot and once for its power, writes out once. A thread adds up a channel of a cell, and draws
    signs once for each run of four pixels.
    """
    channels, numbers = site.y.shape[2], np.asarray(cells)
    number = int(numbers.max()) + 1
    order = sites.uploaded(np.argsort(numbers, kind="stable"), out.driver)
    begins = sites.uploaded(np.searchsorted(np.sort(numbers), np.arange(number + 1)), out.driver)
    units = sites.perturbed(site)
    n = site.batch * number * channels
    gather = {
        "units": units,
        "n": n,
        "order": order,
        "begins": begins,
        "out": out,
        "out_row": out.shape[1],
        "out_slot": site.batch * out.shape[1],
        "span": number * channels,
    }
    squares = {
        "y": images(BlockImages, site.y),
        "pixels": units.pixels,
        "width": units.width,
        "channels": units.channels,
        "power": power,
    }
    gathering, squaring = _KERNELS[site.activation_name]
    launches = (
        elementwise(gathering, n, gather),
        Launch(squaring, (site.batch * (site.slots > 0), 1, 1), squares),
    )
    return Operation("gather", launches, keeps=(site.y.memory, site.stream, order, begins, out, power))


def _kernels(name: str, rule: Rule) -> tuple[Kernel, Kernel]:
    @kernel(f"feedback-gather-{name}", family="feedback-gather-{activation}")
    def gather(
        units: Units,
        n: Size,
        order: Address,
        begins: Address,
        out: Address,
        out_row: Size,
        out_slot: Size,
        span: Size,
    ) -> None:
        e = element()
        if e >= n:
            return
        i, column = divide(e, span)
        cell, c = divide(column, units.channels)
        first, last = load_i64(begins + 8 * cell), load_i64(begins + 8 * (cell + 1))
        for t in range(units.slots):
            total, drawn = _ZERO, -1
            four = (_NO_SIGN, _NO_SIGN, _NO_SIGN, _NO_SIGN)
            for k in range(first, last):
                p = load_i64(order + 8 * k)
                h, w = divide(p, units.width)
                q = i * units.pixels + p
                if q >> 2 != drawn:
                    drawn = q >> 2
                    four = sites.signs(units, drawn, c, units.slot + t)
                slope = rule(load_f32(place(units.y, i, h, w, c)))[1]
                if finite(np.float64(slope)):
                    total += turned(slope, pick(four, q & 3), c & 31)
            store_f32(out + 4 * (t * out_slot + i * out_row + column), total)

    @kernel(f"feedback-power-{name}", family="feedback-power-{activation}")
    def power_of(
        y: BlockImages,
        pixels: Size,
        width: Size,
        channels: Size,
        power: Address,
    ) -> None:
        sums = shared(1024)
        total = _ZERO
        for e in range(thread(), pixels * channels, _THREADS):
            p, c = divide(e, channels)
            h, w = divide(p, width)
            slope = rule(load_f32(place(y, block_x(), h, w, c)))[1]
            total += slope * slope
        shared_store_f32(sums + 4 * thread(), total)
        barrier()
        half = _THREADS // 2
        while half > 0:
            if thread() < half:
                total += shared_load_f32(sums + 4 * (thread() + half))
                shared_store_f32(sums + 4 * thread(), total)
            barrier()
            half >>= 1
        if thread() == 0:
            at = power + 4 * block_x()
            store_f32(at, load_f32(at) + total)

    return gather, power_of


_KERNELS = Members(_kernels)


@launcher
def bind_subtract(*, predicted: DeviceArray, response: DeviceArray, slot: int, slots: int) -> Operation:
    """Bind ε_t ← ε_t - w_t B for the slots of one layer.

    Parameters
    ----------
    predicted : DeviceArray
        (slots B, at least C) float32, w B.
    response : DeviceArray
        (S, B, C) float32, ε, updated.
    slot, slots : int
        First slot of the layer, and their number.

    Returns
    -------
    Operation
        The launch.

    Notes
    -----
    Cost: reads both arrays once, writes the response once.
    """
    _, batch, classes = response.shape
    n = slots * batch * classes
    arguments = {
        "predicted": predicted,
        "predicted_row": predicted.shape[1],
        "response": response,
        "first": slot * batch * classes,
        "n": n,
        "classes": classes,
    }
    return Operation("subtract", (elementwise(_subtract, n, arguments),), keeps=(predicted, response))


@kernel("feedback-subtract")
def _subtract(
    predicted: Address, predicted_row: Size, response: Address, first: Size, n: Size, classes: Size
) -> None:
    e = element()
    if e >= n:
        return
    row, c = divide(e, classes)
    at = response + 4 * (first + e)
    store_f32(at, load_f32(at) - load_f32(predicted + 4 * (row * predicted_row + c)))


@launcher
def bind_weigh(
    *,
    response: DeviceArray,
    classes: int,
    slot: int,
    slots: int,
    coefficients: DeviceArray,
    feedback: DeviceArray,
    out: DeviceArray,
) -> Operation:
    """Bind B ← k B and c ε, in panels of outputs, as ``cpu.bind_weigh`` does.

    Where k, c or a response is not finite, B stays as it is and `out` becomes zeros, so that nothing is added to B. A
    first launch looks for such responses.

    Parameters
    ----------
    response : DeviceArray
        (S, B, at least C) float32, ε.
    classes : int
        Number of outputs C.
    slot, slots : int
        First slot of the layer, and their number.
    coefficients : DeviceArray
        (1,) ``COEFFICIENTS``, k and c, read when the operation runs.
    feedback : DeviceArray
        B in panels of outputs, (ceil(C / 32), A N, 32), updated.
    out : DeviceArray
        (ceil(C / 32), slots B rounded up, 32), written: c ε, with zeros in the padding.

    Returns
    -------
    Operation
        The launches.

    Notes
    -----
    Cost: reads the response twice and writes `out` once; reads and writes B too, where k is not 1.
    """
    _, batch, width = response.shape
    rows = slots * batch
    found = DeviceArray.zeros(out.driver, (WARP,))
    checks = min(_CHECKS, max(1, -(-rows * classes // _THREADS)))
    # Rows of all slots follow one another.
    first = {"response": response[slot : slot + slots], "response_row": width, "classes": classes}
    check = {**first, "n": rows * classes, "stride": checks * _THREADS, "found": found}
    weigh = {
        **first,
        "rows": rows,
        "out": out,
        "out_rows": out.shape[1],
        "out_size": out.size,
        "feedback": feedback,
        "size": feedback.size,
        "coefficients": coefficients,
        "found": found,
    }
    launches = (
        Launch(_check, (checks, 1, 1), check),
        elementwise(_weigh, max(out.size, feedback.size), weigh),
    )
    return Operation("weigh", launches, keeps=(response, coefficients, feedback, out, found))


@kernel("feedback-check", threads=_THREADS)
def _check(
    response: Address, response_row: Size, classes: Size, n: Size, stride: Size, found: Address
) -> None:
    wrong = shared(1024)
    total = _ZERO
    for e in range(block_x() * _THREADS + thread(), n, stride):
        row, c = divide(e, classes)
        if not finite(np.float64(load_f32(response + 4 * (row * response_row + c)))):
            total = _ONE
    shared_store_f32(wrong + 4 * thread(), total)
    barrier()
    half = _THREADS // 2
    while half > 0:
        if thread() < half:
            total += shared_load_f32(wrong + 4 * (thread() + half))
            shared_store_f32(wrong + 4 * thread(), total)
        barrier()
        half >>= 1
    if thread() == 0:
        store_f32(found + 4 * block_x(), total)


@kernel("feedback-weigh", threads=_THREADS)
def _weigh(
    response: Address,
    response_row: Size,
    classes: Size,
    rows: Size,
    out: Address,
    out_rows: Size,
    out_size: Size,
    feedback: Address,
    size: Size,
    coefficients: Address,
    found: Address,
) -> None:
    e = element()
    # All lanes of a warp take part in the sum over the blocks before, those past the last element too.
    wrong = load_f32(found + 4 * (thread() & 31))
    mask = 16
    while mask > 0:
        wrong += lanes_xor_f32(wrong, mask)
        mask >>= 1
    keep, gain = np.float32(load_f64(coefficients + _KEEP)), np.float32(load_f64(coefficients + _GAIN))
    good = wrong == _ZERO and finite(np.float64(keep)) and finite(np.float64(gain))
    if e < size and good and keep != _ONE:
        store_f32(feedback + 4 * e, load_f32(feedback + 4 * e) * keep)
    if e < out_size:
        panel, row = divide(e >> 5, out_rows)
        c = 32 * panel + (e & 31)
        value = _ZERO
        if good and row < rows and c < classes:
            value = gain * load_f32(response + 4 * (row * response_row + c))
        store_f32(out + 4 * e, value)


@launcher
def bind_turn(
    isa: object, threads: int, *, feedback: DeviceArray, out: DeviceArray, classes: int | None = None
) -> Operation:
    """Bind the transposition of B.

    Parameters
    ----------
    isa, threads : object, int
        Not used.
    feedback : DeviceArray
        B in panels of outputs, (ceil(C / 32), A N, 32).
    out : DeviceArray
        Bᵀ in panels of channels, (ceil(A N / 32), at least C, 32), written; rows after row C are left alone.
    classes : int, optional
        C. By default all rows of `out`.

    Returns
    -------
    Operation
        The launch.

    Notes
    -----
    Cost: reads and writes B once.
    """
    rows, columns = feedback.shape[1], classes or out.shape[1]
    source, target = (feedback, rows * PANEL, PANEL), (out, out.shape[1] * PANEL, PANEL)
    return Operation("turn", (transposition(source, target, rows, columns, rows),), keeps=(feedback, out))
