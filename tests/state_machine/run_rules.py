"""Rules of runs on data sets."""

from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from tests.state_machine import runs
from tests.state_machine.base import INDEX, Base, has_subjects, logged
from tests.state_machine.settings import Batch, Data, batches, data_sets
from tests.state_machine.subject import WAYS


class RunRules(Base):
    """Fits of trainers that classify."""

    @precondition(has_subjects)
    @rule(
        index=INDEX,
        data=data_sets(),
        batch_size=st.integers(1, 20),
        pieces=st.lists(st.integers(1, 4), min_size=1, max_size=3),
        epochs=st.booleans(),
        every=st.sampled_from((None, 1, 3)),
    )
    @logged
    def fit(
        self, index: int, data: Data, batch_size: int, pieces: list[int], epochs: bool, every: int | None
    ) -> None:
        subject = self.one(index)
        if subject.classifies:
            runs.fit_in_pieces(subject, data, batch_size, pieces, epochs, every)

    @precondition(has_subjects)
    @rule(
        index=INDEX,
        data=data_sets(),
        batch_size=st.integers(1, 20),
        steps=st.integers(1, 12),
        patience=st.integers(1, 3),
    )
    @logged
    def fit_stopping(self, index: int, data: Data, batch_size: int, steps: int, patience: int) -> None:
        subject = self.one(index)
        if subject.classifies:
            runs.fit_stopping(subject, data, batch_size, steps, patience)

    @precondition(has_subjects)
    @rule(
        index=INDEX,
        data=data_sets(),
        batch_size=st.integers(1, 20),
        at=st.integers(1, 4),
        more=st.integers(0, 3),
        way=st.sampled_from(WAYS),
    )
    @logged
    def fit_copying(self, index: int, data: Data, batch_size: int, at: int, more: int, way: str) -> None:
        subject = self.one(index)
        if subject.classifies:
            copied = runs.fit_copying(subject, data, batch_size, at + more, at, way)
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
    @logged
    def fit_kept(self, index: int, **given: Any) -> None:
        subject = self.one(index)
        if subject.classifies and not subject.recipe.diverges:
            runs.fit_kept(subject, **given)

    @precondition(has_subjects)
    @rule(
        index=INDEX,
        data=data_sets(),
        batch_size=st.integers(1, 20),
        at=st.integers(1, 4),
        batch=batches(),
    )
    @logged
    def fit_failing(self, index: int, data: Data, batch_size: int, at: int, batch: Batch) -> None:
        subject = self.one(index)
        if subject.classifies and not subject.recipe.diverges:
            runs.fit_failing(subject, data, batch_size, at, batch)
