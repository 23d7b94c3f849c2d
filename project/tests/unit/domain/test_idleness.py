"""judge() at its borders. N = 3600, Y = 900: warn at 2700, cancel at 3600, never before delivery + Y."""

from dataclasses import replace
from typing import Any

import pytest

from limiter.domain.active_bookings import ActiveBooking
from limiter.domain.decision import Decision, Reason
from limiter.domain.idleness import (
    ARROWS,
    OPEN_STATES,
    Facts,
    IdleRule,
    IdleSpell,
    SpellState,
    Verdict,
    judge,
    to_cancel,
)
from limiter.domain.reservations import UnbookingMode
from limiter.domain.usage import Gap
from tests.unit.domain.build import HOUR, IDLE, at, booking, facts, secs, slot, spell

HOLD, WARN, CANCEL = Decision.HOLD, Decision.WARN, Decision.CANCEL
NEXT = slot(2 * HOUR, 3 * HOUR)
ROW = booking(slot(0, 2 * HOUR), NEXT)  # anchor 0 unless something excuses the user


def judged(
    now: float,
    open_spell: IdleSpell | None = None,
    known: Facts | None = None,
    rule: IdleRule = IDLE,
    of: ActiveBooking = ROW,
) -> Verdict:
    return judge(rule, of, open_spell, known or facts(), at(now))


def outcome(verdict: Verdict) -> tuple[Decision, Reason]:
    return verdict.decision, verdict.reason


def gap(since: float, until: float) -> Gap:
    return Gap("a", at(since), at(until))


def test_waits_one_second_before_the_warning_time() -> None:
    verdict = judged(2699)
    assert outcome(verdict) == (HOLD, Reason.IN_USE)
    assert (verdict.idle_since, verdict.idle) == (at(0), secs(2699))


def test_warns_exactly_at_the_warning_time() -> None:
    verdict = judged(2700)
    assert outcome(verdict) == (WARN, Reason.UNUSED)
    assert (verdict.idle_since, verdict.idle, verdict.slots) == (at(0), secs(2700), (NEXT,))


def test_a_warning_on_time_promises_nothing_before_the_limit() -> None:
    assert judged(2700).not_before == at(3600)


def test_a_warning_that_comes_late_promises_a_full_lead() -> None:
    assert judged(5000).not_before == at(5900)


def test_a_warning_on_its_way_holds_however_long_it_takes() -> None:
    assert outcome(judged(7199, spell(delivered=None))) == (HOLD, Reason.WARNING_UNDELIVERED)


@pytest.mark.parametrize(("now", "decision"), [(3599.999, HOLD), (3600, CANCEL)])
def test_cancels_at_the_limit_to_the_second_if_warned_in_time(now: float, decision: Decision) -> None:
    verdict = judged(now, spell(delivered=2700))
    reason = Reason.DEADLINE_PASSED if decision is CANCEL else Reason.WARNED_WAITING
    assert outcome(verdict) == (decision, reason)
    assert (verdict.not_before, verdict.slots) == (at(3600), (NEXT,))


@pytest.mark.parametrize(("now", "decision"), [(3600, HOLD), (5899.999, HOLD), (5900, CANCEL)])
def test_a_late_delivery_delays_the_cancelling_to_a_full_lead_after_it(now: float, decision: Decision) -> None:
    assert judged(now, spell(delivered=5000)).decision is decision


@pytest.mark.parametrize(("now", "decision"), [(4999.999, HOLD), (5000, CANCEL)])
def test_what_the_warning_promised_is_kept(now: float, decision: Decision) -> None:
    assert judged(now, spell(delivered=2700, not_before=5000)).decision is decision


@pytest.mark.parametrize(("now", "decision"), [(2799, HOLD), (2800, WARN)])
def test_unknown_time_delays_the_warning_by_its_length(now: int, decision: Decision) -> None:
    assert judged(now, known=facts(gaps=[gap(1000, 1100)])).decision is decision


def test_the_promise_includes_the_unknown_time() -> None:
    assert judged(2800, known=facts(gaps=[gap(1000, 1100)])).not_before == at(3700)


@pytest.mark.parametrize(("now", "decision"), [(3699.999, HOLD), (3700, CANCEL)])
def test_unknown_time_after_the_warning_delays_the_cancelling(now: float, decision: Decision) -> None:
    assert judged(now, spell(delivered=2700), facts(gaps=[gap(3000, 3100)])).decision is decision


def test_unknown_time_before_the_anchor_does_not_matter() -> None:
    known = facts(used_at=at(500), gaps=[gap(100, 400)])
    assert judged(3200, known=known).decision is WARN


ANCHORS = ["used_at", "first_seen_at", "measured_since", "resumed_at", "closed_at"]


@pytest.mark.parametrize("excuse", ANCHORS)
@pytest.mark.parametrize(("now", "decision"), [(3699, HOLD), (3700, WARN)])
def test_idle_time_counts_from_the_latest_excuse(excuse: str, now: int, decision: Decision) -> None:
    changes: dict[str, Any] = {excuse: at(1000)}
    verdict = judged(now, known=facts(**changes))
    assert (verdict.decision, verdict.idle_since) == (decision, at(1000))


def test_idle_time_never_counts_from_before_the_users_row() -> None:
    late = booking(slot(1000, 2 * HOUR), NEXT)
    assert judged(3699, of=late).decision is HOLD
    assert judged(3700, of=late).decision is WARN


def test_idle_time_goes_on_from_slot_to_slot_of_one_row() -> None:
    second = slot(1800, 4 * HOUR)
    assert judged(2700, of=booking(slot(0, 1800), second, slot(4 * HOUR, 5 * HOUR), current=second)).decision is WARN


@pytest.mark.parametrize("excuse", ["first_seen_at", "measured_since", "resumed_at", "closed_at"])
@pytest.mark.parametrize(("now", "decision"), [(4599.999, HOLD), (4600, CANCEL)])
def test_an_excuse_after_the_warning_moves_the_deadline(excuse: str, now: float, decision: Decision) -> None:
    changes: dict[str, Any] = {excuse: at(1000)}
    assert judged(now, spell(delivered=2700), facts(**changes)).decision is decision


def test_use_after_the_spell_began_withdraws_the_warning() -> None:
    verdict = judged(3600, spell(delivered=2700, idle_since=100), facts(used_at=at(100.001)))
    assert outcome(verdict) == (Decision.WITHDRAW, Reason.USED_AGAIN)
    assert verdict.idle_since == at(100.001)


def test_the_use_that_the_spell_began_with_does_not_withdraw_it() -> None:
    verdict = judged(3700, spell(delivered=2800, idle_since=100), facts(used_at=at(100)))
    assert outcome(verdict) == (CANCEL, Reason.DEADLINE_PASSED)


def test_use_withdraws_a_warning_that_is_still_on_its_way() -> None:
    assert judged(3000, spell(delivered=None), facts(used_at=at(2900))).decision is Decision.WITHDRAW


def test_use_withdraws_even_between_slots_and_with_nothing_to_cancel() -> None:
    alone = booking(slot(0, 2 * HOUR), nobody=True)
    assert judged(3000, spell(delivered=2700), facts(used_at=at(2900)), of=alone).decision is Decision.WITHDRAW


@pytest.mark.parametrize("open_spell", [None, spell(delivered=None), spell(delivered=2700)])
@pytest.mark.parametrize(
    ("unsure", "reason"),
    [
        (facts(known=False), Reason.READING_UNKNOWN),
        (facts(bookings_readable=False), Reason.BOOKINGS_UNREADABLE),
        (facts(first_seen_at=None), Reason.NOT_SEEN_RUNNING),
        (facts(measured_since=None), Reason.NOT_SEEN_RUNNING),
    ],
)
def test_what_is_not_known_neither_warns_nor_cancels(
    open_spell: IdleSpell | None, unsure: Facts, reason: Reason
) -> None:
    assert outcome(judged(7199, open_spell, unsure)) == (HOLD, reason)


@pytest.mark.parametrize("open_spell", [None, spell(delivered=None), spell(delivered=2700)])
def test_between_two_slots_nothing_is_done(open_spell: IdleSpell | None) -> None:
    between = booking(slot(0, HOUR), NEXT, nobody=True)
    assert outcome(judged(7199, open_spell, of=between)) == (HOLD, Reason.BETWEEN_SLOTS)


ALONE = booking(slot(0, 2 * HOUR))


def test_with_nothing_to_cancel_nobody_is_warned() -> None:
    assert outcome(judged(7199, of=ALONE)) == (HOLD, Reason.NOTHING_TO_CANCEL)


@pytest.mark.parametrize("delivered", [None, 2700])
def test_with_nothing_left_to_cancel_a_spell_expires(delivered: float | None) -> None:
    assert outcome(judged(7199, spell(delivered), of=ALONE)) == (Decision.EXPIRE, Reason.NOTHING_TO_CANCEL)


def test_a_model_to_be_freed_is_reason_enough_to_warn_and_to_act() -> None:
    assert outcome(judged(2700, known=facts(freeable=True), of=ALONE)) == (WARN, Reason.UNUSED)
    verdict = judged(3600, spell(delivered=2700), facts(freeable=True), of=ALONE)
    assert outcome(verdict) == (CANCEL, Reason.DEADLINE_PASSED)
    assert verdict.slots == ()


def test_an_exempt_model_is_held_and_its_warning_withdrawn() -> None:
    exempt = replace(IDLE, exempt=True)
    assert outcome(judged(7199, rule=exempt)) == (HOLD, Reason.EXEMPT)
    assert outcome(judged(7199, spell(delivered=2700), rule=exempt)) == (Decision.WITHDRAW, Reason.EXEMPT)
    assert judged(7199, spell(delivered=2700), facts(known=False), exempt).decision is Decision.WITHDRAW


def test_the_current_slot_is_cancelled_only_if_so_configured() -> None:
    assert to_cancel(IDLE, ROW, at(60)) == (NEXT,)
    assert to_cancel(replace(IDLE, cancel_current=True), ROW, at(60)) == (ROW.current, NEXT)


def test_with_the_current_slot_to_cancel_a_lone_slot_is_something_to_cancel() -> None:
    assert judged(2700, rule=replace(IDLE, cancel_current=True), of=ALONE).slots == ALONE.slots


def test_the_mode_says_what_follows() -> None:
    tomorrow = slot(24 * HOUR, 25 * HOUR)
    both = booking(slot(0, 2 * HOUR), NEXT, later=[tomorrow])
    assert judged(2700, of=both).slots == (NEXT,)
    assert judged(2700, rule=replace(IDLE, mode=UnbookingMode.ALL), of=both).slots == (NEXT, tomorrow)


def test_a_slot_that_has_begun_meanwhile_is_not_cancelled_any_more() -> None:
    second, third = slot(3500, 3 * HOUR), slot(3 * HOUR, 4 * HOUR)
    moved_on = booking(slot(0, 3500), second, third, current=second)
    assert judged(3600, spell(delivered=2700), of=moved_on).slots == (third,)


def test_open_states_have_arrows_and_ends_have_none() -> None:
    assert set(ARROWS) == set(OPEN_STATES)
    assert set(SpellState) - set(OPEN_STATES) == {SpellState.ENFORCED, SpellState.WITHDRAWN, SpellState.EXPIRED}
    assert all(ARROWS.values())


def test_only_a_warned_spell_is_enforced_and_every_state_can_be_reached() -> None:
    assert [source for source, arrows in ARROWS.items() if SpellState.ENFORCING in arrows] == [SpellState.WARNED]
    reached = {SpellState.WARNING_PENDING} | {target for arrows in ARROWS.values() for target in arrows}
    assert reached == set(SpellState)
    assert all(source not in arrows and all(arrows.values()) for source, arrows in ARROWS.items())
