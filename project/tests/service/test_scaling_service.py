"""rps_check and saga_poll, composed, against the stand-in platform: commands as the dispatcher sees them."""

import os
from datetime import timedelta
from pathlib import Path

import pytest
from freezegun.api import FrozenDateTimeFactory

from dev.fake_platform.platform import Fault, Platform
from dev.studies.loads import drawn, trace
from dev.studies.scaler_comparison import TARGET
from dev.studies.scalers import MAX, ours, simulate
from limiter.db import tables
from limiter.domain.decision import Reason
from limiter.domain.job import Job
from tests.bench import Bench
from tests.conftest import START, MakeBench

TICK = 15


async def tick(bench: Bench, time: FrozenDateTimeFactory, times: int = 1, seconds: int = TICK) -> None:
    for _ in range(times):
        time.tick(timedelta(seconds=seconds))
        await bench.run(Job.RPS_CHECK)
        if await bench.has_work(Job.SAGA_POLL):
            await bench.run(Job.SAGA_POLL)


def asked(platform: Platform) -> list[int | None]:
    return [command.replicas for command in platform.commands]


@pytest.mark.parametrize("platform", [40.0], indirect=True)
async def test_36_rps_on_one_replica_reach_4_in_one_command_and_return_to_1_in_one(
    make_bench: MakeBench, time: FrozenDateTimeFactory, platform: Platform
) -> None:
    bench = await make_bench()
    platform.add_model("busy")
    platform.set_rate("busy", 36)
    await tick(bench, time, 40)
    assert asked(platform) == [4]
    assert platform.violations == []
    platform.set_rate("busy", 0)
    await tick(bench, time, 40, 2 * TICK)
    assert asked(platform) == [4, 1]
    assert platform.violations == []
    await tick(bench, time, 20, 2 * TICK)
    assert asked(platform) == [4, 1]


async def test_an_outage_of_ours_is_no_stabilization(
    make_bench: MakeBench, time: FrozenDateTimeFactory, platform: Platform
) -> None:
    bench = await make_bench(SCALE_DOWN_STABILIZATION_SECONDS=600)
    platform.add_model("busy", replicas=4)
    platform.set_rate("busy", 1)
    await tick(bench, time, 4)
    time.tick(timedelta(minutes=12))
    platform.set_rate("busy", 36)
    time.tick(timedelta(minutes=2))  # its load is back, but on the average of these fourteen minutes it was 6 RPS
    after = await make_bench(SCALE_DOWN_STABILIZATION_SECONDS=600)
    await tick(after, time)
    assert asked(platform) == []


async def test_a_wish_for_more_does_not_outlast_an_outage_of_ours_either(
    make_bench: MakeBench, time: FrozenDateTimeFactory, platform: Platform
) -> None:
    bench = await make_bench()
    platform.add_model("busy", replicas=2)
    platform.set_rate("busy", 26)
    await tick(bench, time, 2)
    time.tick(timedelta(minutes=70))
    platform.set_rate("busy", 5)  # and the average of these eighty minutes is more than two replicas should carry
    time.tick(timedelta(minutes=10))
    await tick(bench, time, 4)
    assert asked(platform) == []


async def test_after_the_clock_was_set_back_models_are_scaled_as_before(
    make_bench: MakeBench, time: FrozenDateTimeFactory, platform: Platform
) -> None:
    bench = await make_bench(SCALE_DOWN_STABILIZATION_SECONDS=60, SCALE_DOWN_WINDOW_SECONDS=60)
    platform.add_model("busy")
    platform.add_model("quiet", replicas=4)
    platform.add_model("scaled")
    for _ in range(4):
        platform.call("busy", 10 * TICK)
        platform.call("scaled", 36 * TICK)
        await tick(bench, time)
    assert asked(platform) == [4]
    time.tick(timedelta(hours=-1))
    for _ in range(8):
        platform.call("busy", 13 * TICK)
        platform.call("scaled", 50 * TICK)
        await tick(bench, time)
    after = sorted((command.model_name, command.replicas) for command in platform.commands[1:])
    assert after == [("busy", 2), ("quiet", 1), ("scaled", 5)]


async def test_a_steady_load_is_left_with_what_carries_it_after_the_clock_was_set_back(
    make_bench: MakeBench, time: FrozenDateTimeFactory, platform: Platform
) -> None:
    """It was scaled down to one replica, and up again by the burst that this made of it, once a minute."""
    bench = await make_bench(SCALE_DOWN_STABILIZATION_SECONDS=60, SCALE_DOWN_WINDOW_SECONDS=60)
    platform.add_model("m", replicas=4)
    for back in (0, 1):
        time.tick(timedelta(hours=-back))
        for _ in range(8):
            platform.call("m", 36 * TICK)
            await tick(bench, time)
    assert asked(platform) == []


async def test_a_run_by_hand_right_after_another_makes_no_burst_of_a_batch_of_calls(
    make_bench: MakeBench, time: FrozenDateTimeFactory, platform: Platform
) -> None:
    bench = await make_bench()
    platform.add_model("m", replicas=2)
    platform.set_rate("m", 5)
    await tick(bench, time, 3)
    platform.call("m", 120)
    await tick(bench, time, seconds=1)
    await tick(bench, time, seconds=TICK - 1)
    assert asked(platform) == []


@pytest.mark.parametrize("kept", [0, 1])
async def test_a_page_that_is_read_for_the_first_time_is_not_one_without_calls(
    make_bench: MakeBench, time: FrozenDateTimeFactory, platform: Platform, kept: int
) -> None:
    before, *others = platform.metrics_urls
    quick = {"SCALE_DOWN_STABILIZATION_SECONDS": 0, "SCALE_DOWN_WINDOW_SECONDS": 60}
    bench = await make_bench(ENTRYPOINT_METRICS_URLS=before, **quick)
    platform.add_model("m", replicas=4)
    await tick(bench, time)
    platform.call("m", 420, entrypoint=0)
    await tick(bench, time)
    platform.call("m", 15, entrypoint=0)
    platform.call("m", 4200, entrypoint=1)  # most calls take the other way meanwhile
    time.tick(timedelta(seconds=60))
    after = await make_bench(ENTRYPOINT_METRICS_URLS=",".join([before][:kept] + others), **quick)
    await tick(after, time)
    assert asked(platform) == []


@pytest.mark.parametrize(("interval", "late", "rps"), [(15, 14, 10.8), (5, 11, 10)])
async def test_pages_that_come_late_make_no_burst(
    make_bench: MakeBench, time: FrozenDateTimeFactory, platform: Platform, interval: int, late: int, rps: float
) -> None:
    bench = await make_bench(RPS_CHECK_INTERVAL_SECONDS=interval)
    platform.add_model("steady")
    platform.set_rate("steady", rps)
    await tick(bench, time, 20, interval)
    time.tick(timedelta(seconds=interval))
    waits = [late]

    def once(_: str) -> None:
        time.tick(timedelta(seconds=waits.pop() if waits else 0))

    platform.fault("entrypoint", Fault.preceded(once))
    await bench.run(Job.RPS_CHECK)
    platform.clear_faults()
    read_at = START + timedelta(seconds=21 * interval + late)
    assert {row.read_at for row in await bench.rows(tables.target)} == {read_at}
    await tick(bench, time, 20, interval)
    assert asked(platform) == []


async def test_without_burst_lead_and_long_steps_it_climbs_and_descends_a_stairway(
    make_bench: MakeBench, time: FrozenDateTimeFactory, platform: Platform
) -> None:
    bench = await make_bench(SCALE_BURST_FACTOR=0, SCALE_LEAD="false", SCALE_DOWN_STEP=1)
    platform.add_model("busy")
    platform.set_rate("busy", 36)
    await tick(bench, time, 20)
    assert asked(platform) == [3, 4]
    platform.set_rate("busy", 0)
    await tick(bench, time, 60, 2 * TICK)
    assert asked(platform) == [3, 4, 3, 2, 1]


@pytest.mark.parametrize("platform", [90.0], indirect=True)
async def test_growth_is_followed_ahead_by_what_the_models_own_sagas_took(
    make_bench: MakeBench, time: FrozenDateTimeFactory, platform: Platform
) -> None:
    bench = await make_bench(SCALE_COOLDOWN_SECONDS=0, SCALE_MAX_REPLICAS=20, SCALE_LEAD_DEFAULT_SECONDS=30)
    platform.add_model("busy")
    for minute in range(24):
        platform.set_rate("busy", 4 + 2.5 * minute)
        await tick(bench, time, 4)
    reasons = [row.reason for row in await bench.rows(tables.command)]
    assert reasons.count(Reason.EXPECTED_OVERLOAD) >= len(reasons) / 2
    (took,) = [row.seconds for row in await bench.rows(tables.saga_time)]
    assert len(took) == len(reasons) >= 4
    assert all(90 <= seconds <= 105 for seconds in took)
    leads = [row.numbers["lead_seconds"] for row in await bench.rows(tables.decision) if row.decision == "scale_up"]
    assert leads[0] == 45
    assert all(105 <= lead <= 120 for lead in leads[1:])


async def test_one_run_sends_no_more_commands_than_it_may_and_the_next_ones_the_others(
    make_bench: MakeBench, time: FrozenDateTimeFactory, platform: Platform
) -> None:
    bench = await make_bench(SCALE_COMMANDS_PER_RUN=2)
    for number in range(5):
        platform.add_model(f"m{number}")
        platform.set_rate(f"m{number}", 30 + 10 * number)
    asked_of = []
    for _ in range(4):
        await tick(bench, time)
        asked_of.append([command.model_name for command in platform.commands])
    assert [len(names) for names in asked_of] == [0, 2, 4, 5]  # the first reading is only a baseline
    assert sorted(asked_of[1]) == ["m3", "m4"]
    assert bench.count("decisions_total", decision="hold", reason="commands_limit") == 3 + 1


ANN = "00000000-0000-0000-0000-0000000000a1"


def crowd(platform: Platform, *names: str, tags: tuple[str, ...] = ()) -> None:
    """Models of one replica, each of which needs three, the later ones a little more urgently."""
    for number, name in enumerate(names):
        platform.add_model(name).tags = list(tags)
        platform.set_rate(name, 24 + number)


async def test_the_budget_goes_to_who_is_booked_now_then_to_the_most_overloaded_and_is_never_exceeded(
    make_bench: MakeBench, time: FrozenDateTimeFactory, platform: Platform
) -> None:
    bench = await make_bench(SCALE_FLEET_MAX_REPLICAS=9, SCALE_COOLDOWN_SECONDS=0)
    crowd(platform, "a", "b", "c", "d")
    platform.add_reservation(ANN, "ann", "a", slots=[(START, START + timedelta(hours=2))])
    platform.add_reservation(ANN, "ann", "b", slots=[(START + timedelta(hours=1), START + timedelta(hours=2))])
    await tick(bench, time, 10)
    assert {model.name: model.replicas for model in platform.models} == {"a": 3, "b": 1, "c": 2, "d": 3}
    assert bench.count("decisions_total", decision="hold", reason="fleet_full") > 0
    (held,) = [row for row in await bench.rows(tables.decision) if row.model_name == "b" and row.reason == "fleet_full"]
    assert held.numbers.items() >= {"wished": 3, "granted": 1, "asked": 9, "budget": 9, "full": "the fleet's"}.items()
    platform.set_rate("a", 0)
    await tick(bench, time, 60)
    assert sum(model.replicas for model in platform.models) == 9
    assert {model.name: model.replicas for model in platform.models} == {"a": 1, "b": 3, "c": 2, "d": 3}
    assert platform.violations == []


async def test_the_bookings_are_read_only_where_the_budget_is_short_and_without_them_overload_decides(
    make_bench: MakeBench, time: FrozenDateTimeFactory, platform: Platform
) -> None:
    bench = await make_bench(SCALE_FLEET_MAX_REPLICAS=4)
    crowd(platform, "a", "b")
    platform.add_reservation(ANN, "ann", "a", slots=[(START, START + timedelta(hours=2))])
    platform.fault("booking", Fault.status(503))
    await tick(bench, time)
    assert [exchange for exchange in platform.history if exchange.service == "booking"] == []
    await tick(bench, time, 3)
    assert {model.name: model.replicas for model in platform.models} == {"a": 1, "b": 3}
    assert [exchange for exchange in platform.history if exchange.service == "booking"] != []


async def test_a_tags_budget_binds_its_models_only(
    make_bench: MakeBench, time: FrozenDateTimeFactory, platform: Platform
) -> None:
    bench = await make_bench(SCALE_FLEET_BUDGETS='{"a100": 3}')
    crowd(platform, "a", "b", tags=("a100", "blue"))
    crowd(platform, "c", "d")
    await tick(bench, time, 6)
    assert {model.name: model.replicas for model in platform.models} == {"a": 1, "b": 2, "c": 3, "d": 3}
    assert bench.count("fleet_budget", tag="a100") == 3


async def test_the_traffic_of_a_name_is_shared_by_all_its_instances(
    make_bench: MakeBench, time: FrozenDateTimeFactory, platform: Platform
) -> None:
    bench = await make_bench()
    platform.add_model("twin", replicas=2)
    platform.add_model("twin", replicas=2)
    platform.set_rate("twin", 38)
    await tick(bench, time, 40)
    assert asked(platform) == []


async def test_a_failed_saga_is_backed_off_and_a_stuck_one_blocks(
    make_bench: MakeBench, time: FrozenDateTimeFactory, platform: Platform
) -> None:
    bench = await make_bench(SAGA_TIMEOUT_SECONDS=100)
    platform.add_model("busy")
    platform.set_rate("busy", 36)
    platform.next_saga("failed")
    platform.next_saga("stuck")
    await tick(bench, time, 4)
    assert asked(platform) == [4]
    await tick(bench, time, 4)
    assert len(asked(platform)) == 2
    await tick(bench, time, 20)
    assert len(asked(platform)) == 2
    assert bench.criticals() == {"command_failed": 1, "saga_stuck": 1}


async def test_a_lost_answer_is_resolved_by_the_registry_and_never_repeated(
    make_bench: MakeBench, time: FrozenDateTimeFactory, platform: Platform
) -> None:
    bench = await make_bench()
    platform.add_model("busy")
    platform.set_rate("busy", 24)
    platform.fault("dispatcher", Fault.lost_answer(), path="scale")
    await tick(bench, time, 6)
    platform.clear_faults()
    await tick(bench, time, 20)
    assert asked(platform) == [3]
    assert {row.state for row in await bench.rows(tables.command)} == {"completed"}
    assert platform.violations == []


async def test_a_command_that_never_arrived_fails_at_once_and_is_tried_again_later(
    make_bench: MakeBench, time: FrozenDateTimeFactory, platform: Platform
) -> None:
    bench = await make_bench(MODEL_DISPATCHER_URL="http://127.0.0.1:9")
    platform.add_model("busy")
    platform.set_rate("busy", 36)
    await tick(bench, time, 12)
    states = [row.state for row in await bench.rows(tables.command)]
    assert len(states) >= 2
    assert set(states) == {"failed"}
    assert bench.criticals()["command_refused"] == len(states)


@pytest.mark.parametrize("status", [308, 425, 429])
async def test_a_command_that_was_too_much_or_too_early_or_redirected_fails_at_once_and_is_tried_again_later(
    make_bench: MakeBench, time: FrozenDateTimeFactory, platform: Platform, status: int
) -> None:
    bench = await make_bench()
    platform.add_model("busy")
    platform.set_rate("busy", 36)
    platform.fault("dispatcher", Fault.status(status), times=1)
    await tick(bench, time, 12)
    assert [row.state for row in await bench.rows(tables.command)] == ["failed", "completed"]
    assert asked(platform) == [4]
    assert bench.criticals() == {"command_refused": 1}


async def test_one_unfinished_command_per_model_is_kept_by_the_database_itself(
    make_bench: MakeBench, time: FrozenDateTimeFactory, platform: Platform
) -> None:
    from uuid import uuid4

    from limiter.db import ledger
    from limiter.domain.command import Command, CommandKind, CommandState

    bench = await make_bench()
    model = platform.add_model("busy")
    first, second = (
        Command(uuid4(), model.id, "busy", CommandKind.SCALE_UP, 2, CommandState.PLANNED, START) for _ in range(2)
    )
    for intent, taken in ((first, {first.id}), (second, set())):
        async with bench.engine.begin() as connection:
            assert await ledger.plan(connection, [intent], {intent.id: Reason.OVERLOADED}) == taken


async def test_a_dry_run_records_its_decision_and_commands_nothing(
    make_bench: MakeBench, time: FrozenDateTimeFactory, platform: Platform
) -> None:
    bench = await make_bench(DRY_RUN="true")
    platform.add_model("busy")
    platform.set_rate("busy", 36)
    await tick(bench, time, 8)
    assert asked(platform) == []
    rows = await bench.rows(tables.command)
    assert rows
    assert {(row.state, row.kind, row.replicas) for row in rows} <= {("dry_run", "scale_up", n) for n in (4,)}
    assert bench.count("decisions_total", decision="scale_up", reason="burst") == len(rows)


async def test_replicas_above_max_come_down_and_below_min_go_up_without_waiting(
    make_bench: MakeBench, time: FrozenDateTimeFactory, platform: Platform
) -> None:
    bench = await make_bench(SCALE_MIN_REPLICAS=2, SCALE_MAX_REPLICAS=4)
    low, high = platform.add_model("low", replicas=1), platform.add_model("high", replicas=6)
    platform.call("low")
    await tick(bench, time, 2)
    assert {command.model_id: command.replicas for command in platform.commands} == {low.id: 2, high.id: 4}


async def test_an_overridden_model_has_its_own_target_and_an_exempt_one_is_left_alone(
    make_bench: MakeBench, time: FrozenDateTimeFactory, platform: Platform
) -> None:
    own = '{"strong": {"target_rps_per_replica": 50}, "pinned": {"exempt": true}}'
    bench = await make_bench(POLICY_OVERRIDES=own)
    for name in ("strong", "pinned", "plain"):
        platform.add_model(name)
        platform.set_rate(name, 36)
    await tick(bench, time, 8)
    assert {command.model_name for command in platform.commands} == {"plain"}


def twenty_minutes(second: int) -> float:
    """Calls per second: steady, growing, a burst, and quiet again."""
    return 8.0 if second < 240 else 8 + (second - 240) / 12 if second < 540 else 90.0 if second < 660 else 12.0


@pytest.mark.parametrize("platform", [40.0], indirect=True)
async def test_the_service_commands_what_the_study_of_the_same_load_does(
    make_bench: MakeBench, time: FrozenDateTimeFactory, platform: Platform
) -> None:
    """Through Postgres and the dispatcher; what `make compare` says of us is said of the service.

    TRACE=file.csv TARGET=1.5 follows the first twenty minutes of a load of your own.
    """
    given, target = os.environ.get("TRACE"), float(os.environ.get("TARGET", TARGET))
    calls = trace(Path(given))[:1200] if given else drawn(twenty_minutes, 1200, 11)
    quick = {"scale_down_window_seconds": 120, "scale_down_stabilization_seconds": 120}
    study = ours(target, **quick)
    simulate(calls, target, 40, study)
    shared = {name.upper(): value for name, value in quick.items()}
    bench = await make_bench(SCALE_MAX_REPLICAS=MAX, SCALE_TARGET_RPS_PER_REPLICA=target, **shared)
    model = platform.add_model("busy", replicas=2)
    platform.call("busy", 0)
    commanded: list[tuple[int, int | None]] = []
    for second in range(0, 1200, 5):
        if await bench.has_work(Job.SAGA_POLL):
            await bench.run(Job.SAGA_POLL)
        if second % TICK == 0:
            before = len(platform.commands)
            await bench.run(Job.RPS_CHECK)
            commanded += [(second, command.replicas) for command in platform.commands[before:]]
            for saga in platform.running_sagas():
                if (saga.command.replicas or 0) < model.replicas:
                    saga.seconds = 0.0  # replicas that go need no time to load
        platform.call("busy", sum(calls[second : second + 5]))
        time.tick(timedelta(seconds=5))
    assert commanded == study.asked
    assert len(commanded) > (1 if given else 3)
    assert platform.violations == []


async def test_a_saga_that_fails_after_hours_is_backed_off_as_one_that_fails_at_once(
    make_bench: MakeBench, time: FrozenDateTimeFactory, platform: Platform
) -> None:
    bench = await make_bench(SCALE_MIN_REPLICAS=2)
    platform.add_model("m")
    pauses = []
    for number in range(3):
        platform.next_saga("stuck")
        pauses.append(0)
        while len(platform.commands) == number:
            time.tick(timedelta(seconds=15))
            pauses[-1] += 15
            await bench.run(Job.RPS_CHECK)
        time.tick(timedelta(minutes=80))
        await bench.run(Job.SAGA_POLL)
        list(platform.sagas.values())[-1].outcome = "failed"
        await bench.run(Job.SAGA_POLL)
    assert pauses[1:] == [60, 120]
