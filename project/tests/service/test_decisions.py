"""The audit in Postgres: one row per change of decision, with the numbers that led to it, in the act's transaction."""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from freezegun.api import FrozenDateTimeFactory

from dev.fake_platform.platform import Fault, Platform
from limiter.db import decisions, ledger, tables
from limiter.domain.audit import DecisionRecord
from limiter.domain.decision import Decision, Reason
from limiter.domain.job import Job
from tests.bench import Bench
from tests.conftest import START, MakeBench
from tests.service.test_control import ask

ANN = str(UUID(int=1))
MODEL, OTHER = "Google/Medgemma-27b-it", "Openai/Gpt-oss-120b"
SWEEP = (Job.RPS_CHECK, Job.IDLE_WARNING, Job.EVENT_DISPATCH, Job.IDLE_ENFORCE, Job.EVENT_DISPATCH)


def hours(start: float, end: float) -> tuple[datetime, datetime]:
    return START + timedelta(hours=start), START + timedelta(hours=end)


async def begin(make_bench: MakeBench, **settings: object) -> Bench:
    bench = await make_bench(**settings)
    bench.platform.add_model(MODEL)
    bench.platform.add_model(OTHER)
    bench.platform.call(OTHER)
    bench.platform.add_reservation(ANN, "ann", MODEL, slots=[hours(0, 2), hours(2, 3), hours(3, 4)])
    await bench.run(Job.RPS_CHECK)
    return bench


async def sweep(bench: Bench, time: FrozenDateTimeFactory, *minutes: float) -> None:
    for minute in minutes:
        time.move_to(START + timedelta(minutes=minute))
        await bench.run(*SWEEP)


async def changes(bench: Bench, user: str | None = ANN) -> list[Any]:
    """The changes of decision about the user's booking, or about the model, the oldest first."""
    async with bench.engine.connect() as connection:
        records = [record for record, _ in await decisions.for_model(connection, MODEL, 100)]
    return [one for one in reversed(records) if one.user_id == (UUID(user) if user else None)]


async def test_each_change_is_a_row_and_a_decision_that_stays_is_none(
    make_bench: MakeBench, time: FrozenDateTimeFactory
) -> None:
    bench = await begin(make_bench)
    await sweep(bench, time, 1, 2, 30, 45, 46, 50, 60, 61)
    assert [(one.decision, one.reason, one.at - START) for one in await changes(bench)] == [
        ("hold", "in_use", timedelta(minutes=1)),
        ("warn", "unused", timedelta(minutes=45)),
        ("hold", "warned_waiting", timedelta(minutes=45)),
        ("cancel", "deadline_passed", timedelta(minutes=60)),
        ("hold", "in_use", timedelta(minutes=61)),
    ]


@pytest.mark.parametrize("about", [None, ANN])
async def test_what_stands_is_told_however_many_changes_of_others_came_since(
    make_bench: MakeBench, time: FrozenDateTimeFactory, about: str | None
) -> None:
    bench = await begin(make_bench)
    await sweep(bench, time, 1)
    (one,) = await changes(bench, about)
    more = [replace(one, reason=reason) for reason in (Reason.STABILIZING, Reason.QUIET_HOURS, Reason.IN_USE)]
    async with bench.engine.begin() as connection:
        for record in more:
            await decisions.record(connection, [record], dry_run=False)
        found = [record for record, _ in await decisions.for_model(connection, MODEL, 2)]
    assert {record.user_id for record in found} == {None, UUID(ANN)}
    assert [record.reason for record in found if record.user_id == one.user_id] == ["in_use", "quiet_hours"]


async def test_a_row_tells_what_led_to_it_in_numbers_and_in_words(
    make_bench: MakeBench, time: FrozenDateTimeFactory
) -> None:
    bench = await begin(make_bench)
    await sweep(bench, time, 45, 60)
    (cancelled,) = [one for one in await changes(bench) if one.decision == "cancel"]
    assert cancelled.why == "unused since 10:00 (60 min), warned 10:45, cancelled 11:00: 2 slots in row"
    assert cancelled.numbers["idle_seconds"] == 3600


async def test_scaling_tells_the_rate_the_rule_and_the_step(make_bench: MakeBench, time: FrozenDateTimeFactory) -> None:
    bench = await begin(make_bench)
    bench.platform.set_rate(MODEL, 12.0)
    for second in range(15, 180, 15):
        time.move_to(START + timedelta(seconds=second))
        await bench.attempt(Job.RPS_CHECK)
    (up,) = [one for one in await changes(bench, user=None) if one.decision == "scale_up"]
    assert up.why == "12.0 RPS per replica > 10 × 1.1 for 30 s: 1 → 2"


@pytest.mark.parametrize(
    ("status", "why"),
    [(409, "the booking service refused 1 of 2 slots"), (403, "the booking service refuses: tried again later")],
)
async def test_a_refused_cancellation_is_recorded(
    make_bench: MakeBench, time: FrozenDateTimeFactory, platform: Platform, status: int, why: str
) -> None:
    bench = await begin(make_bench)
    platform.fault("booking", Fault.status(status), method="DELETE", times=1)
    await sweep(bench, time, 45, 60)
    assert [one.why for one in await changes(bench)][-1] == why


async def test_an_act_and_its_row_are_committed_together(make_bench: MakeBench, time: FrozenDateTimeFactory) -> None:
    bench = await begin(make_bench, USER_EMAIL_TEMPLATE="")
    await sweep(bench, time, 45, 46)
    assert [(one.decision, one.reason) for one in await changes(bench)] == [("hold", "address_unknown")]
    assert await bench.rows(tables.idle_spell) == []


@pytest.mark.parametrize("dry", ["true", "false"])
async def test_a_row_says_whether_it_was_a_dry_run(
    make_bench: MakeBench, time: FrozenDateTimeFactory, dry: str
) -> None:
    bench = await begin(make_bench, DRY_RUN=dry)
    await sweep(bench, time, 45)
    assert {row.dry_run for row in await bench.rows(tables.decision)} == {dry == "true"}
    would = "would " if dry == "true" else ""
    assert f": {would}warn (unused)" in (await ask(bench, {"command": "explain", "model": MODEL}))["detail"]


@pytest.mark.parametrize("dry", [True, False])
async def test_a_spell_is_closed_for_real_or_not_as_it_began(
    make_bench: MakeBench, time: FrozenDateTimeFactory, dry: bool
) -> None:
    await sweep(await begin(make_bench, DRY_RUN=dry), time, 45)
    switched = await make_bench(DRY_RUN=not dry)
    await sweep(switched, time, 46)
    (closed,) = [row for row in await switched.rows(tables.decision) if row.reason == "mode_changed"]
    assert (closed.decision, closed.dry_run) == ("withdraw", dry)


async def test_nothing_stands_for_a_model_that_is_gone(make_bench: MakeBench, time: FrozenDateTimeFactory) -> None:
    bench = await begin(make_bench)
    await sweep(bench, time, 1)
    bench.platform.remove_model(next(one for one in bench.platform.models if one.name == MODEL))
    await sweep(bench, time, 2)
    shown = (await ask(bench, {"command": "explain", "model": MODEL}))["detail"].split("changes, ")[0].splitlines()
    assert [line.split(" 2026")[0] for line in shown] == ["stands:", *["not known to run; last"] * 2]


async def test_old_rows_are_forgotten(make_bench: MakeBench, time: FrozenDateTimeFactory) -> None:
    bench = await begin(make_bench, HISTORY_RETENTION_SECONDS=7200)
    await sweep(bench, time, 1)
    assert len(await changes(bench)) == 1
    await sweep(bench, time, 130)
    await bench.run(Job.CLEANUP)
    assert {one.reason for one in await changes(bench)} == {"unused", "warned_waiting"}


async def test_a_command_that_another_job_was_quicker_with_is_not_recorded_as_decided(
    make_bench: MakeBench, time: FrozenDateTimeFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def taken(*_: object) -> set[UUID]:
        return set()

    monkeypatch.setattr(ledger, "plan", taken)
    bench = await begin(make_bench, SCALE_MIN_REPLICAS=2)
    assert await changes(bench, user=None) == []
    assert bench.platform.commands == []
    monkeypatch.undo()
    await bench.run(Job.RPS_CHECK)
    assert [one.reason for one in await changes(bench, user=None)] == ["below_min"]


async def test_a_fleet_of_more_bookings_than_a_statement_has_parameters_is_written(make_bench: MakeBench) -> None:
    bench = await make_bench()
    records = [
        DecisionRecord(START, UUID(int=number), MODEL, UUID(ANN), Decision.HOLD, Reason.IN_USE, {})
        for number in range(33_000)
    ]
    async with bench.engine.begin() as connection:
        await decisions.record(connection, records, dry_run=False)
    async with bench.engine.begin() as connection:
        later = [replace(one, reason=Reason.READING_UNKNOWN) for one in records]
        await decisions.record(connection, later, dry_run=False)
        standing = await decisions.standing(connection)
    assert len(standing) == 33_000
    assert set(standing.values()) == {"hold:reading_unknown"}
    rows = await bench.rows(tables.decision)
    assert sum(row.stands for row in rows) == 33_000
