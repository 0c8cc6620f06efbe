"""CPU operations on rows that no layer binds, at ragged shapes between inaccessible pages; see ``guarded_cases``."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from fgnumba.kernels.devices.device import CPU
from fgnumba.kernels.emit.vector import PANEL
from fgnumba.kernels.layout.images import Images
from fgnumba.kernels.layout.packing import pack
from fgnumba.kernels.machine.memory import aligned, leading
from fgnumba.kernels.ops.normalization_slope import KINDS
from fgnumba.kernels.rules.philox import STREAM, set_stream


def rows(values: Any, place: Any) -> Images:
    """Return rows (R, C) at a distance; the last one ends where its memory ends."""
    count, channels = values.shape
    ld = leading(channels)
    memory = place(np.zeros((count - 1) * ld + channels, np.float32))
    for row in range(count):
        memory[row * ld : row * ld + channels] = values[row]
    return Images(memory, 0, (1, 1, channels), 0, ld, channels, channels, 0, False)


def written(count: int, channels: int) -> Images:
    """Return rows to write, in memory of the library's."""
    return rows(np.zeros((count, channels), np.float32), lambda array: aligned(array.shape))


def slopes(kind: str, count: int, channels: int, place: Any) -> list[Any]:
    """Return slopes of a normalisation with and without a base, and the normalised rows."""
    x, signal = np.random.default_rng(channels).standard_normal((2, count, channels)).astype(np.float32)
    out, normalized = written(count, channels), written(count, channels)
    common: dict[str, Any] = {
        "batch": count,
        "kind": kind,
        "x": rows(x, place),
        "signal": rows(signal, place),
        "epsilon": 1e-5,
    }
    bind = CPU.kernels.normalization_slope.bind
    found = []
    for more in (
        {"out": out, "base": rows(signal, place), "scale": pack(np.ones(channels))},
        {"out": out, "base": out, "normalized": normalized},
    ):
        CPU.program([bind(CPU.isa, 2, **common, **more)]).run()
        found += [out.memory.copy(), normalized.memory.copy()]
    return found


def of_symbols(batch: int, length: int, vocabulary: int, channels: int, place: Any) -> list[Any]:
    """Return the gradient of an embedding, written and then added to, and that of a positional embedding."""
    rng = np.random.default_rng(channels)
    symbols = rng.integers(0, vocabulary, (batch, length)).astype(np.float32)
    signal = rows(rng.standard_normal((batch * length, channels)).astype(np.float32), place)
    out = aligned((-(-channels // PANEL), vocabulary, PANEL))
    x = Images.of_batch(place(symbols)[None], (length,))
    for onto in (False, True):
        operation = CPU.kernels.embedding.bind_gradient(
            CPU.isa, 2, batch=batch, x=x, signal=signal, out=out, onto=onto
        )
        CPU.program([operation]).run()
    by_position = replace(signal, shape=(length, 1, channels), image=length * signal.image, row=signal.image)
    table = aligned((out.shape[0], length + 2, PANEL))
    bind = CPU.kernels.positional_embedding.bind_gradient
    CPU.program([bind(CPU.isa, 2, batch=batch, signal=by_position, out=table)]).run()
    return [out, table]


def learned(count: int, columns: int, place: Any) -> list[Any]:
    """Return signs in both layouts, their difference from others in panels, and those by feature with their sums."""
    stream = np.zeros(1, STREAM)
    set_stream(stream, 3, 5)
    out, panels = aligned((count, columns)), aligned((-(-count // PANEL), columns, PANEL))
    weighed = aligned((-(-columns // PANEL), count, PANEL))
    response = place(np.random.default_rng(count).standard_normal((count, columns)).astype(np.float32))
    shape = {"rows": count, "columns": columns}
    signs, difference = CPU.kernels.signs.bind, CPU.kernels.least_mean_squares.bind
    program = CPU.program(
        [
            signs(CPU.isa, 2, **shape, out=out, stream=place(stream), number=9, panels=panels),
            difference(2, **shape, response=response, predicted=out, out=weighed, gain=0.3),
        ]
    )
    program.run()
    features, sums = aligned(weighed.shape), aligned((columns,))
    given: dict[str, Any] = {"x": rows(response, place), "panels": features, "batch": count, "sums": sums}
    CPU.program([CPU.kernels.example_panels.bind_rows_to_feature_panels(CPU.isa, 2, **given)]).run()
    return [out, panels, weighed, features, sums]


def of_noise(batch: int, length: int, heads: int, size: int, place: Any) -> list[Any]:
    """Return error signals of queries, keys and values from noise, head by head and not."""

    def sequences(columns: int) -> Images:
        values = np.random.default_rng(columns).standard_normal((batch * length, columns)).astype(np.float32)
        one = rows(values, place)
        return replace(one, shape=(length, 1, columns), image=length * one.image, row=one.image)

    out = sequences((heads + 2) * size)
    given: dict[str, Any] = {"signal": sequences(heads * size), "tangent": sequences(heads * size)}
    given |= {"signs": sequences((heads + 2) * size), "out": out, "heads": heads, "key_heads": 1}
    found = []
    for by_head in (False, True):
        bind = CPU.kernels.attention_noise.bind_estimate
        CPU.program([bind(2, batch=batch, causal=by_head, by_head=by_head, **given)]).run()
        found.append(out.memory.copy())
    return found


CASES: dict[str, Callable[..., list[Any]]] = {}
for kind in KINDS:
    for count, channels in ((1, 1), (7, 33), (3, 31), (40, 129)):
        CASES[f"slope of {kind}, {count} x {channels}"] = partial(slopes, kind, count, channels)
for batch, length, vocabulary, channels in ((1, 1, 1, 1), (3, 5, 7, 33), (9, 31, 65, 129)):
    CASES[f"gradient of {vocabulary} x {channels} by {batch} x {length} symbols"] = partial(
        of_symbols, batch, length, vocabulary, channels
    )
for count, columns in ((1, 1), (33, 31), (130, 65)):
    CASES[f"signs and least mean squares, {count} x {columns}"] = partial(learned, count, columns)
for batch, length, heads, size in ((1, 1, 1, 1), (3, 13, 2, 17)):
    CASES[f"attention by noise, {batch} x {length} x {heads} x {size}"] = partial(
        of_noise, batch, length, heads, size
    )
