"""Chooses the register tile that is fastest on this processor, by a short trial.

A tile's height, and how many rows ahead it prefetches W, change its speed and nothing else: every sum runs over K in
the same order. Which tile is fastest depends on caches, and on how instructions share the processor's ports, more
than on the processor's features. So if an instruction set has several tiles, they are timed once on each machine,
with the dense kernel itself, and the choice is stored beside the compiled kernels. A trial takes less than a tenth of
a second, besides what it compiles. It measures the thread's own processor time, because other processes may keep the
machine busy.

To choose a tile by hand, set ``FGNUMBA_TILE``. To measure again, delete the file ``tile-*.json`` in the cache folder.
"""

import contextlib
import ctypes
import hashlib
import json
import os
import sys
import threading
import time
from collections.abc import Callable
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
"""Environment variable that names the tile to use."""

ALTERNATIVES = {"avx512": ((26, 48), (26, 8), (22, 48))}
"""Pairs of (accumulators, rows of W that are prefetched) by instruction set; without a trial, the first is used."""

ROUNDS, LEAST_ROUNDS = 9, 3
SECONDS = 0.1
"""After this time no further round of a trial begins, except for the first ``LEAST_ROUNDS``."""

ADVANTAGE = 0.02
"""How much faster another tile must be to replace the first. A smaller difference may be noise."""

_TILES, _INPUTS, _OUTPUTS = 5, 1024, 1024
# About 64 rows. The 4 MB of W do not fit into a second-level cache, and are read while tiles are computed.

_lock = threading.Lock()
_process = os.getpid()
_chosen: dict[str, str] = {}
"""Name of the chosen tile by vectors, which sets that multiply bfloat16 in different ways share."""


def tiles(isa: InstructionSet) -> dict[str, InstructionSet]:
    """Return the tiles of an instruction set by name, each as a copy of the set with that tile.

    For example, ``13x32+48`` has 13 rows of 32 columns, and prefetches W 48 rows ahead.
    """
    pairs = ALTERNATIVES.get(isa.vectors, ((isa.accumulators, isa.near),))
    sets = [replace(isa, accumulators=accumulators, near=near) for accumulators, near in pairs]
    return {each.tile: each for each in sets}


def tuned(isa: InstructionSet) -> InstructionSet:
    """Return the instruction set with the tile that ``FGNUMBA_TILE`` names, else with the fastest one on this machine.

    If no result of a trial is stored, there is a trial. A forked child never makes one, because its siblings may be
    running at the same time.

    Parameters
    ----------
    isa : InstructionSet
        The instruction set.

    Raises
    ------
    DeviceError
        The set has no tile of the name in ``FGNUMBA_TILE``.
    """
    given = _given(isa)
    if given is not None:
        return given
    choices = tiles(isa)
    if len(choices) == 1:
        return next(iter(choices.values()))
    with _lock:
        if isa.vectors not in _chosen:
            seconds = remembered(
                f"tile-{isa.vectors}",
                tuple(choices),
                lambda: dict(zip(choices, trial(list(choices.values())), strict=True)),
            )
            _chosen[isa.vectors] = next(iter(choices)) if seconds is None else fastest(seconds)
        return choices[_chosen[isa.vectors]]


def described(isa: InstructionSet) -> str:
    """Return a text for people: the tile that :func:`tuned` takes, and why. This makes no trial."""
    given, choices = _given(isa), tiles(isa)
    if given is not None:
        return f"{given.tile} ({OVERRIDE})"
    if len(choices) == 1:
        return next(iter(choices))
    seconds = _stored(_path(f"tile-{isa.vectors}"), tuple(choices))
    if seconds is None:
        return f"{next(iter(choices))} (of {', '.join(choices)}; not measured yet)"
    best = fastest(seconds)
    others = [
        f"{name} takes {value / seconds[best]:.3f} times" for name, value in seconds.items() if name != best
    ]
    return f"{best} (chosen by a trial: {', '.join(others)} as long)"


def fastest(seconds: dict[str, float]) -> str:
    """Return the name of the fastest tile: the first, unless another one is faster by more than ``ADVANTAGE``."""
    first = next(iter(seconds))
    best = min(seconds, key=seconds.__getitem__)
    return best if seconds[best] < (1 - ADVANTAGE) * seconds[first] else first


def trial(candidates: list[InstructionSet], batch: int | None = None) -> list[float]:
    """Return, for each set's tile, the seconds that a row of a dense layer takes: the least of several rounds.

    The tiles take turns, so that a change of the processor's frequency affects all of them.

    Parameters
    ----------
    candidates : list of InstructionSet
        The sets, each with one tile.
    batch : int, optional
        The number of examples, each with a tangent, along a direction of rank 1. None (the default): as many rows as
        `_TILES` tiles have, and no tangents.
    """
    weight = aligned((_OUTPUTS // PANEL, _INPUTS, PANEL))
    weight[...] = np.random.default_rng(0).standard_normal(weight.shape[1:], np.float32)
    operations = [_operation(isa, weight, batch) for isa in candidates]
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


def _operation(isa: InstructionSet, weight: npt.NDArray[np.float32], batch: int | None) -> tuple[Any, int]:
    """Return a function that runs a dense layer, and the number of rows that it computes."""
    # Imported here, because the kernel's module imports modules that import this one.
    from fgnumba.kernels.layout.images import Images
    from fgnumba.kernels.ops.dense import cpu as dense
    from fgnumba.kernels.rules.directions import RANK1
    from fgnumba.kernels.rules.philox import STREAM
    from fgnumba.kernels.shared.product.product import Weights

    directions: dict[str, Any] = {}
    blocks = 1
    if batch is not None:
        directions = {"kind": RANK1, "count": 1, "stream": np.zeros(1, STREAM)}
        directions |= {"parameter": 0, "bias_parameter": 1}
        blocks = 2
    rows = _TILES * isa.max_rows if batch is None else batch
    x, y = aligned((blocks, rows, leading(_INPUTS))), aligned((blocks, rows, leading(_OUTPUTS)))
    x[...] = np.random.default_rng(1).standard_normal(x.shape[-1], np.float32)
    operation = dense.bind(
        isa,
        1,
        batch=rows,
        x=Images.of_batch(x, (_INPUTS,), has_tangent=blocks > 1),
        y=Images.of_batch(y, (_OUTPUTS,), has_tangent=blocks > 1),
        outputs=_OUTPUTS,
        weights=Weights(weight, aligned((_OUTPUTS,)), **directions),
        activation_name="relu",
    )
    scratch = aligned((operation.scratch_bytes,), np.uint8)
    operation.arguments["scratch"] = address(scratch)
    entry = ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * 3)(operation.entry)

    def call(keeps: Any = (operation, scratch, x, y)) -> None:
        entry(address(operation.arguments), 0, 1)

    return call, blocks * rows


@cache
def _clock() -> Any:
    """Return the clock of the thread's own time, or the wall clock if the former is coarse."""
    with contextlib.suppress(AttributeError, OSError, ValueError):
        # Windows reports a resolution of 100 ns, but the clock advances only every 16 ms.
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


def remembered(
    name: str, keys: tuple[str, ...], measure: Callable[[], dict[str, float]]
) -> dict[str, float] | None:
    """Return the stored result of a trial. If there is none, `measure` it, store it, and return it.

    A forked child never measures, because its siblings may be running at the same time: None.

    Parameters
    ----------
    name : str
        First part of the file's name.
    keys : tuple of str
        The names of the numbers, in their order. A file with others is not read.
    measure : callable
        Makes the trial, and returns the numbers by name, all of them positive.
    """
    path = _path(name)
    found = _stored(path, keys)
    if found is None and os.getpid() == _process:
        measured = measure()
        # If another process finished first, its result is used, so that all processes choose the same.
        found = _stored(path, keys) or _store(path, measured)
    return found


def _path(name: str) -> Path:
    """Return the file that stores a choice.

    Its name depends on the processor and on the version of what is measured.
    """
    compiler = numba.config.CPU_NAME, numba.config.CPU_FEATURES, compiler_settings()
    processor = processor_name(), llvm.get_host_cpu_name(), sorted(host_features())
    key = repr((processor, compiler, sources_digest()))
    return cache_folder() / f"{name}-{hashlib.sha256(key.encode()).hexdigest()[:32]}.json"


def _stored(path: Path, keys: tuple[str, ...]) -> dict[str, float] | None:
    """Return the stored numbers; None if the file is absent, or is not as :func:`_store` writes it."""
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(found, dict) or list(found) != list(keys):
        return None
    numbers = all(isinstance(value, float) and 0 < value < float("inf") for value in found.values())
    return found if numbers else None


def _store(path: Path, numbers: dict[str, float]) -> dict[str, float]:
    write_whole(path, json.dumps(numbers).encode())
    return numbers


def _renew_lock() -> None:
    """Replace the lock in a forked child, where the thread that held it may not exist."""
    global _lock
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_lock)
