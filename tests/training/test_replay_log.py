"""The replay log: its format to the byte, torn and damaged logs, false claims in hostile ones."""

import itertools
import os
import re
import struct
import tracemalloc
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fgnumba.errors import RunError
from fgnumba.storage.durable import AppendLog
from fgnumba.training import replay_log
from fgnumba.training.replay_log import BLOCK_STEPS, Header, ReplayLog, read

HEADER = Header(3, 2**64 - 1, b"u" * 32, b"i" * 32, "cpu")
HEADER_BYTES, HEAD, STEP = 108, 12, 8 + 4 * 3
BLOCKS = (5, 1, 0, 4)
"""Steps of the blocks of `written`; 0: the one before is taken back."""


def coefficients(step):
    return np.array([step, -step / 3, 1e-30], np.float32)


def multiplied(c):
    """Return T c as a step leaves it."""
    return np.array([np.nan, *(len(c) * c.astype(np.float64))])


def append(log, count):
    for _ in range(count):
        log.step(log.steps, 1 / (1 + log.steps), multiplied(coefficients(log.steps)))


@pytest.fixture(scope="session")
def written(tmp_path_factory):
    """Return a log with an update taken back; tests do not change it."""
    path = tmp_path_factory.mktemp("written") / "replay.log"
    with AppendLog(path) as file:
        log = ReplayLog(file, HEADER)
        append(log, 5)
        log.end_block()
        append(log, 1)
        log.undone(6)
        log.undone(5)
        append(log, 4)
        log.end_block()
        file.flush()
    return path


def contents(log):
    """Return what a log says, block by block."""
    return [(b.first, b.rates.tolist(), b.coefficients.tolist()) for b in log.blocks()]


def ends():
    """Return where the header and each block of `written` end."""
    return np.cumsum([HEADER_BYTES] + [HEAD + STEP * count for count in BLOCKS]).tolist()


STEPS_AT_ENDS = (0, 5, 6, 5, 9)


def test_what_is_written_is_read_back(written):
    log = read(written)
    assert (log.header, log.steps, log.size, log.cut) == (HEADER, 9, written.stat().st_size, "")
    assert log.size == ends()[-1]
    blocks = list(log.blocks())
    assert [(block.first, len(block.rates)) for block in blocks] == [(0, 5), (5, 1), (5, 0), (5, 4)]
    for block in blocks:
        for i, (rate, row) in enumerate(zip(block.rates, block.coefficients, strict=True)):
            assert rate == 1 / (1 + block.first + i)
            np.testing.assert_array_equal(row, coefficients(block.first + i))


@pytest.mark.parametrize("directions", [1, 16, 1024])
def test_a_step_is_twelve_bytes_a_direction_at_most(tmp_path, directions):
    steps = 600
    with AppendLog(tmp_path / "log") as file:
        log = ReplayLog(file, Header(directions, 0, bytes(32), bytes(32), "cuda"))
        for step in range(steps):
            log.step(step, 0.1, multiplied(np.ones(directions)))
        log.end_block()
        blocks = (file.size - HEADER_BYTES - steps * (8 + 4 * directions)) / HEAD
        assert blocks == -(-steps // min(BLOCK_STEPS, -(-replay_log.BLOCK_BYTES // (8 + 4 * directions))))
        file.flush()
    assert read(tmp_path / "log").steps == steps


def test_whole_blocks_alone_reach_the_file(tmp_path):
    with AppendLog(tmp_path / "log") as file:
        log = ReplayLog(file, HEADER)
        append(log, BLOCK_STEPS + 7)
        file.flush()
        assert read(file.path).steps == BLOCK_STEPS
        log.end_block()
        log.end_block()
        file.flush()
        found = read(file.path)
        assert (found.steps, found.cut) == (BLOCK_STEPS + 7, "")


def test_a_log_goes_on_from_where_it_was_cut_back_to(written, tmp_path):
    path = tmp_path / "replay.log"
    path.write_bytes(written.read_bytes())
    with AppendLog(path, size=ends()[3]) as file:
        log = ReplayLog(file, HEADER, 5)
        append(log, 4)
        log.end_block()
        file.flush()
    assert path.read_bytes() == written.read_bytes()


def test_a_log_torn_at_any_byte_ends_with_its_last_whole_block(written, tmp_path):
    whole, path = written.read_bytes(), tmp_path / "replay.log"
    expected = contents(read(written))
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        if length < HEADER_BYTES:
            with pytest.raises(RunError, match=r"no replay log|ends within its header"):
                read(path)
            continue
        log = read(path)
        blocks = sum(end <= length for end in ends()) - 1
        assert (log.steps, log.size) == (STEPS_AT_ENDS[blocks], ends()[blocks])
        assert bool(log.cut) == (length != ends()[blocks])
        if log.cut:
            assert f"block at byte {log.size} is torn" in log.cut
            assert log.cut.endswith(f"up to step {log.steps}")
            assert "\n" not in log.cut
        assert contents(log) == expected[:blocks]


def check_prefix(path, written):
    """Check that a changed log is refused in a line, or is cut to a beginning of the original; return whether it is."""
    if not path.read_bytes().startswith(written.read_bytes()[:HEADER_BYTES]):
        with pytest.raises(RunError, match=re.escape(str(path))) as raised:
            read(path)
        assert "\n" not in str(raised.value)
        return True
    log = read(path)
    found, expected = contents(log), contents(read(written))
    assert log.header == HEADER
    assert found == expected[: len(found)]
    assert log.size == ends()[len(found)]
    return bool(log.cut)


@given(st.data())
@settings(max_examples=300)
def test_a_changed_byte_is_found_wherever_it_is(written, tmp_path_factory, data):
    whole = bytearray(written.read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        whole[data.draw(st.integers(0, len(whole) - 1))] ^= data.draw(st.integers(1, 255))
    path = tmp_path_factory.getbasetemp() / "changed.log"
    path.write_bytes(whole)
    # Two changes of one byte may cancel.
    assert check_prefix(path, written) or whole == written.read_bytes()


@given(st.integers(0, 400), st.integers(0, 400), st.binary(max_size=40))
@settings(max_examples=200)
def test_bytes_put_in_or_left_out_are_found(written, tmp_path_factory, start, length, put):
    whole = written.read_bytes()
    changed = whole[:start] + put + whole[start + length :]
    path = tmp_path_factory.getbasetemp() / "spliced.log"
    path.write_bytes(changed)
    # Whole blocks may be missing at the end alone.
    assert check_prefix(path, written) or whole.startswith(changed)


def test_blocks_in_another_order_are_out_of_place(written, tmp_path):
    whole, at = written.read_bytes(), ends()
    blocks = [whole[a:b] for a, b in itertools.pairwise(at)]
    path = tmp_path / "replay.log"
    for order, steps in [
        ((1, 0, 2, 3), 0),
        ((0, 0), 5),
        ((0, 2), 5),
        ((0, 1, 2, 2), 5),
        ((2,), 0),
        ((0, 1, 3), 6),
        ((3,), 0),
    ]:
        path.write_bytes(whole[:HEADER_BYTES] + b"".join(blocks[i] for i in order))
        log = read(path)
        assert log.steps == steps, order
        assert "is out of place: it " in log.cut


def test_one_update_alone_can_be_taken_back(tmp_path):
    path = tmp_path / "replay.log"
    path.write_bytes(header() + block(0, 2, 2 * row()) + block(1, 0, b"") + block(0, 0, b""))
    log = read(path)
    assert (log.steps, len(contents(log))) == (1, 2)
    assert "is out of place: it takes back step 0 after 1 steps" in log.cut


def header(**changes):
    fields = {"magic": b"fgreplay", "version": 1, "directions": 3, "seed": 0, "device": b"cpu", **changes}
    packed = struct.pack(
        "<8sIIQ32s32s16s",
        *(fields["magic"], fields["version"], fields["directions"], fields["seed"]),
        *(b"u" * 32, b"i" * 32, fields["device"]),
    )
    return packed + struct.pack("<I", zlib.crc32(packed))


def block(first, count, content):
    head = struct.pack("<II", first, count)
    return struct.pack("<I", zlib.crc32(content, zlib.crc32(head))) + head + content


def row(rate=0.1, coefficient=1.0, directions=3):
    return struct.pack(f"<d{directions}f", rate, *[coefficient] * directions)


def peak_of(action):
    """Return what `action` returns, and the most memory that it held."""
    tracemalloc.start()
    try:
        return action(), tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (block(0, 1, row(np.nan)), "impossible learning rate"),
        (block(0, 1, row(np.inf)), "impossible learning rate"),
        (block(0, 1, row(-0.1)), "impossible learning rate"),
        (block(0, 1, row(0.1, np.nan)), "coefficient that is not finite"),
        (block(0, 1, row(0.1, -np.inf)), "coefficient that is not finite"),
        (block(1, 1, row()), "out of place: it begins with step 1 after 0 steps"),
        (block(0, 0, b""), "out of place"),
        (block(0, 2**32 - 1, row()), "is damaged"),
        (struct.pack("<III", 0, 0, 2**31), "is damaged"),
        (block(0, 1000, row()), "is torn"),
        (bytes(12), "is damaged"),
        (b"\xff" * 64, "is damaged"),
    ],
    ids=range(12),
)
def test_impossible_blocks_end_the_log_and_ask_for_no_memory(tmp_path, content, message):
    path = tmp_path / "replay.log"
    path.write_bytes(header() + content)
    log, peak = peak_of(lambda: read(path))
    assert (log.steps, log.size) == (0, HEADER_BYTES)
    assert message in log.cut
    assert peak < 1 << 19


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is no replay log"),
        (b"PK\3\4" * 60, "is no replay log"),
        (header(version=2), "is a replay log of version 2; version 1 is read"),
        (header(directions=0), "damaged: 0 directions; 1 to 1048576"),
        (header(directions=2**31), "damaged: 2147483648 directions"),
        (header()[:-1] + b"\0", "the checksum of its header is wrong"),
    ],
    ids=range(6),
)
def test_impossible_headers_are_refused(tmp_path, content, message):
    path = tmp_path / "replay.log"
    path.write_bytes(content)
    with pytest.raises(RunError, match=message) as raised:
        read(path)
    assert "\n" not in str(raised.value)


def test_a_file_of_a_terabyte_is_not_read_into_memory(tmp_path):
    path = tmp_path / "replay.log"
    path.write_bytes(header(directions=1 << 20))
    try:
        os.truncate(path, 1 << 40)
    except OSError:
        pytest.skip("this file system has no such files")
    with path.open("r+b") as file:
        # A step of 4 MiB, as large as a block is believed to be, and as much as a checksum is computed of.
        file.seek(HEADER_BYTES)
        file.write(struct.pack("<III", 1, 0, 1))
    log, peak = peak_of(lambda: read(path))
    assert (log.steps, log.size) == (0, HEADER_BYTES)
    assert peak < 6 << 20


def test_what_is_no_file_is_refused(tmp_path):
    with pytest.raises(RunError, match=r"replay\.log is missing"):
        read(tmp_path / "replay.log")
    with pytest.raises(RunError, match="is no file"):
        read(tmp_path)
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe")
        with pytest.raises(RunError, match="is no file"):
            read(tmp_path / "pipe")


def test_a_log_that_changes_under_its_reader_is_refused(written, tmp_path):
    path = tmp_path / "replay.log"
    whole = written.read_bytes()
    path.write_bytes(whole)
    log = read(path)
    # What a run appends meanwhile is not looked at.
    path.write_bytes(whole + b"more")
    assert contents(log) == contents(read(written))
    for changed in (whole[:-1], whole[:-1] + b"\xff", header() + whole[HEADER_BYTES:]):
        path.write_bytes(changed)
        with pytest.raises(RunError, match="was changed while it was read"):
            list(log.blocks())
