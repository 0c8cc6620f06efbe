"""The register tile that suits a processor best, chosen by a short trial on it.

How tall a tile is, and how long before it multiplies a row of W it asks for it, changes its speed and nothing else:
every sum runs over K in one order. Which tile is fastest depends on caches and on how instructions share the
processor's ports, more than its features say. So where an instruction set has several tiles, they are timed once a
machine, on the dense kernel itself, and the choice is stored beside the compiled kernels. A trial takes less than a
tenth of a second beside what it compiles, and the thread's own processor time counts: others may keep the machine busy.

To choose by hand, set ``FGNUMBA_TILE``; to have it measured again, delete the file ``tile-*.json`` in the cache folder.
"""

import contextlib
import ctypes
import hashlib
import json
import os
import sys
import threading
import time
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import llvmlite.binding as llvm
import numba
import numpy as np
import numpy.typing as npt

from fgnumba.errors import DeviceError, did_you_mean
from fgnumba.kernels.emit.vector import PANEL, InstructionSet, host_features, processor_name
from fgnumba.kernels.machine.cache import cache_folder, compiler_settings, sources_digest, write_whole
from fgnumba.kernels.machine.memory import address, aligned, leading

OVERRIDE = "FGNUMBA_TILE"

ALTERNATIVES = {"avx512": ((26, 48), (26, 8), (22, 48))}
"""Accumulators and rows asked for ahead, by instruction set; the first is taken where there is no trial."""

ROUNDS, LEAST_ROUNDS = 9, 3
SECONDS = 0.1
"""No round of a trial begins later, after the first ``LEAST_ROUNDS``."""

ADVANTAGE = 0.02
"""By how much another tile must be faster than the first to be taken: below that it may be noise."""

_TILES, _INPUTS, _OUTPUTS = 5, 1024, 1024
# 64 rows or so: the 4 MB of W are more than a second-level cache, and are read while tiles are computed.

_lock = threading.Lock()
_process = os.getpid()
_chosen: dict[str, InstructionSet] = {}


def tiles(isa: InstructionSet) -> dict[str, InstructionSet]:
    """Return the tiles of an instruction set by name, as the set with each: ``13x32+48`` is 13 rows of 32 columns that
    ask for W 48 rows ahead.
    """
    pairs = ALTERNATIVES.get(isa.name, ((isa.accumulators, isa.near),))
    sets = [replace(isa, accumulators=accumulators, near=near) for accumulators, near in pairs]
    return {each.tile: each for each in sets}


def tuned(isa: InstructionSet) -> InstructionSet:
    """Return the set with the tile that ``FGNUMBA_TILE`` names, else the one that proved fastest on this machine.

    Where no trial's result is stored there is a trial. A forked child makes none: its siblings may be running.

    Raises
    ------
    DeviceError
        The set has no such tile.
    """
    given = _given(isa)
    if given is not None:
        return given
    choices = tiles(isa)
    if len(choices) == 1:
        return next(iter(choices.values()))
    with _lock:
        if isa.name not in _chosen:
            seconds = _stored(isa)
            if seconds is None and os.getpid() == _process:
                measured = trial(list(choices.values()))
                # The result of another process, which was faster, is as good, and then all have one.
                seconds = _stored(isa) or _store(isa, dict(zip(choices, measured, strict=True)))
            _chosen[isa.name] = choices[next(iter(choices)) if seconds is None else fastest(seconds)]
        return _chosen[isa.name]


def described(isa: InstructionSet) -> str:
    """Return the tile that :func:`tuned` takes, and why, for people to read. There is no trial."""
    given, choices = _given(isa), tiles(isa)
    if given is not None:
        return f"{given.tile} ({OVERRIDE})"
    if len(choices) == 1:
        return next(iter(choices))
    seconds = _stored(isa)
    if seconds is None:
        return f"{next(iter(choices))} (of {', '.join(choices)}; not measured yet)"
    chosen = fastest(seconds)
    ratios = ", ".join(f"{name} {value / seconds[chosen]:.3f}" for name, value in seconds.items())
    return f"{chosen} (measured times over its own: {ratios})"


def fastest(seconds: dict[str, float]) -> str:
    """Return the name of the fastest tile: the first, unless another is faster by more than ``ADVANTAGE``."""
    first = next(iter(seconds))
    best = min(seconds, key=seconds.__getitem__)
    return best if seconds[best] < (1 - ADVANTAGE) * seconds[first] else first


def trial(candidates: list[InstructionSet]) -> list[float]:
    """Return the seconds that a row of a dense layer takes with the tile of each set: the least of some rounds.

    The tiles take turns, so that a change of the processor's frequency meets all of them.
    """
    weight = aligned((_OUTPUTS // PANEL, _INPUTS, PANEL))
    weight[...] = np.random.default_rng(0).standard_normal(weight.shape[1:], np.float32)
    operations = [_operation(isa, weight) for isa in candidates]
    clock = _clock()
    least = [float("inf")] * len(candidates)
    for call, _ in operations:
        call()
    began = time.perf_counter()
    for done in range(ROUNDS):
        if done >= LEAST_ROUNDS and time.perf_counter() - began > SECONDS:
            break
        for i, (call, rows) in enumerate(operations):
            start = clock()
            call()
            least[i] = min(least[i], (clock() - start) / rows)
    return least


def _operation(isa: InstructionSet, weight: npt.NDArray[np.float32]) -> tuple[Any, int]:
    """Return a call of a dense layer of whole tiles, and its rows."""
    # Here, since a kernel's module imports what imports this one.
    from fgnumba.kernels.layout.images import Images
    from fgnumba.kernels.ops.dense import cpu as dense
    from fgnumba.kernels.shared.product.product import Weights

    rows = _TILES * isa.max_rows
    x, y = aligned((1, rows, leading(_INPUTS))), aligned((1, rows, leading(_OUTPUTS)))
    x[...] = np.random.default_rng(1).standard_normal(x.shape[-1], np.float32)
    operation = dense.bind(
        isa,
        1,
        batch=rows,
        x=Images.of_batch(x, (_INPUTS,), has_tangent=False),
        y=Images.of_batch(y, (_OUTPUTS,), has_tangent=False),
        outputs=_OUTPUTS,
        weights=Weights(weight, aligned((_OUTPUTS,))),
        activation_name="relu",
    )
    scratch = aligned((operation.scratch_bytes,), np.uint8)
    operation.arguments["scratch"] = address(scratch)
    entry = ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * 3)(operation.entry)

    def call(keeps: Any = (operation, scratch, x, y)) -> None:
        entry(address(operation.arguments), 0, 1)

    return call, rows


@cache
def _clock() -> Any:
    """Return the clock of the thread's own time, or the wall's where that one is coarse."""
    with contextlib.suppress(AttributeError, OSError, ValueError):
        # Windows names a resolution of 100 ns, and the clock moves every 16 ms.
        if sys.platform != "win32" and time.get_clock_info("thread_time").resolution <= 1e-6:
            return time.thread_time
    return time.perf_counter


def _given(isa: InstructionSet) -> InstructionSet | None:
    name, choices = os.environ.get(OVERRIDE), tiles(isa)
    if not name:
        return None
    if name not in choices:
        raise DeviceError(
            f"{OVERRIDE}: {isa.name} has no tile {name!r}{did_you_mean(name, choices)}; it has {', '.join(choices)}"
        )
    return choices[name]


def _path(isa: InstructionSet) -> Path:
    """Return the file of a choice: another for another processor, or version of what is measured."""
    compiler = numba.config.CPU_NAME, numba.config.CPU_FEATURES, compiler_settings()
    processor = processor_name(), llvm.get_host_cpu_name(), sorted(host_features())
    key = repr((processor, compiler, sources_digest()))
    return cache_folder() / f"tile-{isa.name}-{hashlib.sha256(key.encode()).hexdigest()[:32]}.json"


def _stored(isa: InstructionSet) -> dict[str, float] | None:
    """Return the stored seconds of every tile; None where the file is absent or is not what :func:`_store` wrote."""
    try:
        seconds = json.loads(_path(isa).read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(seconds, dict) or list(seconds) != list(tiles(isa)):
        return None
    numbers = all(isinstance(value, float) and 0 < value < float("inf") for value in seconds.values())
    return seconds if numbers else None


def _store(isa: InstructionSet, seconds: dict[str, float]) -> dict[str, float]:
    write_whole(_path(isa), json.dumps(seconds).encode())
    return seconds


def _renew_lock() -> None:
    """Renew the lock in a forked child: the thread that held it may not be there."""
    global _lock
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_lock)
