"""Directions: Philox's published answers, fixed bits of signs, Gaussians against float64, statistics."""

import json

import numpy as np
import pytest
from numba import njit
from scipy import stats

import fgnumba as fg
from fgnumba.kernels.emit import philox_words, vector
from tests import tolerances
from tests.places import DATA
from tests.references import reference

KNOWN = DATA / "signs.json"

# From the authors' Random123 library, kat_vectors: counter, key, result.
PHILOX_ANSWERS = [
    ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
]


def integers(text):
    return [int(word, 16) for word in text.split()]


@pytest.mark.parametrize(("counter", "key", "answer"), PHILOX_ANSWERS)
def test_reference_philox_gives_the_known_answers(counter, key, answer):
    assert reference.philox(integers(counter), integers(key)) == integers(answer)


@pytest.mark.parametrize("along_row", [False, True])
@pytest.mark.parametrize("name", vector.executable())
@pytest.mark.parametrize(("counter", "key", "answer"), PHILOX_ANSWERS)
def test_emitted_philox_gives_the_known_answers(counter, key, answer, name, along_row):
    isa = vector.INSTRUCTION_SETS[name]
    emitted = philox_words(isa, along_row)

    @njit
    def draw(c0, c1, c2, c3, k0, k1, out):
        emitted(c0, c1, c2, c3, k0, k1, out)

    out = np.zeros(64, np.uint32)
    c, k = integers(counter), integers(key)
    draw(*c, *k, out.ctypes.data)
    found = out[:64:16] if along_row else out[:4]
    assert found.tolist() == integers(answer)
    # The neighbours, where none of them wraps.
    which = 1 if along_row else 0
    if c[which] + isa.lanes < 1 << 32:
        for lane in range(isa.lanes):
            neighbour = list(c)
            neighbour[which] += lane
            found = out[lane::16][:4] if along_row else out[4 * lane : 4 * lane + 4]
            assert found.tolist() == reference.philox(neighbour, k)


def bits(array):
    """Return signs as hexadecimal text, one bit a sign, set for -1, row by row."""
    return np.packbits(np.asarray(array).ravel() < 0).tobytes().hex()


def drawn(case):
    """Return a weight's and a bias's direction as a model draws them: parameters 0 and 1."""
    model = fg.Sequential([fg.Dense(case["shape"][1])], case["shape"][0])
    v = fg.directions.BY_NAME[case["direction"]](case["seed"], case["step"], case["index"]).materialize(model)
    return v["0.weight"], v["0.bias"]


CASES = json.loads(KNOWN.read_text(encoding="utf-8"))["cases"]


@pytest.mark.parametrize("name", vector.executable())
@pytest.mark.parametrize(
    "case", CASES, ids=lambda case: f"{case['direction']}-{case['shape']}-{case['step']}"
)
def test_signs_are_the_known_answers_on_every_instruction_set(case, name, monkeypatch):
    monkeypatch.setenv(vector.OVERRIDE, name)
    weight, bias = drawn(case)
    assert bits(weight) == case["weight"]
    assert bits(bias) == case["bias"]


@pytest.mark.parametrize(
    "case", CASES, ids=lambda case: f"{case['direction']}-{case['shape']}-{case['step']}"
)
def test_reference_signs_are_the_known_answers(case):
    key = (case["index"], 0, case["step"], case["seed"])
    assert bits(reference.direction(case["direction"], case["shape"], *key)) == case["weight"]
    key = (case["index"], 1, case["step"], case["seed"])
    assert bits(reference.direction(case["direction"], case["shape"][1:], *key)) == case["bias"]


@pytest.mark.parametrize("name", vector.executable())
@pytest.mark.parametrize("shape", [(1, 1), (3, 2), (4, 32), (7, 33), (130, 5), (66, 70)])
def test_gaussians_agree_with_float64(shape, name, monkeypatch):
    monkeypatch.setenv(vector.OVERRIDE, name)
    seed, step, index = 2**63 + 12345, 2**32 - 1, 2**20 - 1
    weight, bias = drawn(
        {"direction": "gaussian", "shape": shape, "seed": seed, "step": step, "index": index}
    )
    expected = reference.direction("gaussian", shape, index, 0, step, seed)
    tolerances.GAUSSIAN.check(weight, expected)
    tolerances.GAUSSIAN.check(bias, reference.direction("gaussian", shape[1:], index, 1, step, seed))


@pytest.mark.parametrize("seed", [0, 1, 2**64 - 1])
def test_gaussians_are_normal(seed):
    model = fg.Sequential([fg.Dense(512)], 1024)
    v = fg.directions.Gaussian(seed).materialize(model)["0.weight"].astype(np.float64)
    n = v.size
    k = tolerances.DEVIATIONS
    assert abs(v.mean()) < k / np.sqrt(n)
    assert abs(v.var() - 1) < k * np.sqrt(2 / n)
    assert abs((v**3).mean()) < k * np.sqrt(15 / n)
    assert abs((v**4).mean() - 3) < k * np.sqrt(96 / n)
    assert stats.kstest(v.ravel(), "norm").pvalue > tolerances.UNLIKELY
    # Pairs from one word: rows 0 and 2, 1 and 3 of four; neighbours in a row; halves of a panel.
    blocks = v.reshape(-1, 4, 512)
    for a, b in ((blocks[:, 0], blocks[:, 2]), (v[:, :-1], v[:, 1:]), (v[:, :16], v[:, 16:32])):
        for first, second in ((a, b), (a**2 - 1, b**2 - 1)):
            bound = k / np.sqrt(a.size) * np.sqrt(first.var() * second.var())
            assert abs((first * second).mean()) < bound


@pytest.mark.parametrize("direction", ["rank1", "rademacher"])
@pytest.mark.parametrize("seed", [0, 1, 2**64 - 1])
def test_signs_are_balanced_and_uncorrelated(direction, seed):
    model = fg.Sequential([fg.Dense(64)], 64)
    kind = fg.directions.BY_NAME[direction]
    samples = np.array(
        [
            kind(seed, step, index).materialize(model)["0.weight"].ravel()
            for step in range(250)
            for index in (0, 1)
        ]
    ).astype(np.float64)
    n = len(samples)
    # Every mean and every correlation of two entries, over draws: the largest of 4,096, and of 4,096 x 64, normals.
    assert np.abs(samples.mean(axis=0)).max() < tolerances.OF_THOUSANDS / np.sqrt(n)
    correlations = samples.T @ samples[:, ::64] / n
    correlations[::64] -= np.eye(64)
    assert np.abs(correlations).max() < tolerances.OF_HUNDRED_THOUSANDS / np.sqrt(n)


def test_no_two_uses_share_a_counter():
    model = fg.Sequential([fg.Dense(64), fg.Dense(64)], 64)
    seen: dict[bytes, object] = {}
    for kind in (fg.directions.RankOne, fg.directions.Rademacher):
        for seed in (0, 1 << 32):
            for step in (0, 1):
                for index in (0, 1):
                    for name, array in kind(seed, step, index).materialize(model).items():
                        if name.endswith("bias") and kind is fg.directions.Rademacher:
                            continue  # The same signs as beside a rank-1 weight, on purpose.
                        key = array.tobytes()
                        assert key not in seen, (seen.get(key), (kind, seed, step, index, name))
                        seen[key] = (kind, seed, step, index, name)
