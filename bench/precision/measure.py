"""What is measured of each precision, as figures beside their goals.

    peaks       each set's instruction, on registers alone, over float32's multiply-adds
    bits        elements of random products whose bits are not those of the set's twin
    products    multiply-adds a second of dense products, and the share of the instruction's peak
    steps       training steps along one rank-1 direction, over float32's and over PyTorch's in bfloat16
    tangents    Rf of a perceptron with tangents in bfloat16, over each primal

A multiply-add is one of the product's, whatever the precision: bf16x3 takes six of the instruction's for each, and its
share of the peak counts them.
"""

from collections.abc import Callable

import numpy as np

import fgnumba as fg
from fgnumba.bench.measure import networks
from fgnumba.bench.measure.dense_products import bound, output, useful_multiply_adds
from fgnumba.bench.measure.goals import Figure
from fgnumba.bench.measure.machine import Peak
from fgnumba.bench.measure.peer_networks import WIDTHS
from fgnumba.bench.measure.peers import PEERS, TORCH_BF16, peers
from fgnumba.bench.measure.ratios import Case, trainer
from fgnumba.bench.measure.timing import interleaved
from fgnumba.bench.precision.settings import (
    BF16,
    OVER_FLOAT32,
    OVER_PEER,
    PRODUCTS_OVER_FLOAT32,
    RF_OF_BF16_TANGENTS,
    STEPS,
    WIDTH,
    Setting,
    here,
    multiplies,
    possible,
    precisions,
)
from fgnumba.kernels.devices.tuning import tuned
from fgnumba.kernels.emit.precision import FLOAT32, PRECISIONS
from fgnumba.kernels.emit.vector import TWINS, instruction_set
from fgnumba.kernels.machine.program import Program
from fgnumba.kernels.rules.directions import RANK1

INSTRUCTIONS = {"pairs": "vdpbf16ps", "tiles": "tdpbf16ps", "quads": "bfmmla"}

BIT_SHAPES = ((64, 256, 128), (66, 250, 150), (45, 1024, 161), (33, 65, 130))
"""Rows, K and N of the products whose bits are compared: whole tiles, and what is left of them."""


def peaks(seconds: float) -> list[Figure]:
    """Measure the peak of each set's instruction on one thread, and that of float32's multiply-adds.

    Parameters
    ----------
    seconds : float
        Approximate time to measure.
    """
    sets = [isa for isa in here() if not isa.twin]
    of_float32 = Peak(1)
    of_sets = {isa: Peak(1, isa.multiplying(BF16)) for isa in sets}
    timings = interleaved({"float32": of_float32} | {isa.name: of_sets[isa] for isa in sets}, 21, seconds)

    def rate(name: str, peak: Peak) -> float:
        return 1e-9 * peak.multiply_adds / timings.seconds(name)

    figures = [
        Figure(
            "peak of float32 multiply-adds, 1 thread", rate("float32", of_float32), unit="G multiply-adds/s"
        )
    ]
    for isa, peak in of_sets.items():
        what = f"peak of {isa.name}'s {INSTRUCTIONS[isa.dots]}, 1 thread"
        times = peak.multiply_adds / of_float32.multiply_adds * timings.ratio("float32", isa.name)
        figures += [
            Figure(what, rate(isa.name, peak), unit="G multiply-adds/s"),
            Figure(f"{what}, over float32's", times),
        ]
    return figures


def bits() -> list[Figure]:
    """Count the elements of random products whose bits are not those of the set's twin: all must be the same."""
    figures = []
    for isa in here():
        if isa.twin:
            continue
        twin = tuned(TWINS[f"{isa.name}-twin"])
        for name in (name for name, each in PRECISIONS.items() if each.parts):
            different = 0
            for variant in ("primal", "rank1", "signs", "explicit"):
                for shape in BIT_SHAPES:
                    found, expected = (
                        output(variant, *shape, 1, each.multiplying(name)).view(np.uint32)
                        for each in (isa, twin)
                    )
                    different += int((found != expected).sum())
            figures.append(
                Figure(f"elements whose bits are not the twin's, {isa.name} {name}", different, at_most=0)
            )
    return figures


def products(rows: int, threads: int, seconds: float) -> list[Figure]:
    """Measure dense products of `rows` rows, and K = N = `WIDTH`, in every precision.

    Parameters
    ----------
    rows : int
        Number of rows.
    threads : int
        Number of threads.
    seconds : float
        Approximate time to measure.
    """
    shape = rows, WIDTH, WIDTH
    isa = tuned(instruction_set())
    sets = {name: isa.multiplying(name) for name in precisions()}
    programs = {
        name: Program([bound("primal", *shape, threads, each)], threads) for name, each in sets.items()
    }
    peaks = {name: Peak(threads, each) for name, each in sets.items()}
    contenders: dict[str, Callable[[], object]] = {name: program.run for name, program in programs.items()}
    timings = interleaved(contenders | {f"{name} peak": peak for name, peak in peaks.items()}, 21, seconds)
    done, figures = useful_multiply_adds("primal", *shape), []
    where = f"{threads} thread{'s' * (threads > 1)}"
    for name in sets:
        what = f"{name} {'x'.join(map(str, shape))}, {where}"
        share = done / peaks[name].multiply_adds / timings.ratio(name, f"{name} peak")
        figures += [
            Figure(what, 1e-9 * done / timings.seconds(name), unit="G multiply-adds/s"),
            Figure(f"{what}, share of peak", share),
        ]
        if name != FLOAT32:
            least = PRODUCTS_OVER_FLOAT32.get(multiplies(), {}).get(name)
            figures.append(Figure(f"{what}, over float32", timings.ratio(FLOAT32, name), at_least=least))
    return figures


def steps(network: str, batch: int, seconds: float, with_peers: bool = True) -> list[Figure]:
    """Measure training steps along one rank-1 direction in every setting, and those of the peers in the same rounds.

    Parameters
    ----------
    network : str
        Name of the network.
    batch : int
        Batch size.
    seconds : float
        Approximate time to measure.
    with_peers : bool
        Whether to measure other frameworks too. Default: True.
    """
    images, y = networks.data(batch)
    settings = [setting for setting in STEPS if possible(setting)]

    def step(setting: Setting) -> Callable[[], object]:
        ours = trainer(Case(network, batch=batch, device=setting.device))
        return lambda: ours.step(images, y)

    x = images if network == "cnn" else images.reshape(batch, -1)
    found = peers(WIDTHS[network], x, y, names=tuple(PEERS)) if with_peers else {}
    theirs = {name: calls["reverse step"] for name, calls in found.items()}
    timings = interleaved({str(setting): step(setting) for setting in settings} | theirs, 21, seconds)
    case, figures = f"{network}, batch {batch}", []
    for setting in settings:
        name = str(setting)
        what = f"{case}: {name} step"
        figures.append(Figure(what, 1e3 * timings.seconds(name), unit="ms"))
        if setting.precision != FLOAT32 or setting.tangent_precision:
            most = OVER_FLOAT32.get((multiplies(), network), {}).get(setting)
            figures.append(Figure(f"{what} over float32's", timings.ratio(name, FLOAT32), at_most=most))
        most = None
        if setting.tangent_precision is None:
            most = OVER_PEER.get((multiplies(), network, batch), {}).get(setting.precision)
        if TORCH_BF16 in theirs or most is not None:
            ratio = timings.ratio(name, TORCH_BF16) if TORCH_BF16 in theirs else None
            figures.append(Figure(f"{what} over {TORCH_BF16}'s reverse step", ratio, at_most=most))
    return figures + [
        Figure(f"{case}: {name}'s reverse step", 1e3 * timings.seconds(name), unit="ms") for name in theirs
    ]


def tangents(network: str, batch: int, seconds: float) -> list[Figure]:
    """Measure Rf of the dual pass of one rank-1 direction, with bfloat16 tangents over each primal.

    Parameters
    ----------
    network : str
        Name of the network.
    batch : int
        Batch size.
    seconds : float
        Approximate time to measure.
    """
    x, y = networks.data(batch)
    loss = fg.SoftmaxCrossEntropy()
    settings = [setting for name in precisions() if possible(setting := Setting(name, BF16))]
    contenders: dict[str, Callable[[], object]] = {}
    for setting in settings:
        model = networks.network(network, setting.device)
        plans = {"f": model.plan(batch, loss=loss), "dual": model.plan(batch, RANK1, 1, loss)}
        for name, plan in plans.items():
            contenders[f"{setting} {name}"] = lambda plan=plan: plan.run(x, y)  # type: ignore[misc]
    if not contenders:
        return []
    timings = interleaved(contenders, 21, seconds)
    return [
        Figure(
            f"{network}, batch {batch}: Rf of {setting}",
            timings.ratio(f"{setting} dual", f"{setting} f"),
            at_most=RF_OF_BF16_TANGENTS.get(multiplies(), {}).get(setting.precision),
        )
        for setting in settings
    ]
