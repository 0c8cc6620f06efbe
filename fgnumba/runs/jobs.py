"""Tasks that run one after another in this process, or several at a time in processes of their own.

A *mapper* calls a function with each task of a list. What searches and comparisons ask of it is small, so that another
one can take its place, such as one that sends the tasks to other machines: function, tasks and results can be pickled,
a task's result depends on the task alone, and results come as (index, result) in the order in which they are ready.
"""

import contextlib
import os
import re
import signal
import threading
import time
import warnings
from collections.abc import Callable, Generator, Iterator, Sequence
from functools import cache
from typing import Any, Protocol, TypeVar

from fgnumba.errors import ConfigError, RunError
from fgnumba.kernels.machine.threads import OVERRIDE, most_threads, thread_count
from fgnumba.objects.code import trusted, trusting
from fgnumba.validation import whole_number

Task = TypeVar("Task")
Found = TypeVar("Found")
Results = Generator[tuple[int, Found], None, None]
WATCH = 1.0
"""Seconds between two looks of a process at whether its parent is still there."""


class Mapper(Protocol):
    """A function that calls another one with each task of a list."""

    def __call__(self, function: Callable[[Task], Found], tasks: Sequence[Task]) -> Results[Found]:
        """Yield (index of the task, result) for each task, in the order in which the results are ready.

        Parameters
        ----------
        function : callable
            The function, which a module defines at its top level.
        tasks : sequence
            Its arguments, which can be pickled.

        Yields
        ------
        tuple
            The index of a task in `tasks`, and what `function` returned for it.

        Raises
        ------
        Exception
            What `function` raises; the other tasks are given up. They are, too, if the generator is closed.
        """
        ...


def in_turn(function: Callable[[Task], Found], tasks: Sequence[Task]) -> Results[Found]:
    """Call a function with one task after another in this process: the mapper of a single job."""
    for index, task in enumerate(tasks):
        yield index, function(task)


def mapper_of(jobs: int) -> Mapper:
    """Return the mapper that runs a number of tasks at a time.

    Parameters
    ----------
    jobs : int
        Number of tasks that run at the same time, from 1 to the number of threads that a process may use. For 1 they
        run in this process. Otherwise each job has a process, and the threads are divided among these.

    Returns
    -------
    Mapper
        The mapper. Results are the same bits for any number of jobs, because they do not depend on the threads.

    Raises
    ------
    ConfigError
        The number is impossible, or joblib, which starts the processes, is not installed or cannot start any here.
    """
    jobs = whole_number("jobs", jobs, 1, most_threads())
    if jobs == 1:
        return in_turn
    try:
        import joblib  # noqa: F401
    except ImportError:
        raise ConfigError(
            f"jobs is {jobs}; joblib, which starts processes, is not installed: pip install 'fgnumba[jobs]'"
        ) from None
    if not _may_start(jobs):
        raise ConfigError(
            f"jobs is {jobs}; joblib starts no processes here, in a process of a pool, in a thread of a parallel loop "
            f"or with JOBLIB_MULTIPROCESSING=0: 1 is required"
        )
    return Processes(jobs)


def _may_start(jobs: int) -> bool:
    """Return whether joblib would start processes, and not fall back to threads or to this process."""
    import joblib
    from joblib.parallel import get_active_backend

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        with joblib.parallel_config(backend="loky"):
            # Threads do not take the option by which processes share the processors.
            return (
                get_active_backend()[0].supports_inner_max_num_threads
                and joblib.effective_n_jobs(jobs) == jobs
            )


class Processes:
    """The mapper of several jobs, each of which is a process that joblib starts.

    Parameters
    ----------
    jobs : int
        Number of processes, at least 2.
    """

    def __init__(self, jobs: int) -> None:
        self._jobs = jobs

    def __call__(self, function: Callable[[Task], Found], tasks: Sequence[Task]) -> Results[Found]:
        """Yield (index, result) of each task; see :class:`Mapper`.

        Raises
        ------
        RunError
            A process ended before its task did, as one does that the system kills for want of memory.
        """
        from joblib.externals.loky.process_executor import TerminatedWorkerError

        if not tasks:
            return
        results = self._start(function, tasks)
        try:
            for result in results:  # noqa: UP028  (what closes this generator must not close the other one)
                yield result
        except TerminatedWorkerError as error:
            # The text has several lines, and names the signals between braces: {SIGKILL(-9)}.
            how = re.search(r"\{([^}]*)\}", str(error))
            raise RunError(
                f"jobs: a process ended before its task did ({how[1] if how else 'without a status'}); "
                f"fewer than {self._jobs} jobs need less memory"
            ) from None
        finally:
            # If the consumer of the results stops, joblib kills the processes, and warns of what it has cancelled.
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)
                results.close()

    def _start(self, function: Callable[[Task], Found], tasks: Sequence[Task]) -> Results[Found]:
        import joblib

        threads = max(1, thread_count() // self._jobs)
        calls = (
            joblib.delayed(_call)(function, index, task, threads, os.getpid(), trusted())
            for index, task in enumerate(tasks)
        )
        # joblib sets NUMBA_NUM_THREADS and OMP_NUM_THREADS in the processes' environment before they begin.
        with joblib.parallel_config(backend="loky", inner_max_num_threads=threads):
            parallel = joblib.Parallel(n_jobs=self._jobs, return_as="generator_unordered", batch_size=1)
        with _interrupts_kept_from_children():
            results: Results[Found] = parallel(calls)
        return results


@contextlib.contextmanager
def _interrupts_kept_from_children() -> Iterator[None]:
    """Block Ctrl-C's signal while processes are started: they inherit the mask, and would each print a traceback.

    A terminal sends the signal to all processes of a command. The one that started them gets it afterwards, and ends
    them.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _call(
    function: Callable[[Any], Any], index: int, task: Any, threads: int, parent: int, trust: frozenset[str]
) -> tuple[int, Any]:
    _end_with(parent)
    # The variable may have been inherited, and may say more than is this process's share.
    os.environ[OVERRIDE] = str(threads)
    with trusting(trust):
        return index, function(task)


@cache
def _end_with(parent: int) -> None:
    """Let this process end with its parent, which may be killed and then ends no other one, and not by Ctrl-C.

    Windows does not say that a parent is gone: there, a process ends after its task.
    """

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(WATCH)
        os._exit(1)

    # A process that joblib starts later, in place of another, does not inherit the mask of signals.
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=watch, daemon=True).start()
