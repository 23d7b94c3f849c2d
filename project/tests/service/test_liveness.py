"""Liveness is what the scheduler's own heartbeat proves, not that the process answers."""

import asyncio
from datetime import timedelta

import httpx
from freezegun.api import FrozenDateTimeFactory

from limiter.api.http import http_app
from tests.conftest import MakeBench


async def test_a_scheduler_that_no_longer_beats_fails_liveness_until_it_beats_again(
    make_bench: MakeBench, time: FrozenDateTimeFactory
) -> None:
    bench = await make_bench(LIVENESS_TIMEOUT_SECONDS=1.5)
    app = httpx.ASGITransport(http_app(bench.replica.health))
    async with httpx.AsyncClient(transport=app, base_url="http://replica") as client, asyncio.timeout(20):

        async def turns(status: int, tick: timedelta) -> str:
            """Wait until liveness answers so, while the wall clock goes on by `tick` between two requests."""
            while True:
                answer = await client.get("/health/liveness")
                if answer.status_code == status:
                    return str(answer.json()["status"])
                time.tick(tick)
                await asyncio.sleep(0.05)

        bench.scheduler.start()
        assert await turns(200, timedelta(0)) == "ok"
        # APScheduler goes by the wall clock, which now stands still.
        assert (await turns(503, timedelta(0))).startswith("no heartbeat for ")
        readiness = await client.get("/health/readiness")
        assert readiness.json()["dependencies"]["scheduler"].startswith("no heartbeat for ")
        assert await turns(200, timedelta(seconds=1)) == "ok"
    await bench.scheduler.stop(5)
