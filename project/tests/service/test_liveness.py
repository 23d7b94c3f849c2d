"""Liveness is what the scheduler's own heartbeat proves, not that the process answers."""

import asyncio

import httpx

from limiter.api.http import http_app
from limiter.domain.job import Job
from tests.conftest import MakeBench


async def test_a_scheduler_that_no_longer_beats_fails_liveness_until_it_beats_again(make_bench: MakeBench) -> None:
    bench = await make_bench(LIVENESS_TIMEOUT_SECONDS=1.5)
    app = httpx.ASGITransport(http_app(bench.replica.health))
    async with httpx.AsyncClient(transport=app, base_url="http://replica") as client, asyncio.timeout(20):

        async def turns(status: int) -> str:
            """Wait until liveness answers so."""
            while True:
                answer = await client.get("/health/liveness")
                if answer.status_code == status:
                    return str(answer.json()["status"])
                await asyncio.sleep(0.05)

        bench.scheduler.start()
        assert await turns(200) == "ok"
        bench.scheduler._ticks.scheduler.pause()
        assert (await turns(503)).startswith("no heartbeat for ")
        readiness = await client.get("/health/readiness")
        assert readiness.json()["dependencies"]["scheduler"].startswith("no heartbeat for ")
        bench.scheduler._ticks.scheduler.resume()
        assert await turns(200) == "ok"
    await bench.scheduler.stop(5)


async def test_a_tick_that_a_stop_interrupts_while_it_waits_for_the_database_is_no_error(make_bench: MakeBench) -> None:
    """APScheduler would log it with its traceback, in each stop while Postgres is silent."""
    bench = await make_bench(DATABASE_POOL_SIZE=1)
    async with bench.engine.connect():
        ticking = asyncio.create_task(bench.scheduler.tick(Job.RPS_CHECK))
        await asyncio.sleep(0)  # it has begun
        await bench.scheduler.stop(0)
        await asyncio.wait_for(ticking, 2)
