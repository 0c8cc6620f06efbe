"""Reads the limits of Linux's control groups: how much of the machine a container, a service or a job may use.

A process belongs to one group of each hierarchy, and the limits of all groups around that one, up to the mount point,
apply to it too. Version 2 has a single hierarchy; in version 1 each controller may have its own. ``/proc/self/cgroup``
lists the process's groups, and ``/proc/self/mountinfo`` says where their files are.
"""

import math
import os
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

PROCESS = Path("/proc/self")
MOUNTED = Path("/sys/fs/cgroup")
"""Where the files are in most containers; used if ``mountinfo`` names no hierarchy."""


def cpu_quota() -> float:
    """Return how many processors' worth of time this process may use; infinity if nothing limits it."""
    return min((_quota(version, folder) for version, folder in _groups("cpu")), default=math.inf)


def memory_limit() -> float:
    """Return how many bytes of memory this process may use; infinity if nothing limits it."""
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
    # In version 1, -1 means that there is no limit.
    return quota / period if quota > 0 and 0 < period < math.inf else math.inf


def _number(words: list[str], place: int) -> float:
    """Return the number at `place` in a file's words.

    It is infinity for ``max`` or any other word, and if the place is empty.
    """
    word = words[place] if place < len(words) else ""
    return float(word) if re.fullmatch(r"-?[0-9]{1,20}", word) else math.inf


def _words(path: Path) -> list[str]:
    try:
        return os.fsdecode(path.read_bytes()).split()
    except OSError:
        return []


def _groups(controller: str) -> Iterator[tuple[int, Path]]:
    """Yield the version and the folder of this process's group, then of every group around it."""
    paths = _paths(controller)
    mounts = list(_mounts(controller))
    top = PurePosixPath("/")
    for version, root, point in mounts or [(2, top, MOUNTED), (1, top, MOUNTED / controller)]:
        path = paths.get(version, root)
        # In a container, the group may lie outside of what is mounted. Then the mount point is the process's own group.
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
    """Return the path of this process's group for each version, 1 or 2."""
    paths = {}
    for line in _lines("cgroup"):
        number, controllers, path = (*line.split(":", 2), "", "")[:3]
        if number == "0" and not controllers:
            paths[2] = PurePosixPath(path)
        elif controller in controllers.split(","):
            paths[1] = PurePosixPath(path)
    return paths


def _mounts(controller: str) -> Iterator[tuple[int, PurePosixPath, Path]]:
    """Yield the version, the root in the hierarchy and the mount point of each hierarchy that has the controller."""
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
    """Return a path of ``mountinfo`` as text: blanks and backslashes are written there as octal numbers."""
    return re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), path)
