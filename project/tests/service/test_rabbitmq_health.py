"""Readiness while RabbitMQ is connected, and yet does nothing."""

import asyncio
import gc
from collections.abc import Sequence

import pytest
from aio_pika.exceptions import AMQPChannelError, InvalidFrameError
from aio_pika.tools import OneShotCallback
from pamqp.commands import Connection

from dev.servers.services import Services
from tests.bench import Bench
from tests.conftest import MakeBench
from tests.service.test_control import ask


async def becomes(bench: Bench, state: str) -> None:
    async with asyncio.timeout(10):
        while (await bench.replica.health.dependencies())["rabbitmq"] != state:  # noqa: ASYNC110 - no event for it
            await asyncio.sleep(0.05)


async def test_a_frozen_rabbitmq_is_not_ready_and_is_again_once_it_goes_on(
    services: Services, make_bench: MakeBench
) -> None:
    bench = await make_bench(HEALTH_TIMEOUT_SECONDS=0.2)
    await becomes(bench, "ok")
    services.rabbitmq.freeze()
    try:
        await becomes(bench, "unavailable: no answer in time")
        await becomes(bench, "unavailable: no answer in time")
    finally:
        services.rabbitmq.thaw()
    await becomes(bench, "ok")


@pytest.mark.parametrize(
    ("errors", "said"),
    [
        (2 * (asyncio.CancelledError(),), "RabbitMQ was silent for too long"),
        # The driver names the frame by its address, which is another one at each attempt.
        ([InvalidFrameError("Connection.OpenOk", [Connection.Close()]) for _ in range(2)], "RabbitMQ lets nobody in"),
    ],
)
async def test_why_it_stays_away_is_told_in_words_and_once_a_minute(
    make_bench: MakeBench, errors: Sequence[BaseException], said: str
) -> None:
    bench = await make_bench()
    connection = await bench.replica.consumer.broker.connect()
    for error in errors:
        await connection.close_callbacks(error)
    assert bench.criticals() == {"rabbitmq_unavailable": 1}
    assert said in str(bench.telemetry.last_critical("rabbitmq_unavailable", 60))


async def test_that_it_is_asked_leaves_no_channel_behind(make_bench: MakeBench) -> None:
    bench = await make_bench()
    connection = await bench.replica.consumer.broker.connect()
    assert connection.transport is not None
    before = len(connection.transport.connection.channels)
    for _ in range(5):
        await becomes(bench, "ok")
    assert len(connection.transport.connection.channels) == before


async def test_nothing_of_a_channel_is_left_behind_while_the_connection_stands(make_bench: MakeBench) -> None:
    """A scrape and a probe open three, each minute several times, for weeks."""

    def left() -> int:
        gc.collect()
        return sum(type(one) is OneShotCallback for one in gc.get_objects())

    bench = await make_bench()
    await becomes(bench, "ok")
    await bench.replica.health.show()  # of each kind the last channel may still be known
    before = left()
    for _ in range(5):
        await bench.replica.health.show()
    assert left() <= before


async def test_once_a_permission_is_given_back_messages_are_heard_and_sent_again(
    services: Services, make_bench: MakeBench
) -> None:
    bench = await make_bench(RABBITMQ_DECLARE_SECONDS=0.2)
    await asyncio.to_thread(services.rabbitmq.control, "set_permissions", "guest", "", "", "")
    try:
        with pytest.raises(AMQPChannelError):
            await bench.replica.consumer.broker.publish("refused", queue="anywhere")
    finally:
        await asyncio.to_thread(services.rabbitmq.control, "set_permissions", "guest", ".*", ".*", ".*")
    keeping = asyncio.create_task(bench.replica.consumer.keep())
    assert (await ask(bench, {"command": "status"}))["outcome"] == "completed"
    keeping.cancel()
