"""Archives that somebody else made: zip and compressed tar, of which single members are read and none is unpacked.

An archive is not trusted: its directory is compared with the file's own size before a member is read, no name in it is
used as a path, and links and devices in it are refused.
"""

import contextlib
import gzip
import io
import os
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, Any, TypeVar

from fgnumba.datasets.idx import MAX_GZIP_RATIO
from fgnumba.errors import DatasetError, shown
from fgnumba.storage.files import open_regular

T = TypeVar("T")

MAX_RATIO = {zipfile.ZIP_STORED: 1, zipfile.ZIP_DEFLATED: MAX_GZIP_RATIO}
"""The compression methods that are read, and the most bytes that one compressed byte can yield in each."""
MAX_PIECE = 1 << 26
"""Largest piece that an archive's reader may ask for at once, whatever size its directory claims."""
MAX_UNPACKED = 1 << 30
"""Largest size of a tar archive after decompression; that of CIFAR-10 has 184 MB."""
MAX_MEMBERS, PIECE = 1000, 1 << 20
ENCRYPTED = 1
MOST_LISTED = 12


class Guarded:
    """A file that refuses to read a piece larger than `MAX_PIECE`, or beyond a position."""

    def __init__(self, file: Any, end: int | None = None) -> None:
        self._file, self._end = file, end
        self.tell, self.seekable = file.tell, file.seekable

    def seek(self, position: int, whence: int = io.SEEK_SET) -> int:
        """Move to a position, as files do; a tar archive is decompressed up to there."""
        if self._end is not None and position > self._end:
            raise zipfile.BadZipFile("a position beyond what is read")
        return int(self._file.seek(position, whence))

    def read(self, size: int = -1) -> bytes:
        """Return the next bytes."""
        beyond = self._end is not None and (size < 0 or self.tell() + size > self._end)
        if size > MAX_PIECE or beyond:
            raise zipfile.BadZipFile("a directory of so many members")
        content: bytes = self._file.read(size)
        return content


def check_member(where: str, member: zipfile.ZipInfo, there: int) -> None:
    """Raise DatasetError unless a member of a zip archive can be read and can be as long as it claims.

    Parameters
    ----------
    where : str
        What the member is called in messages, with its archive.
    member : zipfile.ZipInfo
        The member's entry in the archive's directory.
    there : int
        The number of bytes of the archive.
    """
    if member.flag_bits & ENCRYPTED:
        raise DatasetError(f"{where} is encrypted; an archive without a password is required")
    if member.compress_type not in MAX_RATIO:
        raise DatasetError(
            f"{where} is compressed by method {member.compress_type}; stored or deflated members are read"
        )
    if member.compress_size > there:
        raise DatasetError(
            f"{where} is damaged: it claims {member.compress_size} bytes of an archive of {there}"
        )
    if member.file_size > member.compress_size * MAX_RATIO[member.compress_type]:
        raise DatasetError(
            f"{where} is damaged: {member.compress_size} bytes cannot hold the {member.file_size} that they claim"
        )


@contextlib.contextmanager
def read_or_refused(path: Path, otherwise: str) -> Iterator[None]:
    """Turn whatever is raised while an archive is read into a DatasetError.

    Parameters
    ----------
    path : pathlib.Path
        The archive.
    otherwise : str
        What the message says where the file can be read and something else is raised: damaged bytes can raise any error
        of zipfile's, tarfile's or zlib's.
    """
    try:
        yield
    except DatasetError:
        raise
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read ({error.strerror or error})") from error
    except Exception as error:
        raise DatasetError(f"{path}: {otherwise}") from error


@contextlib.contextmanager
def opened_zip(path: Path) -> Iterator[zipfile.ZipFile]:
    """Open a zip archive for reading; whatever is wrong with it is a DatasetError.

    Parameters
    ----------
    path : pathlib.Path
        The archive.
    """
    with (
        read_or_refused(path, "not a zip archive, or a damaged one"),
        open_regular(path) as file,
        zipfile.ZipFile(Guarded(file)) as archive,
    ):
        yield archive


def read_tar(path: Path, names: Iterable[str], read: Callable[[str, IO[bytes], int], T]) -> dict[str, T]:
    """Return what a function makes of the members of a gzip-compressed tar archive that have one of some names.

    Parameters
    ----------
    path : pathlib.Path
        The archive.
    names : iterable of str
        The names; a member counts if its name is one of them, in whatever folder of the archive.
    read : callable
        Called with a member's name without folders, its content as a binary file object, and the number of bytes that
        the archive claims for it.

    Raises
    ------
    DatasetError
        If the file is no such archive or is damaged, or if a member of such a name occurs twice or is not a regular
        file.
    """
    with read_or_refused(path, "not a tar archive, or a damaged one; fetch it again"):
        try:
            with open_regular(path) as file, gzip.open(file, "rb") as unpacked:
                stream: Any = Guarded(unpacked, MAX_UNPACKED)
                with tarfile.open(fileobj=stream, mode="r:") as archive:
                    found = _members(path, archive, set(names), read)
                # The end of the stream makes gzip compare its checksum.
                while unpacked.read(PIECE):
                    if unpacked.tell() > MAX_UNPACKED:
                        raise DatasetError(f"{path}: more than {MAX_UNPACKED:,} bytes after decompression")
            return found
        except EOFError as error:
            raise DatasetError(f"{path}: the archive breaks off; fetch it again") from error
        except (gzip.BadGzipFile, zlib.error) as error:
            raise DatasetError(
                f"{path}: not a gzip-compressed archive, or a damaged one; fetch it again"
            ) from error


def _members(
    path: Path, archive: tarfile.TarFile, names: set[str], read: Callable[[str, IO[bytes], int], T]
) -> dict[str, T]:
    found: dict[str, T] = {}
    for count, member in enumerate(archive):
        if count == MAX_MEMBERS:
            raise DatasetError(f"{path}: more than {MAX_MEMBERS} members")
        name = member.name.rpartition("/")[2]
        if name not in names:
            continue
        if name in found:
            raise DatasetError(f"{path}: {name} occurs twice")
        if not member.isreg() or member.issparse():
            raise DatasetError(f"{path}: {name} is no regular file; links and devices are not read")
        content = archive.extractfile(member)
        assert content is not None
        found[name] = read(name, content, member.size)
    return found


def contents(folder: Path) -> list[str]:
    """Return the names in a folder, sorted; none where it cannot be read."""
    try:
        return sorted(os.listdir(folder))
    except OSError:
        return []


def described(folder: Path) -> str:
    """Return what a folder holds, for the end of a message."""
    if not folder.is_dir():
        return "there is no such folder"
    names = contents(folder)
    if not names:
        return "the folder is empty"
    more = f" and {len(names) - MOST_LISTED} more" if len(names) > MOST_LISTED else ""
    return f"the folder holds {', '.join(map(shown, names[:MOST_LISTED]))}{more}"
