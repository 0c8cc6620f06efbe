"""CIFAR-10's binary version: as a folder and as an archive, and every way in which either can be wrong."""

import gzip
import io
import os
import sys
import tarfile
import tracemalloc

import numpy as np
import pytest

from fgnumba.datasets import cifar, load
from fgnumba.errors import DatasetError

FILES = (*(f"data_batch_{number}.bin" for number in range(1, 6)), "test_batch.bin")


def records(seed, count=4):
    """Return records as bytes, with their images (n, 32, 32, 3) and labels."""
    generator = np.random.default_rng(seed)
    images = generator.integers(0, 256, (count, 32, 32, 3), np.uint8)
    labels = generator.integers(0, 10, count, np.uint8)
    planes = images.transpose(0, 3, 1, 2).reshape(count, -1)
    return np.column_stack([labels, planes]).tobytes(), images, labels


def contents():
    return {name: records(seed)[0] for seed, name in enumerate(FILES)}


def folder(path, named=None):
    path.mkdir(exist_ok=True)
    for name, content in (contents() if named is None else named).items():
        (path / name).write_bytes(content)
    return path


def archive(path, named=None, inside="cifar-10-batches-bin/"):
    with tarfile.open(path, "w:gz") as file:
        for name, content in (contents() if named is None else named).items():
            member = tarfile.TarInfo(inside + name)
            member.size = len(content)
            file.addfile(member, io.BytesIO(content))
    return path


def refused(match):
    return pytest.raises(DatasetError, match=match)


def check(data):
    assert (data.classes, data.input_shape, data.labels) == (10, (32, 32, 3), cifar.CLASSES)
    stored = [records(seed) for seed in range(6)]
    x = np.concatenate([images for _, images, _ in stored]) / np.float32(255)
    y = np.concatenate([labels for _, _, labels in stored]).astype(np.int64)
    np.testing.assert_array_equal(data.x_train, x[:20], strict=True)
    np.testing.assert_array_equal(data.x_test, x[20:], strict=True)
    np.testing.assert_array_equal(data.y_train, y[:20], strict=True)
    np.testing.assert_array_equal(data.y_test, y[20:], strict=True)


def test_a_folder(tmp_path):
    place = folder(tmp_path / "cifar-10-batches-bin")
    check(load("cifar-10", data_dir=place))
    check(load("cifar-10", data_dir=tmp_path))
    assert load(place).name == "cifar-10-batches-bin"
    check(load(place))


@pytest.mark.parametrize("inside", ["cifar-10-batches-bin/", "", "./a/b/"])
def test_an_archive(tmp_path, inside):
    path = archive(tmp_path / cifar.ARCHIVE, inside=inside)
    check(load("cifar-10", data_dir=tmp_path))
    check(load(path))
    check(load("cifar-10", data_dir=path))


def test_names_that_lead_out_of_an_archive_write_nothing(tmp_path):
    place = tmp_path / "a" / "b"
    place.mkdir(parents=True)
    archive(place / cifar.ARCHIVE, {f"../../{name}": content for name, content in contents().items()}, "")
    check(load(place))
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == [cifar.ARCHIVE]


BAD_FILES = {
    "a byte short": (lambda content: content[:-1], "12,291 bytes; a multiple of 3,073"),
    "nothing": (lambda content: b"", "0 bytes; a multiple of 3,073 that is not 0"),
    "a label of 10": (
        lambda content: content[:3073] + b"\x0a" + content[3074:],
        r"label\[1\] is 10; labels are 0 to 9",
    ),
}


@pytest.mark.parametrize(("spoil", "match"), BAD_FILES.values(), ids=BAD_FILES)
def test_bad_files(tmp_path, spoil, match):
    named = contents()
    named["data_batch_3.bin"] = spoil(named["data_batch_3.bin"])
    with refused(f"data_batch_3.bin: {match}"):
        load(folder(tmp_path / "plain", named))
    with refused(f"cifar-10-binary.tar.gz: data_batch_3.bin: {match}"):
        load(archive(tmp_path / cifar.ARCHIVE, named))


def test_missing_files(tmp_path):
    named = contents()
    del named["data_batch_4.bin"]
    with refused("no file data_batch_4.bin; all six are required; the folder holds 'data_batch_1.bin', "):
        load(folder(tmp_path / "plain", named))
    with refused("no data_batch_4.bin; the archive of CIFAR-10's binary version"):
        load(archive(tmp_path / cifar.ARCHIVE, named))
    with refused("absent: no file data_batch_1.bin; .*; there is no such folder"):
        load("cifar-10", data_dir=tmp_path / "absent")


def special(kind, **fields):
    member = tarfile.TarInfo("cifar-10-batches-bin/data_batch_1.bin")
    member.type = kind
    for name, value in fields.items():
        setattr(member, name, value)
    return member


def with_member(path, member, content=b""):
    with tarfile.open(path, "w:gz") as file:
        file.addfile(member, io.BytesIO(content) if content else None)
    return path


@pytest.mark.parametrize(
    "member",
    [
        special(tarfile.SYMTYPE, linkname="/etc/passwd"),
        special(tarfile.LNKTYPE, linkname="other"),
        special(tarfile.CHRTYPE),
        special(tarfile.FIFOTYPE),
        special(tarfile.DIRTYPE),
    ],
)
def test_members_that_are_no_files(tmp_path, member):
    with refused("data_batch_1.bin is no regular file; links and devices are not read"):
        load(with_member(tmp_path / cifar.ARCHIVE, member))


def test_a_member_twice(tmp_path):
    path = tmp_path / cifar.ARCHIVE
    with tarfile.open(path, "w:gz") as file:
        for _ in range(2):
            content = records(0)[0]
            member = tarfile.TarInfo("data_batch_1.bin")
            member.size = len(content)
            file.addfile(member, io.BytesIO(content))
    with refused("data_batch_1.bin occurs twice"):
        load(path)


def lying(path, size):
    """Write an archive whose one member claims so many bytes and has a hundred."""
    member = special(tarfile.REGTYPE, size=size)
    path.write_bytes(gzip.compress(member.tobuf(tarfile.GNU_FORMAT) + bytes(100)))
    return path


@pytest.mark.parametrize(
    ("size", "match"),
    [
        (3073 << 40, "needs .* this machine has"),
        (3073 * 1000, "truncated|damaged|breaks off"),
        (100, "a multiple of"),
    ],
)
def test_sizes_are_compared_with_memory_before_it_is_taken(tmp_path, size, match):
    path = lying(tmp_path / cifar.ARCHIVE, size)
    tracemalloc.start()
    try:
        with refused(match):
            load(path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 8 << 20


def test_headers_that_ask_for_much_are_refused(tmp_path):
    # An extended header is read whole by the standard library: a bomb of zeros would be, too.
    member = special(tarfile.XHDTYPE, size=1 << 34)
    path = tmp_path / cifar.ARCHIVE
    path.write_bytes(gzip.compress(member.tobuf(tarfile.GNU_FORMAT) + bytes(1 << 20)))
    with refused("not a tar archive, or a damaged one"):
        load(path)


def test_archives_of_many_members(tmp_path):
    path = archive(tmp_path / cifar.ARCHIVE, {f"file-{number}": b"" for number in range(1001)})
    with refused("more than 1000 members"):
        load(path)


DAMAGE = {
    "no archive": (lambda content: b"no archive", "not a gzip-compressed archive"),
    "cut": (lambda content: content[: len(content) // 2], "breaks off"),
    "flipped": (
        lambda content: content[:200] + bytes(b ^ 0xFF for b in content[200:300]) + content[300:],
        "damaged",
    ),
    "no tar": (lambda content: gzip.compress(b"no tar archive" * 100), "not a tar archive"),
}


@pytest.mark.parametrize(("damage", "match"), DAMAGE.values(), ids=DAMAGE)
def test_damaged_archives(tmp_path, damage, match):
    path = archive(tmp_path / cifar.ARCHIVE)
    path.write_bytes(damage(path.read_bytes()))
    with refused(match):
        load(path)


@pytest.mark.skipif(sys.platform != "linux", reason="needs sparse files")
def test_files_beyond_memory(tmp_path):
    place = folder(tmp_path / "plain")
    os.truncate(place / "data_batch_2.bin", 3073 << 30)
    with refused(r"data_batch_2.bin: needs .* with the files before it; this machine has"):
        load(place)
