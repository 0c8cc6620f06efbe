"""The actions of rules on the trainers under test, and the conditions that must hold afterwards."""

import contextlib
import gc
import os
import threading
from collections.abc import Callable
from typing import Any

import numpy as np

import fgnumba as fg
from fgnumba.kernels.machine.threads import OVERRIDE
from tests.state_machine.interrupts import interrupted
from tests.state_machine.own_loss import Scaled
from tests.state_machine.settings import Batch, Data, Made, Recipe
from tests.state_machine.subject import (
    Subject,
    bits,
    differences,
    duplicates,
    outcome_of,
    require,
    state_of,
)


def take_steps(subject: Subject, batch: Batch, times: int) -> None:
    """Take steps on a batch; what is finite is checked here, what is right by the replica."""
    for _ in range(times):
        x, y = subject.given(batch)
        outcome = outcome_of(lambda x=x, y=y: subject.trainer.step(x, y))
        subject.took("step", outcome, batch=batch)
        if isinstance(outcome, bytes):
            require(bool(np.isfinite(np.frombuffer(outcome)).all()), "a step's result is not finite")


def unchanged(subject: Subject, what: str, call: Callable[[], Any]) -> Any:
    """Return what a call returns that may change nothing."""
    before = state_of(subject.trainer)
    try:
        return call()
    finally:
        after = state_of(subject.trainer)
        require(after == before, f"{what} changed the trainer: {differences(after, before)}")


def _found(call: Callable[[], Any]) -> Any:
    """Return what a call returns, as bits; or what it says."""
    try:
        result = call()
    except fg.FgError as error:
        return f"{type(error).__name__}: {error}"
    if isinstance(result, dict):
        return bits(result)
    if isinstance(result, tuple):
        return bits({str(i): one for i, one in enumerate(result)})
    return np.asarray(result).tobytes()


def ask(subject: Subject, question: str, batch: Batch, **more: Any) -> None:
    """Ask what changes nothing, and compare with what a replica says."""
    x, y = subject.given(batch)
    labels = np.random.default_rng(batch.seed).integers(0, subject.recipe.network.outputs, batch.size)

    def answer(trainer: fg.Trainer) -> Any:
        model = trainer.model
        if question == "estimate":
            return trainer.estimate(x, y)
        if question == "evaluate":
            result = fg.evaluate(model, x, labels)
            return (*result[:3], *result.metrics.values())
        return model(x)

    found = unchanged(subject, question, lambda: _found(lambda: answer(subject.trainer)))
    expected = _found(lambda: answer(subject.expected()))
    require(found == expected, f"{question}: not the replica's: {_short(found)}, {_short(expected)}")


def _short(found: Any) -> str:
    return found[:200] if isinstance(found, str) else f"numbers {str(found)[:60]}"


def finite(subject: Subject) -> bool:
    """Return whether another model can be given the parameters: its trainer may have diverged."""
    return all(bool(np.isfinite(array).all()) for array in subject.model.parameters().values())


def derive(
    subject: Subject, loss: Made, batch: Batch, direction: str, gradient: bool, training: bool
) -> None:
    """Take derivatives of the loss and in the input, and compare with a new model's of the same parameters."""
    network = subject.recipe.network
    if not finite(subject):
        return
    x, y = batch.given(network.shape), batch.y(loss, network.outputs)

    def derived(model: fg.Graph, of: Any) -> Any:
        kinds = fg.directions.BY_NAME
        v: Any = kinds[direction](7, 1) if direction in kinds else model.parameters()
        function: Any = fg.forward_gradient if gradient else fg.jvp
        result = function(model, of, x, y, v, training=training)
        outputs, moved = fg.jvp(model, (x,), (x,))
        along = result[1] if gradient else {"derivative": result[1]}
        return {"outputs": outputs, "moved": moved, "value": result[0], **along}

    found = unchanged(subject, "jvp", lambda: _found(lambda: derived(subject.model, loss.build())))

    def afresh() -> Any:
        model = network.build("int")
        model.load_parameters(subject.model.parameters())
        return derived(model, loss.build("int"))

    expected = _found(afresh)
    require(found == expected, f"jvp: not a new model's: {_short(found)}, {_short(expected)}")


def interrupt(subject: Subject, call: str, events: int, batch: Batch, data: Data) -> str:
    """Interrupt a call somewhere; what the trainer has is that of as many steps as it says. Return where."""
    trainer, (x, y) = subject.trainer, subject.given(batch)
    before, state = trainer.steps_done, state_of(trainer)
    loaded = {name: array + np.float32(1) for name, array in trainer.model.parameters().items()}
    size = min(batch.size, data.train)
    calls: dict[str, Callable[[], Any]] = {
        "step": lambda: trainer.step(x, y),
        "fit": lambda: trainer.fit(data.build(subject.recipe.network), steps=6, batch_size=size),
        "estimate": lambda: trainer.estimate(x, y),
        "predict": lambda: trainer.model(x),
        "load": lambda: trainer.model.load_parameters(loaded),
        "deepcopy": lambda: duplicates()["deepcopy"](trainer),
        "pickle": lambda: duplicates()["pickle"](trainer),
    }
    finished = False
    with interrupted(events) as countdown:
        calls[call]()
        finished = True
    done, what = trainer.steps_done - before, f"interrupted {call} at {countdown.where}"
    if call == "step":
        require(done in (0, 1), f"{what}: {done} steps are done")
        if done:
            subject.took("step", batch=batch)
    elif call == "fit":
        require(0 <= done <= 6, f"{what}: {done} steps are done")
        subject.took_batches(data, size, before, done)
    elif call == "load" and (finished or state_of(trainer) != state):
        subject.took("load", parameters=loaded)
    else:
        require(done == 0, f"{what}: {done} steps are done")
    subject.check(what)
    return countdown.where


def change_loss(subject: Subject, made: Made, in_place: bool) -> None:
    """Give a trainer another loss that takes the same targets, or its loss another number."""
    if not {subject.recipe.loss.kind, made.kind} <= {"MeanSquaredError", "Huber", "Scaled"}:
        return
    loss = subject.trainer.loss
    if in_place and isinstance(loss, Scaled) and made.kind == "Scaled":
        loss.factor = made.build().factor
    else:
        subject.trainer.loss = made.build()
    subject.took("loss", made=made)


def share_model(subject: Subject, recipe: Recipe, batch: Batch) -> bool:
    """Train a model by another trainer: as if parameters were loaded. Return whether its own one can go on."""
    if not finite(subject):
        return True
    network = subject.recipe.network
    x, y = batch.given(network.shape), batch.y(recipe.loss, network.outputs)

    def trained(model: fg.Graph, number: str | None) -> Any:
        try:
            # Its estimator may be one for models of another kind.
            other = fg.Trainer(
                model,
                loss=recipe.loss.build(number),
                estimator=recipe.estimator.build(number),
                optimizer=recipe.optimizer.build(number),
                seed=recipe.seed,
            )
            return [outcome_of(lambda: other.step(x, y)) for _ in range(2)]
        except fg.ConfigError as error:
            return str(error)

    model = network.build("int")
    model.load_parameters(subject.model.parameters())
    found, expected = trained(subject.model, None), trained(model, "int")
    require(found == expected, f"two trainers of a model: {_short(found)}, {_short(expected)}")
    parameters = subject.model.parameters()
    theirs, ours = bits(model.parameters()), bits(parameters)
    require(theirs == ours, f"two trainers of a model: {differences(ours, theirs)}")
    if recipe.diverges or not finite(subject):
        # What it left can be no number, or so large that the next step of any other diverges.
        return False
    subject.took("load", parameters=parameters)
    return True


def at_once(*tasks: Callable[[], Any]) -> None:
    """Run tasks in threads that begin together."""
    barrier, errors = threading.Barrier(len(tasks), timeout=60), []

    def run(task: Callable[[], Any]) -> None:
        try:
            barrier.wait()
            task()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(task,)) for task in tasks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def step_at_once(one: Subject, other: Subject, batch: Batch, times: int, beside: bool) -> None:
    """Take steps of two trainers, or of one, in two threads; `beside`, a third predicts."""
    subjects = [one, other]
    inputs = [subject.given(batch) for subject in subjects]

    def steps(number: int) -> None:
        for _ in range(times):
            with contextlib.suppress(fg.DivergenceError):
                subjects[number].trainer.step(*inputs[number])

    def predict() -> None:
        for _ in range(times):
            one.model(inputs[0][0])

    at_once(lambda: steps(0), lambda: steps(1), *([predict] if beside else []))
    for subject in subjects:
        for _ in range(times):
            subject.took("step", batch=batch)
    for subject in subjects:
        subject.check("after steps in two threads")


def copy_beside(subject: Subject, batch: Batch, times: int, way: str) -> Subject | None:
    """Copy a trainer while another thread takes steps: the copy stands between two of them."""
    x, y = subject.given(batch)
    past, before = subject.past(), subject.trainer.steps_done
    copies: list[fg.Trainer] = []

    def steps() -> None:
        for _ in range(times):
            with contextlib.suppress(fg.DivergenceError):
                subject.trainer.step(x, y)

    at_once(steps, lambda: copies.append(duplicates()[way](subject.trainer)))
    for _ in range(times):
        subject.took("step", batch=batch)
    subject.check("after steps beside a copy")
    if subject.recipe.diverges:
        return None
    copied = past(copies[0])
    done = copies[0].steps_done - before
    require(0 <= done <= times, f"a copy beside {times} steps has taken {done}")
    for _ in range(done):
        copied.took("step", batch=batch)
    copied.check("a copy beside steps")
    return copied


def set_threads(count: int | None) -> None:
    """Have what is bound from now on share its work among so many threads; None: as many as there are."""
    if count is None:
        os.environ.pop(OVERRIDE, None)
    else:
        os.environ[OVERRIDE] = str(count)


def collect() -> None:
    """Have what nothing holds go now."""
    gc.collect()
