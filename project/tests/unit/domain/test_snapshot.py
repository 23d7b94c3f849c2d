"""One snapshot put together: its verdict on each booking, what blocks an uninstall, and what is recorded about it."""

from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest

from limiter.domain.audit import standing_of
from limiter.domain.decision import Decision, Reason
from limiter.domain.fleet import Fleet, ScalingState, ServedModel
from limiter.domain.idleness import IdleRule, IdleSpell
from limiter.domain.policy import Policy
from limiter.domain.reservations import Bookings, UnbookingMode
from limiter.domain.snapshot import PriorState, Snapshot, take_snapshot
from limiter.domain.usage import Memory, ScrapedPage
from tests.unit.domain.build import (
    ANNA,
    BORIS,
    HOUR,
    IDLE,
    PACING,
    SCALING,
    Readings,
    at,
    failed_scrape,
    page,
    reservation,
    secs,
    served,
    slot,
    spell,
)

M, KEY = served(1, "m"), (UUID(int=1), ANNA.id)
FLEET = Fleet((M, ServedModel(UUID(int=2), "other", 1)))
BOOKED = reservation(slot(0, 2 * HOUR), slot(2 * HOUR, 3 * HOUR), name="m")
UNINSTALLS = replace(IDLE, uninstall=True)
DAY = 24 * HOUR


def policy(idle: IdleRule = IDLE, **more: Any) -> Policy:
    values: dict[str, Any] = {"enforce_per_run": 10, "saga_timeout": secs(900), "retention": secs(7 * DAY)} | more
    return Policy(SCALING, idle, {}, PACING, **values)


def remembered(used: float = 0.0) -> Memory:
    readings = Readings(names=frozenset({"m", "other"}))
    readings.tick(0, a={"m": 1.0, "other": 1.0})
    if used:
        readings.tick(used - 15, a={"m": 1.0, "other": 2.0})
        readings.tick(used, a={"m": 2.0, "other": 3.0})
    return readings.memory


def snapshot(now: float, **changes: Any) -> Snapshot:
    prior = PriorState(
        {M.id: ScalingState(M.id, "m", 1, at(changes.get("first_seen", 0)))},
        {one.key: one for one in changes.get("spells", ())},
        changes.get("closed", {}),
        {},
        changes.get("resumed"),
    )
    scrapes: list[ScrapedPage] = [
        changes.get("page", page(now, {"m": 2.0 if "used" in changes else 1.0, "other": now + 9.0}))
    ]
    return take_snapshot(
        changes.get("policy", policy()),
        changes.get("fleet", FLEET),
        changes.get("bookings", Bookings((BOOKED,))),
        scrapes,
        remembered(changes.get("used", 0.0)),
        prior,
        at(now),
    )


def mine(**changes: Any) -> IdleSpell:
    return replace(spell(delivered=2700, not_before=3600), model_name="m", **changes)


def reason(found: Snapshot) -> tuple[Decision, Reason] | None:
    verdict = found.verdict(KEY)
    return (verdict.decision, verdict.reason) if verdict else None


def test_a_booking_is_judged_by_what_is_known_of_it() -> None:
    assert reason(snapshot(2699)) == (Decision.HOLD, Reason.IN_USE)
    assert reason(snapshot(2700)) == (Decision.WARN, Reason.UNUSED)
    assert reason(snapshot(3600, spells=[mine()])) == (Decision.CANCEL, Reason.DEADLINE_PASSED)
    assert reason(snapshot(3600, spells=[mine()], used=3000)) == (Decision.WITHDRAW, Reason.USED_AGAIN)
    assert reason(snapshot(3599, first_seen=900)) == (Decision.HOLD, Reason.IN_USE)
    assert reason(snapshot(3600, first_seen=900)) == (Decision.WARN, Reason.UNUSED)
    assert reason(snapshot(3600, closed={KEY: at(901)})) == (Decision.HOLD, Reason.IN_USE)
    assert reason(snapshot(3600, resumed=at(901))) == (Decision.HOLD, Reason.IN_USE)
    assert reason(snapshot(2700, page=page(2700, {"m": float("nan"), "other": 9.0}))) == (
        Decision.HOLD,
        Reason.READING_UNKNOWN,
    )
    assert reason(snapshot(2700, bookings=Bookings((BOOKED,), frozenset({"m"})))) == (
        Decision.HOLD,
        Reason.BOOKINGS_UNREADABLE,
    )


def test_a_model_that_no_tick_has_recorded_is_not_judged() -> None:
    strange = replace(snapshot(2700), prior=PriorState({}, {}, {}, {}))
    assert reason(strange) == (Decision.HOLD, Reason.NOT_SEEN_RUNNING)
    unmeasured = take_snapshot(
        policy(), FLEET, Bookings((BOOKED,)), [page(2700, {"m": 1.0})], Memory(), strange.prior, at(2700)
    )
    assert reason(unmeasured) == (Decision.HOLD, Reason.NOT_SEEN_RUNNING)


def test_no_idle_time_reaches_back_beyond_what_is_remembered() -> None:
    verdict = snapshot(10 * HOUR, policy=policy(retention=secs(2 * HOUR)), bookings=Bookings((LONG,))).verdict(KEY)
    assert verdict is not None
    assert verdict.idle_since == at(8 * HOUR)


LONG = reservation(slot(0, 20 * HOUR), slot(20 * HOUR, 21 * HOUR), name="m")


def test_a_model_that_can_be_freed_is_warned_about_even_if_nothing_follows() -> None:
    alone = Bookings((reservation(slot(0, 2 * HOUR), name="m"),))
    assert reason(snapshot(2700, bookings=alone)) == (Decision.HOLD, Reason.NOTHING_TO_CANCEL)
    assert reason(snapshot(2700, bookings=alone, policy=policy(UNINSTALLS))) == (Decision.WARN, Reason.UNUSED)


def test_a_spell_of_the_other_mode_ends_whatever_else() -> None:
    real = snapshot(2800, spells=[mine()], policy=policy(dry_run=True))
    assert reason(real) == (Decision.EXPIRE, Reason.MODE_CHANGED)
    dry = snapshot(2800, spells=[mine(dry_run=True)], bookings=Bookings(()))
    assert reason(dry) == (Decision.EXPIRE, Reason.MODE_CHANGED)
    same = snapshot(2800, spells=[mine(dry_run=True)], policy=policy(dry_run=True))
    assert reason(same) == (Decision.HOLD, Reason.WARNED_WAITING)


def test_a_spell_without_a_booking_ends_only_when_that_is_sure() -> None:
    nobody, gone = Bookings(()), Fleet((ServedModel(UUID(int=2), "other", 1),))
    assert reason(snapshot(2800, bookings=nobody)) is None
    assert reason(snapshot(2800, spells=[mine()], bookings=nobody)) == (Decision.EXPIRE, Reason.BOOKING_GONE)
    unreadable = Bookings((), frozenset({"m"}))
    assert reason(snapshot(2800, spells=[mine()], bookings=unreadable)) is None
    assert reason(snapshot(2800, spells=[mine()], fleet=gone)) == (Decision.EXPIRE, Reason.MODEL_GONE)
    assert reason(snapshot(2800, spells=[mine()], fleet=replace(gone, complete=False))) is None


@pytest.mark.parametrize(
    ("starts", "ends", "blocker"),
    [
        (0, 2 * HOUR, Reason.HELD_BY_ANOTHER),
        (2700 + 1800, 2 * HOUR, Reason.BOOKED_SOON),
        (2700 + 1801, 2 * HOUR, None),
        (0, 2700, None),
    ],
)
def test_another_users_claim_blocks_an_uninstall(starts: float, ends: float, blocker: Reason | None) -> None:
    boris = reservation(slot(starts, ends, of="r2"), user=BORIS, name="m")
    found = snapshot(2700, bookings=Bookings((BOOKED, boris)), policy=policy(UNINSTALLS))
    assert found.uninstall_conflict(M, ANNA.id) is blocker
    assert found.uninstall_blocker(mine()) is blocker


def test_what_else_blocks_an_uninstall() -> None:
    assert snapshot(2700).uninstall_conflict(M, ANNA.id) is Reason.EXEMPT
    exempt = policy(replace(UNINSTALLS, exempt=True))
    assert snapshot(2700, policy=exempt).uninstall_conflict(M, ANNA.id) is Reason.EXEMPT
    unreadable = snapshot(2700, policy=policy(UNINSTALLS), bookings=Bookings((BOOKED,), frozenset({"m"})))
    assert unreadable.uninstall_conflict(M, ANNA.id) is Reason.BOOKINGS_UNREADABLE
    used = snapshot(3600, policy=policy(UNINSTALLS), used=3000)
    assert used.uninstall_blocker(mine()) is Reason.USED_AGAIN
    gone = snapshot(3600, policy=policy(UNINSTALLS), fleet=Fleet(()))
    assert gone.uninstall_blocker(mine()) is Reason.MODEL_GONE


def test_use_counts_since_the_idle_time_began_and_not_at_its_beginning() -> None:
    assert snapshot(3600, used=3000).used_since(mine(idle_since=at(2999)))
    assert not snapshot(3600, used=3000).used_since(mine(idle_since=at(3000)))
    assert not snapshot(3600).used_since(mine())


def test_a_record_names_the_model_by_the_booking_or_else_by_the_spell() -> None:
    booked = snapshot(2700).record(KEY, Decision.HOLD, Reason.IN_USE)
    assert (booked.at, booked.model_id, booked.model_name, booked.user_id) == (at(2700), M.id, "m", ANNA.id)
    assert (booked.decision, booked.reason, booked.numbers) == (Decision.HOLD, Reason.IN_USE, {})
    spelled = snapshot(2700, spells=[mine()], bookings=Bookings(())).record(KEY, Decision.EXPIRE, Reason.BOOKING_GONE)
    assert spelled.model_name == "m"
    assert snapshot(2700, bookings=Bookings(())).record(KEY, Decision.HOLD, Reason.IN_USE).model_name == ""
    assert standing_of(booked.decision, booked.reason) == "hold:in_use"


def test_every_number_of_a_cancelling_is_recorded() -> None:
    found = snapshot(3700, spells=[mine()])
    verdict = found.verdict(KEY)
    assert verdict is not None
    assert found.verdict_record(KEY, verdict).numbers == {
        "idle_since_at": at(0).timestamp(),
        "idle_seconds": 3700,
        "not_before_at": at(3600).timestamp(),
        "delivered_at": at(2700).timestamp(),
        "cancelled_at": at(3700).timestamp(),
        "slots": 1,
        "mode": "in row",
    }


def test_a_warnings_record_has_no_delivery_and_a_withdrawals_has_the_use() -> None:
    found = snapshot(2700, policy=policy(replace(IDLE, mode=UnbookingMode.ALL)))
    verdict = found.verdict(KEY)
    assert verdict is not None
    assert found.verdict_record(KEY, verdict).numbers == {
        "idle_since_at": at(0).timestamp(),
        "idle_seconds": 2700,
        "not_before_at": at(3600).timestamp(),
        "slots": 1,
        "mode": "in all",
    }
    used = snapshot(3600, spells=[mine()], used=3000)
    withdrawn = used.verdict(KEY)
    assert withdrawn is not None
    assert used.verdict_record(KEY, withdrawn).numbers["used_at"] == at(3000).timestamp()


def test_a_snapshot_keeps_what_it_was_made_of() -> None:
    found = snapshot(2700, used=900)
    assert found.remembered.read_at == at(900)
    assert found.scrapes == [page(2700, {"m": 2.0, "other": 2709.0})]
    assert found.fleet is FLEET
    assert list(found.active_bookings) == [KEY]
    assert Memory().read_at is None


def test_time_unknown_for_a_gap_does_not_count() -> None:
    readings = Readings(names=frozenset({"m", "other"}))
    readings.tick(0, a={"m": 1.0, "other": 5.0})
    readings.tick(60, a={"m": 1.0, "other": 1.0})  # the process restarted: a minute that nobody knows of
    prior = snapshot(0).prior
    fresh = page(2700, {"m": 1.0, "other": 3.0})
    for now, reason in ((2700, Reason.IN_USE), (2760, Reason.UNUSED)):
        found = take_snapshot(
            policy(), FLEET, Bookings((BOOKED,)), [replace(fresh, read_at=at(now))], readings.memory, prior, at(now)
        )
        verdict = found.verdict(KEY)
        assert verdict is not None
        assert verdict.reason is reason


def test_a_snapshot_is_not_distrusted_for_its_own_short_silence() -> None:
    readings = Readings(names=frozenset({"m", "other"}))
    readings.tick(0, a={"m": 1.0, "other": 1.0})
    readings.tick(2685, a={"m": 1.0, "other": 100.0})
    quiet = page(2700, {"m": 1.0, "other": 100.0})
    found = take_snapshot(policy(), FLEET, Bookings((BOOKED,)), [quiet], readings.memory, snapshot(0).prior, at(2700))
    assert reason(found) == (Decision.WARN, Reason.UNUSED)


def test_a_models_own_rules_judge_it_and_block_its_uninstall() -> None:
    own = replace(policy(UNINSTALLS), own_rules={"m": (SCALING, replace(UNINSTALLS, limit=secs(1800)))})
    assert reason(snapshot(900, policy=own)) == (Decision.WARN, Reason.UNUSED)
    kept = replace(policy(UNINSTALLS), own_rules={"m": (SCALING, IDLE)})
    assert snapshot(900, policy=kept).uninstall_conflict(M, ANNA.id) is Reason.EXEMPT
    assert reason(snapshot(900, policy=replace(policy(), own_rules={"m": (SCALING, replace(IDLE, exempt=True))}))) == (
        Decision.HOLD,
        Reason.EXEMPT,
    )


def test_the_record_of_a_verdict_keeps_its_decision_and_reason() -> None:
    found = snapshot(3600, spells=[mine()], used=3000)
    verdict = found.verdict(KEY)
    assert verdict is not None
    record = found.verdict_record(KEY, verdict)
    assert (record.decision, record.reason, record.model_name) == (Decision.WITHDRAW, Reason.USED_AGAIN, "m")


def test_an_undelivered_warning_still_has_its_idle_time_and_slots() -> None:
    pending = replace(mine(), delivered_at=None)
    verdict = snapshot(2800, spells=[pending]).verdict(KEY)
    assert verdict is not None
    assert (verdict.reason, verdict.idle, len(verdict.slots)) == (Reason.WARNING_UNDELIVERED, secs(2800), 1)


def test_without_any_reading_a_booking_is_judged_and_left_alone() -> None:
    found = take_snapshot(
        policy(), FLEET, Bookings((BOOKED,)), [failed_scrape()], Memory(), snapshot(0).prior, at(2700)
    )
    assert reason(found) == (Decision.HOLD, Reason.READING_UNKNOWN)


def test_a_snapshot_for_one_user_has_no_booking_of_another() -> None:
    boris = reservation(slot(0, HOUR, of="r2"), user=BORIS, name="m")
    both = Bookings((BOOKED, boris))
    scrapes = [page(2700, {"m": 1.0})]
    found = take_snapshot(policy(), FLEET, both, scrapes, remembered(), snapshot(0).prior, at(2700), (M.id, BORIS.id))
    assert [(booking.model, booking.user) for booking in found.active_bookings.values()] == [(M, BORIS)]
    everybodys = take_snapshot(policy(), FLEET, both, scrapes, remembered(), snapshot(0).prior, at(2700))
    assert len(everybodys.active_bookings) == 2
