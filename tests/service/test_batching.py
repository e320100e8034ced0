"""The batcher with a runtime that needs no network: it sums the pixels of each view."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, nullcontext
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from service.batching import Batcher, BatchSettings, ViewOutput
from service.errors import InternalError, NotReadyError, QueueFullError
from service.fairness import FairGate
from service.metrics import Metrics
from service.runtimes.base import OutputName
from tests.waiting import until


class SummingRuntime:
    """Answers each view with its sum, records the batches, fails or waits when told to."""

    name = "summing"

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.outputs: list[OutputName] = []
        self.may_run = threading.Event()
        self.may_run.set()
        self.running = threading.Event()

    def run(self, frames: NDArray[np.uint8], output: OutputName) -> NDArray[np.float32]:
        self.running.set()
        assert self.may_run.wait(20)
        sums = frames.reshape(len(frames), -1).sum(axis=1, dtype=np.float32)
        self.outputs.append(output)
        self.batches.append([int(value) for value in sums])
        if 666 in self.batches[-1]:
            raise RuntimeError("the engine broke")
        if 77 in self.batches[-1]:
            return sums[:0, None]
        return sums[:, None]


def view(value: int) -> NDArray[np.uint8]:
    """Return one view (1, 4) whose pixels sum to `value`."""
    pixels = np.zeros((1, 4), np.uint8)
    pixels[0] = [value // 4 + (i < value % 4) for i in range(4)]
    return pixels


@asynccontextmanager
async def running(
    runtime: SummingRuntime, size: int = 4, delay: float = 0.0, queue: int = 100, **more: Any
) -> AsyncIterator[Batcher]:
    with ThreadPoolExecutor(4) as executor:
        batcher = Batcher(
            more.pop("runtimes", [runtime]),
            executor,
            BatchSettings(size, delay, queue, more.pop("sizes", ()), more.pop("runtime_timeout", 60.0)),
            more.pop("gate", FairGate(1)),
            more.pop("metrics", Metrics()).of_model(more.pop("name", "summing")),
        )
        # Unless a test says so, somebody is always on the way.
        others = batcher.caller() if more.pop("others", True) else nullcontext()
        assert not more
        batcher.start()
        try:
            with others:
                yield batcher
        finally:
            runtime.may_run.set()
            await batcher.stop()


def values(outputs: list[ViewOutput]) -> list[int]:
    return [int(output.output[0]) for output in outputs]


def test_concurrent_callers_share_a_batch_and_get_their_own_results() -> None:
    async def scenario() -> None:
        runtime = SummingRuntime()
        async with running(runtime, size=4, delay=5.0) as batcher:
            # The fourth view fills the batch, so that nobody waits for the delay of five seconds.
            results = await asyncio.wait_for(asyncio.gather(*(batcher.submit(view(i)) for i in (5, 6, 7, 8))), 4)
        assert [values(result) for result in results] == [[5], [6], [7], [8]]
        assert runtime.batches == [[5, 6, 7, 8]]
        assert {result[0].batch_size for result in results} == {4}

    asyncio.run(scenario())


def test_window_closes_by_delay() -> None:
    async def scenario() -> None:
        runtime = SummingRuntime()
        async with running(runtime, size=100, delay=0.02) as batcher:
            assert values(await asyncio.wait_for(batcher.submit(view(3)), 5)) == [3]
        assert runtime.batches == [[3]]

    asyncio.run(scenario())


def test_request_with_more_views_than_a_batch_is_split_and_keeps_its_order() -> None:
    async def scenario() -> None:
        runtime = SummingRuntime()
        async with running(runtime, size=4) as batcher:
            outputs = await batcher.submit(np.concatenate([view(i) for i in range(10)]))
        assert values(outputs) == list(range(10))
        assert [len(batch) for batch in runtime.batches] == [4, 4, 2]

    asyncio.run(scenario())


@pytest.mark.parametrize(("poison", "message"), [(666, "could not be run"), (77, "results came out")])
def test_view_that_breaks_its_batch_fails_alone(poison: int, message: str) -> None:
    async def scenario() -> None:
        runtime = SummingRuntime()
        async with running(runtime, size=2, delay=1.0) as batcher:
            failed, neighbour = await asyncio.gather(
                batcher.submit(view(poison)), batcher.submit(view(1)), return_exceptions=True
            )
            assert isinstance(failed, InternalError)
            assert message in failed.detail
            assert not isinstance(neighbour, BaseException)
            assert values(neighbour) == [1]
            assert values((await asyncio.gather(batcher.submit(view(2)), batcher.submit(view(3))))[1]) == [3]
            assert batcher.alive

    asyncio.run(scenario())


def test_cancelled_caller_leaves_the_queue_and_harms_nobody() -> None:
    async def scenario() -> None:
        runtime = SummingRuntime()
        runtime.may_run.clear()
        async with running(runtime, size=1) as batcher:
            first = asyncio.create_task(batcher.submit(view(1)))
            await asyncio.to_thread(runtime.running.wait, 5)
            doomed = asyncio.create_task(batcher.submit(np.concatenate([view(2), view(3), view(4)])))
            patient = asyncio.create_task(batcher.submit(view(9)))
            await asyncio.sleep(0.05)
            doomed.cancel()
            await asyncio.gather(doomed, return_exceptions=True)
            depth = batcher.queue_depth
            runtime.may_run.set()
            assert values(await first) == [1]
            assert values(await patient) == [9]
        assert depth == 1
        # Nothing had run for the caller that left, and nothing did: not even what was put together already.
        assert runtime.batches == [[1], [9]]

    asyncio.run(scenario())


def test_full_queue_refuses_with_a_time_to_come_back() -> None:
    async def scenario() -> None:
        runtime = SummingRuntime()
        runtime.may_run.clear()
        async with running(runtime, size=1, queue=2) as batcher:
            waiting = [asyncio.create_task(batcher.submit(view(1)))]
            await asyncio.to_thread(runtime.running.wait, 5)
            for _ in range(8):
                waiting.append(asyncio.create_task(batcher.submit(view(1))))
                await asyncio.sleep(0.02)
            done = [task for task in waiting if task.done()]
            assert done
            for task in done:
                with pytest.raises(QueueFullError, match="at most 2 may") as caught:
                    task.result()
                assert caught.value.retry_after is not None
            runtime.may_run.set()
            for task in waiting:
                if task not in done:
                    assert values(await task) == [1]

    asyncio.run(scenario())


def test_stop_answers_everybody_who_waits() -> None:
    async def scenario() -> None:
        runtime = SummingRuntime()
        runtime.may_run.clear()
        async with running(runtime, size=1) as batcher:
            tasks = [asyncio.create_task(batcher.submit(view(i))) for i in range(5)]
            await asyncio.to_thread(runtime.running.wait, 5)
            stop = asyncio.create_task(batcher.stop())
            results = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 5)
            assert all(isinstance(result, NotReadyError) for result in results)
            await stop

    asyncio.run(scenario())


def test_only_views_of_one_shape_that_want_the_same_output_share_a_batch() -> None:
    async def scenario() -> None:
        runtime = SummingRuntime()
        wide = np.full((1, 9), 1, np.uint8)
        wishes: tuple[tuple[NDArray[np.uint8], OutputName], ...] = (
            (view(3), "logits"),
            (wide, "logits"),
            (view(4), "mask"),
            (view(5), "logits"),
            (view(6), "logits"),
        )
        async with running(runtime, size=3, delay=0.05) as batcher:
            results = await asyncio.wait_for(
                asyncio.gather(*(batcher.submit(frames, output) for frames, output in wishes)), 20
            )
        assert [values(result) for result in results] == [[3], [9], [4], [5], [6]]
        assert runtime.batches == [[3, 5, 6], [9], [4]]
        assert runtime.outputs == ["logits", "logits", "mask"]

    asyncio.run(scenario())


def test_statistics_count_views_batches_and_sizes() -> None:
    async def scenario() -> None:
        runtime = SummingRuntime()
        async with running(runtime, size=4) as batcher:
            assert batcher.statistics.last_inference == 0
            await batcher.submit(np.concatenate([view(i) for i in range(10)]))
            with pytest.raises(InternalError):
                await batcher.submit(view(666))
            statistics = batcher.statistics
        # Ten views ran as 4 + 4 + 2; the batch that failed is none that ran.
        assert (statistics.views, statistics.executions) == (10, 3)
        assert {size: stages.infer.count for size, stages in statistics.batches.items()} == {4: 2, 2: 1}
        assert (statistics.queue.count, statistics.stages.infer.count) == (10, 10)
        # Each view counts the whole of its batch.
        expected = sum(size * stages.infer.seconds for size, stages in statistics.batches.items())
        assert statistics.stages.infer.seconds == pytest.approx(expected)
        assert statistics.last_inference > 1_700_000_000_000

    asyncio.run(scenario())


def counted(metrics: Metrics, series: str) -> float:
    """Return the value of one series of the exposition."""
    lines = [line for line in metrics.exposition().decode().splitlines() if line.startswith(series)]
    return sum(float(line.split()[-1]) for line in lines)


def test_abandoned_views_keep_a_patient_caller_waiting_for_one_batch_at_most() -> None:
    async def scenario() -> None:
        runtime, metrics = SummingRuntime(), Metrics()
        runtime.may_run.clear()
        async with running(runtime, size=2, metrics=metrics) as batcher:
            leaving = [asyncio.create_task(batcher.submit(view(value))) for value in range(1, 11)]
            await asyncio.to_thread(runtime.running.wait, 5)
            # A second batch is full and put together by now.
            await asyncio.sleep(0.05)
            for task in leaving:
                task.cancel()
            await asyncio.gather(*leaving, return_exceptions=True)
            assert batcher.queue_depth == 0
            patient = asyncio.create_task(batcher.submit(view(50)))
            await asyncio.sleep(0)
            runtime.may_run.set()
            assert values(await patient) == [50]
        # What ran when they left could not be stopped; nothing else of theirs ran.
        assert runtime.batches == [[1, 2], [50]]
        assert counted(metrics, "clipserve_views_cancelled_total") == 10

    asyncio.run(scenario())


def test_views_that_come_while_a_batch_runs_still_join_the_next() -> None:
    async def scenario() -> None:
        runtime = SummingRuntime()
        runtime.may_run.clear()
        async with running(runtime, size=4) as batcher:
            tasks = [asyncio.create_task(batcher.submit(view(1)))]
            await asyncio.to_thread(runtime.running.wait, 5)
            for value in (2, 3, 4):
                tasks.append(asyncio.create_task(batcher.submit(view(value))))
                await asyncio.sleep(0.02)
            runtime.may_run.set()
            await asyncio.gather(*tasks)
        assert runtime.batches == [[1], [2, 3, 4]]

    asyncio.run(scenario())


@asynccontextmanager
async def patient(runtime: SummingRuntime) -> AsyncIterator[Batcher]:
    """A batcher that waits for views on their way for longer than the test lasts, and no other views are."""
    async with running(runtime, delay=3600.0, others=False) as batcher, asyncio.timeout(20):
        yield batcher


async def turn_loop() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


def test_batch_waits_for_requests_that_are_on_their_way_and_for_no_others() -> None:
    async def scenario() -> None:
        runtime = SummingRuntime()
        async with patient(runtime) as batcher:
            with batcher.caller() as one, batcher.caller() as other:
                first = asyncio.create_task(one.submit(view(1)))
                await turn_loop()
                assert batcher.queue_depth == 1
                await asyncio.gather(first, other.submit(view(2)))
        assert runtime.batches == [[1, 2]]

    asyncio.run(scenario())


def test_batch_waits_for_all_submits_of_one_request_and_for_another_one() -> None:
    async def scenario() -> None:
        runtime = SummingRuntime()
        async with patient(runtime) as batcher:
            with batcher.caller() as several, batcher.caller() as other:
                several.expect(1)
                submitted = [asyncio.create_task(several.submit(view(value))) for value in (1, 2)]
                await turn_loop()
                # As many submits as requests: one of them has not submitted anything.
                assert batcher.queue_depth == 2
                await asyncio.gather(*submitted, other.submit(view(3)))
        assert runtime.batches == [[1, 2, 3]]

    asyncio.run(scenario())


def test_batch_waits_for_no_request_that_has_its_results() -> None:
    async def scenario() -> None:
        runtime = SummingRuntime()
        async with patient(runtime) as batcher:
            with batcher.caller() as answering, batcher.caller() as other:
                await asyncio.gather(answering.submit(view(1)), other.submit(view(2)))
                with batcher.caller() as late:
                    await late.submit(view(3))
        assert runtime.batches == [[1, 2], [3]]

    asyncio.run(scenario())


@pytest.mark.parametrize("leave", ["finish", "end"])
def test_batch_goes_when_nothing_is_on_its_way_any_more(leave: str) -> None:
    async def scenario() -> None:
        runtime = SummingRuntime()
        async with patient(runtime) as batcher:
            with batcher.caller() as waiting:
                with batcher.caller() as other:
                    submitted = asyncio.create_task(waiting.submit(view(1)))
                    await turn_loop()
                    assert batcher.queue_depth == 1
                    if leave == "finish":
                        other.finish()
                        await submitted
                await submitted
        assert runtime.batches == [[1]]

    asyncio.run(scenario())


def test_request_that_submits_again_is_waited_for_by_others_and_not_by_itself() -> None:
    async def scenario() -> None:
        runtime = SummingRuntime()
        async with patient(runtime) as batcher:
            with batcher.caller() as again:
                await again.submit(view(1), more=True)
                with batcher.caller() as other:
                    submitted = asyncio.create_task(other.submit(view(2)))
                    await turn_loop()
                    assert batcher.queue_depth == 1
                    await asyncio.gather(submitted, again.submit(view(3)))
        assert runtime.batches == [[1], [2, 3]]

    asyncio.run(scenario())


def test_reason_why_a_batch_was_not_fuller_is_counted() -> None:
    async def scenario() -> None:
        metrics = Metrics()
        runtime = SummingRuntime()
        async with running(runtime, size=2, delay=0.05, metrics=metrics) as batcher:
            wide = np.full((1, 9), 1, np.uint8)
            await asyncio.gather(batcher.submit(view(1)), batcher.submit(view(2)))
            await asyncio.gather(batcher.submit(view(3)), batcher.submit(wide))
        async with running(runtime, size=2, metrics=metrics) as batcher:
            await batcher.submit(view(5))
        found = {
            reason: counted(metrics, f'clipserve_batches_total{{closed_by="{reason}"')
            for reason in ("full", "shape", "delay", "idle")
        }
        assert runtime.batches == [[1, 2], [3], [9], [5]]
        assert found == {"full": 1, "shape": 1, "delay": 1, "idle": 1}
        # Once a batch, not once a request.
        assert counted(metrics, "clipserve_batch_size_count") == 4
        assert counted(metrics, "clipserve_batch_size_sum") == 5

    asyncio.run(scenario())


def test_batches_run_at_the_listed_sizes_and_nobody_sees_the_filling() -> None:
    async def scenario() -> None:
        runtime = SummingRuntime()
        async with running(runtime, size=8, sizes=(1, 4, 8)) as batcher:
            for count in (1, 2, 4, 5):
                outputs = await batcher.submit(np.concatenate([view(10 + i) for i in range(count)]))
                assert values(outputs) == [10 + i for i in range(count)]
                assert {output.batch_size for output in outputs} == {count}
        assert [len(batch) for batch in runtime.batches] == [1, 4, 4, 8]

    asyncio.run(scenario())


def test_instances_run_side_by_side() -> None:
    async def scenario() -> None:
        first, second = SummingRuntime(), SummingRuntime()
        first.may_run.clear()
        second.may_run.clear()
        async with running(first, size=1, runtimes=[first, second], gate=FairGate(2)) as batcher:
            tasks = [asyncio.create_task(batcher.submit(view(value))) for value in (1, 2)]
            assert await asyncio.to_thread(first.running.wait, 5)
            assert await asyncio.to_thread(second.running.wait, 5)
            first.may_run.set()
            second.may_run.set()
            assert [values(await task) for task in tasks] == [[1], [2]]
        assert sorted(first.batches + second.batches) == [[1], [2]]

    asyncio.run(scenario())


def test_second_instance_leaves_views_to_wait_for_others_when_the_first_took_the_full_batch() -> None:
    async def scenario() -> None:
        runtime, gate = SummingRuntime(), FairGate(1)
        async with running(runtime, size=4, delay=3600.0, runtimes=[runtime] * 2, gate=gate) as batcher:
            # Both instances wait for a turn to run the batch that is full.
            async with gate.turn("another model"):
                first = asyncio.create_task(batcher.submit(np.concatenate([view(value) for value in range(4)])))
                await turn_loop()
                fifth = asyncio.create_task(batcher.submit(view(4)))
            await first
            await asyncio.wait_for(batcher.submit(np.concatenate([view(value) for value in range(5, 8)])), 20)
            await fifth
        assert runtime.batches == [[0, 1, 2, 3], [4, 5, 6, 7]]

    asyncio.run(scenario())


def test_run_that_does_not_return_keeps_nobody_waiting_but_its_own_callers() -> None:
    async def check() -> None:
        runtime, neighbour, gate = SummingRuntime(), SummingRuntime(), FairGate(1)
        runtime.may_run.clear()
        async with (
            running(runtime, size=2, gate=gate, runtime_timeout=0.2) as batcher,
            running(neighbour, gate=gate, name="neighbour") as other,
        ):
            first = asyncio.create_task(batcher.submit(view(1)[None]))
            await asyncio.to_thread(runtime.running.wait, 20)
            # Three more than the next batch takes, which is put together already.
            waiting = [asyncio.create_task(batcher.submit(view(value)[None])) for value in range(2, 7)]
            beside = asyncio.create_task(other.submit(view(9)[None]))
            for refused in await asyncio.gather(*waiting, return_exceptions=True):
                assert isinstance(refused, NotReadyError)
                assert "has not returned within 0.2 s" in refused.detail
            assert values(await beside) == [9]
            assert (batcher.alive, batcher.queue_depth, first.done()) == (True, 0, False)
            assert "has not returned" in batcher.problem
            with pytest.raises(NotReadyError, match="summing takes no requests"):
                await batcher.submit(view(7)[None])
            runtime.may_run.set()
            assert values(await first) == [1]
            assert values(await batcher.submit(view(8)[None])) == [8]
            assert batcher.problem == ""
        assert runtime.batches == [[1], [8]]

    asyncio.run(check())


def test_views_of_a_batch_that_hung_and_failed_are_run_in_turns_of_their_own() -> None:
    async def check() -> None:
        runtime, gate = SummingRuntime(), FairGate(1)
        runtime.may_run.clear()
        async with running(runtime, size=2, gate=gate, runtime_timeout=0.2) as batcher:
            submitted = [asyncio.create_task(batcher.submit(view(value)[None])) for value in (1, 666)]
            await until(lambda: batcher.problem)
            async with gate.turn("another model"):
                runtime.running.clear()
                runtime.may_run.set()
                await until(lambda: not batcher.problem)
                assert not await asyncio.to_thread(runtime.running.wait, 0.3)
                assert runtime.batches == [[1, 666]]
            sound, broken = await asyncio.gather(*submitted, return_exceptions=True)
        assert isinstance(sound, list)
        assert values(sound) == [1]
        assert isinstance(broken, InternalError)
        assert runtime.batches == [[1, 666], [1], [666]]

    asyncio.run(check())


def test_instance_beside_one_that_hangs_goes_on() -> None:
    async def check() -> None:
        hanging, sound = SummingRuntime(), SummingRuntime()
        hanging.may_run.clear()
        instances = [hanging, sound]
        async with running(hanging, size=1, runtimes=instances, gate=FairGate(2), runtime_timeout=0.2) as batcher:
            submitted = [asyncio.create_task(batcher.submit(view(value)[None])) for value in range(2)]
            await asyncio.to_thread(hanging.running.wait, 20)
            await until(lambda: batcher.problem)
            assert values(await batcher.submit(view(5)[None])) == [5]
            hanging.may_run.set()
            assert [values(outputs) for outputs in await asyncio.gather(*submitted)] == [[0], [1]]

    asyncio.run(check())


def test_low_priority_goes_last_but_is_not_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        runtime = SummingRuntime()
        runtime.may_run.clear()
        async with running(runtime, size=1) as batcher:
            tasks = [asyncio.create_task(batcher.submit(view(1)))]
            await asyncio.to_thread(runtime.running.wait, 5)
            # The batch after the one that runs is put together already.
            tasks.append(asyncio.create_task(batcher.submit(view(2))))
            await asyncio.sleep(0.05)
            for value in (31, 32):
                tasks.append(asyncio.create_task(batcher.submit(view(value), priority="low")))
            tasks.append(asyncio.create_task(batcher.submit(view(4))))
            await asyncio.sleep(0.05)
            monkeypatch.setattr("service.priority.LOW_PRIORITY_SECONDS", -10.0)
            tasks.append(asyncio.create_task(batcher.submit(view(5), priority="low")))
            await asyncio.sleep(0.05)
            runtime.may_run.set()
            await asyncio.gather(*tasks)
        # 5 stands for what came with low priority long before all others.
        assert runtime.batches == [[1], [2], [5], [4], [31], [32]]

    asyncio.run(scenario())


class LoggingRuntime(SummingRuntime):
    """Writes its label to a shared log after each batch."""

    def __init__(self, label: str, log: list[str]) -> None:
        super().__init__()
        self.label = label
        self.log = log

    def run(self, frames: NDArray[np.uint8], output: OutputName) -> NDArray[np.float32]:
        result = super().run(frames, output)
        self.log.append(self.label)
        return result


def test_busy_model_lets_another_one_run_after_its_batch() -> None:
    async def scenario() -> None:
        gate = FairGate(1)
        log: list[str] = []
        busy, quiet = LoggingRuntime("busy", log), LoggingRuntime("quiet", log)
        busy.may_run.clear()
        async with (
            running(busy, size=1, gate=gate, name="busy") as first,
            running(quiet, size=1, gate=gate, name="quiet") as second,
        ):
            tasks = [asyncio.create_task(first.submit(view(1))) for _ in range(20)]
            await asyncio.to_thread(busy.running.wait, 5)
            asked = asyncio.create_task(second.submit(view(2)))
            await asyncio.sleep(0.05)
            assert not quiet.running.is_set()
            busy.may_run.set()
            await asyncio.gather(asked, *tasks)
        assert log[:2] == ["busy", "quiet"]

    asyncio.run(scenario())


class SlowRuntime(SummingRuntime):
    """Takes a fifth of a second for each batch."""

    def run(self, frames: NDArray[np.uint8], output: OutputName) -> NDArray[np.float32]:
        time.sleep(0.2)
        return super().run(frames, output)


def test_normal_views_take_the_places_of_low_ones_in_a_full_queue() -> None:
    async def scenario() -> None:
        runtime = SummingRuntime()
        async with running(runtime, size=1, queue=8) as batcher:
            runtime.may_run.clear()
            first = asyncio.create_task(batcher.submit(view(1)))
            await asyncio.to_thread(runtime.running.wait, 5)
            low = [
                asyncio.create_task(batcher.submit(np.concatenate([view(value)] * 2), priority="low"))
                for value in (2, 3)
            ]
            await asyncio.sleep(0)
            normal = [asyncio.create_task(batcher.submit(view(value))) for value in (4, 5)]
            await asyncio.sleep(0)
            # Six wait, the first of them put together already: of the next three one is too many.
            normal += [asyncio.create_task(batcher.submit(np.concatenate([view(6)] * 3)))]
            await asyncio.sleep(0.01)
            with pytest.raises(QueueFullError):
                await batcher.submit(np.concatenate([view(7)] * 6))
            runtime.may_run.set()
            assert [values(outputs) for outputs in await asyncio.gather(first, *normal)] == [[1], [4], [5], [6, 6, 6]]
            outcomes = await asyncio.gather(*low, return_exceptions=True)
        # Those that came last give way, and all views of a request together.
        assert [isinstance(outcome, QueueFullError) for outcome in outcomes] == [False, True]

    asyncio.run(scenario())


def test_low_views_do_not_count_for_what_normal_ones_wait_for() -> None:
    async def scenario() -> None:
        runtime = SlowRuntime()
        async with running(runtime, size=1) as batcher:
            await batcher.submit(view(1))
            runtime.running.clear()
            runtime.may_run.clear()
            tasks = [asyncio.create_task(batcher.submit(view(1)))]
            await asyncio.to_thread(runtime.running.wait, 5)
            tasks += [asyncio.create_task(batcher.submit(np.concatenate([view(1)] * 10), priority="low"))]
            await asyncio.sleep(0.05)
            # The first of the ten is put together already; a view takes a fifth of a second or more.
            assert batcher.expected_wait("normal") < batcher.expected_wait("low") / 5
            assert batcher.expected_wait("low") >= 2
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    asyncio.run(scenario())


def test_time_to_come_back_is_what_the_queue_takes() -> None:
    async def scenario() -> None:
        runtime = SlowRuntime()
        async with running(runtime, size=1, queue=20) as batcher:
            await batcher.submit(view(1))
            assert batcher.expected_wait("normal") == 0
            runtime.running.clear()
            runtime.may_run.clear()
            tasks = [asyncio.create_task(batcher.submit(view(1)))]
            await asyncio.to_thread(runtime.running.wait, 5)
            tasks += [asyncio.create_task(batcher.submit(np.concatenate([view(1)] * 10))) for _ in range(2)]
            await asyncio.sleep(0.05)
            # Twenty views of a fifth of a second, or more where the machine is busy.
            assert 4 <= batcher.expected_wait("normal") < 40
            with pytest.raises(QueueFullError) as refused:
                await batcher.submit(np.concatenate([view(1)] * 15))
            assert refused.value.retry_after is not None
            assert 3 <= refused.value.retry_after < 30
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            assert batcher.expected_wait("normal") == 0

    asyncio.run(scenario())
