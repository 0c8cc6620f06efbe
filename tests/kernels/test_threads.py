"""The number of threads and the memory limit: variables, processors, and simulated control groups."""

import math
import os
import sys

import pytest

import fgnumba as fg
from fgnumba.kernels.machine import cgroup, memory, threads
from tests.apart import python

BOUND = 4
"""Processors that the pretended process is bound to."""


@pytest.fixture
def system(tmp_path, monkeypatch):
    """Return a folder that stands for the system: no variable, no group, and so many processors."""
    for name in (threads.OVERRIDE, threads.NUMBA, *threads.OPENMP):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(threads, "_bound", lambda: BOUND)
    monkeypatch.setattr(threads.numba.config, "NUMBA_NUM_THREADS", 3)
    monkeypatch.setattr(threads.numba.config, "NUMBA_DEFAULT_NUM_THREADS", 3)
    monkeypatch.setattr(cgroup, "PROCESS", tmp_path / "proc")
    monkeypatch.setattr(cgroup, "MOUNTED", tmp_path / "sys")
    forget()
    yield tmp_path
    forget()


def forget():
    for cached in (threads._processors, threads.most_threads, memory.physical_memory):
        cached.cache_clear()


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="ascii")


def version_2(system, group="/", root="/"):
    """Pretend one hierarchy, whose folder has a blank in its name, and return the folder that it is mounted at."""
    mounted = system / "a mount"
    write(system / "proc" / "cgroup", f"0::{group}\n")
    escaped = str(mounted).replace(" ", r"\040")
    mounts = (
        f"21 1 0:5 / /proc rw - proc proc rw\n30 23 0:26 {root} {escaped} rw shared:4 - cgroup2 cgroup2 rw\n"
    )
    write(system / "proc" / "mountinfo", mounts)
    return mounted


def version_1(system, controller, group):
    """Pretend a hierarchy for a controller and another, and return the folder that it is mounted at."""
    mounted = system / "v1"
    write(system / "proc" / "cgroup", f"12:{controller}:{group}\n3:freezer:/\n0::/elsewhere\n")
    other = f"31 23 0:28 / {system}/no rw - cgroup cgroup rw,freezer\n"
    ours = f"32 23 0:29 / {mounted} rw - cgroup cgroup rw,{controller}\n"
    write(system / "proc" / "mountinfo", other + ours)
    return mounted


def test_without_limits_all_processors_are_used(system):
    assert threads.thread_count() == BOUND
    assert threads.chosen().reason == f"processors that this process may use: {BOUND}"


@pytest.mark.parametrize(
    ("quota", "count"),
    [
        *(("max 100000", 4), ("100000 100000", 1), ("1000 100000", 1), ("100001 100000", 2)),
        *(("250000 100000", 3), ("300000 100000", 3), ("300001 100000", 4), ("900000 100000", 4)),
        *(("", 4), ("nonsense", 4), ("1 0", 4)),
    ],
)
def test_a_quota_of_processors_is_rounded_up(system, quota, count):
    write(version_2(system) / "cpu.max", quota + "\n")
    assert threads.thread_count() == count
    assert ("quota" in threads.chosen().reason) == (count < BOUND)


@pytest.mark.parametrize("narrow", ["", "jobs", "jobs/mine"])
def test_the_groups_around_a_process_limit_it_as_well(system, narrow):
    mounted = version_2(system, "/jobs/mine")
    for folder in ("", "jobs", "jobs/mine"):
        write(mounted / folder / "cpu.max", "100000 100000" if folder == narrow else "max 100000")
        write(mounted / folder / "memory.max", "4096" if folder == narrow else "max")
    assert threads.thread_count() == 1
    assert memory.physical_memory() == 4096


def test_groups_beside_a_process_do_not(system):
    mounted = version_2(system, "/jobs/mine")
    write(mounted / "jobs" / "other" / "cpu.max", "100000 100000")
    assert threads.thread_count() == BOUND


@pytest.mark.parametrize("group", ["/", "/box/7", "/box/7/inner", "/../beside", "/unseen/9"])
def test_a_container_sees_its_own_part_of_the_hierarchy(system, group):
    mounted = version_2(system, group, root="/box/7")
    write(mounted / "cpu.max", "200000 100000")
    write(mounted / "inner" / "cpu.max", "100000 100000")
    assert threads.thread_count() == (1 if group.endswith("inner") else 2)


@pytest.mark.parametrize(
    ("quota", "period", "count"), [("-1", "100000", 4), ("100000", "100000", 1), ("50000", "100000", 1)]
)
@pytest.mark.parametrize("controller", ["cpu", "cpu,cpuacct"])
def test_version_1_has_a_file_each_for_quota_and_period(system, controller, quota, period, count):
    mounted = version_1(system, controller, "/docker/7")
    write(mounted / "docker" / "7" / "cpu.cfs_quota_us", quota)
    write(mounted / "docker" / "7" / "cpu.cfs_period_us", period)
    assert threads.thread_count() == count


def test_version_1_limits_memory_by_another_name(system):
    mounted = version_1(system, "memory", "/docker/7")
    write(mounted / "memory.limit_in_bytes", "9223372036854771712")
    before = memory.physical_memory()
    assert 4096 < before < 9223372036854771712
    forget()
    write(mounted / "docker" / "7" / "memory.limit_in_bytes", "4096")
    assert memory.physical_memory() == 4096


def test_without_the_systems_word_the_usual_folder_is_looked_at(system):
    write(system / "sys" / "cpu.max", "100000 100000")
    write(system / "sys" / "memory" / "memory.limit_in_bytes", "4096")
    assert threads.thread_count() == 1
    assert memory.physical_memory() == 4096


@pytest.mark.parametrize("text", ["", "\n", "1:2\n", "0::/\n:::", "x - cgroup2", "1 2 3 / /m rw - cgroup2\n"])
@pytest.mark.parametrize("name", ["cgroup", "mountinfo"])
def test_what_the_system_says_may_be_anything(system, name, text):
    version_2(system)
    write(system / "proc" / name, text)
    assert cgroup.cpu_quota() == math.inf
    assert cgroup.memory_limit() == math.inf


@pytest.mark.parametrize(
    ("value", "count"),
    [("1", 1), ("3", 3), ("2,4", 2), (" 2 , 4", 2), ("4,2", 4), ("16", 4), ("", 4)]
    + [(garbage, 4) for garbage in ("0", "-1", "many", "1.5", "2,", "2,x", ",2", "9" * 5000)],
)
@pytest.mark.parametrize("name", threads.OPENMP)
def test_openmps_variables_are_respected(system, monkeypatch, name, value, count):
    monkeypatch.setenv(name, value)
    assert threads.thread_count() == count
    reason = threads.chosen().reason
    assert (f"{name}={value}" in reason) == (value not in ("", "16"))
    assert ("ignored" in reason) == (count == BOUND and value not in ("", "16", "4,2"))


def test_ours_wins_over_openmps(system, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("FGNUMBA_THREADS", "3")
    assert threads.chosen() == threads.Threads(3, "FGNUMBA_THREADS")


def test_the_narrowest_limit_decides(system, monkeypatch):
    write(version_2(system) / "cpu.max", "200000 100000")
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert threads.thread_count() == 2
    assert "quota" in threads.chosen().reason
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert threads.chosen() == threads.Threads(1, "OMP_NUM_THREADS=1")
    # Who names a number may have more than the quota pays for at a time.
    monkeypatch.setenv("FGNUMBA_THREADS", "4")
    assert threads.thread_count() == 4
    assert threads.thread_count(4) == 4


@pytest.mark.parametrize(("value", "count"), [("1", 1), ("3", 3), ("9", BOUND)])
def test_numbas_variable_is_a_limit(system, monkeypatch, value, count):
    monkeypatch.setenv("NUMBA_NUM_THREADS", value)
    assert threads.thread_count() == count
    assert (threads.chosen().reason == f"NUMBA_NUM_THREADS={value}") == (value != "9")
    assert threads.most_threads() == int(value)
    with pytest.raises(fg.DeviceError, match=f"threads: 10 is not a whole number from 1 to {value}"):
        threads.thread_count(10)


@pytest.mark.parametrize("value", ["0", "-3", "abc", "1.5", ""])
def test_numbas_variable_is_checked(system, monkeypatch, value):
    monkeypatch.setenv("NUMBA_NUM_THREADS", value)
    with pytest.raises(fg.DeviceError, match=f"^NUMBA_NUM_THREADS: '{value}' is not a whole number"):
        threads.thread_count()


def test_numbas_variable_is_read_once(system, monkeypatch):
    assert threads.thread_count() == BOUND
    monkeypatch.setenv("NUMBA_NUM_THREADS", "1")
    assert threads.thread_count() == BOUND


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="a process is bound to no processors here")
def test_processors_are_those_that_the_process_is_bound_to():
    one = min(os.sched_getaffinity(0))
    script = (
        f"import os; os.sched_setaffinity(0, {{{one}}})\n"
        "from fgnumba.kernels.machine import threads; print(threads.thread_count())"
    )
    done = python("-c", script, without=[threads.OVERRIDE], NUMBA_NUM_THREADS="8", FGNUMBA_THREADS="")
    assert done.stdout == "1\n", done.stderr


@pytest.mark.skipif(sys.version_info < (3, 13), reason="Python has no option for it")
def test_pythons_own_limit_counts():
    done = python(
        "-X",
        "cpu_count=1",
        "-c",
        "from fgnumba.kernels.machine import threads; print(threads.thread_count())",
        FGNUMBA_THREADS="",
    )
    assert done.stdout == "1\n", done.stderr


def test_info_says_how_many_and_why(fgtrain, system, monkeypatch):
    write(version_2(system) / "cpu.max", "50000 100000")
    facts = fgtrain("info", "--json").json()
    assert facts["threads"] == 1
    assert facts["threads_because"] == "CPU quota of the control group: 0.5 processors"
    assert "threads because" in fgtrain("info").out
    monkeypatch.setenv("FGNUMBA_THREADS", "2")
    facts = fgtrain("info", "--json").json()
    assert (facts["threads"], facts["threads_because"]) == (2, "FGNUMBA_THREADS")
