"""The heartbeat that tells how long the event loop makes others wait."""

import asyncio
import time

import httpx
from prometheus_client import CollectorRegistry, Histogram
from prometheus_client.parser import text_string_to_metric_families

from service.heartbeat import Heartbeat
from tests.server import RunningServer


def test_block_is_seen_once_and_ends_with_stop() -> None:
    registry = CollectorRegistry()
    heartbeat = Heartbeat(Histogram("delay", "", buckets=(0.2, 0.5), registry=registry))

    def over(bound: str) -> float:
        counts = [registry.get_sample_value("delay_bucket", {"le": le}) for le in ("+Inf", bound)]
        assert counts[0] is not None
        assert counts[1] is not None
        return counts[0] - counts[1]

    async def block() -> None:
        heartbeat.start()
        await asyncio.sleep(0.05)
        before = over("0.2")
        time.sleep(0.5)  # noqa: ASYNC251
        await asyncio.sleep(0.05)
        assert over("0.2") >= before + 1
        heartbeat.stop()
        stopped = registry.get_sample_value("delay_count")
        await asyncio.sleep(0.1)
        assert registry.get_sample_value("delay_count") == stopped

    asyncio.run(block())


def test_server_publishes_its_heartbeat(server: RunningServer) -> None:
    def beats() -> float:
        families = text_string_to_metric_families(httpx.get(f"{server.url}/metrics").text)
        family = next(family for family in families if family.name == "clipserve_event_loop_delay_seconds")
        return next(sample.value for sample in family.samples if sample.name.endswith("_count"))

    first = beats()
    time.sleep(0.5)
    assert beats() > first
