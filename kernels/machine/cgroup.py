"""Limits of Linux's control groups: what a container, a service or a job may take of the machine.

A process is in one group of each hierarchy, and every group around it limits it as well, up to the mount point.
Version 2 has one hierarchy; in version 1 each controller may have its own. ``/proc/self/cgroup`` says which groups,
``/proc/self/mountinfo`` where their files are.
"""

import math
import os
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

PROCESS = Path("/proc/self")
MOUNTED = Path("/sys/fs/cgroup")
"""Where the files are in most containers: looked at where the system says nothing."""


def cpu_quota() -> float:
    """Return how many processors' time this process may take; infinity where nothing limits it."""
    return min((_quota(version, folder) for version, folder in _groups("cpu")), default=math.inf)


def memory_limit() -> float:
    """Return the bytes of memory that this process may take; infinity where nothing limits it."""
    limits = (
        _number(_words(folder / ("memory.max" if version == 2 else "memory.limit_in_bytes")), 0)
        for version, folder in _groups("memory")
    )
    return min((limit for limit in limits if limit > 0), default=math.inf)


def _quota(version: int, folder: Path) -> float:
    if version == 2:
        words = _words(folder / "cpu.max")
    else:
        words = _words(folder / "cpu.cfs_quota_us") + _words(folder / "cpu.cfs_period_us")
    quota, period = _number(words, 0), _number(words, 1)
    # -1 is version 1's word for no limit.
    return quota / period if quota > 0 and 0 < period < math.inf else math.inf


def _number(words: list[str], place: int) -> float:
    """Return the number at a place in a file; infinity for ``max``, for anything else, and where there is none."""
    word = words[place] if place < len(words) else ""
    return float(word) if re.fullmatch(r"-?[0-9]{1,20}", word) else math.inf


def _words(path: Path) -> list[str]:
    try:
        return os.fsdecode(path.read_bytes()).split()
    except OSError:
        return []


def _groups(controller: str) -> Iterator[tuple[int, Path]]:
    """Yield the version and the folder of the group that this process is in, and of every group around it."""
    paths = _paths(controller)
    mounts = list(_mounts(controller))
    top = PurePosixPath("/")
    for version, root, point in mounts or [(2, top, MOUNTED), (1, top, MOUNTED / controller)]:
        path = paths.get(version, root)
        # A group outside of what is mounted here, as a container sees it: the mount point is its own group.
        inside = (
            path.relative_to(root)
            if path.is_relative_to(root) and ".." not in path.parts
            else PurePosixPath()
        )
        folder = point / inside
        yield version, folder
        for _ in inside.parts:
            folder = folder.parent
            yield version, folder


def _paths(controller: str) -> dict[int, PurePosixPath]:
    """Return the group of this process by the version of its hierarchy."""
    found = {}
    for line in _lines("cgroup"):
        number, controllers, path = (*line.split(":", 2), "", "")[:3]
        if number == "0" and not controllers:
            found[2] = PurePosixPath(path)
        elif controller in controllers.split(","):
            found[1] = PurePosixPath(path)
    return found


def _mounts(controller: str) -> Iterator[tuple[int, PurePosixPath, Path]]:
    """Yield the version, the root inside the hierarchy, and the mount point of each hierarchy that has a controller."""
    for line in _lines("mountinfo"):
        place, _, kind = line.partition(" - ")
        places, kinds = place.split(" "), kind.split(" ")
        if len(places) < 5 or len(kinds) < 3:
            continue
        root, point = PurePosixPath(_unescaped(places[3])), Path(_unescaped(places[4]))
        if kinds[0] == "cgroup2":
            yield 2, root, point
        elif kinds[0] == "cgroup" and controller in kinds[2].split(","):
            yield 1, root, point


def _lines(name: str) -> list[str]:
    try:
        return os.fsdecode((PROCESS / name).read_bytes()).split("\n")
    except OSError:
        return []


def _unescaped(path: str) -> str:
    """Return a path of ``mountinfo``, where blanks and backslashes are octal numbers."""
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), path)
