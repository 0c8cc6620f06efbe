"""Register tiles: each gives the same bits, and keeps its sums in registers."""

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from llvmlite import binding as llvm
from numba import types
from numba.core.ccallback import CFunc

import fgnumba as fg
from fgnumba.kernels.devices import tuning
from fgnumba.kernels.emit import product_tile, vector
from fgnumba.kernels.emit.vector import INSTRUCTION_SETS
from fgnumba.kernels.machine.compile import FASTMATH
from tests.kernels.test_dense import KINDS, run

SHAPES = [(1, 1, 1), (2, 37, 33), (13, 5, 101), (29, 2503, 61), (64, 96, 131), (83, 211, 7)]
"""Examples, inputs, outputs: 1, primes, K of more than one block, several panels and tiles."""


def sets():
    """Return every executable instruction set with its own tiles, and with others nobody would choose."""
    found = {}
    for name in vector.executable():
        isa = INSTRUCTION_SETS[name]
        others = [replace(isa, accumulators=isa.accumulators // 2, near=near) for near in (0, 3)]
        for each in [*tuning.tiles(isa).values(), *others]:
            found[f"{name} {each.tile}"] = each
    return found


SETS = sets()
FUSED = "fma" in vector.host_features() or "neon" in vector.host_features()


@pytest.mark.skipif(
    not FUSED, reason="where multiply-adds do not fuse, compilers may choose which round twice"
)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_every_tile_gives_the_same_bits(kind, shape):
    case = kind, True, True, 0 if kind == "none" else 2
    first, *others = (run(case, shape, isa=isa).view(np.uint32) for isa in SETS.values())
    for name, other in zip(list(SETS)[1:], others, strict=True):
        np.testing.assert_array_equal(other, first, err_msg=f"{name} beside {next(iter(SETS))}")


@pytest.mark.parametrize("direction", [fg.directions.RankOne, fg.directions.Rademacher, "explicit"])
def test_every_tile_gives_the_same_bits_in_convolutions(direction, monkeypatch):
    layers = [
        fg.Conv2d(17, kernel_size=5, stride=2, activation="relu"),
        fg.Conv2d(16, kernel_size=3, padding="same", activation="tanh"),
        fg.Conv2d(33, kernel_size=3, padding="same", activation="relu"),
        fg.Flatten(),
        fg.Dense(5),
    ]
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((3, 31, 29, 3), np.float32), np.array([0, 4, 2])
    found = {}
    for isa in SETS.values():
        if isa.tile not in tuning.tiles(INSTRUCTION_SETS[isa.name]):
            continue
        monkeypatch.setenv(vector.OVERRIDE, isa.name)
        monkeypatch.setenv(tuning.OVERRIDE, isa.tile)
        model = fg.Sequential(layers, (31, 29, 3), seed=1, device="cpu")
        v = direction if direction == "explicit" else direction(seed=3, step=2)
        if v == "explicit":
            draw = np.random.default_rng(1)
            v = {name: draw.standard_normal(p.shape, np.float32) for name, p in model.parameters().items()}
        found[f"{isa.name} {isa.tile}"] = [
            float(n).hex() for n in fg.jvp(model, fg.SoftmaxCrossEntropy(), x, y, v)
        ]
    first = next(iter(found.values()))
    assert found == dict.fromkeys(found, first)
    assert len(found) >= len(vector.executable())


def inner_loop(isa, **shape):
    """Return the instructions of a tile's loop over K."""
    emitted = product_tile(isa, **shape)

    def tile(segments, offsets, length, a, c, ld, w, w_stride, v, v_stride, out, onto, following, step):
        emitted(segments, offsets, length, a, c, ld, w, w_stride, v, v_stride, out, onto, following, step)

    options = {"nopython": True, "error_model": "numpy", "fastmath": FASTMATH}
    callback = CFunc(tile, ((types.int64,) * 14, types.void), {}, options)
    callback.compile()
    library: Any = vars(callback)["_library"]
    lines = library.get_asm_str().split("\n")
    labels = {line[:-1]: at for at, line in enumerate(lines) if re.match(r"\.LBB\w+:", line)}
    loops = []
    for end, line in enumerate(lines):
        jump = re.match(r"\s+j\w+\s+(\.LBB\w+)", line)
        if jump and labels.get(jump[1], end) < end:
            body = lines[labels[jump[1]] + 1 : end]
            if not any(each.startswith(".LBB") for each in body) and "vfmadd" in "".join(body):
                loops.append(body)
    # The function that C calls holds a copy.
    return [line.strip() for line in loops[0]]


@pytest.mark.skipif(not llvm.get_process_triple().startswith("x86_64"), reason="reads x86 instructions")
@pytest.mark.parametrize("weights", [True, False])
@pytest.mark.parametrize("entries", [None, "signs", "float"])
@pytest.mark.parametrize("name", [name for name in SETS if name.startswith("avx512")])
def test_sums_stay_in_registers_and_rows_cost_no_additions(name, entries, weights):
    isa = SETS[name]
    if not (weights or entries):
        pytest.skip("no product")
    terms = weights + (entries is not None)
    for rows in {isa.max_rows, isa.max_rows - 1, isa.max_rows // 2, 1}:
        panels = isa.panels(rows)
        loop = inner_loop(isa, rows=rows, panels=panels, weights=weights, entries=entries, ahead=True)
        vectors = rows * panels * vector.PANEL // isa.lanes
        assert sum("vfmadd" in line for line in loop) == terms * vectors
        assert sum("vbroadcastss" in line for line in loop) <= terms * rows
        assert not [line for line in loop if "zmm" in line and "(%rsp)" in line]
        # Places in x and in each panel of W and V, and of what comes next: nothing a row.
        additions = [line for line in loop if re.match(r"(lea|add|sub)q", line)]
        assert len(additions) <= 2 + 2 * panels, (rows, panels)
