"""Storms of callers that come, give up, time out and break things at every point: nobody may be lost or harmed."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from service.batching import Batcher, BatchSettings, ViewOutput
from service.errors import BadParameterError, InternalError, NotReadyError, QueueFullError
from service.fairness import FairGate
from service.metrics import Metrics
from service.priority import Priority
from service.runtimes.base import OutputName
from tests.service.test_batching import SummingRuntime

POISON = 255
QUEUE = 12


@dataclass(frozen=True)
class Submit:
    """A caller with views of these values, all pixels alike, who waits for `patience` seconds at most."""

    values: tuple[int, ...]
    width: int
    output: OutputName
    priority: Priority
    patience: float | None


@dataclass(frozen=True)
class Cancel:
    """One of the callers so far gives up."""

    caller: int


@dataclass(frozen=True)
class Pause:
    """The event loop turns a few times, or time passes."""

    turns: int
    seconds: float


@dataclass(frozen=True)
class Hold:
    """The runtime stops in the middle of its run, or goes on."""

    held: bool


@dataclass(frozen=True)
class Storm:
    """What happens, and to what kind of batcher.

    Attributes:
        failures: Which of the calls that go to a thread, counted from 0, raise.
        stop: Whether the batcher is stopped while callers wait.
        others: Whether a request that never submits anything is on its way all the time.
    """

    steps: list[Submit | Cancel | Pause | Hold]
    size: int
    sizes: tuple[int, ...]
    delay: float
    instances: int
    stop: bool
    others: bool
    failures: frozenset[int] = field(default=frozenset())


@st.composite
def storms(draw: st.DrawFn, failures: bool) -> Storm:
    submit = st.builds(
        Submit,
        st.lists(st.sampled_from([0, 1, 2, 3, 50, POISON]), min_size=1, max_size=5).map(tuple),
        st.sampled_from([4, 4, 4, 6]),
        st.sampled_from(["logits", "logits", "logits", "mask"]),
        st.sampled_from(["normal", "normal", "low"]),
        st.sampled_from([None, None, 0.0, 0.001, 0.004]),
    )
    step = st.one_of(
        submit,
        submit,
        st.builds(Cancel, st.integers(0, 30)),
        st.builds(Pause, st.integers(0, 4), st.sampled_from([0.0, 0.0, 0.001, 0.003])),
        st.builds(Hold, st.booleans()),
    )
    size = draw(st.integers(1, 4))
    return Storm(
        steps=draw(st.lists(step, min_size=1, max_size=30)),
        size=size,
        sizes=draw(st.sampled_from([(), (size,)])),
        delay=draw(st.sampled_from([0.0, 0.002])),
        instances=draw(st.integers(1, 2)),
        stop=draw(st.booleans()),
        others=draw(st.booleans()),
        failures=draw(st.frozensets(st.integers(0, 20), max_size=6)) if failures else frozenset(),
    )


class PoisonedRuntime(SummingRuntime):
    """Breaks on any batch with a view of `POISON`."""

    def run(self, frames: NDArray[np.uint8], output: OutputName) -> NDArray[np.float32]:
        if (frames == POISON).any():
            raise RuntimeError("the engine broke")
        return super().run(frames, output)


class FailingExecutor(ThreadPoolExecutor):
    """Raises instead of making some of its calls."""

    def __init__(self, failures: frozenset[int]) -> None:
        super().__init__(3)
        self._failures = failures
        self._calls = 0

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        self._calls += 1
        if self._calls - 1 in self._failures:
            return super().submit(self._fail)
        return super().submit(fn, *args, **kwargs)

    @staticmethod
    def _fail() -> None:
        raise MemoryError("no memory left")


def pixels(step: Submit) -> NDArray[np.uint8]:
    return np.stack([np.full(step.width, value, np.uint8) for value in step.values])


async def call(batcher: Batcher, step: Submit) -> list[ViewOutput]:
    async with asyncio.timeout(step.patience):
        with batcher.caller() as caller:
            return await caller.submit(pixels(step), step.output, step.priority)


Outcome = list[ViewOutput] | BaseException


async def go_through(storm: Storm) -> list[tuple[Submit, bool, Outcome]]:
    """Let the storm happen; return each caller, whether it was made to give up, and what it got."""
    runtime = PoisonedRuntime()
    with FailingExecutor(storm.failures) as executor:
        limits = BatchSettings(storm.size, storm.delay, QUEUE, storm.sizes)
        gate, metrics = FairGate(storm.instances), Metrics().of_model("summing")
        batcher = Batcher([runtime] * storm.instances, executor, limits, gate, metrics)
        if storm.others:
            batcher.expect(1)
        batcher.start()
        callers: list[tuple[Submit, asyncio.Task[list[ViewOutput]]]] = []
        gave_up: set[int] = set()
        for step in storm.steps:
            match step:
                case Submit():
                    callers.append((step, asyncio.create_task(call(batcher, step))))
                case Cancel(caller) if caller < len(callers):
                    callers[caller][1].cancel()
                    gave_up.add(caller)
                case Pause(turns, seconds):
                    for _ in range(turns):
                        await asyncio.sleep(0)
                    await asyncio.sleep(seconds)
                case Hold(held):
                    (runtime.may_run.clear if held else runtime.may_run.set)()
        if storm.stop:
            await batcher.stop()
        runtime.may_run.set()
        # A waiter that is lost would wait for ever.
        outcomes = await asyncio.wait_for(asyncio.gather(*(task for _, task in callers), return_exceptions=True), 20)
        assert batcher.queue_depth == 0
        if not storm.stop:
            await assert_still_works(batcher, executor)
            await batcher.stop()
    return [
        (step, number in gave_up, outcome)
        for number, ((step, _), outcome) in enumerate(zip(callers, outcomes, strict=True))
    ]


async def assert_still_works(batcher: Batcher, executor: FailingExecutor) -> None:
    """As many views as the queue takes, at once: every place that was taken has been given back."""
    executor._failures = frozenset()
    assert batcher.alive
    outputs = await asyncio.wait_for(batcher.submit(np.full((QUEUE, 4), 7, np.uint8)), 20)
    assert [float(output.output[0]) for output in outputs] == [28.0] * QUEUE


Kind = Literal["results", "gave up", "refused", "stopped", "broken"]


def kind_of(outcome: Outcome) -> Kind:
    match outcome:
        case list():
            return "results"
        case asyncio.CancelledError() | TimeoutError():
            return "gave up"
        case QueueFullError() | BadParameterError():
            return "refused"
        case NotReadyError():
            return "stopped"
        case InternalError():
            return "broken"
    raise AssertionError(f"nobody should get {outcome!r}")


def assert_own_results(step: Submit, outcome: Outcome) -> None:
    assert isinstance(outcome, list)
    # Eight-bit values of which at most six are added: exact in float32.
    assert [float(output.output[0]) for output in outcome] == [value * step.width for value in step.values]


@settings(max_examples=150, deadline=None)
@given(storms(failures=False))
def test_only_who_breaks_a_batch_is_failed_by_it(storm: Storm) -> None:
    for step, gave_up, outcome in asyncio.run(go_through(storm)):
        kind = kind_of(outcome)
        possible: set[Kind] = {"refused", "broken" if POISON in step.values else "results"}
        if gave_up or step.patience is not None:
            possible.add("gave up")
        if storm.stop:
            possible.add("stopped")
        assert kind in possible
        if kind == "results":
            assert_own_results(step, outcome)


@settings(max_examples=150, deadline=None)
@given(storms(failures=True))
def test_every_waiter_gets_an_end_whatever_fails(storm: Storm) -> None:
    for step, _, outcome in asyncio.run(go_through(storm)):
        if kind_of(outcome) == "results":
            assert POISON not in step.values
            assert_own_results(step, outcome)
