"""The service records what it read and decided; a replay of that comes to the same decisions, number by number.

RECORD_DAY=docs/day.jsonl makes the recording that is shipped: the whole day in place of its first hours.
"""

import os
from collections import Counter
from datetime import UTC, timedelta
from pathlib import Path
from uuid import UUID

import pytest
from freezegun.api import FrozenDateTimeFactory

from dev.fake_platform.platform import Platform
from limiter.config.loading import load_as
from limiter.config.policy import PolicySettings
from limiter.db import tables
from limiter.domain.decision import Decision, Reason
from limiter.domain.job import Job
from limiter.recording.lines import Began
from limiter.recording.reader import read
from limiter.replay.summary import Summary, summarize
from tests.bench import Bench
from tests.conftest import ROOT, START, MakeBench
from tests.service.day import SETTINGS, Day
from tests.service.test_control import ask
from tests.service.test_scaling_service import ANN, crowd, tick

SHIPPED = ROOT / "docs" / "day.jsonl.gz"
WHOLE = os.environ.get("RECORD_DAY", "")
MINUTES = 24 * 60 if WHOLE else 150
IDLE_EVERY = 5


async def live(bench: Bench, time: FrozenDateTimeFactory, minutes: int) -> None:
    """Run all jobs through so many minutes, whether the services answer or not."""
    day = Day(bench.platform)
    day.begin()
    for minute in range(minutes + 1):
        time.move_to(START + timedelta(minutes=minute))
        day.minute(minute)
        idle = (Job.IDLE_WARNING, Job.EVENT_DISPATCH, Job.IDLE_ENFORCE) if minute % IDLE_EVERY == 0 else ()
        for job in (Job.SAGA_POLL, Job.RPS_CHECK, *idle, Job.EVENT_DISPATCH):
            if await bench.has_work(job):
                await bench.attempt(job)


def as_recorded(path: Path) -> Summary:
    """A replay under the recording's own settings."""
    began = next(iter(read(path)))
    assert isinstance(began, Began)
    return summarize("recorded", load_as(PolicySettings, **began.settings).policy(), read(path))


@pytest.mark.parametrize("platform", [40.0], indirect=True)
async def test_a_replay_decides_as_the_service_did(
    make_bench: MakeBench, time: FrozenDateTimeFactory, tmp_path: Path
) -> None:
    path = Path(WHOLE) if WHOLE else tmp_path / "recording.jsonl"
    bench = await make_bench(**SETTINGS, RECORD_READINGS=path, LOG_LEVEL="ERROR")
    await live(bench, time, MINUTES)
    replayed = as_recorded(path)
    audited = Counter(
        (row.decided_at.astimezone(UTC), row.model_id, row.user_id, row.decision, row.reason, _flat(row.numbers))
        for row in await bench.rows(tables.decision)
    )
    replayed_records = Counter(
        (one.at, one.model_id, one.user_id, str(one.decision), str(one.reason), _flat(dict(one.numbers)))
        for one in replayed.found
    )
    assert replayed_records == audited
    assert (replayed.missing, replayed.extra) == (Counter(), Counter())
    assert replayed.recorded == audited.total() > 50
    _came_to_something(replayed)
    assert not bench.platform.violations


async def test_a_replay_grants_what_the_service_did(
    make_bench: MakeBench, time: FrozenDateTimeFactory, platform: Platform, tmp_path: Path
) -> None:
    path = tmp_path / "recording.jsonl"
    budget = {"SCALE_FLEET_MAX_REPLICAS": 9, "SCALE_FLEET_BUDGETS": '{"a100": 4}'}
    bench = await make_bench(**budget, RECORD_READINGS=path)
    crowd(platform, "a", "b", tags=("a100",))
    crowd(platform, "c", "d")
    platform.add_reservation(ANN, "ann", "a", slots=[(START, START + timedelta(hours=2))])
    await tick(bench, time, 12)
    replayed = as_recorded(path)
    assert (replayed.missing, replayed.extra) == (Counter(), Counter())
    assert {(one.model_name, one.reason) for one in replayed.found} >= {("b", Reason.FLEET_FULL), ("a", Reason.BURST)}
    assert {model.name: model.replicas for model in platform.models} == {"a": 3, "b": 1, "c": 2, "d": 3}


def _flat(numbers: dict[str, float | int | str]) -> tuple[tuple[str, float | int | str], ...]:
    return tuple(sorted(numbers.items()))


def _came_to_something(day: Summary) -> None:
    """The story is only worth comparing if it has everything in it."""
    assert {act.decision for act in day.acts} >= {
        Decision.SCALE_UP,
        Decision.SCALE_DOWN,
        Decision.WARN,
        Decision.WITHDRAW,
        Decision.CANCEL,
    }
    assert Reason.READING_UNKNOWN in {one.reason for one in day.found}
    assert day.slots_cancelled > 0


def test_the_shipped_day_replays_as_it_was_recorded() -> None:
    day = as_recorded(SHIPPED)
    assert 23.9 < day.hours < 24.1
    assert (day.missing, day.extra) == (Counter(), Counter())
    _came_to_something(day)
    assert day.count(Decision.UNINSTALL) > 0


def test_under_other_settings_each_command_begins_where_the_last_one_ended() -> None:
    replicas: dict[object, object] = {}
    for record in summarize("defaults", PolicySettings().policy(), read(SHIPPED)).acts:
        if record.decision in (Decision.SCALE_UP, Decision.SCALE_DOWN):
            assert record.numbers["replicas"] == replicas.get(record.model_id, 1), record
            replicas[record.model_id] = record.numbers["wanted"]
    assert len(replicas) > 1


def test_other_settings_come_to_other_decisions() -> None:
    began = next(iter(read(SHIPPED)))
    assert isinstance(began, Began)
    eager = load_as(PolicySettings, **began.settings | {"idle_limit_seconds": 1800, "scale_target_rps_per_replica": 5})
    usual, other = as_recorded(SHIPPED), summarize("eager", eager.policy(), read(SHIPPED))
    assert other.slots_cancelled > usual.slots_cancelled
    assert other.booked_hours_freed > usual.booked_hours_freed
    assert other.replica_hours > usual.replica_hours
    lazy = load_as(PolicySettings, **began.settings | {"idle_limit_seconds": 86_400})
    none = summarize("lazy", lazy.policy(), read(SHIPPED))
    assert (none.slots_cancelled, none.count(Decision.WARN)) == (0, 0)


@pytest.mark.parametrize("job", [Job.RPS_CHECK, Job.IDLE_WARNING])
async def test_a_replica_that_starts_on_what_another_remembered_records_too(
    make_bench: MakeBench, time: FrozenDateTimeFactory, platform: Platform, tmp_path: Path, job: Job
) -> None:
    platform.add_model("m")
    platform.set_rate("m", 5)
    first = await make_bench()
    for _ in range(3):
        time.tick(timedelta(seconds=15))
        await first.run(Job.RPS_CHECK)
    second = await make_bench(RECORD_READINGS=tmp_path / "day.jsonl")
    time.tick(timedelta(seconds=15))
    await second.run(job)
    (began,) = [line for line in read(tmp_path / "day.jsonl") if isinstance(line, Began)]
    assert [dict(target.counters) for target in began.start.memory.targets.values()] != [{}]


async def booked(bench: Bench, time: FrozenDateTimeFactory, users: int, *minutes: int) -> None:
    """So many users have a model each, which they do not use, and the idle jobs run at these minutes."""
    bench.platform.add_model("used")
    bench.platform.call("used")
    hours = [(START + timedelta(hours=hour), START + timedelta(hours=hour + 1)) for hour in range(4)]
    for number in range(1, users + 1):
        bench.platform.add_model(f"m{number}")
        bench.platform.add_reservation(str(UUID(int=number)), f"u{number}", f"m{number}", slots=hours)
    await bench.run(Job.RPS_CHECK)
    await sweep(bench, time, *minutes)


async def sweep(bench: Bench, time: FrozenDateTimeFactory, *minutes: int) -> None:
    for minute in minutes:
        time.move_to(START + timedelta(minutes=minute))
        await bench.run(Job.RPS_CHECK, Job.IDLE_WARNING, Job.EVENT_DISPATCH, Job.IDLE_ENFORCE)


async def test_a_replay_goes_on_as_people_allowed_a_surge_and_withdrew_a_warning(
    make_bench: MakeBench, time: FrozenDateTimeFactory, tmp_path: Path
) -> None:
    path = tmp_path / "recording.jsonl"
    bench = await make_bench(RECORD_READINGS=path, IDLE_SURGE_MIN=2)
    await booked(bench, time, 4, 45)
    await ask(bench, {"command": "allow_surge"})
    await sweep(bench, time, 46)
    await ask(bench, {"command": "withdraw", "model": "m1", "user_id": str(UUID(int=1))})
    await sweep(bench, time, 62)
    replayed = as_recorded(path)
    assert (replayed.missing, replayed.extra) == (Counter(), Counter())
    held = [one.at - START for one in replayed.found if one.reason is Reason.SURGE]
    assert held == [timedelta(minutes=45)] * 4 + [timedelta(minutes=62)]
    cancelled = {one.user_id for one in replayed.acts if one.decision is Decision.CANCEL}
    assert len(cancelled) == 2
    assert UUID(int=1) not in cancelled


async def test_a_recording_that_begins_with_rps_check_goes_on_from_the_open_spells(
    make_bench: MakeBench, time: FrozenDateTimeFactory, tmp_path: Path
) -> None:
    path = tmp_path / "recording.jsonl"
    await booked(await make_bench(), time, 1, 45)
    await sweep(await make_bench(RECORD_READINGS=path), time, 61)
    replayed = as_recorded(path)
    assert replayed.missing == Counter()
    assert [(one.decision, one.at - START) for one in replayed.acts] == [("cancel", timedelta(minutes=61))]


@pytest.mark.parametrize("dry", [True, False])
async def test_what_was_recorded_in_a_dry_run_may_be_replayed_for_real_and_the_other_way_round(
    make_bench: MakeBench, time: FrozenDateTimeFactory, tmp_path: Path, dry: bool
) -> None:
    path = tmp_path / "recording.jsonl"
    await booked(await make_bench(RECORD_READINGS=path, DRY_RUN=dry), time, 1, 45, 61)
    other = summarize("other", PolicySettings(dry_run=not dry).policy(), read(path))
    acts = [(one.decision, one.at - START) for one in other.acts]
    assert acts == [("warn", timedelta(minutes=45)), ("cancel", timedelta(minutes=61))]
    assert other.slots_cancelled == (3 if dry else 0)
