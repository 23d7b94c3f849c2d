"""One look put together: what it says of each holder, what bars an uninstall, and what is told about it."""

from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest

from limiter.domain.action import Decision, Reason
from limiter.domain.audit import standing_of
from limiter.domain.fleet import Fleet, ServedModel, Sighting
from limiter.domain.idleness import IdleRule, Spell
from limiter.domain.policy import Policy
from limiter.domain.reservations import Bookings, UnbookingMode
from limiter.domain.survey import Past, Survey, survey
from limiter.domain.usage import Memory, Page
from tests.domain.build import (
    ANNA,
    BORIS,
    HOUR,
    IDLE,
    PAUSES,
    SCALING,
    Readings,
    at,
    page,
    reservation,
    secs,
    served,
    slot,
    spell,
    unread,
)

M, HOLDER = served(1, "m"), (UUID(int=1), ANNA.id)
FLEET = Fleet((M, ServedModel(UUID(int=2), "other", 1)))
BOOKED = reservation(slot(0, 2 * HOUR), slot(2 * HOUR, 3 * HOUR), name="m")
UNINSTALLS = replace(IDLE, uninstall=True)
DAY = 24 * HOUR


def policy(idle: IdleRule = IDLE, **more: Any) -> Policy:
    values: dict[str, Any] = {"enforce_per_run": 10, "saga_timeout": secs(900), "retention": secs(7 * DAY)} | more
    return Policy(SCALING, idle, {}, PAUSES, **values)


def remembered(used: float = 0.0) -> Memory:
    told = Readings(names=frozenset({"m", "other"}))
    told.tick(0, a={"m": 1.0, "other": 1.0})
    if used:
        told.tick(used - 15, a={"m": 1.0, "other": 2.0})
        told.tick(used, a={"m": 2.0, "other": 3.0})
    return told.memory


def look(now: float, **changes: Any) -> Survey:
    past = Past(
        {M.id: Sighting(M.id, "m", 1, at(changes.get("seen", 0)))},
        {one.holder: one for one in changes.get("spells", ())},
        changes.get("closed", {}),
        {},
        changes.get("resumed"),
    )
    scrapes: list[Page] = [changes.get("page", page(now, {"m": 2.0 if "used" in changes else 1.0, "other": now + 9.0}))]
    return survey(
        changes.get("policy", policy()),
        changes.get("fleet", FLEET),
        changes.get("bookings", Bookings((BOOKED,))),
        scrapes,
        remembered(changes.get("used", 0.0)),
        past,
        at(now),
    )


def mine(**changes: Any) -> Spell:
    return replace(spell(delivered=2700, not_before=3600), model_name="m", **changes)


def reason(found: Survey) -> tuple[Decision, Reason] | None:
    verdict = found.verdict(HOLDER)
    return (verdict.decision, verdict.reason) if verdict else None


def test_a_hold_is_judged_by_what_is_known_of_it() -> None:
    assert reason(look(2699)) == (Decision.HOLD, Reason.IN_USE)
    assert reason(look(2700)) == (Decision.WARN, Reason.UNUSED)
    assert reason(look(3600, spells=[mine()])) == (Decision.CANCEL, Reason.DEADLINE_PASSED)
    assert reason(look(3600, spells=[mine()], used=3000)) == (Decision.WITHDRAW, Reason.USED_AGAIN)
    assert reason(look(3599, seen=900)) == (Decision.HOLD, Reason.IN_USE)
    assert reason(look(3600, seen=900)) == (Decision.WARN, Reason.UNUSED)
    assert reason(look(3600, closed={HOLDER: at(901)})) == (Decision.HOLD, Reason.IN_USE)
    assert reason(look(3600, resumed=at(901))) == (Decision.HOLD, Reason.IN_USE)
    assert reason(look(2700, page=page(2700, {"m": float("nan"), "other": 9.0}))) == (
        Decision.HOLD,
        Reason.READING_UNKNOWN,
    )
    assert reason(look(2700, bookings=Bookings((BOOKED,), frozenset({"m"})))) == (
        Decision.HOLD,
        Reason.BOOKINGS_UNREADABLE,
    )


def test_a_model_not_seen_by_a_tick_is_not_judged() -> None:
    strange = replace(look(2700), past=Past({}, {}, {}, {}))
    assert reason(strange) == (Decision.HOLD, Reason.NOT_SEEN_RUNNING)
    unmeasured = survey(
        policy(), FLEET, Bookings((BOOKED,)), [page(2700, {"m": 1.0})], Memory(), strange.past, at(2700)
    )
    assert reason(unmeasured) == (Decision.HOLD, Reason.NOT_SEEN_RUNNING)


def test_no_idle_time_reaches_back_beyond_what_is_remembered() -> None:
    verdict = look(10 * HOUR, policy=policy(retention=secs(2 * HOUR)), bookings=Bookings((LONG,))).verdict(HOLDER)
    assert verdict is not None
    assert verdict.idle_since == at(8 * HOUR)


LONG = reservation(slot(0, 20 * HOUR), slot(20 * HOUR, 21 * HOUR), name="m")


def test_a_model_that_can_be_freed_is_warned_about_even_if_nothing_follows() -> None:
    alone = Bookings((reservation(slot(0, 2 * HOUR), name="m"),))
    assert reason(look(2700, bookings=alone)) == (Decision.HOLD, Reason.NOTHING_TO_CANCEL)
    assert reason(look(2700, bookings=alone, policy=policy(UNINSTALLS))) == (Decision.WARN, Reason.UNUSED)


def test_a_spell_of_the_other_mode_ends_whatever_else() -> None:
    real = look(2800, spells=[mine()], policy=policy(dry_run=True))
    assert reason(real) == (Decision.EXPIRE, Reason.MODE_CHANGED)
    dry = look(2800, spells=[mine(dry_run=True)], bookings=Bookings(()))
    assert reason(dry) == (Decision.EXPIRE, Reason.MODE_CHANGED)
    same = look(2800, spells=[mine(dry_run=True)], policy=policy(dry_run=True))
    assert reason(same) == (Decision.HOLD, Reason.WARNED_WAITING)


def test_a_spell_without_a_hold_ends_only_when_that_is_sure() -> None:
    nobody, gone = Bookings(()), Fleet((ServedModel(UUID(int=2), "other", 1),))
    assert reason(look(2800, bookings=nobody)) is None
    assert reason(look(2800, spells=[mine()], bookings=nobody)) == (Decision.EXPIRE, Reason.BOOKING_GONE)
    unreadable = Bookings((), frozenset({"m"}))
    assert reason(look(2800, spells=[mine()], bookings=unreadable)) is None
    assert reason(look(2800, spells=[mine()], fleet=gone)) == (Decision.EXPIRE, Reason.MODEL_GONE)
    assert reason(look(2800, spells=[mine()], fleet=replace(gone, complete=False))) is None


@pytest.mark.parametrize(
    ("starts", "ends", "bar"),
    [
        (0, 2 * HOUR, Reason.HELD_BY_ANOTHER),
        (2700 + 1800, 2 * HOUR, Reason.BOOKED_SOON),
        (2700 + 1801, 2 * HOUR, None),
        (0, 2700, None),
    ],
)
def test_another_users_claim_bars_an_uninstall(starts: float, ends: float, bar: Reason | None) -> None:
    boris = reservation(slot(starts, ends, of="r2"), user=BORIS, name="m")
    found = look(2700, bookings=Bookings((BOOKED, boris)), policy=policy(UNINSTALLS))
    assert found.uninstall_bar(M, ANNA.id) is bar
    assert found.end_bar(mine()) is bar


def test_what_else_bars_an_uninstall() -> None:
    assert look(2700).uninstall_bar(M, ANNA.id) is Reason.EXEMPT
    exempt = policy(replace(UNINSTALLS, exempt=True))
    assert look(2700, policy=exempt).uninstall_bar(M, ANNA.id) is Reason.EXEMPT
    unreadable = look(2700, policy=policy(UNINSTALLS), bookings=Bookings((BOOKED,), frozenset({"m"})))
    assert unreadable.uninstall_bar(M, ANNA.id) is Reason.BOOKINGS_UNREADABLE
    used = look(3600, policy=policy(UNINSTALLS), used=3000)
    assert used.end_bar(mine()) is Reason.USED_AGAIN
    gone = look(3600, policy=policy(UNINSTALLS), fleet=Fleet(()))
    assert gone.end_bar(mine()) is Reason.MODEL_GONE


def test_use_counts_since_the_idle_time_began_and_not_at_its_beginning() -> None:
    assert look(3600, used=3000).used_since(mine(idle_since=at(2999)))
    assert not look(3600, used=3000).used_since(mine(idle_since=at(3000)))
    assert not look(3600).used_since(mine())


def test_a_finding_names_the_model_by_the_hold_or_else_by_the_spell() -> None:
    held = look(2700).finding(HOLDER, Decision.HOLD, Reason.IN_USE)
    assert (held.at, held.model_id, held.model_name, held.user_id) == (at(2700), M.id, "m", ANNA.id)
    assert (held.decision, held.reason, held.numbers) == (Decision.HOLD, Reason.IN_USE, {})
    spelled = look(2700, spells=[mine()], bookings=Bookings(())).finding(HOLDER, Decision.EXPIRE, Reason.BOOKING_GONE)
    assert spelled.model_name == "m"
    assert look(2700, bookings=Bookings(())).finding(HOLDER, Decision.HOLD, Reason.IN_USE).model_name == ""
    assert standing_of(held.decision, held.reason) == "hold:in_use"


def test_every_number_of_a_cancelling_is_told() -> None:
    found = look(3700, spells=[mine()])
    verdict = found.verdict(HOLDER)
    assert verdict is not None
    assert found.explained(HOLDER, verdict).numbers == {
        "idle_since_at": at(0).timestamp(),
        "idle_seconds": 3700,
        "not_before_at": at(3600).timestamp(),
        "delivered_at": at(2700).timestamp(),
        "cancelled_at": at(3700).timestamp(),
        "slots": 1,
        "mode": "in row",
    }


def test_a_warning_tells_no_delivery_and_a_withdrawal_the_use() -> None:
    found = look(2700, policy=policy(replace(IDLE, mode=UnbookingMode.ALL)))
    verdict = found.verdict(HOLDER)
    assert verdict is not None
    assert found.explained(HOLDER, verdict).numbers == {
        "idle_since_at": at(0).timestamp(),
        "idle_seconds": 2700,
        "not_before_at": at(3600).timestamp(),
        "slots": 1,
        "mode": "in all",
    }
    used = look(3600, spells=[mine()], used=3000)
    withdrawn = used.verdict(HOLDER)
    assert withdrawn is not None
    assert used.explained(HOLDER, withdrawn).numbers["used_at"] == at(3000).timestamp()


def test_a_look_keeps_what_it_was_made_of() -> None:
    found = look(2700, used=900)
    assert found.remembered.read_at == at(900)
    assert found.scrapes == [page(2700, {"m": 2.0, "other": 2709.0})]
    assert found.fleet is FLEET
    assert list(found.holdings) == [HOLDER]
    assert Memory().read_at is None


def test_time_unknown_for_a_gap_does_not_count() -> None:
    told = Readings(names=frozenset({"m", "other"}))
    told.tick(0, a={"m": 1.0, "other": 5.0})
    told.tick(60, a={"m": 1.0, "other": 1.0})  # the process restarted: a minute that nobody knows of
    past = look(0).past
    fresh = page(2700, {"m": 1.0, "other": 3.0})
    for now, reason in ((2700, Reason.IN_USE), (2760, Reason.UNUSED)):
        found = survey(
            policy(), FLEET, Bookings((BOOKED,)), [replace(fresh, read_at=at(now))], told.memory, past, at(now)
        )
        verdict = found.verdict(HOLDER)
        assert verdict is not None
        assert verdict.reason is reason


def test_a_look_is_not_distrusted_for_its_own_short_silence() -> None:
    memory = Readings(names=frozenset({"m", "other"}))
    memory.tick(0, a={"m": 1.0, "other": 1.0})
    memory.tick(2685, a={"m": 1.0, "other": 100.0})
    quiet = page(2700, {"m": 1.0, "other": 100.0})
    found = survey(policy(), FLEET, Bookings((BOOKED,)), [quiet], memory.memory, look(0).past, at(2700))
    assert reason(found) == (Decision.WARN, Reason.UNUSED)


def test_rules_of_a_models_own_judge_and_bar_it() -> None:
    own = replace(policy(UNINSTALLS), own_rules={"m": (SCALING, replace(UNINSTALLS, limit=secs(1800)))})
    assert reason(look(900, policy=own)) == (Decision.WARN, Reason.UNUSED)
    kept = replace(policy(UNINSTALLS), own_rules={"m": (SCALING, IDLE)})
    assert look(900, policy=kept).uninstall_bar(M, ANNA.id) is Reason.EXEMPT
    assert reason(look(900, policy=replace(policy(), own_rules={"m": (SCALING, replace(IDLE, exempt=True))}))) == (
        Decision.HOLD,
        Reason.EXEMPT,
    )


def test_an_explained_verdict_keeps_its_decision_and_reason() -> None:
    found = look(3600, spells=[mine()], used=3000)
    verdict = found.verdict(HOLDER)
    assert verdict is not None
    told = found.explained(HOLDER, verdict)
    assert (told.decision, told.reason, told.model_name) == (Decision.WITHDRAW, Reason.USED_AGAIN, "m")


def test_an_undelivered_warning_tells_how_long_and_what() -> None:
    pending = replace(mine(), delivered_at=None)
    verdict = look(2800, spells=[pending]).verdict(HOLDER)
    assert verdict is not None
    assert (verdict.reason, verdict.idle, len(verdict.slots)) == (Reason.WARNING_UNDELIVERED, secs(2800), 1)


def test_without_any_reading_a_holder_is_looked_at_and_left_alone() -> None:
    found = survey(policy(), FLEET, Bookings((BOOKED,)), [unread()], Memory(), look(0).past, at(2700))
    assert reason(found) == (Decision.HOLD, Reason.READING_UNKNOWN)


def test_a_look_at_one_holder_tells_nobody_elses_holds() -> None:
    boris = reservation(slot(0, HOUR, of="r2"), user=BORIS, name="m")
    both = Bookings((BOOKED, boris))
    scrapes = [page(2700, {"m": 1.0})]
    found = survey(policy(), FLEET, both, scrapes, remembered(), look(0).past, at(2700), (M.id, BORIS.id))
    assert [(hold.model, hold.user) for hold in found.holdings.values()] == [(M, BORIS)]
    assert len(survey(policy(), FLEET, both, scrapes, remembered(), look(0).past, at(2700)).holdings) == 2
