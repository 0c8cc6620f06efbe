"""The state machine: public calls in random order, on trainers and models of any kind, in guarded memory."""

import functools
import pickle
import sys
from pathlib import Path
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule

import fgnumba as fg
from fgnumba.kernels.machine import workers
from tests import guarded
from tests.apart import python
from tests.state_machine import actions
from tests.state_machine.base import EVENTS, INDEX, Surroundings, has_subjects, logged
from tests.state_machine.garbage import CASES, refuses
from tests.state_machine.log import Log
from tests.state_machine.networks import Network
from tests.state_machine.parts import PARTS, duplicate_part
from tests.state_machine.run_rules import RunRules
from tests.state_machine.settings import (
    Batch,
    Data,
    Made,
    Recipe,
    batches,
    data_sets,
    losses,
    many,
    recipes,
)
from tests.state_machine.subject import WAYS, Subject, require, state_of

DIRECTIONS = (*fg.directions.BY_NAME, "arrays")
INTERRUPTED = ("step", "fit", "estimate", "predict", "load", "deepcopy", "pickle")


class Machine(RunRules):
    """Rules take plain values, and choose a trainer by its number: a sequence can be taken again from its text."""

    @initialize(side=st.sampled_from(("end", "start", None)), shuffled=st.booleans(), recipe=recipes())
    @logged
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
    @logged
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
    @logged
    def step(self, index: int, batch: Batch, times: int) -> None:
        actions.take_steps(self.one(index), batch, times)

    @precondition(has_subjects)
    @rule(
        index=INDEX,
        question=st.sampled_from(("estimate", "predict", "evaluate")),
        batch=st.one_of(batches(), many()),
    )
    @logged
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
    @logged
    def derive(
        self, index: int, loss: Made, batch: Batch, direction: str, gradient: bool, training: bool
    ) -> None:
        actions.derive(self.one(index), loss, batch, direction, gradient, training)

    @precondition(has_subjects)
    @rule(index=INDEX, seed=st.integers(0, 3))
    @logged
    def load(self, index: int, seed: int) -> None:
        subject = self.one(index)
        other = Network(**{**vars(subject.recipe.network), "seed": seed}).build("int")
        parameters = other.parameters()
        subject.model.load_parameters(parameters)
        subject.took("load", parameters=parameters)

    @precondition(has_subjects)
    @rule(index=INDEX, way=st.sampled_from(WAYS), drop=st.booleans(), batch=batches())
    @logged
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
    @logged
    def duplicate_part(self, index: int, part: str, way: str, batch: Batch) -> None:
        if self.one(index).classifies:
            duplicate_part(self.one(index), part, way, batch)

    @precondition(has_subjects)
    @rule(index=INDEX)
    @logged
    def drop(self, index: int) -> None:
        del self.subjects[index % len(self.subjects)]
        actions.collect()

    @precondition(has_subjects)
    @rule(index=INDEX, call=st.sampled_from(INTERRUPTED), events=EVENTS, batch=batches(), data=data_sets())
    @logged
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
    @logged
    def interrupt_training(self, index: int, call: str, events: int, batch: Batch, data: Data) -> None:
        # Half of all interrupts.
        self.interrupt_one(index, call, events, batch, data)

    @precondition(has_subjects)
    @rule(index=INDEX, other=INDEX, batch=batches(), times=st.integers(1, 3), beside=st.booleans())
    @logged
    def step_at_once(self, index: int, other: int, batch: Batch, times: int, beside: bool) -> None:
        actions.step_at_once(self.one(index), self.one(other), batch, times, beside)

    @precondition(has_subjects)
    @rule(index=INDEX, batch=batches(), times=st.integers(1, 4), way=st.sampled_from(WAYS))
    @logged
    def copy_beside(self, index: int, batch: Batch, times: int, way: str) -> None:
        copied = actions.copy_beside(self.one(index), batch, times, way)
        if copied is not None:
            self.add(copied)

    @precondition(has_subjects)
    @rule(index=INDEX, steps=st.sampled_from((0, 1, 1000, 2**31, 2**32 - 10_000)))
    @logged
    def jump(self, index: int, steps: int) -> None:
        subject = self.one(index)
        subject.trainer.steps_done = steps
        subject.took("jump", steps=steps)

    @rule(count=st.sampled_from((None, 1, 2, 3)))
    @logged
    def threads(self, count: int | None) -> None:
        actions.set_threads(count)

    @precondition(has_subjects)
    @rule(index=INDEX, case=st.sampled_from(tuple(CASES)), batch=batches())
    @logged
    def garbage(self, index: int, case: str, batch: Batch) -> None:
        subject = self.one(index)
        x, y = batch.x(subject.recipe.network.shape), subject.given(batch)[1]
        actions.unchanged(subject, case, lambda: refuses(lambda: CASES[case](subject, x, y), case))

    @precondition(has_subjects)
    @rule(index=INDEX, made=losses(), in_place=st.booleans())
    @logged
    def change_loss(self, index: int, made: Made, in_place: bool) -> None:
        actions.change_loss(self.one(index), made, in_place)

    @precondition(has_subjects)
    @rule(index=INDEX, recipe=recipes(), batch=batches())
    @logged
    def share_model(self, index: int, recipe: Recipe, batch: Batch) -> None:
        subject = self.one(index)
        if not actions.share_model(subject, recipe, batch):
            self.subjects.remove(subject)

    @precondition(has_subjects)
    @rule(index=INDEX)
    @logged
    def save(self, index: int) -> None:
        self.saved = (pickle.dumps(self.one(index).trainer), Subject.past(self.one(index)))

    @precondition(lambda self: self.saved is not None)
    @rule()
    @logged
    def go_back(self) -> None:
        assert self.saved is not None
        held, past = self.saved
        self.add(past(pickle.loads(held)))
        self.subjects[-1].check("a trainer that was saved")

    @precondition(lambda self: Surroundings.spawns and has_subjects(self))
    @rule(index=INDEX, batch=batches(), turn=st.integers(0, 9))
    @logged
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


RULES = [name for name in dir(Machine) if hasattr(getattr(Machine, name), "__wrapped__")]


def surround(path: Path | None, guard: guarded.Guard | None) -> None:
    """Set what machines of this process share."""
    Surroundings.log, Surroundings.guard = Log(path), guard
    sys.unraisablehook = lambda error: Surroundings.unraisable.append(
        f"{error.exc_type.__name__}: {error.exc_value}"
    )
