"""`python -m limiter.ctl doctor`: what it finds on real servers, whole and broken."""

from uuid import uuid4

import aio_pika
import asyncpg
import pytest
from freezegun.api import FrozenDateTimeFactory
from sqlalchemy import insert

from dev.fake_platform.platform import Fault, Platform
from dev.servers.services import Services
from limiter.db import tables
from limiter.db.engine import create_engine, unusable_tables
from limiter.wiring import compose_doctor
from tests.bench import environment, settings_of
from tests.conftest import SCHEMA
from tests.service.test_ctl import ctl, ctl_process


async def doctor(variables: dict[str, str]) -> tuple[int, list[str]]:
    """Its exit code, and the lines that it printed."""
    code, out, err = await ctl("doctor", **variables)
    return code, (out + err).splitlines()


@pytest.fixture
def variables(services: Services, schema: str, platform: Platform) -> dict[str, str]:
    platform.add_model("m")
    platform.call("m")
    return environment(services, schema, platform)


async def test_where_all_is_well_it_says_so_line_by_line_and_asks_the_least(
    variables: dict[str, str], platform: Platform
) -> None:
    code, out, _ = await ctl_process("doctor", **variables)
    lines = out.splitlines()
    assert code == 0, lines
    assert lines[-1] == "all that a replica needs is there"
    assert [line.split()[0] for line in lines[:-1]] == ["ok"] * (len(lines) - 1)
    text = "\n".join(lines)
    assert f"schema: {SCHEMA} is as this version needs it" in text
    assert "pooling: by transaction" in text
    assert "ModelRegistry: 1 running model" in text
    assert "calls of 1 of 1 running name" in text
    assert {exchange.method for exchange in platform.history} == {"GET"}


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"DATABASE_SCHEMA": "nothing_here"}, "NOT OK  schema: schema 'nothing_here' has no tables of ours"),
        ({"RABBITMQ_URL": "amqp://guest:wr0ng@127.0.0.1:{rabbitmq}/"}, "NOT OK  RabbitMQ: "),
        ({"ENTRYPOINT_CALLS_METRIC": "other_total"}, "NOT OK  Entrypoint "),
        ({"ENTRYPOINT_MODEL_LABEL": "path"}, "NOT OK  Entrypoint, all pages: calls of 0 of 1"),
        ({"ENTRYPOINT_INFLIGHT_METRIC": "in_flihgt"}, "NOT OK  Entrypoint, in flight: no page has ENTRYPOINT_INFLIGHT"),
        ({"MODEL_REGISTRY_URL": "http://127.0.0.1:9"}, "NOT OK  ModelRegistry: registry: "),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
async def test_what_is_wrong_is_named_the_rest_is_looked_at_too_and_no_secret_is_shown(
    services: Services, variables: dict[str, str], change: dict[str, str], line: str
) -> None:
    ported = {name: value.format(rabbitmq=services.rabbitmq.port) for name, value in change.items()}
    code, lines = await doctor(variables | ported)
    assert code == 1
    assert [one for one in lines if one.startswith(line)], lines
    assert any(one.startswith("ok      Postgres: version") for one in lines)
    assert lines[-1].endswith("of them must be seen to")
    assert "wr0ng" not in "\n".join(lines)


async def test_what_may_be_another_service_than_the_dispatcher_is_said(variables: dict[str, str]) -> None:
    _, lines = await doctor(variables | {"MODEL_DISPATCHER_URL": variables["MODEL_REGISTRY_URL"]})
    (line,) = (line for line in lines if "ModelDispatcher" in line)
    assert line.endswith(
        "it answers, but a GET of its path of commands with 404: look whether MODEL_DISPATCHER_URL is right"
    )


async def test_a_database_that_only_reads_is_not_all_that_a_replica_needs(
    services: Services, variables: dict[str, str]
) -> None:
    connection = await asyncpg.connect(services.direct_database_url.replace("+asyncpg", ""))
    await connection.execute("CREATE ROLE reader LOGIN SUPERUSER")
    await connection.execute("ALTER ROLE reader SET default_transaction_read_only = on")
    await connection.close()
    code, lines = await doctor(
        variables | {"DATABASE_URL": services.direct_database_url.replace("postgres@", "reader@")}
    )
    assert code == 1
    (line,) = (line for line in lines if "Postgres: " in line)
    assert line.startswith("NOT OK  Postgres: version ")
    assert line.endswith("read-only: a standby, or default_transaction_read_only is on")


async def test_tables_that_the_role_may_not_write_are_named_with_the_grant_that_is_missing(
    services: Services, schema: str, variables: dict[str, str]
) -> None:
    """Migrations that another role applies make tables that nobody has granted yet."""
    connection = await asyncpg.connect(services.direct_database_url.replace("+asyncpg", ""))
    await connection.execute(f"""
        CREATE ROLE ungranted LOGIN;
        GRANT USAGE ON SCHEMA {schema} TO ungranted;
        GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {schema} TO ungranted;
        REVOKE DELETE ON {schema}.usage FROM ungranted;
        REVOKE ALL ON {schema}.keep FROM ungranted""")
    url = services.direct_database_url.replace("postgres@", "ungranted@")
    code, lines = await doctor(variables | {"DATABASE_URL": url})
    await connection.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {schema} TO ungranted")
    engine = create_engine(url, schema, 1, 10)
    _, unusable = await unusable_tables(engine, schema)
    await engine.dispose()
    await connection.execute("DROP OWNED BY ungranted; DROP ROLE ungranted")
    await connection.close()
    grant = f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {schema} TO ungranted"
    assert code == 1
    assert f"NOT OK  schema: ungranted may not read and write keep, usage: {grant}" in lines
    assert unusable == []


@pytest.mark.parametrize("variable", ["NOTIFIER_EXCHANGE", "CONTROL_QUEUE", "DEPLOYED_QUEUE"])
async def test_what_was_declared_in_another_way_is_named(
    services: Services, variables: dict[str, str], variable: str
) -> None:
    """A replica would be refused it, and hear no message."""
    other = f"other-{uuid4()}"
    connection = await aio_pika.connect(services.rabbitmq_url)
    channel = await connection.channel()
    await channel.declare_exchange(other, "direct")
    await channel.declare_queue(other)
    code, lines = await doctor(variables | {variable: other})
    await channel.exchange_delete(other)
    await channel.queue_delete(other)
    await connection.close()
    assert code == 1
    (line,) = (line for line in lines if "RabbitMQ: " in line)
    assert line.startswith("NOT OK  RabbitMQ: ChannelPreconditionFailed: PRECONDITION_FAILED - inequivalent arg")
    assert other in line


async def test_what_is_not_declared_yet_is_told_and_not_declared(services: Services, variables: dict[str, str]) -> None:
    _, lines = await doctor(variables)
    exchange, control, deployed = (variables[name] for name in ("NOTIFIER_EXCHANGE", "CONTROL_QUEUE", "DEPLOYED_QUEUE"))
    made = f"{exchange}, {control}.dead, {deployed}.dead, {control}, {deployed}"
    assert f"ok      RabbitMQ: connected; the first replica will declare {made}" in lines
    async with await aio_pika.connect(services.rabbitmq_url) as connection:
        for name in made.split(", "):
            with pytest.raises(aio_pika.exceptions.ChannelNotFoundEntity):
                async with connection.channel() as channel:
                    await (channel.get_exchange(name) if name == exchange else channel.get_queue(name))


async def test_one_connection_is_all_that_a_replica_needs(variables: dict[str, str]) -> None:
    code, lines = await doctor(variables | {"DATABASE_POOL_SIZE": "1"})
    assert code == 0, lines
    assert any(line.startswith("ok      pooling: not known") for line in lines)


async def test_a_wrong_token_is_found_without_cancelling_anything(
    variables: dict[str, str], platform: Platform
) -> None:
    platform.fault("booking", Fault.status(401))
    code, lines = await doctor(variables)
    assert code == 1
    assert any(line.startswith("NOT OK  BookingService: booking: ") and "401" in line for line in lines), lines


async def test_where_reading_needs_no_token_it_does_not_say_that_the_token_is_right(
    variables: dict[str, str], platform: Platform
) -> None:
    code, lines = await doctor(variables | {"BOOKING_SERVICE_TOKEN": "wr0ng"})
    assert code == 0
    (line,) = (line for line in lines if "BookingService: " in line)
    assert "if reading needs no token, a wrong one shows only at the first cancelling" in line


async def test_a_process_that_is_read_by_two_addresses_is_named(variables: dict[str, str], platform: Platform) -> None:
    first, second = platform.metrics_urls
    alias = first.replace("127.0.0.1", "localhost")
    code, lines = await doctor(variables | {"ENTRYPOINT_METRICS_URLS": f"{first},{second},{alias}"})
    assert code == 1
    why = f"the process of {first} once more, so that each call counts twice: leave one of them out"
    assert [line for line in lines if line.startswith("NOT OK")] == [f"NOT OK  Entrypoint {alias}: {why}"]


async def test_a_gauge_of_requests_in_flight_that_one_page_has_is_right(
    variables: dict[str, str], platform: Platform
) -> None:
    platform.set_in_flight("m", 0)
    code, lines = await doctor(variables | {"ENTRYPOINT_INFLIGHT_METRIC": "model_requests_in_flight"})
    assert code == 0, lines


async def test_a_list_of_models_that_is_not_whole_is_told_with_what_is_wrong(
    variables: dict[str, str], platform: Platform
) -> None:
    platform.fault("registry", Fault.rewrite(lambda body: body.replace('"total":1', '"total":7')))
    code, lines = await doctor(variables)
    assert code == 1
    why = "it lists 1, of which 1 tell their id, and says that it has 7"
    assert f"NOT OK  ModelRegistry: 1 running model; {why}" in lines


@pytest.mark.parametrize(("limit", "good"), [("10", False), ("0", True)])
async def test_a_clock_that_is_off_and_reservations_that_cannot_be_read_are_named(
    variables: dict[str, str], platform: Platform, time: FrozenDateTimeFactory, limit: str, good: bool
) -> None:
    platform.fault("booking", Fault.json({"items": [{"model_name": "odd"}], "total": 1}))
    settings = settings_of(variables | {"CLOCK_SKEW_LIMIT_SECONDS": limit})
    async with compose_doctor(settings) as examining:  # time stands still, but not in Postgres
        found = {result.what: result async for result in examining.results()}
    assert found["clock"].good is good
    assert "off the database's" in found["clock"].text
    assert found["BookingService"][1:] == (False, "reservations of odd cannot be understood")


async def test_wrong_settings_are_told_as_at_a_start(variables: dict[str, str]) -> None:
    code, lines = await doctor(variables | {"SCALE_MIN_REPLICAS": "9"})
    assert code == 1
    assert any("SCALE_MIN_REPLICAS <= SCALE_MAX_REPLICAS" in line for line in lines)


@pytest.mark.parametrize(
    ("error", "line"),
    [
        ("no queue is bound", "NOT OK  Notificator: an event waits: no queue is bound"),
        (
            "held back: quiet_hours",
            "ok      Notificator: no event was sent yet, so whether a queue is bound to their key is not known",
        ),
    ],
)
async def test_an_event_that_no_queue_takes_is_named_and_one_that_we_hold_back_is_no_fault(
    services: Services, variables: dict[str, str], error: str, line: str
) -> None:
    waiting = {"message_id": uuid4(), "stage": "warning", "routing_key": "k", "body": {}, "error": error}
    engine = create_engine(services.database_url, SCHEMA, 1, 10)
    async with engine.begin() as connection:
        await connection.execute(insert(tables.outbox).values(waiting))
    await engine.dispose()
    code, lines = await doctor(variables)
    assert (code, line in lines) == (line.startswith("NOT OK"), True), lines
