"""Commands as a sender left them, and calls under way, for the tests of what saga_poll makes of them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import uuid4

from freezegun.api import FrozenDateTimeFactory

from dev.fake_platform.platform import Fault, Platform
from limiter.db import ledger, tables
from limiter.domain.command import Command, CommandKind, CommandState
from limiter.domain.decision import Reason
from limiter.domain.job import Job
from tests.bench import Bench
from tests.conftest import START

SETTINGS = {"SAGA_TIMEOUT_SECONDS": 100, "HTTP_CONCURRENCY": 1, "SCALE_MIN_REPLICAS": 2}
TIMEOUT = 100  # seconds, SAGA_TIMEOUT_SECONDS of these settings
IN_FLIGHT = 2 * 3 + 2 * 0.01 + 10  # seconds: two attempts, the pause between them, LOCK_TRUST_SECONDS


async def command(bench: Bench) -> Any:
    (row,) = await bench.rows(tables.command)
    return row


async def plan(bench: Bench, kind: CommandKind = CommandKind.SCALE_UP, **fields: Any) -> Command:
    """A command of a new model, as a sender left it that died before it sent it."""
    model = bench.platform.add_model("m")
    replicas = None if kind is CommandKind.UNINSTALL else 3
    intent = Command(uuid4(), model.id, "m", kind, replicas, CommandState.PLANNED, START)
    async with bench.engine.begin() as connection:
        await ledger.plan(connection, [intent], {intent.id: Reason.OVERLOADED})
        if fields:
            await connection.execute(tables.command.update().values(fields))
    return replace(intent, **fields)


def asked(platform: Platform) -> list[int | None]:
    return [command.replicas for command in platform.commands]


def calls(platform: Platform, part: str) -> int:
    return sum(part in request.path for request in platform.history)


async def poll(bench: Bench, time: FrozenDateTimeFactory, later: float = 0) -> None:
    time.tick(timedelta(seconds=later))
    await bench.run(Job.SAGA_POLL)


@asynccontextmanager
async def under_way(bench: Bench) -> AsyncIterator[None]:
    """A run of rps_check whose one command is not answered yet; at the end it is, and the run is over."""
    bench.platform.add_model("m")
    unanswered = bench.platform.fault("dispatcher", Fault.hang(), path="scale", times=1)
    run = asyncio.create_task(bench.run(Job.RPS_CHECK))
    await unanswered.met.wait()
    try:
        yield
    finally:
        bench.platform.end_fault(unanswered)
        await run
