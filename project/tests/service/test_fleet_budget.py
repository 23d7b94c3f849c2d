"""The fleet's budget where not all is known, and where it became smaller while commands waited to be sent."""

import json
from datetime import timedelta
from uuid import uuid4

import pytest
from freezegun.api import FrozenDateTimeFactory

from dev.fake_platform.platform import Fault, Platform
from limiter.db import ledger, tables
from limiter.domain.command import Command, CommandKind, CommandState
from limiter.domain.decision import Reason
from limiter.domain.job import Job
from tests.bench import Bench
from tests.conftest import START, MakeBench
from tests.service.commanding import asked, plan, poll
from tests.service.test_scaling_service import tick


def unread(name: str) -> Fault:
    """The registry's list, with an entry of this name that breaks the contract."""

    def broken(body: str) -> str:
        page = json.loads(body)
        for item in page["items"]:
            item["status"] = None if item["name"] == name else item["status"]
        return json.dumps(page)

    return Fault.rewrite(broken)


async def test_a_model_that_could_never_be_read_takes_its_part_of_the_budget(
    make_bench: MakeBench, time: FrozenDateTimeFactory, platform: Platform
) -> None:
    bench = await make_bench(SCALE_FLEET_MAX_REPLICAS=9, SCALE_COOLDOWN_SECONDS=0)
    platform.add_model("unread", replicas=6)
    platform.add_model("busy")
    platform.set_rate("busy", 36)
    platform.fault("registry", unread("unread"))
    await tick(bench, time, 10)
    assert asked(platform) == []
    assert [row.standing for row in await bench.rows(tables.scaling_state)] == ["hold:fleet_full"]
    platform.clear_faults()
    await tick(bench, time, 10)
    assert sum(model.replicas for model in platform.models) == 9


async def ended(bench: Bench) -> tuple[str, str | None]:
    (row,) = await bench.rows(tables.command)
    return row.state, row.error


async def test_a_scale_up_never_sent_is_not_sent_beyond_a_budget_that_is_smaller_by_now(
    make_bench: MakeBench, time: FrozenDateTimeFactory, platform: Platform
) -> None:
    bench = await make_bench(SCALE_FLEET_MAX_REPLICAS=2)
    await plan(bench)
    await poll(bench, time, 1)
    why = "never sent: the fleet's 2 replicas are taken: 2 of 3 are granted"
    assert (asked(platform), await ended(bench)) == ([], ("failed", why))
    assert bench.criticals() == {}


async def test_what_the_budget_forbade_is_asked_for_again_as_soon_as_it_grants_it(
    make_bench: MakeBench, time: FrozenDateTimeFactory, platform: Platform
) -> None:
    small, large = await make_bench(SCALE_FLEET_MAX_REPLICAS=2), await make_bench(SCALE_FLEET_MAX_REPLICAS=9)
    await plan(small, failures=3)
    platform.set_rate("m", 36)
    await large.run(Job.RPS_CHECK)
    await poll(small, time, 15)
    (row,) = await small.rows(tables.command)
    assert (row.state, row.failures) == ("failed", 0)
    await large.run(Job.RPS_CHECK)
    assert asked(platform) == [4]


@pytest.mark.parametrize(("seconds", "replicas"), [(59, []), (61, [3])])
async def test_what_the_registry_may_be_late_to_show_takes_its_part_of_the_budget(
    make_bench: MakeBench, time: FrozenDateTimeFactory, platform: Platform, seconds: float, replicas: list[int]
) -> None:
    bench = await make_bench(SCALE_FLEET_MAX_REPLICAS=4, SCALE_COOLDOWN_SECONDS=60)
    await plan(bench, state="completed", finished_at=START)  # to 3; the registry shows 1
    other = platform.add_model("other")
    time.tick(seconds)
    intent = Command(uuid4(), other.id, "other", CommandKind.SCALE_UP, 3, CommandState.PLANNED, START)
    async with bench.engine.begin() as connection:
        await ledger.plan(connection, [intent], {intent.id: Reason.OVERLOADED})
    await poll(bench, time)
    assert asked(platform) == replicas


async def test_a_scale_up_never_sent_waits_while_nobody_knows_what_the_budget_leaves(
    make_bench: MakeBench, time: FrozenDateTimeFactory, platform: Platform
) -> None:
    bench = await make_bench(SCALE_FLEET_MAX_REPLICAS=3)
    await plan(bench)
    fault = platform.fault("registry", Fault.status(503))
    time.tick(1)
    assert (await bench.attempt(Job.SAGA_POLL)).state == "failed"
    assert (asked(platform), await ended(bench)) == ([], ("planned", None))
    assert bench.criticals() == {"registry_unavailable": 1}
    platform.end_fault(fault)
    await poll(bench, time, 1)
    assert asked(platform) == [3]


async def test_a_model_is_never_asked_to_have_less_than_its_minimum_and_has_it_as_soon_as_there_is_enough(
    make_bench: MakeBench, time: FrozenDateTimeFactory, platform: Platform
) -> None:
    rules = json.dumps({"large": {"min_replicas": 3}})
    bench = await make_bench(SCALE_FLEET_MAX_REPLICAS=4, POLICY_OVERRIDES=rules)
    platform.add_model("large")
    other = platform.add_model("other", replicas=2)
    await tick(bench, time)
    (held,) = [row for row in await bench.rows(tables.decision) if row.model_name == "large"]
    assert (asked(platform), held.reason) == ([], "fleet_full")
    assert held.numbers.items() >= {"wished": 3, "granted": 1, "asked": 3, "budget": 4}.items()
    other.replicas = 1
    await tick(bench, time)
    assert asked(platform) == [3]


async def test_a_model_that_cannot_be_read_takes_what_its_last_command_made_of_it(
    make_bench: MakeBench, time: FrozenDateTimeFactory, platform: Platform
) -> None:
    bench = await make_bench(SCALE_FLEET_MAX_REPLICAS=9)
    platform.add_model("first")
    platform.add_model("second")
    platform.set_rate("first", 55)
    await tick(bench, time, 2)
    assert asked(platform) == [7]
    platform.fault("registry", unread("first"))  # as it was last read, it has one
    platform.set_rate("second", 80)
    await tick(bench, time, 6)
    assert sum(model.replicas for model in platform.models) == 9


async def test_a_model_that_starts_again_right_after_it_was_scaled_takes_what_was_asked_for_it(
    make_bench: MakeBench, time: FrozenDateTimeFactory, platform: Platform
) -> None:
    bench = await make_bench(SCALE_FLEET_MAX_REPLICAS=9, SCALE_COOLDOWN_SECONDS=60)
    first = platform.add_model("first")
    platform.add_model("second")
    platform.set_rate("first", 55)
    await tick(bench, time, 2)
    assert asked(platform) == [7]
    first.status = "STARTING"  # by the registry's word it does not run
    platform.set_rate("second", 80)
    await tick(bench, time, 2)
    assert sum(model.replicas for model in platform.models) == 9


@pytest.mark.parametrize("job", [Job.RPS_CHECK, Job.SAGA_POLL])
async def test_a_saga_that_lasted_for_hours_takes_its_part_of_the_budget_until_the_registry_shows_its_end(
    make_bench: MakeBench, time: FrozenDateTimeFactory, platform: Platform, job: Job
) -> None:
    bench = await make_bench(SCALE_FLEET_MAX_REPLICAS=4)
    other = platform.add_model("other")
    platform.set_rate("other", 36)
    await tick(bench, time)
    time.tick(timedelta(seconds=15))
    ended = START + timedelta(seconds=15)
    began = ended - timedelta(hours=2)
    await plan(bench, state="completed", planned_at=began, sent_at=began, finished_at=ended)  # to 3; it still shows 1
    if job is Job.SAGA_POLL:
        intent = Command(uuid4(), other.id, "other", CommandKind.SCALE_UP, 3, CommandState.PLANNED, ended)
        async with bench.engine.begin() as connection:
            await ledger.plan(connection, [intent], {intent.id: Reason.OVERLOADED})
    await bench.run(job)
    assert asked(platform) == []
