"""One snapshot put together: its verdict on each booking, what a next step is to know, and what is recorded."""

from dataclasses import replace
from datetime import time
from typing import Any
from uuid import UUID

import pytest

from limiter.domain.audit import standing_of
from limiter.domain.command import Command, CommandKind, CommandState
from limiter.domain.decision import Decision, Reason
from limiter.domain.fleet import Fleet, ScalingState, ServedModel
from limiter.domain.idle_rule import IdleRule
from limiter.domain.idle_spell import IdleSpell
from limiter.domain.keep import Keep
from limiter.domain.policy import Policy
from limiter.domain.quiet_hours import QuietHours
from limiter.domain.reservations import Bookings, UnbookingMode
from limiter.domain.snapshot import PriorState, Snapshot, take_snapshot
from limiter.domain.step_facts import step_facts
from limiter.domain.usage import Memory, ScrapedPage
from tests.unit.domain.build import (
    ANNA,
    BORIS,
    DAY,
    HOUR,
    IDLE,
    MINUTE,
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
    steps,
)
from tests.unit.domain.build import policy as rules

M, KEY = served(1, "m"), (UUID(int=1), ANNA.id)
FLEET = Fleet((M, ServedModel(UUID(int=2), "other", 1)))
BOOKED = reservation(slot(0, 2 * HOUR), slot(2 * HOUR, 3 * HOUR), name="m")
UNINSTALLS = replace(IDLE, uninstall=True)
NEXT = BOOKED.slots[1]


def policy(idle: IdleRule = IDLE, **more: Any) -> Policy:
    return rules(idle=idle, **more)


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
        changes.get("keeps", ()),
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
    """Anna's spell, warned in time; it names the next slot."""
    return replace(spell(delivered=2700, not_before=3600, steps=steps(NEXT)), model_name="m", **changes)


def keep(until: float, name: str = "m", user: UUID | None = ANNA.id) -> Keep:
    return Keep(name, user, at(0), at(until))


def reason(found: Snapshot) -> tuple[Decision, Reason] | None:
    verdict = found.verdict(KEY)
    return (verdict.decision, verdict.reason) if verdict else None


def test_a_keep_by_the_name_that_rps_check_remembers_keeps_a_model_that_has_another_by_now() -> None:
    renamed = Fleet((replace(M, name="k"), *FLEET.models[1:]))
    kept, over = ([keep(until)] for until in (2 * HOUR, 901))
    assert reason(snapshot(2700, fleet=renamed)) == (Decision.WARN, Reason.UNUSED)
    assert reason(snapshot(2700, fleet=renamed, keeps=kept)) == (Decision.HOLD, Reason.KEPT)
    assert reason(snapshot(3600, fleet=renamed, keeps=over)) == (Decision.HOLD, Reason.IN_USE)


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
    assert reason(real) == (Decision.WITHDRAW, Reason.MODE_CHANGED)
    dry = snapshot(2800, spells=[mine(dry_run=True)], bookings=Bookings(()))
    assert reason(dry) == (Decision.WITHDRAW, Reason.MODE_CHANGED)
    same = snapshot(2800, spells=[mine(dry_run=True)], policy=policy(dry_run=True))
    assert reason(same) == (Decision.HOLD, Reason.WARNED_WAITING)


def test_a_spell_without_a_booking_ends_only_when_that_is_sure() -> None:
    nobody, gone = Bookings(()), Fleet((ServedModel(UUID(int=2), "other", 1),))
    waits = (Decision.HOLD, Reason.READING_UNKNOWN)
    assert reason(snapshot(2800, bookings=nobody)) is None
    assert reason(snapshot(2800, spells=[mine()], bookings=nobody)) == (Decision.WITHDRAW, Reason.BOOKING_GONE)
    unreadable = Bookings((), frozenset({"m"}))
    assert reason(snapshot(2800, spells=[mine()], bookings=unreadable)) == (Decision.HOLD, Reason.BOOKINGS_UNREADABLE)
    assert reason(snapshot(2800, spells=[mine()], fleet=gone)) == (Decision.WITHDRAW, Reason.MODEL_GONE)
    assert reason(snapshot(2800, spells=[mine()], fleet=replace(gone, complete=False))) == waits
    assert reason(snapshot(2800, spells=[mine()], fleet=replace(gone, unreadable=frozenset({M.id})))) == waits


def test_a_model_that_is_only_known_as_it_was_is_not_judged() -> None:
    partial = Fleet((ServedModel(UUID(int=2), "other", 1),), complete=False, last_known=(M,))
    assert reason(snapshot(2700, bookings=Bookings((replace(BOOKED, model_id=None),)), fleet=partial)) == (
        Decision.HOLD,
        Reason.READING_UNKNOWN,
    )


DAILY = reservation(*(slot(day * DAY, day * DAY + 20 * MINUTE) for day in range(6)), name="m")
ALL = replace(IDLE, mode=UnbookingMode.ALL)


def test_in_all_a_spell_lives_on_between_two_slots_and_nobody_else_is_judged_there() -> None:
    between = {"bookings": Bookings((DAILY,)), "policy": policy(ALL)}
    assert reason(snapshot(HOUR, **between)) is None
    assert reason(snapshot(HOUR, **between, spells=[mine(steps=steps(*DAILY.slots[3:]))])) == (
        Decision.HOLD,
        Reason.WARNED_WAITING,
    )
    found = snapshot(HOUR, **between)
    assert found.active_bookings == {}
    assert found.booking((M.id, BORIS.id)) is None
    booking = found.booking(KEY)
    assert booking is not None
    assert (booking.slots, booking.row) == (DAILY.slots, ())


@pytest.mark.parametrize(
    ("keeps", "reasons"),
    [
        ([], (Reason.UNUSED, Reason.DEADLINE_PASSED)),
        ([keep(DAY)], (Reason.KEPT, Reason.KEPT)),
        ([keep(DAY, user=None)], (Reason.KEPT, Reason.KEPT)),
        ([keep(DAY, user=BORIS.id)], (Reason.UNUSED, Reason.DEADLINE_PASSED)),
        ([keep(DAY, "other")], (Reason.UNUSED, Reason.DEADLINE_PASSED)),
        ([keep(3600)], (Reason.IN_USE, Reason.KEPT)),  # it ends now, and idle time counts anew
        ([keep(3601)], (Reason.KEPT, Reason.KEPT)),
        ([keep(900)], (Reason.UNUSED, Reason.KEPT)),
        ([keep(901)], (Reason.IN_USE, Reason.KEPT)),
        ([keep(0)], (Reason.UNUSED, Reason.DEADLINE_PASSED)),
        ([keep(100), keep(DAY, "other"), keep(901, user=None)], (Reason.IN_USE, Reason.KEPT)),
    ],
)
def test_a_keep_holds_off_until_its_end_from_where_idle_time_counts_anew_and_ends_a_spell_however_short_it_was(
    keeps: list[Keep], reasons: tuple[Reason, Reason]
) -> None:
    without, with_spell = snapshot(3600, keeps=keeps).verdict(KEY), snapshot(3600, keeps=keeps, spells=[mine()])
    judged = with_spell.verdict(KEY)
    assert without is not None
    assert judged is not None
    assert (without.reason, judged.reason) == reasons
    assert with_spell.is_kept(mine()) is (reasons[1] is Reason.KEPT)
    if reasons[1] is Reason.KEPT:
        assert judged.decision is Decision.WITHDRAW


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
    assert found.claim_on(M, ANNA.id) is blocker
    assert found.uninstall_blocker(mine()) is blocker


@pytest.mark.parametrize(
    ("starts", "blocker"),
    [
        (2700, None),  # it begins now: he holds it, and does not use it
        (2700.001, Reason.KEEPS_SLOT),
        (2700 + 1800, Reason.KEEPS_SLOT),
        (2700 + 1800.001, None),
    ],
)
def test_the_users_own_later_slot_that_starts_within_the_guard_blocks_an_uninstall(
    starts: float, blocker: Reason | None
) -> None:
    kept = Bookings((reservation(slot(0, 2 * HOUR), slot(starts, 5 * HOUR), name="m"),))
    found = snapshot(2700, bookings=kept, policy=policy(UNINSTALLS))
    assert found.uninstall_blocker(mine()) is blocker
    assert found.claim_on(M, ANNA.id) is None  # it is no reason not to warn


@pytest.mark.parametrize("fleet", [(M, served(3, "m")), (served(0, "m"), M)], ids=["first", "second"])
def test_a_later_slot_of_a_bare_name_blocks_the_uninstall_of_every_instance(fleet: tuple[ServedModel, ...]) -> None:
    soon = reservation(slot(2800, 5 * HOUR, of="bare"), name="m", model=None)
    found = snapshot(2700, fleet=Fleet(fleet), bookings=Bookings((BOOKED, soon)), policy=policy(UNINSTALLS))
    assert found.uninstall_blocker(mine()) is Reason.KEEPS_SLOT


def test_a_user_without_any_slot_left_does_not_block_an_uninstall() -> None:
    assert snapshot(2700, bookings=Bookings(()), policy=policy(UNINSTALLS)).uninstall_blocker(mine()) is None


def test_what_else_blocks_an_uninstall() -> None:
    assert snapshot(2700).claim_on(M, ANNA.id) is Reason.EXEMPT
    exempt = policy(replace(UNINSTALLS, exempt=True))
    assert snapshot(2700, policy=exempt).claim_on(M, ANNA.id) is Reason.EXEMPT
    unreadable = snapshot(2700, policy=policy(UNINSTALLS), bookings=Bookings((BOOKED,), frozenset({"m"})))
    assert unreadable.claim_on(M, ANNA.id) is Reason.BOOKINGS_UNREADABLE
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
    spelled = snapshot(2700, spells=[mine()], bookings=Bookings(())).record(KEY, Decision.WITHDRAW, Reason.BOOKING_GONE)
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
    assert snapshot(900, policy=kept).claim_on(M, ANNA.id) is Reason.EXEMPT
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


# --- what the next step is to know ------------------------------------------------------------------------------------


def uninstall(state: CommandState, finished: float | None = None, failures: int = 1) -> Command:
    ended = None if finished is None else at(finished)
    kind = CommandKind.UNINSTALL
    return Command(UUID(int=8), M.id, "m", kind, None, state, at(3600), finished_at=ended, failures=failures)


def test_the_facts_of_a_step_are_those_of_the_snapshot() -> None:
    found = step_facts(snapshot(3600, policy=policy(UNINSTALLS)), mine(), "r1")
    assert (found.at, found.ended, found.waits) == (at(3600), None, None)
    assert (found.booked, found.model) == ({"r1": BOOKED}, M)
    assert (found.blocker, found.command_blocks) == (None, None)


def test_only_the_reservation_that_was_just_read_is_known() -> None:
    assert step_facts(snapshot(3600), mine(), None).booked == {}
    assert step_facts(snapshot(3600), mine(), "another").booked == {"another": None}


EXEMPT = policy(replace(IDLE, exempt=True))
DRY = policy(dry_run=True)


@pytest.mark.parametrize(
    ("changes", "ended"),
    [
        ({}, None),
        ({"policy": EXEMPT}, Reason.EXEMPT),
        ({"keeps": [keep(DAY)]}, Reason.KEPT),
        ({"keeps": [keep(1)]}, Reason.KEPT),
        ({"keeps": [keep(0)]}, None),  # over before idle time began
        ({"used": 3000}, Reason.USED_AGAIN),
        ({"used": 3000, "policy": EXEMPT}, Reason.EXEMPT),
        ({"used": 3000, "keeps": [keep(DAY, user=None)]}, Reason.KEPT),
        ({"used": 3000, "page": failed_scrape()}, Reason.USED_AGAIN),  # a call is proof
        ({"policy": DRY}, None),  # it waits
    ],
)
def test_an_exemption_a_keep_and_use_end_a_cancelling(changes: dict[str, Any], ended: Reason | None) -> None:
    assert step_facts(snapshot(3600, **changes), mine(), None).ended is ended


def test_what_was_begun_in_a_dry_run_ends_with_it_and_what_was_begun_for_real_waits() -> None:
    real, dry = snapshot(3600), snapshot(3600, policy=DRY)
    assert step_facts(real, mine(dry_run=True), None).ended is Reason.MODE_CHANGED
    assert step_facts(dry, mine(dry_run=True), None).ended is None
    assert step_facts(dry, mine(dry_run=True), None).waits is None
    assert step_facts(dry, mine(), None).waits is Reason.MODE_CHANGED


NIGHT = policy(replace(IDLE, quiet=QuietHours(time(1), time(2))))
UNREADABLE = page(3600, {"m": float("nan"), "other": 9.0})


@pytest.mark.parametrize(
    ("changes", "waits"),
    [
        ({}, None),
        ({"page": failed_scrape()}, Reason.READING_UNKNOWN),
        ({"page": UNREADABLE}, Reason.READING_UNKNOWN),
        ({"bookings": Bookings((BOOKED,), frozenset({"m"}))}, Reason.BOOKINGS_UNREADABLE),
        ({"bookings": Bookings((BOOKED,), frozenset({"other"}))}, None),
        ({"policy": NIGHT}, Reason.QUIET_HOURS),
        ({"policy": DRY}, Reason.MODE_CHANGED),
        ({"policy": DRY, "page": failed_scrape()}, Reason.MODE_CHANGED),
    ],
)
def test_what_is_not_known_the_quiet_hours_and_a_dry_run_make_a_cancelling_wait(
    changes: dict[str, Any], waits: Reason | None
) -> None:
    assert step_facts(snapshot(3600, **changes), mine(), None).waits is waits


@pytest.mark.parametrize(("now", "waits"), [(3599, None), (3600, Reason.QUIET_HOURS), (7200, None)])
def test_the_quiet_hours_begin_and_end_to_the_second(now: float, waits: Reason | None) -> None:
    assert step_facts(snapshot(now, policy=NIGHT), mine(), None).waits is waits


@pytest.mark.parametrize(
    ("changes", "blocker"),
    [
        ({}, None),
        ({"policy": policy(replace(IDLE, uninstall=False))}, Reason.EXEMPT),
        ({"fleet": Fleet((ServedModel(UUID(int=2), "other", 1),))}, Reason.MODEL_GONE),
        ({"used": 3000}, Reason.USED_AGAIN),
    ],
)
def test_what_blocks_an_uninstall_is_known(changes: dict[str, Any], blocker: Reason | None) -> None:
    found = step_facts(snapshot(3600, **{"policy": policy(UNINSTALLS), **changes}), mine(), None)
    assert found.blocker is blocker
    assert (found.model is None) is (blocker is Reason.MODEL_GONE)


@pytest.mark.parametrize(
    ("command", "blocks"),
    [
        (None, None),
        (uninstall(CommandState.FAILED, 3541), Reason.BACKING_OFF),
        (uninstall(CommandState.FAILED, 3540), None),  # a minute after the first failure
        (uninstall(CommandState.FAILED, 3540, failures=2), Reason.BACKING_OFF),
        (uninstall(CommandState.SUBMITTED), None),  # it is under way, which the spell shows itself
        (uninstall(CommandState.COMPLETED, 3599), None),
        (uninstall(CommandState.DRY_RUN, 3599), None),
    ],
)
def test_a_failed_uninstall_is_repeated_with_backoff(command: Command | None, blocks: Reason | None) -> None:
    found = step_facts(snapshot(3600, policy=policy(UNINSTALLS)), mine(uninstall=command), None)
    assert found.command_blocks is blocks


def test_a_models_own_pacing_says_how_long() -> None:
    patient = replace(policy(UNINSTALLS).pacing, backoff_first=secs(61))
    own = policy(UNINSTALLS, own_pacing={"m": patient})
    command = uninstall(CommandState.FAILED, 3540)
    assert step_facts(snapshot(3600, policy=own), mine(uninstall=command), None).command_blocks is Reason.BACKING_OFF


def own(idle: IdleRule, fleet: IdleRule = UNINSTALLS, **more: Any) -> Policy:
    """The fleet's rule, and another one for the model."""
    return replace(policy(fleet, **more), own_rules={"m": (SCALING, idle)})


def test_a_models_own_guard_says_when_its_users_next_slot_is_soon() -> None:
    soon = Bookings((reservation(slot(0, 2 * HOUR), slot(2800, 5 * HOUR), name="m"),))
    patient = own(replace(UNINSTALLS, uninstall_guard=secs(99)))
    assert snapshot(2700, bookings=soon, policy=patient).uninstall_blocker(mine()) is None
    assert snapshot(2700, bookings=soon, policy=policy(UNINSTALLS)).uninstall_blocker(mine()) is Reason.KEEPS_SLOT


def test_an_open_spell_is_judged_by_the_models_own_rule() -> None:
    exempt = snapshot(2800, spells=[mine()], policy=own(replace(IDLE, exempt=True)))
    assert reason(exempt) == (Decision.WITHDRAW, Reason.EXEMPT)
    assert step_facts(exempt, mine(), None).ended is Reason.EXEMPT


def test_the_models_own_quiet_hours_make_a_cancelling_wait() -> None:
    quiet = snapshot(3600, policy=own(NIGHT.idle_rule))
    assert step_facts(quiet, mine(), None).waits is Reason.QUIET_HOURS


def test_the_record_of_a_verdict_tells_the_models_own_mode() -> None:
    found = snapshot(2800, policy=own(replace(IDLE, mode=UnbookingMode.ALL)))
    verdict = found.verdict(KEY)
    assert verdict is not None
    assert found.verdict_record(KEY, verdict).numbers["mode"] == "in all"


def test_a_models_own_gap_cuts_its_rows() -> None:
    assert own(replace(IDLE, row_gap=secs(1))).row_gap("m") == secs(1)
    assert own(replace(IDLE, row_gap=secs(1))).row_gap("other") == IDLE.row_gap
