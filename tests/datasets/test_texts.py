"""Texts as data sets: symbols, windows, streams and parts, and what is refused."""

import copy
import os
import pickle
from typing import Any

import numpy as np
import pytest

import fgnumba as fg
from fgnumba.datasets import Alphabet, TextDataset, load, text, validation_split
from fgnumba.datasets.split import cut, judges
from fgnumba.datasets.texts import reading
from fgnumba.errors import ConfigError, DatasetError
from fgnumba.kernels.machine import memory
from tests.places import SHARED
from tests.texts import sentences, write

TEXT = sentences(1000)
BOOK = SHARED / "tinyshakespeare" / "input.txt"


@pytest.fixture
def data(tmp_path):
    return load(write(tmp_path / "t.txt", TEXT), context=16)


def refused(path, match, **options):
    with pytest.raises(DatasetError, match=match) as caught:
        text(path, **options)
    assert "\n" not in str(caught.value)


def test_windows_and_their_targets_are_views_of_the_text(data):
    symbols = np.concatenate([data.training, data.testing])
    assert isinstance(data, TextDataset)
    assert (data.classes, data.outputs, data.input_shape) == (len(set(TEXT)), len(set(TEXT)), (16,))
    assert data.alphabet == "".join(sorted(set(TEXT)))
    assert data.decode(symbols) == TEXT
    np.testing.assert_array_equal(data.encode(TEXT), symbols, strict=True)
    assert (len(data.training), len(data.testing)) == (900, 100)
    for part, shape in (("train", (56, 16)), ("test", (6, 16))):
        x, y = getattr(data, f"x_{part}"), getattr(data, f"y_{part}")
        assert (x.shape, y.shape, x.dtype) == (shape, shape, np.uint8)
        np.testing.assert_array_equal(x.ravel()[1:], y.ravel()[:-1])
    base = data.training.base if data.training.base is not None else data.training
    assert all(np.shares_memory(a, base) for a in (data.x_train, data.y_train, data.x_test, data.y_test))
    assert not data.x_train.flags.writeable


def test_the_test_part_is_one_stream_that_leaves_out_no_symbol(data):
    x, y = data.tested
    assert data.has_test
    assert data.decode(x) == TEXT[900:-1]
    assert data.decode(y) == TEXT[901:]


@pytest.mark.parametrize("batch", [1, 3, 56])
def test_each_stream_goes_on_where_it_was_and_then_begins_again(data, batch):
    length = 56 // batch
    batches = data.batches(batch)
    read = [tuple(array.copy() for array in next(batches)) for _ in range(2 * length)]
    streams = np.concatenate([x for x, _ in read], axis=1)
    for number, stream in enumerate(streams):
        start = number * length * 16
        own = data.training[start : start + length * 16]
        np.testing.assert_array_equal(stream, np.tile(own, 2))
    for x, y in read:
        np.testing.assert_array_equal(x[:, 1:], y[:, :-1])
        assert (x.dtype, y.dtype) == (np.uint8, np.int64)


def test_windows_are_at_random_places_that_the_seed_and_the_batch_decide(data):
    batches = data.windows(4, seed=9)
    drawn = [tuple(array.copy() for array in next(batches)) for _ in range(400)]
    text = data.training
    for number in (0, 1, 13, 399):
        x, y = next(data.windows(4, seed=9, first=number))
        np.testing.assert_array_equal(x, drawn[number][0], strict=True)
        np.testing.assert_array_equal(y, drawn[number][1], strict=True)
    windows = np.lib.stride_tricks.sliding_window_view(text, 17)
    places = {window.tobytes(): place for place, window in enumerate(windows)}
    seen = [
        places[np.append(one, last).astype(np.uint8).tobytes()]
        for x, y in drawn
        for one, last in zip(x, y[:, -1], strict=True)
    ]
    for x, y in drawn:
        np.testing.assert_array_equal(x[:, 1:], y[:, :-1])
    assert (drawn[0][0].dtype, drawn[0][1].dtype) == (np.uint8, np.int64)
    # Every place is as likely: an eighth of the 884 has 200 of the 1,600 windows, with a deviation of 13.
    counts = np.histogram(seen, 8, (0, len(windows)))[0]
    assert (len(windows), min(seen) < 10, max(seen) > 873) == (884, True, True)
    assert 150 < counts.min() < counts.max() < 250
    other = next(data.windows(4, seed=10))[0]
    assert not np.array_equal(other, drawn[0][0])
    for wrong in ({"batch_size": 0}, {"batch_size": 57}, {"batch_size": 4, "first": -1}):
        with pytest.raises(ConfigError):
            data.windows(**wrong)


def test_the_last_window_can_be_drawn(tmp_path):
    data: Any = text(write(tmp_path / "t.txt", "ab" * 5 + "a"), context=8)
    x, y = next(data.windows(1))
    assert (data.decode(x[0]), data.decode(y[0])) == ("abababab", "babababa")


def test_batches_go_on_from_any_number(data):
    whole = data.batches(4, seed=9)
    for number in range(30):
        x, y = next(whole)
        if number in (0, 5, 13, 14, 29):
            again_x, again_y = next(data.batches(4, first=number))
            np.testing.assert_array_equal(x, again_x)
            np.testing.assert_array_equal(y, again_y)


def test_what_is_held_out_is_the_end_of_the_training_part(data):
    held = judges(data, 0.1, seed=3)
    training: Any
    training, x, y = cut(data, held)
    assert held.sum() == 6
    assert held[-6:].all()
    assert data.decode(training.training) == TEXT[: 50 * 16 + 1]
    assert data.decode(x) == TEXT[50 * 16 : 899]
    assert data.decode(y) == TEXT[50 * 16 + 1 : 900]
    np.testing.assert_array_equal(training.testing, data.testing)
    part: Any = validation_split(data, 0.1, seed=3)
    assert data.decode(part.testing) == TEXT[50 * 16 : 900]
    assert part.name == "t.txt-validation"
    with pytest.raises(DatasetError, match=r"0\.001 of 56 windows of 16 symbols leave none to validate on"):
        judges(data, 0.001, 0)
    with pytest.raises(DatasetError, match="leave none to train on"):
        judges(data, 0.999, 0)


@pytest.mark.skipif(not BOOK.exists(), reason="needs a text of a million characters")
def test_a_million_characters_take_a_byte_each():
    data: Any = load(BOOK, context=64)
    assert (data.x_train.shape, len(data.testing), data.classes) == ((15685, 64), 111540, 65)
    assert data.training.base.nbytes == 1115394


def test_bytes_and_characters_of_one_text(tmp_path):
    words = "né où — 日本\r\n" * 30
    path = write(tmp_path / "t.md", "\ufeff" + words)
    by_characters, by_bytes = text(path, 8), text(path, 8, symbols="bytes")
    assert by_characters.alphabet == "".join(sorted(set(words)))
    assert by_bytes.alphabet == bytes(sorted(set(words.encode())))
    assert by_characters.decode(by_characters.training) == words[: len(words) * 9 // 10]
    whole = np.concatenate([by_bytes.training, by_bytes.testing])
    assert by_bytes.decode(whole) == words
    np.testing.assert_array_equal(by_bytes.encode("né"), by_bytes.encode("né".encode()))
    tell = by_bytes.coding.decoder()
    assert [tell(number) for number in by_bytes.encode("é—")] == ["", "é", "", "", "—"]
    assert by_bytes.digest != by_characters.digest


def test_many_different_characters_take_two_bytes_each(tmp_path):
    many = "".join(map(chr, range(0x3400, 0x3400 + 300))) * 2
    data = text(write(tmp_path / "t.txt", many), 4)
    assert data.x_train.dtype == np.uint16
    assert data.decode(data.training) == many[:540]


def test_symbols_that_only_the_test_part_has_are_in_the_alphabet_and_stated(tmp_path):
    data = text(write(tmp_path / "t.txt", "ab" * 450 + "xyab" * 25), 8)
    assert data.alphabet == "abxy"
    assert data.notes[2] == (
        "t.txt: 2 of the 4 characters occur in the test part alone, and are learned by no example"
    )


def test_a_piece_may_end_within_a_character(tmp_path, monkeypatch):
    monkeypatch.setattr(reading, "PIECE", 7)
    words = "日本語 né " * 20
    data = text(write(tmp_path / "t.txt", words), 4)
    assert data.decode(np.concatenate([data.training, data.testing])) == words
    refused(
        write(tmp_path / "bad.txt", words.encode() + b"abc\xffdef"),
        f"byte {len(words.encode()) + 3} is wrong .invalid start",
    )


HOSTILE = {
    "empty": (b"", "is empty; a text is required"),
    "a mark alone": (b"\xef\xbb\xbf", "is empty"),
    "latin-1": (
        b"caf\xe9 noir, cafe au lait" * 20,
        "not UTF-8 text: byte 3 is wrong .invalid continuation byte",
    ),
    "cut": ("é".encode() * 99 + b"\xc3", "byte 198 is wrong .unexpected end of data.; save it as UTF-8"),
    "surrogate": (b"ab\xed\xa0\x80", "byte 2 is wrong"),
    "null": (b"text" * 50 + b"\0", "not text: byte 200 is a null byte"),
    "utf-16": ("text".encode("utf-16"), "UTF-16 text; save it as UTF-8"),
    "utf-32": ("text".encode("utf-32"), "UTF-32 text; save it as UTF-8"),
    "one symbol": (b"a" * 900, "holds 'a' alone; two different characters are required"),
    "too short": (b"ab" * 35, "70 characters; at least 73 are required for a context of 64"),
    "many characters": (
        "".join(map(chr, range(0x10000, 0x10000 + 65537))).encode(),
        "65,537 different characters; at most 65,536 are possible: symbols='bytes' .--symbols bytes. has 256",
    ),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_files(tmp_path, kind):
    content, message = HOSTILE[kind]
    refused(write(tmp_path / "t.txt", content), message)


def test_the_shortest_text_that_is_taken(tmp_path):
    data = text(write(tmp_path / "t.txt", ("ab" * 37)[:73]))
    assert (data.x_train.shape, len(data.testing)) == ((1, 64), 8)
    data = text(write(tmp_path / "t.txt", "ab" * 5 + "a"), context=1)
    assert (data.x_train.shape, data.x_test.shape) == ((8, 1), (1, 1))
    refused(write(tmp_path / "t.txt", "ab" * 5), "10 characters; at least 11 are required", context=1)


def test_a_long_line_is_a_text_like_any_other(tmp_path):
    assert len(text(write(tmp_path / "t.txt", b"ab" * (3 << 19))).training) == (3 << 20) * 9 // 10


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes")
def test_no_regular_files(tmp_path):
    os.mkfifo(tmp_path / "pipe.txt")
    refused(tmp_path / "pipe.txt", "cannot be read .not a regular file")
    refused("/dev/zero", "cannot be read .not a regular file")
    refused(tmp_path, "a folder is no text")
    refused(tmp_path / "nothing.txt", "cannot be read .No such file")
    with pytest.raises(DatasetError, match=r"nothing\.txt: no such file"):
        load(tmp_path / "nothing.txt", context=8)


def test_large_files_are_refused_before_memory_is_taken(tmp_path, monkeypatch):
    path = tmp_path / "t.txt"
    with path.open("wb") as file:
        file.truncate(4 << 30)
    refused(path, r"4,294,967,296 bytes; a text has at most 2,147,483,648")
    monkeypatch.setattr(reading, "physical_memory", lambda: 500)
    refused(write(path, TEXT), r"1,000 characters need 1000 bytes; this machine has 500 bytes")
    assert reading.physical_memory() < memory.physical_memory()


def test_a_file_that_changes_while_it_is_read(tmp_path, monkeypatch):
    survey = reading._survey
    path = write(tmp_path / "t.txt", TEXT)
    for other in (TEXT + "a", TEXT[:-1], "~" + TEXT[1:], "A" + TEXT[1:]):

        def changed(*arguments, other=other):
            found = survey(*arguments)
            write(path, other)
            return found

        monkeypatch.setattr(reading, "_survey", changed)
        write(path, TEXT)
        refused(path, "has changed while it was read")


def test_impossible_arguments(tmp_path):
    path = write(tmp_path / "t.txt", TEXT)
    context: Any
    for context in (0, -1, 2.5, "64", True, 1 << 40):
        with pytest.raises(ConfigError, match="context is"):
            load(path, context=context)
    symbols: Any
    for symbols in ("words", 3, ("bytes",)):
        with pytest.raises(ConfigError, match="symbols: unknown kind"):
            load(path, symbols=symbols)
    with pytest.raises(ConfigError, match="target is 'a' beside context or symbols"):
        load(path, target="a", context=8)  # type: ignore[call-overload]
    with pytest.raises(DatasetError, match="'digits' is a data set of images"):
        load("digits", context=8)


def test_a_text_is_loaded_by_its_suffix_and_a_table_by_its_target(tmp_path):
    assert load(write(tmp_path / "t.txt", TEXT)).input_shape == (64,)
    write(tmp_path / "table.txt", "n,k\n" + "".join(f"{i % 7},{'ab'[i % 2]}\n" for i in range(30)))
    assert load(tmp_path / "table.txt", target="k").classes == 2
    assert load(write(tmp_path / "t.py", TEXT), symbols="characters").name == "t.py"
    with pytest.raises(DatasetError, match="neither an"):
        load(tmp_path / "t.py")


def test_a_copy_is_the_same_data(data):
    for other in (copy.copy(data), copy.deepcopy(data), pickle.loads(pickle.dumps(data))):
        assert (other.digest, other.alphabet, other.notes) == (data.digest, data.alphabet, data.notes)
        np.testing.assert_array_equal(other.x_test, data.x_test)
    assert f"t.txt, {len(set(TEXT))} different characters" in data._repr_html_()


def test_the_digest_is_that_of_symbols_alphabet_and_windows(tmp_path):
    path = write(tmp_path / "t.txt", TEXT)
    digests = {text(path, context).digest for context in (8, 16, 16)}
    digests.add(text(write(path, TEXT.replace("c", "C")), 16).digest)
    assert len(digests) == 3


def test_parts_of_another_kind():
    alphabet = Alphabet("ab")
    symbols: Any = alphabet.encode("abab")
    for training, message in (
        (symbols[:2], "2 symbols to train on; more than the context, 2, are required"),
        (symbols.astype(np.int64), r"training is no array \(N,\) of uint8"),
        (symbols + 1, "training holds 2; its alphabet has 2 symbols"),
    ):
        with pytest.raises(DatasetError, match=message):
            TextDataset("t", training, symbols, alphabet, 2)
    assert not TextDataset("t", symbols, symbols[:0], alphabet, 2).has_test


def test_alphabets(tmp_path):
    alphabet = Alphabet("\n abé")
    assert len(alphabet) == 5
    wrong: Any
    for wrong, message in (
        ("a", "1 symbols"),
        ("ba", "not in ascending order"),
        ("aa", "each once"),
        (["a"], "text or bytes"),
        ("a\ud800", "a surrogate is no character"),
    ):
        with pytest.raises(DatasetError, match=message):
            Alphabet(wrong)
    with pytest.raises(DatasetError, match=r"text\[2\] is 'x', which is none of the 5 characters"):
        alphabet.encode("abx")
    with pytest.raises(DatasetError, match="text is b'ab'; text is required"):
        alphabet.encode(b"ab")
    with pytest.raises(DatasetError, match=r"symbols\[1\] is 5; 0 to 4 are possible"):
        alphabet.decode([0, 5])
    with pytest.raises(DatasetError, match="whole numbers"):
        alphabet.decode([0.5])
    assert alphabet.decode([]) == ""
    for one in (alphabet, Alphabet(b"\x00\xc3\xff")):
        path = write(tmp_path / "text.json", one.to_json())
        assert Alphabet.from_json(path) == one


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{}",
        '{"version": 2}',
        '{"version": 1, "symbols": "words", "alphabet": "ab"}',
        '{"version": 1, "symbols": "bytes", "alphabet": "ab"}',
        '{"version": 1, "symbols": "bytes", "alphabet": [1, 300]}',
        '{"version": 1, "symbols": "bytes", "alphabet": [true, 3]}',
        '{"version": 1, "symbols": "characters", "alphabet": "ba"}',
        '{"version": 1, "symbols": "characters", "alphabet": "a\\ud800"}',
        "[" * 5000,
        b"\xff",
    ],
)
def test_damaged_alphabets(tmp_path, content):
    path = write(tmp_path / "text.json", content)
    with pytest.raises(DatasetError, match=r"text\.json is damaged: ") as caught:
        Alphabet.from_json(path)
    assert "\n" not in str(caught.value)


def test_files_of_alphabets_that_cannot_be_read(tmp_path):
    with pytest.raises(DatasetError, match="No such file"):
        Alphabet.from_json(tmp_path / "text.json")
    with (tmp_path / "text.json").open("wb") as file:
        file.truncate(1 << 30)
    with pytest.raises(DatasetError, match="at most 1,048,576 are possible"):
        Alphabet.from_json(tmp_path / "text.json")


def test_public_names():
    assert fg.datasets.text is text
