"""The fuzzer itself: its targets can be chosen, its seeds are valid, and it detects failures."""

import sys

import pytest

if sys.platform != "linux":
    pytest.skip("limits of address space are Linux's", allow_module_level=True)

from fgnumba.errors import ConfigError
from tests.fuzz import rules
from tests.fuzz.__main__ import NAMES
from tests.fuzz.rules import MisbehavedError, refuses_well
from tests.fuzz.targets import TARGETS
from tests.fuzz.words import dictionary


def test_every_target_can_be_asked_for():
    assert set(NAMES) == set(TARGETS)


@pytest.mark.parametrize("name", NAMES)
def test_seeds_are_read_and_their_halves_refused(monkeypatch, tmp_path, name):
    for target, package in (("onnx", "onnx"), ("parquet", "pyarrow")):
        if name == target:
            pytest.importorskip(package)
    monkeypatch.setattr(rules, "FOLDER", tmp_path)
    refused = []
    monkeypatch.setattr(rules, "refuses_well", lambda read: refused.append(rules.outcome(read)))
    seed = TARGETS[name].seeds()[0]
    TARGETS[name].read(seed)
    assert None in refused
    refused.clear()
    # A log that is torn counts up to there, but for its header.
    TARGETS[name].read(seed[: len(seed) // (4 if name == "replay" else 2)])
    assert any(refused)


def failing(error, cause=None):
    def read():
        try:
            if cause is not None:
                raise cause
        finally:
            raise error

    return read


@pytest.mark.parametrize(
    ("read", "expected"),
    [
        (failing(ValueError("not ours")), ValueError),
        (failing(RecursionError()), RecursionError),
        (failing(MemoryError()), MemoryError),
        (failing(ConfigError("too late"), MemoryError()), MisbehavedError),
        (failing(ConfigError("")), MisbehavedError),
        (lambda: bytearray(1 << 40), MemoryError),
    ],
)
def test_what_is_a_failure(read, expected):
    with pytest.raises(expected):
        refuses_well(read)


def test_what_is_none():
    refuses_well(lambda: None)
    refuses_well(failing(ConfigError("steps is 0; at least 1 is required")))


def test_words_are_written_as_the_engine_reads_them():
    for line in dictionary().splitlines():
        assert line.startswith('"')
        assert line.endswith('"')
        assert line.isprintable()
