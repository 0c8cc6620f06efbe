"""The base of the rules: trainers by number, the log, and known failures."""

import functools
from collections.abc import Callable
from typing import Any, ClassVar

import hypothesis
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine

import fgnumba as fg
from tests import guarded
from tests.state_machine.log import Log, signature
from tests.state_machine.subject import Subject, require

MOST = 5
INDEX = st.integers(0, MOST - 1)
# Most calls have some tens of events, the first ones of a kind some thousands.
EVENTS = st.one_of(st.integers(0, 60), st.integers(0, 400), st.integers(0, 6000))


class Surroundings:
    """What machines of a process share: the log, the guard, and failures that are known already."""

    log = Log()
    guard: guarded.Guard | None = None
    known: ClassVar[set[str]] = set()
    met: ClassVar[list[str]] = []
    unraisable: ClassVar[list[str]] = []
    spawns = False


def logged(action: Callable[..., None]) -> Callable[..., None]:
    """Log a rule before it is taken, and pass over failures that are known."""

    @functools.wraps(action)
    def taken(self: "Base", **arguments: Any) -> None:
        Surroundings.log.add(action.__name__, arguments)
        self.attempt(action.__name__, lambda: action(self, **arguments))

    return taken


def has_subjects(machine: "Base") -> bool:
    """Whether there is a trainer."""
    return bool(machine.subjects)


class Base(RuleBasedStateMachine):
    """Rules take plain values, and choose a trainer by its number: a sequence can be taken again from its text."""

    def __init__(self) -> None:
        super().__init__()
        self.subjects: list[Subject] = []
        self.saved: tuple[bytes, Callable[[fg.Trainer], Subject]] | None = None
        self.failed = False
        self.buffers = 0
        Surroundings.log.begin()
        Surroundings.unraisable.clear()

    def attempt(self, what: str, call: Callable[[], None]) -> None:
        """Run a rule; a failure that is known ends the sequence without a word."""
        try:
            call()
            require(not Surroundings.unraisable, f"unraisable: {Surroundings.unraisable}")
        except Exception as error:
            self.failed = True
            found = signature(what, error)
            Surroundings.met.append(found)
            if found in Surroundings.known:
                hypothesis.reject()
            raise

    def one(self, index: int) -> Subject:
        """Return a trainer by its number."""
        return self.subjects[index % len(self.subjects)]

    def add(self, subject: Subject) -> None:
        """Keep a trainer, and few of those before it."""
        self.subjects = [*self.subjects[1 - MOST :], subject]
