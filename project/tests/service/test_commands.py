"""Commands that were never sent, whose answer is lost, or comes late. Composed."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from freezegun.api import FrozenDateTimeFactory
from loguru import logger

from dev.fake_platform.platform import Fault
from limiter.db import tables
from limiter.domain.command import CommandKind
from tests.bench import Bench
from tests.conftest import START, MakeBench
from tests.service.commanding import IN_FLIGHT, SETTINGS, TIMEOUT, asked, calls, command, plan, poll, under_way


@pytest.fixture
def log() -> Iterator[list[dict[str, Any]]]:
    """The extra fields of every log line."""
    lines: list[dict[str, Any]] = []
    handle = logger.add(lambda message: lines.append(message.record["extra"]), level="DEBUG")
    yield lines
    logger.remove(handle)


def events(log: list[dict[str, Any]]) -> list[str]:
    return [line["event"] for line in log if "event" in line]


@pytest.fixture
async def bench(make_bench: MakeBench, time: FrozenDateTimeFactory) -> Bench:
    return await make_bench(**SETTINGS)


@pytest.mark.parametrize("kind", [CommandKind.SCALE_UP, CommandKind.SCALE_DOWN])
@pytest.mark.parametrize("age", [0, TIMEOUT])
async def test_a_scale_that_was_never_sent_is_sent_once_by_the_next_poll(
    bench: Bench, time: FrozenDateTimeFactory, kind: CommandKind, age: float
) -> None:
    await plan(bench, kind)
    await poll(bench, time, age)
    assert asked(bench.platform) == [3]
    assert (await command(bench)).sent_at == START + timedelta(seconds=age)
    await poll(bench, time, 15)
    assert asked(bench.platform) == [3]
    assert (await command(bench)).state == "completed"
    assert calls(bench.platform, "/registry/") == 0
    assert bench.criticals() == {}


async def test_a_scale_never_sent_within_the_timeout_is_not_sent_any_more(
    bench: Bench, time: FrozenDateTimeFactory
) -> None:
    await plan(bench)
    await poll(bench, time, TIMEOUT + 1)
    row = await command(bench)
    assert (asked(bench.platform), row.state, row.error, row.failures) == ([], "failed", "never sent", 1)


BARRED: dict[str, tuple[dict[str, object], str]] = {
    "maximum": ({"SCALE_MAX_REPLICAS": 2}, "never sent: 3 replicas are not between 2 and 2"),
    "minimum": ({"SCALE_MIN_REPLICAS": 4}, "never sent: 3 replicas are not between 4 and 8"),
    "exempt": ({"POLICY_OVERRIDES": '{"m": {"exempt": true}}'}, "never sent: m is exempt"),
    "dry run": ({"DRY_RUN": True}, "never sent: DRY_RUN is on"),
}


@pytest.mark.parametrize("rule", BARRED)
async def test_a_scale_never_sent_is_not_sent_under_rules_that_forbid_it_by_now(
    make_bench: MakeBench, time: FrozenDateTimeFactory, rule: str
) -> None:
    settings, why = BARRED[rule]
    bench = await make_bench(**{**SETTINGS, **settings})
    await plan(bench)
    await poll(bench, time, 1)
    row = await command(bench)
    assert (asked(bench.platform), row.state, row.error) == ([], "failed", why)
    assert bench.criticals() == {}


async def test_an_uninstall_that_was_never_sent_is_never_sent_later(bench: Bench, time: FrozenDateTimeFactory) -> None:
    await plan(bench, CommandKind.UNINSTALL)
    await poll(bench, time, 1)
    assert (await command(bench)).state == "planned"  # its sender may be about to send it
    await poll(bench, time, IN_FLIGHT)
    row = await command(bench)
    assert (asked(bench.platform), row.state, row.error, row.failures) == ([], "failed", "never sent", 1)
    assert bench.criticals() == {}


async def test_a_call_under_way_is_not_judged_and_the_registry_is_not_asked(
    bench: Bench, time: FrozenDateTimeFactory
) -> None:
    async with under_way(bench):
        bench.platform.models[0].replicas = 2  # what a judge would take for its effect
        before = calls(bench.platform, "/registry/")
        await poll(bench, time, IN_FLIGHT)
        assert calls(bench.platform, "/registry/") == before
        assert (await command(bench)).state == "planned"
    assert (await command(bench)).state == "submitted"
    assert asked(bench.platform) == [2]


async def test_an_answer_after_its_command_was_settled_as_failed_is_followed(
    bench: Bench, time: FrozenDateTimeFactory, log: list[dict[str, Any]]
) -> None:
    async with under_way(bench):
        await poll(bench, time, TIMEOUT + 1)
        row = await command(bench)
        assert (row.state, row.error) == ("failed", "no answer, and no effect in the registry")
    row, saga = await command(bench), next(iter(bench.platform.sagas))
    assert (row.state, row.saga_id, row.failures) == ("submitted", saga, 0)
    (late,) = [line for line in log if line.get("event") == "late_answer"]
    assert (late["saga"], late["followed"]) == (str(saga), True)
    await poll(bench, time)
    assert (await command(bench)).state == "completed"


async def test_an_answer_after_its_command_was_settled_as_completed_is_remembered_and_logged(
    bench: Bench, time: FrozenDateTimeFactory, log: list[dict[str, Any]]
) -> None:
    async with under_way(bench):
        bench.platform.models[0].replicas = 2
        await poll(bench, time, IN_FLIGHT + 1)
        assert (await command(bench)).state == "completed"
    row = await command(bench)
    assert (row.state, row.saga_id) == ("completed", next(iter(bench.platform.sagas)))
    assert "late_answer" in events(log)


async def test_a_lost_answer_without_effect_fails_after_the_timeout_and_not_before(
    bench: Bench, time: FrozenDateTimeFactory
) -> None:
    await plan(bench, sent_at=START)
    await poll(bench, time, TIMEOUT)
    assert (await command(bench)).state == "planned"
    await poll(bench, time, 1)
    assert (await command(bench)).state == "failed"
    assert asked(bench.platform) == []


async def test_whether_an_uninstall_took_effect_is_not_known_from_half_a_list(
    bench: Bench, time: FrozenDateTimeFactory
) -> None:
    lost = await plan(bench, CommandKind.UNINSTALL, sent_at=START)
    bench.platform.remove_model(lost.model_id)
    bench.platform.fault("registry", Fault.json({"items": [{}], "total": 1}))
    await poll(bench, time, TIMEOUT)
    assert (await command(bench)).state == "planned"
    await poll(bench, time, 1)
    await poll(bench, time, 1)
    assert (await command(bench)).state == "stuck"
    assert bench.criticals()["saga_stuck"] == 1
    bench.platform.clear_faults()
    await poll(bench, time)
    assert (await command(bench)).state == "completed"


async def test_a_command_that_saga_poll_has_sent_is_not_sent_by_the_run_that_planned_it(
    bench: Bench, time: FrozenDateTimeFactory
) -> None:
    bench.platform.add_model("other")
    async with under_way(bench):
        await poll(bench, time)
        assert asked(bench.platform) == [2]  # the other model's: this run's own is still under way
    assert asked(bench.platform) == [2, 2]
    assert bench.platform.violations == []
    assert {row.state for row in await bench.rows(tables.command)} == {"submitted"}
