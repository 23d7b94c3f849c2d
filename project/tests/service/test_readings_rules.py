"""The rules about readings, in the composed service: a page that lies takes nothing, and a person is told."""

import io
import json
import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from freezegun.api import FrozenDateTimeFactory
from loguru import logger
from sqlalchemy import update

from dev.fake_platform.platform import Fault, Platform
from limiter.db import tables
from limiter.domain.job import Job
from tests.bench import Bench
from tests.conftest import START, MakeBench
from tests.integration.clients.wire import edited
from tests.service.test_scaling_service import asked, tick

ANN = str(UUID(int=1))
JOBS = (Job.RPS_CHECK, Job.IDLE_WARNING, Job.IDLE_ENFORCE, Job.EVENT_DISPATCH, Job.SAGA_POLL)
Ticks = Callable[[Bench, int], Any]


def book(platform: Platform, model: str, model_id: str | None = None) -> None:
    slots = [(START + timedelta(hours=hour), START + timedelta(hours=hour + 1)) for hour in range(6)]
    platform.add_reservation(ANN, "ann", model, slots, model_id)


async def idle_fleet(make_bench: MakeBench, **settings: object) -> Bench:
    """An unused, oversized model with a row of booked slots, and one that is used."""
    bench = await make_bench(**settings)
    bench.platform.add_model("idle", replicas=4)
    bench.platform.add_model("used")
    bench.platform.call("idle")
    bench.platform.call("used")
    book(bench.platform, "idle")
    await bench.run(Job.RPS_CHECK)
    return bench


async def pass_time(bench: Bench, time: FrozenDateTimeFactory, minutes: int, each: Callable[[], object] = bool) -> None:
    """Run every job each five minutes, and once at the end."""
    for step in [5] * (minutes // 5) + [minutes % 5] * (minutes % 5 > 0):
        time.tick(timedelta(minutes=step))
        each()
        for job in JOBS:
            if await bench.has_work(job):
                await bench.attempt(job)


def scaled_up(bench: Bench) -> list[Any]:
    return [command for command in bench.platform.commands if (command.replicas or 0) > 1]


# --- a page that repeats itself proves nothing ---


@pytest.mark.parametrize(
    "lie",
    [
        lambda platform: platform.freeze_entrypoint(0),
        lambda platform: platform.set_page_age(0, 31),  # two intervals are 30 s
    ],
    ids=["frozen", "aged"],
)
async def test_behind_an_old_page_nobody_is_warned_or_scaled_down_and_a_person_is_told(
    make_bench: MakeBench, time: FrozenDateTimeFactory, lie: Callable[[Platform], None]
) -> None:
    bench = await idle_fleet(make_bench)
    lie(bench.platform)
    await pass_time(bench, time, 1)
    time.tick(timedelta(hours=2))
    await pass_time(bench, time, 8)
    assert await bench.events() == []
    assert bench.platform.commands == []
    assert bench.criticals()["metrics_stale"] >= 3
    first, _ = sorted(await bench.rows(tables.target), key=lambda row: row.target)
    assert first.read_at == START  # it proves nothing of the time since


async def test_a_page_that_moves_again_is_believed_and_what_it_hid_is_use(
    make_bench: MakeBench, time: FrozenDateTimeFactory
) -> None:
    bench = await idle_fleet(make_bench)
    bench.platform.freeze_entrypoint(0)
    await pass_time(bench, time, 50, each=lambda: bench.platform.call("idle"))
    bench.platform.thaw_entrypoint(0)
    await pass_time(bench, time, 10)
    assert await bench.events() == []
    await pass_time(bench, time, 40)
    assert await bench.stages() == ["warning"]


async def test_a_page_at_the_allowed_age_is_believed(make_bench: MakeBench, time: FrozenDateTimeFactory) -> None:
    bench = await idle_fleet(make_bench)
    bench.platform.set_page_age(0, 30)
    time.tick(timedelta(minutes=45))
    await pass_time(bench, time, 1)
    assert await bench.stages() == ["warning"]


async def test_an_idle_process_needs_no_cpu_time_between_two_runs_right_after_each_other(
    make_bench: MakeBench, time: FrozenDateTimeFactory, platform: Platform
) -> None:
    def of_a_python_process(page: str) -> str:
        """The page without the counter of its own scrapes; its CPU time moves by a hundredth each second."""
        lines = [line for line in page.splitlines(keepends=True) if "promhttp_metric_handler" not in line]
        spent = f"process_cpu_seconds_total {int(time().timestamp()) % 1000 / 100}"
        return re.sub(r"^process_cpu_seconds_total .*$", spent, "".join(lines), flags=re.MULTILINE)

    platform.fault("entrypoint", Fault.rewrite(of_a_python_process))
    bench = await idle_fleet(make_bench)
    bench.platform.call("idle")
    await tick(bench, time)
    time.tick(timedelta(seconds=0.1))
    await bench.run(Job.RPS_CHECK)
    assert bench.criticals() == {}
    await tick(bench, time)
    (used,) = [row for row in await bench.rows(tables.usage) if row.model_name == "idle"]
    assert used.last_used_at == START + timedelta(seconds=15)


# --- a page that loses series, and has them again ---


async def test_the_history_of_a_series_that_was_missing_from_a_page_scales_nothing_up(
    make_bench: MakeBench, time: FrozenDateTimeFactory, platform: Platform
) -> None:
    for name in ("busy", "other"):
        platform.add_model(name)
        platform.call(name, 30_000)
        platform.set_rate(name, 5)
    bench = await make_bench()
    await tick(bench, time, 8)
    platform.fault("entrypoint", Fault.rewrite(lambda page: re.sub(r'.*"busy".*\n', "", page)))
    await tick(bench, time, 2)
    platform.clear_faults()
    await tick(bench, time, 24)
    assert asked(platform) == []
    assert bench.criticals() == {}
    platform.set_rate("busy", 36)
    await tick(bench, time, 8)
    assert asked(platform) == [4]


# --- requests in flight ---


async def test_a_request_in_flight_is_use_and_forbids_scaling_down(
    make_bench: MakeBench, time: FrozenDateTimeFactory
) -> None:
    bench = await idle_fleet(make_bench, ENTRYPOINT_INFLIGHT_METRIC="model_requests_in_flight")
    bench.platform.set_in_flight("idle", 1)
    await pass_time(bench, time, 60)
    assert await bench.events() == []
    assert bench.platform.commands == []
    bench.platform.set_in_flight("idle", 0)
    await pass_time(bench, time, 46)
    assert await bench.stages() == ["warning"]
    assert bench.platform.commands != []


async def test_a_gauge_that_is_no_number_of_requests_makes_its_model_unknown(
    make_bench: MakeBench, time: FrozenDateTimeFactory
) -> None:
    bench = await idle_fleet(make_bench, ENTRYPOINT_INFLIGHT_METRIC="model_requests_in_flight")
    bench.platform.set_in_flight("idle", -1)
    await pass_time(bench, time, 50)
    assert await bench.events() == []
    assert bench.platform.commands == []
    assert bench.criticals()["metrics_series_unreadable"] >= 1


# --- restarts and balancers ---


async def test_a_restart_is_counted_and_said_with_its_target(
    make_bench: MakeBench, time: FrozenDateTimeFactory
) -> None:
    bench = await idle_fleet(make_bench)
    first, second = bench.platform.metrics_urls
    assert bench.count("target_restarts_total", target=first) == 0
    assert bench.telemetry.registry.get_sample_value("rps_limiter_target_restarts_total", {"target": second}) == 0
    time.tick(timedelta(seconds=40))
    bench.platform.restart_entrypoint(0)
    said = io.StringIO()
    sink = logger.add(said, serialize=True)
    await bench.run(Job.RPS_CHECK)
    logger.remove(sink)
    lines = [json.loads(line)["record"]["extra"] for line in said.getvalue().splitlines()]
    (gap,) = [line for line in lines if line.get("event") == "target_restarted"]
    assert (gap["target"], gap["seconds"]) == (first, 40)
    assert bench.count("target_restarts_total", target=first) == 1
    assert bench.count("target_restarts_total", target=second) == 0


def startless(page: str) -> str:
    return page.replace("process_start_time_seconds", "another_time_seconds")


@pytest.mark.parametrize("starts", [True, False], ids=["start times", "no start times"])
async def test_a_balancer_in_between_scales_nothing_up_and_a_person_is_told(
    make_bench: MakeBench, time: FrozenDateTimeFactory, platform: Platform, starts: bool
) -> None:
    time.tick(timedelta(minutes=1))
    platform.restart_entrypoint(1)
    platform.add_model("m")
    platform.call("m", 900_000, entrypoint=0)
    platform.call("m", 1_200_000, entrypoint=1)
    platform.balance_entrypoint(0, 1)
    if not starts:
        platform.fault("entrypoint", Fault.rewrite(startless))
    bench = await make_bench(ENTRYPOINT_METRICS_URLS=platform.metrics_urls[0])
    time.tick(timedelta(minutes=1))
    for _ in range(20):
        time.tick(timedelta(seconds=15))
        await bench.run(Job.RPS_CHECK)
    assert bench.platform.commands == []
    assert bench.criticals() == {"metrics_balanced": 10}
    assert bench.count("target_restarts_total", target=platform.metrics_urls[0]) == 0
    (target,) = await bench.rows(tables.target)
    assert target.rate == 0


# --- settings that read other series of the same pages ---

OURS = {"ENTRYPOINT_MATCH_LABELS": '{"service_name": "entrypoint"}'}
NOBODYS = {"ENTRYPOINT_MATCH_LABELS": '{"service_name": "nobody"}'}
OTHER_METRIC, OTHER_LABEL = {"ENTRYPOINT_CALLS_METRIC": "other_calls_total"}, {"ENTRYPOINT_MODEL_LABEL": "called"}


def with_others(page: str) -> str:
    """The page with model `n` counted by another service, with a second family, and with a second label of models."""
    page = page.replace('"n",service_name="entrypoint"', '"n",service_name="other"')
    page = page.replace('{model_name="m"', '{called="n",model_name="m"')
    return page + 'other_calls_total{model_name="m",service_name="entrypoint"} 5.0\n'


async def read_twice(
    make_bench: MakeBench, time: FrozenDateTimeFactory, platform: Platform, first: dict[str, str], then: dict[str, str]
) -> Bench:
    """The same pages under two settings, one after the other; returns the second replica."""
    for name in ("m", "n"):
        platform.add_model(name)
        platform.call(name, 90_000)
        platform.set_rate(name, 1.0)
    platform.fault("entrypoint", Fault.rewrite(with_others))
    await tick(await make_bench(**first), time, 4)
    bench = await make_bench(**then)
    await tick(bench, time, 4)
    return bench


@pytest.mark.parametrize(
    ("first", "then"),
    [(OURS, {}), ({}, OURS), (NOBODYS, OURS), (OTHER_METRIC, {}), ({}, OTHER_METRIC), (OTHER_LABEL, {})],
    ids=["wider", "narrower", "corrected", "metric", "other metric", "label"],
)
async def test_what_was_counted_before_it_was_read_is_neither_called_now_nor_a_restart(
    make_bench: MakeBench,
    time: FrozenDateTimeFactory,
    platform: Platform,
    first: dict[str, str],
    then: dict[str, str],
) -> None:
    bench = await read_twice(make_bench, time, platform, first, then)
    assert asked(platform) == []
    assert bench.criticals() == {}
    assert await bench.rows(tables.gap) == []
    since = {row.first_read_at for row in await bench.rows(tables.target)}
    assert since == {START + timedelta(seconds=5 * 15)}  # the fifth tick set the baseline anew


async def test_calls_after_the_settings_were_changed_are_counted_from_the_second_reading_on(
    make_bench: MakeBench, time: FrozenDateTimeFactory, platform: Platform
) -> None:
    bench = await read_twice(make_bench, time, platform, OURS, {})
    counted = {row.model_name: json.loads(row.samples) for row in await bench.rows(tables.usage)}
    assert sum(calls for _, _, calls in counted["n"]) == pytest.approx(3 * 15, abs=2)


async def test_replicas_of_different_settings_that_take_turns_only_set_the_baseline(
    make_bench: MakeBench, time: FrozenDateTimeFactory, platform: Platform
) -> None:
    platform.add_model("m", replicas=4)
    platform.set_rate("m", 35)
    replicas = [await make_bench(), await make_bench(**OURS)]
    for turn in range(60):
        await tick(replicas[turn % 2], time)
    assert asked(platform) == []
    assert [bench.criticals() for bench in replicas] == [{}, {}]
    await tick(replicas[0], time, 60)
    assert asked(platform) == []


async def test_readings_of_the_version_before_go_on_as_if_they_were_read_under_these_settings(
    make_bench: MakeBench, time: FrozenDateTimeFactory, platform: Platform
) -> None:
    platform.add_model("m")
    platform.set_rate("m", 2)
    await tick(await make_bench(), time)
    bench = await make_bench(**OURS)
    async with bench.engine.begin() as connection:
        await connection.execute(update(tables.target).values(read_as=None))
    await tick(bench, time)
    (used,) = await bench.rows(tables.usage)
    assert sum(calls for _, _, calls in json.loads(used.samples)) == pytest.approx(30)
    assert None not in {row.read_as for row in await bench.rows(tables.target)}


# --- a fleet that is read only in part ---


def nameless(model_id: UUID) -> Callable[[dict[str, Any]], None]:
    """The registry's entry of this model, without a name."""

    def change(body: dict[str, Any]) -> None:
        for item in body["items"]:
            if item["id"] == str(model_id):
                item["name"] = None

    return change


async def test_a_sibling_of_an_entry_that_cannot_be_read_does_not_take_its_share(
    make_bench: MakeBench, time: FrozenDateTimeFactory, platform: Platform
) -> None:
    platform.add_model("m", replicas=1)
    spoiled = platform.add_model("m", replicas=1)
    platform.call("m")
    bench = await make_bench()
    await bench.run(Job.RPS_CHECK)
    platform.set_rate("m", 16)  # 8 for each, of at most 11
    await pass_time(bench, time, 3)
    platform.fault("registry", edited(nameless(spoiled.id)))
    await pass_time(bench, time, 10)
    assert scaled_up(bench) == []
    known = {row.model_id for row in await bench.rows(tables.scaling_state)}
    assert spoiled.id in known


async def test_a_model_that_is_gone_ends_its_spell_though_another_entry_cannot_be_read(
    make_bench: MakeBench, time: FrozenDateTimeFactory, platform: Platform
) -> None:
    bench = await idle_fleet(make_bench)
    spoiled = platform.add_model("spoiled")
    await pass_time(bench, time, 46)
    assert await bench.stages() == ["warning"]
    platform.fault("registry", edited(nameless(spoiled.id)))
    (gone,) = [model for model in platform.models if model.name == "idle"]
    platform.remove_model(gone)
    await pass_time(bench, time, 2)
    assert await bench.stages() == ["withdrawn"]
    known = {row.model_id for row in await bench.rows(tables.scaling_state)}
    assert gone.id not in known
    assert spoiled.id in known


async def test_a_booking_of_a_bare_name_stays_with_an_instance_that_cannot_be_read(
    make_bench: MakeBench, time: FrozenDateTimeFactory, platform: Platform
) -> None:
    first = platform.add_model("twin", id=UUID(int=1))
    platform.add_model("twin", id=UUID(int=2))
    platform.call("twin")
    book(platform, "twin")
    bench = await make_bench()
    await bench.run(Job.RPS_CHECK)
    await pass_time(bench, time, 46)
    assert await bench.stages() == ["warning"]
    platform.fault("registry", edited(nameless(first.id)))
    await pass_time(bench, time, 30)
    assert await bench.events() == []  # neither withdrawn, nor warned again for the other instance, nor cancelled
    assert platform.deletions == []


# --- a lone model that nobody ever called ---


async def test_a_lone_model_is_warned_once_any_name_has_matched_here_before(
    make_bench: MakeBench, time: FrozenDateTimeFactory, platform: Platform
) -> None:
    other = platform.add_model("other")
    platform.call("other")
    bench = await make_bench()
    await bench.run(Job.RPS_CHECK)
    platform.remove_model(other)
    for process in (0, 1):
        platform.restart_entrypoint(process)
    platform.add_model("lone")
    book(platform, "lone")
    await bench.run(Job.RPS_CHECK)
    await pass_time(bench, time, 46)
    assert await bench.stages() == ["warning"]
    assert "metrics_names_mismatch" not in bench.criticals()


async def test_a_lone_model_is_not_warned_where_no_name_ever_matched(
    make_bench: MakeBench, time: FrozenDateTimeFactory, platform: Platform
) -> None:
    platform.add_model("lone")
    book(platform, "lone")
    bench = await make_bench()
    await pass_time(bench, time, 50)
    assert await bench.events() == []
    assert bench.criticals()["metrics_names_mismatch"] >= 1
