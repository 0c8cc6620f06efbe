"""The machine: public calls in any order, on trainers and models of any kind, on guarded memory."""

import functools
import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import hypothesis
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

import fgnumba as fg
from fgnumba.kernels import workers
from tests import guarded
from tests.apart import python
from tests.state_machine import actions
from tests.state_machine.garbage import CASES, refuses
from tests.state_machine.log import Log, signature
from tests.state_machine.networks import Network
from tests.state_machine.parts import PARTS, duplicate_part
from tests.state_machine.settings import (
    Batch,
    Data,
    Made,
    Recipe,
    batches,
    data_sets,
    losses,
    recipes,
)
from tests.state_machine.subject import WAYS, Subject, require, state_of

MOST = 5
INDEX = st.integers(0, MOST - 1)
DIRECTIONS = (*fg.directions.BY_NAME, "arrays")
INTERRUPTED = ("step", "fit", "estimate", "predict", "load", "deepcopy", "pickle")
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


def _some(action: Callable[..., None]) -> Callable[..., None]:
    """Log a rule before it is taken, and pass over failures that are known."""

    @functools.wraps(action)
    def taken(self: "Machine", **arguments: Any) -> None:
        Surroundings.log.add(action.__name__, arguments)
        self.attempt(action.__name__, lambda: action(self, **arguments))

    return taken


def has_subjects(machine: "Machine") -> bool:
    """Whether there is a trainer."""
    return bool(machine.subjects)


class Machine(RuleBasedStateMachine):
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

    @initialize(side=st.sampled_from(("end", "start", None)), shuffled=st.booleans(), recipe=recipes())
    @_some
    def begin(self, side: str | None, shuffled: bool, recipe: Recipe) -> None:
        guard = Surroundings.guard
        if guard is not None:
            # A process keeps the memory of its workers; a forked one has its own.
            guard.side = None
            workers.pool(2)
            guard.side, guard.shuffled = side, shuffled
            self.buffers = len(guard.regions)
        actions.set_threads(None)
        self.try_out(recipe)

    @rule(recipe=recipes())
    @_some
    def make(self, recipe: Recipe) -> None:
        self.try_out(recipe)

    def try_out(self, recipe: Recipe) -> None:
        """Make a trainer; it is kept where it can train its network."""
        subject = Subject(recipe, recipe.build())
        x, y = subject.given(Batch(0, 2))
        refusals = []
        for trainer in (recipe.build("int"), subject.trainer):
            try:
                trainer.estimate(x, y)
                refusals.append("")
            except fg.ConfigError as error:
                refusals.append(str(error))
            except fg.DivergenceError:
                refusals.append("")
        require(refusals[0] == refusals[1], f"{refusals[1]!r} with numbers of NumPy's, else {refusals[0]!r}")
        # Some estimators cannot train every network.
        if not refusals[0]:
            self.add(subject)

    @precondition(has_subjects)
    @rule(index=INDEX, batch=batches(), times=st.integers(1, 3))
    @_some
    def step(self, index: int, batch: Batch, times: int) -> None:
        actions.take_steps(self.one(index), batch, times)

    @precondition(has_subjects)
    @rule(index=INDEX, question=st.sampled_from(("estimate", "predict", "evaluate")), batch=batches())
    @_some
    def ask(self, index: int, question: str, batch: Batch) -> None:
        actions.ask(self.one(index), question, batch)

    @precondition(has_subjects)
    @rule(
        index=INDEX,
        loss=losses(),
        batch=batches(),
        direction=st.sampled_from(DIRECTIONS),
        gradient=st.booleans(),
        training=st.booleans(),
    )
    @_some
    def derive(
        self, index: int, loss: Made, batch: Batch, direction: str, gradient: bool, training: bool
    ) -> None:
        actions.derive(self.one(index), loss, batch, direction, gradient, training)

    @precondition(has_subjects)
    @rule(
        index=INDEX,
        data=data_sets(),
        batch_size=st.integers(1, 20),
        pieces=st.lists(st.integers(1, 4), min_size=1, max_size=3),
        epochs=st.booleans(),
        every=st.sampled_from((None, 1, 3)),
    )
    @_some
    def fit(
        self, index: int, data: Data, batch_size: int, pieces: list[int], epochs: bool, every: int | None
    ) -> None:
        subject = self.one(index)
        if subject.classifies:
            actions.fit_in_pieces(subject, data, batch_size, pieces, epochs, every)

    @precondition(has_subjects)
    @rule(
        index=INDEX,
        data=data_sets(),
        batch_size=st.integers(1, 20),
        steps=st.integers(1, 12),
        patience=st.integers(1, 3),
    )
    @_some
    def fit_stopping(self, index: int, data: Data, batch_size: int, steps: int, patience: int) -> None:
        subject = self.one(index)
        if subject.classifies:
            actions.fit_stopping(subject, data, batch_size, steps, patience)

    @precondition(has_subjects)
    @rule(
        index=INDEX,
        data=data_sets(),
        batch_size=st.integers(1, 20),
        at=st.integers(1, 4),
        more=st.integers(0, 3),
        way=st.sampled_from(WAYS),
    )
    @_some
    def fit_copying(self, index: int, data: Data, batch_size: int, at: int, more: int, way: str) -> None:
        subject = self.one(index)
        if subject.classifies:
            copied = actions.fit_copying(subject, data, batch_size, at + more, at, way)
            if copied is not None:
                self.add(copied)

    @precondition(has_subjects)
    @rule(
        index=INDEX,
        data=data_sets(),
        batch_size=st.integers(1, 20),
        steps=st.integers(1, 8),
        every=st.integers(1, 4),
        stop_at=st.integers(1, 9),
        events=st.one_of(st.none(), st.integers(0, 20_000)),
        afresh=st.booleans(),
    )
    @_some
    def fit_kept(self, index: int, **given: Any) -> None:
        subject = self.one(index)
        if subject.classifies and not subject.recipe.diverges:
            actions.fit_kept(subject, **given)

    @precondition(has_subjects)
    @rule(index=INDEX, seed=st.integers(0, 3))
    @_some
    def load(self, index: int, seed: int) -> None:
        subject = self.one(index)
        other = Network(**{**vars(subject.recipe.network), "seed": seed}).build("int")
        parameters = other.parameters()
        subject.model.load_parameters(parameters)
        subject.took("load", parameters=parameters)

    @precondition(has_subjects)
    @rule(index=INDEX, way=st.sampled_from(WAYS), drop=st.booleans(), batch=batches())
    @_some
    def duplicate(self, index: int, way: str, drop: bool, batch: Batch) -> None:
        subject = self.one(index)
        copied = subject.twice(way)
        before = state_of(subject.trainer)
        actions.take_steps(copied, batch, 2)
        require(state_of(subject.trainer) == before, "steps of a copy moved the original")
        if drop:
            self.subjects = [other for other in self.subjects if other is not subject]
            del subject
            actions.collect()
        copied.check("a copy")
        self.add(copied)

    @precondition(has_subjects)
    @rule(index=INDEX, part=st.sampled_from(tuple(PARTS)), way=st.sampled_from(WAYS), batch=batches())
    @_some
    def duplicate_part(self, index: int, part: str, way: str, batch: Batch) -> None:
        if self.one(index).classifies:
            duplicate_part(self.one(index), part, way, batch)

    @precondition(has_subjects)
    @rule(index=INDEX)
    @_some
    def drop(self, index: int) -> None:
        del self.subjects[index % len(self.subjects)]
        actions.collect()

    @precondition(has_subjects)
    @rule(index=INDEX, call=st.sampled_from(INTERRUPTED), events=EVENTS, batch=batches(), data=data_sets())
    @_some
    def interrupt(self, index: int, call: str, events: int, batch: Batch, data: Data) -> None:
        self.interrupt_one(index, call, events, batch, data)

    def interrupt_one(self, index: int, call: str, events: int, batch: Batch, data: Data) -> None:
        """Interrupt a call, where what comes of it is known: not where training diverges anyway."""
        subject = self.one(index)
        if not subject.recipe.diverges and (call != "fit" or subject.classifies):
            actions.interrupt(subject, call, events, batch, data)

    @precondition(has_subjects)
    @rule(
        index=INDEX, call=st.sampled_from(("step", "fit")), events=EVENTS, batch=batches(), data=data_sets()
    )
    @_some
    def interrupt_training(self, index: int, call: str, events: int, batch: Batch, data: Data) -> None:
        # Half of all interrupts.
        self.interrupt_one(index, call, events, batch, data)

    @precondition(has_subjects)
    @rule(index=INDEX, other=INDEX, batch=batches(), times=st.integers(1, 3), beside=st.booleans())
    @_some
    def step_at_once(self, index: int, other: int, batch: Batch, times: int, beside: bool) -> None:
        actions.step_at_once(self.one(index), self.one(other), batch, times, beside)

    @rule(count=st.sampled_from((None, 1, 2, 3)))
    @_some
    def threads(self, count: int | None) -> None:
        actions.set_threads(count)

    @precondition(has_subjects)
    @rule(index=INDEX, case=st.sampled_from(tuple(CASES)), batch=batches())
    @_some
    def garbage(self, index: int, case: str, batch: Batch) -> None:
        subject = self.one(index)
        x, y = batch.x(subject.recipe.network.shape), subject.given(batch)[1]
        actions.unchanged(subject, case, lambda: refuses(lambda: CASES[case](subject, x, y), case))

    @precondition(has_subjects)
    @rule(index=INDEX, made=losses(), in_place=st.booleans())
    @_some
    def change_loss(self, index: int, made: Made, in_place: bool) -> None:
        actions.change_loss(self.one(index), made, in_place)

    @precondition(has_subjects)
    @rule(index=INDEX, recipe=recipes(), batch=batches())
    @_some
    def share_model(self, index: int, recipe: Recipe, batch: Batch) -> None:
        subject = self.one(index)
        if not actions.share_model(subject, recipe, batch):
            self.subjects.remove(subject)

    @precondition(has_subjects)
    @rule(index=INDEX)
    @_some
    def save(self, index: int) -> None:
        self.saved = (pickle.dumps(self.one(index).trainer), Subject.past(self.one(index)))

    @precondition(lambda self: self.saved is not None)
    @rule()
    @_some
    def go_back(self) -> None:
        assert self.saved is not None
        held, past = self.saved
        self.add(past(pickle.loads(held)))
        self.subjects[-1].check("a trainer that was saved")

    @precondition(lambda self: Surroundings.spawns and has_subjects(self))
    @rule(index=INDEX, batch=batches(), turn=st.integers(0, 9))
    @_some
    def go_on_elsewhere(self, index: int, batch: Batch, turn: int) -> None:
        # A new process takes as long as many rules.
        if turn == 5:
            self.one(index).go_on_elsewhere(batch, python)

    def teardown(self) -> None:
        """Check all that is left, and the memory beside every buffer."""

        def last() -> None:
            subjects, self.subjects, subject = self.subjects, [], None
            for subject in subjects:
                subject.check("at the end")
            del subjects, subject
            actions.collect()
            guard = Surroundings.guard
            if guard is not None:
                guard.check()
                left = len(guard.regions) - self.buffers
                require(left <= 0, f"{left} buffers are left of trainers that are gone")

        if not self.failed:
            self.attempt("teardown", last)
        self.subjects = []


def play(lines: list[str]) -> None:
    """Take a sequence again."""
    names = {kind.__name__: kind for kind in (Recipe, Network, Made, Batch, Data)}
    machine = Machine()
    for line in lines:
        taken = {name: functools.partial(_call, machine, name) for name in RULES}
        eval(line, {**names, **taken})
    machine.teardown()


def _call(machine: Machine, name: str, **arguments: Any) -> None:
    if name in ("begin", "make", "threads") or machine.subjects:
        getattr(machine, name)(**arguments)


RULES = [name for name in vars(Machine) if hasattr(getattr(Machine, name), "__wrapped__")]


def surround(path: Path | None, guard: guarded.Guard | None) -> None:
    """Set what machines of this process share."""
    Surroundings.log, Surroundings.guard = Log(path), guard
    sys.unraisablehook = lambda error: Surroundings.unraisable.append(
        f"{error.exc_type.__name__}: {error.exc_value}"
    )
