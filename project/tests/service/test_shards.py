"""Two deployments share one platform: each minds its own models, and a slot of anybody guards a model as before."""

from contextlib import AsyncExitStack
from datetime import timedelta

import pytest
from freezegun.api import FrozenDateTimeFactory

from dev.fake_platform.platform import Platform
from dev.servers.services import Services
from limiter.db import tables
from limiter.domain.job import Job
from limiter.domain.shard import Shard
from tests.bench import Bench, open_bench
from tests.conftest import START, MakeBench, migrate
from tests.service.test_control import ask
from tests.service.test_scaling_service import asked, tick

ANN, BEN = "00000000-0000-0000-0000-0000000000a1", "00000000-0000-0000-0000-0000000000b2"
IDLE = {"IDLE_LIMIT_SECONDS": 3600, "IDLE_WARNING_LEAD_SECONDS": 900, "UNINSTALL_ON_IDLE": "true"}


async def all_jobs(benches: list[Bench]) -> None:
    for bench in benches:
        await bench.run(Job.RPS_CHECK, Job.SAGA_POLL, Job.IDLE_WARNING, Job.EVENT_DISPATCH, Job.IDLE_ENFORCE)


@pytest.mark.parametrize("platform", [5.0], indirect=True)
async def test_every_model_is_minded_by_exactly_one_of_two_deployments(
    services: Services, schema: str, platform: Platform, time: FrozenDateTimeFactory
) -> None:
    await migrate(services, "limiter_second", "upgrade", "head")
    names = [f"Team/model-{number}" for number in range(12)]
    for name in names:
        platform.add_model(name)
        platform.set_rate(name, 24)
    async with AsyncExitStack() as stack:
        benches = [
            await stack.enter_async_context(open_bench(services, of, platform, SHARD=f"{number}/2"))
            for number, of in enumerate((schema, "limiter_second"))
        ]
        for _ in range(8):
            await all_jobs(benches)
            time.tick(timedelta(seconds=15))
        minded = [{row.model_name for row in await bench.rows(tables.scaling_state)} for bench in benches]
        assert minded == [{name for name in names if Shard(number, 2).minds(name)} for number in range(2)]
        assert all(minded)
        assert {row.model_name for row in await benches[0].rows(tables.series)} == minded[0]
        assert sorted(command.model_name for command in platform.commands) == sorted(names)
        assert platform.violations == []


@pytest.mark.parametrize("guarded", [True, False])
async def test_another_users_slot_guards_a_model_of_a_share_and_its_own_user_is_cancelled(
    services: Services, schema: str, platform: Platform, time: FrozenDateTimeFactory, guarded: bool
) -> None:
    assert Shard(0, 2).minds("m")
    platform.add_model("m")
    platform.add_model("n")
    platform.set_rate("n", 1.0)
    hours = [START + timedelta(hours=hour) for hour in range(6)]
    platform.add_reservation(ANN, "ann", "m", slots=[(hours[0], hours[2]), (hours[2], hours[3])])
    if guarded:
        platform.add_reservation(BEN, "ben", "m", slots=[(hours[1], hours[3])])
    async with AsyncExitStack() as stack:
        bench = await stack.enter_async_context(open_bench(services, schema, platform, SHARD="0/2", **IDLE))
        for _ in range(6):
            await all_jobs([bench])
            time.tick(timedelta(minutes=15))
        assert {deletion.user.name for deletion in platform.deletions} == {"ann"}
        assert [command.kind for command in platform.commands] == ([] if guarded else ["uninstall"])


@pytest.mark.parametrize("before", [90_000, 1_800_000])
async def test_what_models_of_another_share_were_called_before_they_are_minded_here_is_not_called_now(
    make_bench: MakeBench, time: FrozenDateTimeFactory, platform: Platform, before: int
) -> None:
    ours, theirs = (next(name for name in "mnopqr" if Shard(number, 2).minds(name)) for number in range(2))
    for name in (ours, theirs):
        platform.add_model(name)
        platform.call(name, before)
        platform.set_rate(name, 1.0)
    bench = await make_bench(SHARD="0/2")
    await tick(bench, time, 4)
    after = await make_bench(SHARD="0/1")
    await tick(after, time, 4)
    assert asked(platform) == []
    assert after.criticals() == {}
    assert {row.model_name for row in await after.rows(tables.scaling_state)} == {ours, theirs}


async def test_a_command_about_a_model_of_another_share_is_refused_by_naming_it(
    services: Services, schema: str, platform: Platform
) -> None:
    async with AsyncExitStack() as stack:
        bench = await stack.enter_async_context(open_bench(services, schema, platform, SHARD="1/2"))
        reply = await ask(bench, {"command": "explain", "model": "m"})
        assert reply["outcome"] == "rejected"
        assert reply["detail"] == "explain.model: 'm' is minded by SHARD=0/2, not by 1/2"


async def test_a_warning_about_a_model_that_goes_to_another_share_is_withdrawn_and_nobody_is_cancelled(
    services: Services, schema: str, platform: Platform, time: FrozenDateTimeFactory
) -> None:
    """As docs/performance.md tells it of going from one deployment to two."""
    platform.add_model("m")
    platform.add_model("n")
    platform.set_rate("n", 1.0)
    hours = [START + timedelta(hours=hour) for hour in range(6)]
    platform.add_reservation(ANN, "ann", "m", slots=[(hours[0], hours[2]), (hours[2], hours[3])])
    async with AsyncExitStack() as stack:
        bench = await stack.enter_async_context(open_bench(services, schema, platform, **IDLE))
        for _ in range(4):
            await all_jobs([bench])
            time.tick(timedelta(minutes=15))
        assert await bench.stages() == ["warning"]
    async with AsyncExitStack() as stack:
        bench = await stack.enter_async_context(open_bench(services, schema, platform, SHARD="1/2", **IDLE))
        await all_jobs([bench])
        (event,) = await bench.events()
        assert event["reservation"]["stage"] == "withdrawn"
        assert event["reservation"]["closing_reason"] == "model_gone"
        assert platform.deletions == []


async def test_two_shares_in_one_schema_are_told_and_a_change_of_the_share_is_not(
    services: Services, schema: str, platform: Platform, time: FrozenDateTimeFactory
) -> None:
    ours, theirs = (next(name for name in "mnopqr" if Shard(number, 2).minds(name)) for number in range(2))
    platform.add_model(ours)
    platform.add_model(theirs)
    async with AsyncExitStack() as stack:
        before, first, second = [
            await stack.enter_async_context(open_bench(services, schema, platform, SHARD=share))
            for share in ("0/1", "0/2", "1/2")
        ]
        await before.run(Job.RPS_CHECK)
        for _ in range(2):
            await first.run(Job.RPS_CHECK)
        assert "shares_mixed" not in first.criticals()
        await second.run(Job.RPS_CHECK)
        await first.run(Job.RPS_CHECK)
        assert first.criticals()["shares_mixed"] == 1
        assert first.telemetry.last_critical("shares_mixed", 60) == (
            f"SHARD=0/2, DATABASE_SCHEMA={schema!r}: somebody minds {theirs!r} there, of SHARD=1/2: "
            "each needs a schema of its own"
        )
        await first.run(Job.RPS_CHECK)
        assert first.criticals()["shares_mixed"] == 1
