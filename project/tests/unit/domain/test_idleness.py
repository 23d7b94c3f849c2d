"""judge() and judge_spell() at their borders. N = 3600, Y = 900: warn at 2700, cancel at 3600.

All of it is booked time: it runs while a slot of the user runs.
"""

from dataclasses import replace
from datetime import time
from typing import Any

import pytest

from limiter.domain.active_bookings import ActiveBooking
from limiter.domain.decision import Decision, Reason
from limiter.domain.idle_rule import IdleRule, at_risk
from limiter.domain.idle_spell import (
    ARROWS,
    CLOSING_REASONS,
    OPEN_STATES,
    IdleSpell,
    SpellState,
    Step,
    StepState,
    as_booked,
    closing_reason,
    planned_steps,
)
from limiter.domain.idleness import Facts, anchor, judge, judge_spell
from limiter.domain.keep import Keep
from limiter.domain.overtaken import held_back
from limiter.domain.quiet_hours import QuietHours
from limiter.domain.reservations import Bookings, Reservation, Slot, UnbookingMode
from limiter.domain.usage import Gap
from limiter.domain.verdict import Verdict, open_spell
from tests.unit.domain.build import (
    BORIS,
    DAY,
    HOUR,
    IDLE,
    MINUTE,
    at,
    booking,
    facts,
    policy,
    reservation,
    secs,
    slot,
    spell,
    steps,
)

HOLD, WARN, CANCEL, WITHDRAW = Decision.HOLD, Decision.WARN, Decision.CANCEL, Decision.WITHDRAW
ALL = replace(IDLE, mode=UnbookingMode.ALL)
WITH_CURRENT = replace(IDLE, cancel_current=True)
NEXT = slot(2 * HOUR, 3 * HOUR)
ROW = booking(slot(0, 2 * HOUR), NEXT)  # idle since 0 unless something excuses the user


def judged(now: float, known: Facts | None = None, rule: IdleRule = IDLE, of: ActiveBooking = ROW) -> Verdict:
    return judge(rule, of, known or facts(), at(now))


def warned(delivered: float | None = 2700, *named: Slot, **changes: Any) -> IdleSpell:
    """A spell that names the next slot, or those given."""
    return spell(delivered, steps=steps(*(named or (NEXT,))), **{"not_before": 3600} | changes)


def judged_spell(
    now: float,
    open_one: IdleSpell | None = None,
    known: Facts | None = None,
    rule: IdleRule = IDLE,
    of: ActiveBooking | None = ROW,
) -> Verdict:
    return judge_spell(rule, of, open_one or warned(), known or facts(), at(now))


def outcome(verdict: Verdict) -> tuple[Decision, Reason]:
    return verdict.decision, verdict.reason


def gap(since: float, until: float) -> Gap:
    return Gap("a", at(since), at(until))


# --- when a warning goes out ------------------------------------------------------------------------------------------


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


@pytest.mark.parametrize(("now", "decision"), [(2799, HOLD), (2800, WARN)])
def test_unknown_time_delays_the_warning_by_its_length(now: int, decision: Decision) -> None:
    assert judged(now, facts(gaps=[gap(1000, 1100)])).decision is decision


def test_the_promise_includes_the_unknown_time() -> None:
    assert judged(2800, facts(gaps=[gap(1000, 1100)])).not_before == at(3700)


def test_unknown_time_before_the_anchor_does_not_matter() -> None:
    assert judged(3200, facts(used_at=at(500), gaps=[gap(100, 400)])).decision is WARN


EXCUSES = ["used_at", "first_seen_at", "measured_since", "resumed_at", "closed_at", "keep_ended_at"]


@pytest.mark.parametrize("excuse", EXCUSES)
@pytest.mark.parametrize(("now", "decision"), [(3699, HOLD), (3700, WARN)])
def test_idle_time_counts_from_the_latest_excuse(excuse: str, now: int, decision: Decision) -> None:
    changes: dict[str, Any] = {excuse: at(1000)}
    verdict = judged(now, facts(**changes))
    assert (verdict.decision, verdict.idle_since) == (decision, at(1000))


@pytest.mark.parametrize("excuse", EXCUSES)
@pytest.mark.parametrize("rule", [IDLE, ALL], ids=["in row", "all"])
def test_the_latest_of_several_excuses_counts(excuse: str, rule: IdleRule) -> None:
    changes: dict[str, Any] = dict.fromkeys(EXCUSES, at(500)) | {excuse: at(501)}
    assert anchor(rule, ROW, facts(**changes)) == at(501)


def test_a_spells_own_idle_time_does_not_begin_before_the_spell_says() -> None:
    assert anchor(IDLE, ROW, facts(), spell(idle_since=700)) == at(700)
    assert anchor(IDLE, ROW, facts(used_at=at(800)), spell(idle_since=700)) == at(800)


# --- booked time ------------------------------------------------------------------------------------------------------


def test_idle_time_never_counts_from_before_the_users_row() -> None:
    late = booking(slot(1000, 2 * HOUR), NEXT)
    assert judged(3699, of=late).decision is HOLD
    assert judged(3700, of=late).decision is WARN


def test_idle_time_goes_on_from_slot_to_slot_of_one_row() -> None:
    second = slot(1800, 4 * HOUR)
    assert judged(2700, of=booking(slot(0, 1800), second, slot(4 * HOUR, 5 * HOUR), current=second)).decision is WARN


PAUSED = slot(0, 1000), slot(1300, 2 * HOUR), slot(2 * HOUR, 3 * HOUR)  # a pause of 300 within the row


@pytest.mark.parametrize(("now", "decision"), [(2999, HOLD), (3000, WARN)])
def test_idle_time_pauses_between_two_slots_of_a_row(now: float, decision: Decision) -> None:
    verdict = judged(now, of=booking(*PAUSED, current=PAUSED[1]))
    assert (verdict.decision, verdict.idle) == (decision, secs(now - 300))


@pytest.mark.parametrize(("now", "decision"), [(3899.999, HOLD), (3900, CANCEL)])
def test_the_pause_between_two_slots_delays_the_cancelling(now: float, decision: Decision) -> None:
    booked = booking(*PAUSED, current=PAUSED[1])
    assert judged_spell(now, warned(2700), of=booked).decision is decision


@pytest.mark.parametrize(("now", "decision"), [(3099, HOLD), (3100, WARN)])
@pytest.mark.parametrize("lost", [(900, 1100), (900, 1000), (1300, 1400)])
def test_unknown_time_counts_only_where_it_is_booked(lost: tuple[int, int], now: float, decision: Decision) -> None:
    known = facts(gaps=[gap(*lost), gap(1010, 1290)])  # the second one lies within the pause
    assert judged(now, known, of=booking(*PAUSED, current=PAUSED[1])).decision is decision


YESTERDAY, TODAY, TOMORROW = slot(-DAY, 2000 - DAY), slot(0, 2 * HOUR), slot(DAY, DAY + HOUR)
LONG_KNOWN = facts(first_seen_at=at(-9 * DAY), measured_since=at(-9 * DAY))


def test_in_row_a_new_row_starts_anew_and_in_all_every_slot_adds_up() -> None:
    booked = booking(TODAY, NEXT, earlier=[YESTERDAY])
    assert judged(600, LONG_KNOWN, of=booked).idle == secs(600)
    verdict = judged(600, LONG_KNOWN, ALL, booked)
    assert (verdict.idle_since, verdict.idle) == (YESTERDAY.start, secs(2600))


@pytest.mark.parametrize(("now", "decision"), [(699, HOLD), (700, WARN)])
def test_in_all_idle_time_of_another_day_brings_the_warning_forward(now: float, decision: Decision) -> None:
    booked = booking(TODAY, NEXT, earlier=[YESTERDAY])
    verdict = judged(now, LONG_KNOWN, ALL, booked)
    assert (verdict.decision, verdict.idle) == (decision, secs(2000 + now))


SHORT_DAYS = [slot(day * DAY, day * DAY + 20 * MINUTE, id=f"day {day}") for day in range(7)]


@pytest.mark.parametrize(
    ("day", "minute", "outcome_then"),
    [
        (0, 19, (HOLD, Reason.IN_USE)),
        (1, 19, (HOLD, Reason.IN_USE)),
        (2, 4, (HOLD, Reason.IN_USE)),
        (2, 5, (WARN, Reason.UNUSED)),  # 45 minutes of three days
    ],
)
def test_in_all_unused_slots_shorter_than_the_limit_add_up_over_days(
    day: int, minute: int, outcome_then: tuple[Decision, Reason]
) -> None:
    booked = booking(SHORT_DAYS[day], earlier=SHORT_DAYS[:day], later=SHORT_DAYS[day + 1 :])
    assert outcome(judged(day * DAY + minute * MINUTE, rule=ALL, of=booked)) == outcome_then


def test_in_all_the_deadline_is_found_by_walking_over_the_coming_days() -> None:
    booked = booking(SHORT_DAYS[2], earlier=SHORT_DAYS[:2], later=SHORT_DAYS[3:])
    verdict = judged(2 * DAY + 5 * MINUTE, rule=ALL, of=booked)
    assert verdict.not_before == at(2 * DAY + 20 * MINUTE)  # the third slot ends as the hour is full
    assert verdict.slots == tuple(SHORT_DAYS[3:])


def test_in_all_a_deadline_beyond_this_slot_lies_in_a_later_one() -> None:
    quarters = [slot(day * DAY, day * DAY + 15 * MINUTE) for day in range(6)]
    booked = booking(quarters[2], earlier=quarters[:2], later=quarters[3:])
    assert judged(2 * DAY + 15 * MINUTE - 1, rule=ALL, of=booked).decision is HOLD
    verdict = judged(3 * DAY, rule=ALL, of=booking(quarters[3], earlier=quarters[:3], later=quarters[4:]))
    assert (verdict.decision, verdict.idle) == (WARN, secs(45 * MINUTE))
    assert verdict.not_before == at(3 * DAY + 15 * MINUTE)
    assert verdict.slots == tuple(quarters[4:])


def test_in_row_slots_of_other_days_neither_count_nor_go() -> None:
    booked = booking(SHORT_DAYS[2], earlier=SHORT_DAYS[:2], later=SHORT_DAYS[3:])
    assert outcome(judged(2 * DAY + 19 * MINUTE, of=booked)) == (HOLD, Reason.IN_USE)


# --- the slots at risk ------------------------------------------------------------------------------------------------

HOURS = [slot(hour * HOUR, (hour + 1) * HOUR) for hour in range(4)]


@pytest.mark.parametrize(
    ("deadline", "risked"),
    [
        (0, HOURS),
        (0.001, HOURS[1:]),
        (HOUR, HOURS[1:]),  # what starts at the deadline is at risk
        (HOUR + 0.001, HOURS[2:]),
        (3 * HOUR, HOURS[3:]),
        (3 * HOUR + 0.001, []),
    ],
)
@pytest.mark.parametrize("rule", [IDLE, ALL], ids=["in row", "all"])
def test_slots_that_start_at_or_after_the_deadline_are_at_risk(
    rule: IdleRule, deadline: float, risked: list[Slot]
) -> None:
    assert at_risk(rule, booking(*HOURS), at(deadline)) == tuple(risked)


def test_in_row_only_the_row_is_at_risk_and_in_all_every_later_slot() -> None:
    booked = booking(*HOURS[:2], earlier=[YESTERDAY], later=[TOMORROW])
    assert at_risk(IDLE, booked, at(60)) == (HOURS[1],)
    assert at_risk(ALL, booked, at(60)) == (HOURS[1], TOMORROW)


def test_an_overlapping_slot_that_starts_later_is_at_risk() -> None:
    overlapping = slot(HOUR, 3 * HOUR)
    assert at_risk(IDLE, booking(slot(0, 2 * HOUR), overlapping), at(HOUR)) == (overlapping,)


@pytest.mark.parametrize("rule", [IDLE, ALL], ids=["in row", "all"])
def test_the_current_slot_is_at_risk_only_if_so_configured(rule: IdleRule) -> None:
    assert at_risk(rule, ROW, at(60)) == (NEXT,)
    assert at_risk(replace(rule, cancel_current=True), ROW, at(60)) == (ROW.current, NEXT)


@pytest.mark.parametrize(("deadline", "risked"), [(2 * HOUR - 0.001, True), (2 * HOUR, False)])
def test_the_current_slot_is_not_at_risk_if_it_is_over_at_the_deadline(deadline: float, risked: bool) -> None:
    assert (ROW.current in at_risk(WITH_CURRENT, ROW, at(deadline))) is risked


def test_no_other_slot_that_has_begun_is_at_risk_with_the_current_one() -> None:
    shorter, longest = slot(60, 2 * HOUR, id="s"), slot(0, 3 * HOUR, id="s", of="r2")  # ids are a reservation's own
    assert at_risk(WITH_CURRENT, booking(longest, shorter), at(HOUR)) == (longest,)


def test_two_hourly_slots_the_second_is_named_at_45_minutes_and_goes_at_60_though_it_has_begun() -> None:
    first, second = HOURS[:2]
    verdict = judged(45 * MINUTE, of=booking(first, second))
    assert outcome(verdict) == (WARN, Reason.UNUSED)
    assert (verdict.not_before, verdict.slots) == (at(HOUR), (second,))
    begun = booking(first, second, current=second)
    then = judged_spell(HOUR, warned(2700, second), of=begun)
    assert (outcome(then), then.slots) == ((CANCEL, Reason.DEADLINE_PASSED), (second,))


def test_a_minute_late_the_second_of_two_hourly_slots_is_not_at_risk_any_more() -> None:
    verdict = judged(46 * MINUTE, of=booking(*HOURS[:2]))
    assert outcome(verdict) == (HOLD, Reason.NOTHING_TO_CANCEL)
    assert (verdict.idle_since, verdict.idle) == (at(0), secs(46 * MINUTE))


ALONE = booking(slot(0, 2 * HOUR))


def test_with_nothing_to_cancel_nobody_is_warned() -> None:
    verdict = judged(2700, of=ALONE)
    assert outcome(verdict) == (HOLD, Reason.NOTHING_TO_CANCEL)
    assert (verdict.idle_since, verdict.idle) == (at(0), secs(2700))


@pytest.mark.parametrize(
    ("end", "decision"),
    [(3599, HOLD), (3600, WARN)],  # one second more, and it could come true
)
@pytest.mark.parametrize("rule", [ALL, replace(ALL, cancel_current=True)], ids=["later ones", "the current one too"])
def test_slots_that_end_before_the_limit_is_reached_have_no_deadline_and_no_warning(
    rule: IdleRule, end: float, decision: Decision
) -> None:
    tomorrow = slot(DAY, DAY + 0.5)  # half a second of it does not fill the limit
    booked = booking(slot(0, end), later=[tomorrow])
    assert judged(2700, rule=rule, of=booked).decision is decision


@pytest.mark.parametrize(
    ("since", "until", "decision"), [(3601, HOUR * 2, WARN), (3600, HOUR * 2, HOLD), (0, 3601, HOLD), (0, 3600, WARN)]
)
def test_nobody_is_warned_of_a_model_that_slots_forbid_to_free_at_the_deadline(
    since: float, until: float, decision: Decision
) -> None:
    known = facts(freeable=True, barred=[(at(since), at(until))])
    assert judged(2700, known, of=ALONE).decision is decision
    assert judged(2700, known).decision is WARN  # of a slot that follows


@pytest.mark.parametrize("freeable", [False, True])
def test_without_a_deadline_nobody_is_warned_even_if_the_model_could_be_freed(freeable: bool) -> None:
    short = booking(slot(0, 3599))
    assert outcome(judged(3000, facts(freeable=freeable), of=short)) == (HOLD, Reason.NOTHING_TO_CANCEL)


def test_a_model_to_be_freed_is_reason_enough_to_warn_and_to_act() -> None:
    verdict = judged(2700, facts(freeable=True), of=ALONE)
    assert (outcome(verdict), verdict.not_before, verdict.slots) == ((WARN, Reason.UNUSED), at(3600), ())
    nothing_named = spell(2700, not_before=3600)
    then = judged_spell(3600, nothing_named, facts(freeable=True), of=ALONE)
    assert (outcome(then), then.slots) == ((CANCEL, Reason.DEADLINE_PASSED), ())


@pytest.mark.parametrize(("end", "decision"), [(3600, HOLD), (3600.001, WARN)])
def test_a_model_is_freed_only_while_its_user_still_holds_it_at_the_deadline(end: float, decision: Decision) -> None:
    assert judged(2700, facts(freeable=True), of=booking(slot(0, end))).decision is decision


@pytest.mark.parametrize(("end", "decision"), [(4200, HOLD), (4200.001, WARN)])
def test_a_late_warning_needs_a_slot_at_the_later_deadline(end: float, decision: Decision) -> None:
    assert judged(3300, facts(freeable=True), of=booking(slot(0, end))).decision is decision


def test_in_row_a_slot_of_another_row_does_not_make_the_deadline_come_true() -> None:
    booked, freeable = booking(slot(0, 3700), later=[TOMORROW]), facts(freeable=True)
    assert outcome(judged(3300, freeable, of=booked)) == (HOLD, Reason.NOTHING_TO_CANCEL)
    assert outcome(judged(3300, freeable, ALL, booked)) == (WARN, Reason.UNUSED)


def test_with_the_current_slot_to_cancel_a_lone_slot_is_something_to_cancel() -> None:
    assert judged(2700, rule=WITH_CURRENT, of=ALONE).slots == ALONE.slots


def test_the_mode_says_what_is_at_risk() -> None:
    tomorrow = slot(24 * HOUR, 25 * HOUR)
    both = booking(slot(0, 2 * HOUR), NEXT, later=[tomorrow])
    assert judged(2700, of=both).slots == (NEXT,)
    assert judged(2700, rule=ALL, of=both).slots == (NEXT, tomorrow)


# --- a spell that is open ---------------------------------------------------------------------------------------------


def test_a_warning_on_its_way_holds_however_long_it_takes() -> None:
    assert outcome(judged_spell(7199, warned(None))) == (HOLD, Reason.WARNING_UNDELIVERED)


@pytest.mark.parametrize(("now", "decision"), [(3599.999, HOLD), (3600, CANCEL)])
def test_cancels_at_the_limit_to_the_second_if_warned_in_time(now: float, decision: Decision) -> None:
    verdict = judged_spell(now)
    reason = Reason.DEADLINE_PASSED if decision is CANCEL else Reason.WARNED_WAITING
    assert outcome(verdict) == (decision, reason)
    assert (verdict.not_before, verdict.slots) == (at(3600), (NEXT,))


@pytest.mark.parametrize(("now", "decision"), [(3600, HOLD), (5899.999, HOLD), (5900, CANCEL)])
def test_a_late_delivery_delays_the_cancelling_to_a_full_lead_after_it(now: float, decision: Decision) -> None:
    assert judged_spell(now, warned(5000)).decision is decision


@pytest.mark.parametrize(("now", "decision"), [(4999.999, HOLD), (5000, CANCEL)])
def test_what_the_warning_promised_is_kept(now: float, decision: Decision) -> None:
    assert judged_spell(now, warned(2700, not_before=5000)).decision is decision


@pytest.mark.parametrize(("now", "decision"), [(3699.999, HOLD), (3700, CANCEL)])
def test_unknown_time_after_the_warning_delays_the_cancelling(now: float, decision: Decision) -> None:
    assert judged_spell(now, known=facts(gaps=[gap(3000, 3100)])).decision is decision


@pytest.mark.parametrize("excuse", ["first_seen_at", "measured_since", "resumed_at", "closed_at", "keep_ended_at"])
@pytest.mark.parametrize(("now", "decision"), [(4599.999, HOLD), (4600, CANCEL)])
def test_an_excuse_after_the_warning_moves_the_deadline(excuse: str, now: float, decision: Decision) -> None:
    changes: dict[str, Any] = {excuse: at(1000)}
    assert judged_spell(now, known=facts(**changes)).decision is decision


def test_use_after_the_spell_began_withdraws_the_warning() -> None:
    verdict = judged_spell(3600, warned(idle_since=100), facts(used_at=at(100.001)))
    assert outcome(verdict) == (WITHDRAW, Reason.USED_AGAIN)
    assert verdict.idle_since == at(100.001)


def test_the_use_that_the_spell_began_with_does_not_withdraw_it() -> None:
    verdict = judged_spell(3700, warned(2800, idle_since=100), facts(used_at=at(100)))
    assert outcome(verdict) == (CANCEL, Reason.DEADLINE_PASSED)


def test_use_withdraws_a_warning_that_is_still_on_its_way() -> None:
    assert judged_spell(3000, warned(None), facts(used_at=at(2900))).decision is WITHDRAW


def test_use_withdraws_even_between_slots_and_with_nothing_to_cancel() -> None:
    alone = booking(slot(0, 2 * HOUR), nobody=True)
    verdict = judged_spell(3000, known=facts(used_at=at(2900)), of=alone)
    assert outcome(verdict) == (WITHDRAW, Reason.USED_AGAIN)
    assert outcome(judged_spell(3000, known=facts(used_at=at(2900)), of=None)) == (WITHDRAW, Reason.USED_AGAIN)


UNSURE = [
    (facts(known=False), Reason.READING_UNKNOWN),
    (facts(bookings_readable=False), Reason.BOOKINGS_UNREADABLE),
    (facts(first_seen_at=None), Reason.NOT_SEEN_RUNNING),
    (facts(measured_since=None), Reason.NOT_SEEN_RUNNING),
]


@pytest.mark.parametrize(("unsure", "reason"), UNSURE)
def test_what_is_not_known_does_not_warn(unsure: Facts, reason: Reason) -> None:
    assert outcome(judged(7199, unsure)) == (HOLD, reason)


@pytest.mark.parametrize("open_one", [warned(None), warned(2700)])
@pytest.mark.parametrize("booked", [ROW, booking(nobody=True), None])
@pytest.mark.parametrize(("unsure", "reason"), UNSURE)
def test_what_is_not_known_neither_cancels_nor_withdraws(
    open_one: IdleSpell, booked: ActiveBooking | None, unsure: Facts, reason: Reason
) -> None:
    assert outcome(judged_spell(7199, open_one, unsure, of=booked)) == (HOLD, reason)


def test_between_two_slots_nobody_is_warned() -> None:
    between = booking(slot(0, HOUR), NEXT, nobody=True)
    assert outcome(judged(7199, of=between)) == (HOLD, Reason.BETWEEN_SLOTS)


@pytest.mark.parametrize(("limit", "outcome_then"), [(HOUR, (CANCEL, Reason.DEADLINE_PASSED)), (HOUR + 1, None)])
def test_between_two_slots_of_a_row_a_spell_goes_on_and_its_idle_time_stands_still(
    limit: float, outcome_then: tuple[Decision, Reason] | None
) -> None:
    between = booking(slot(0, HOUR), slot(HOUR + 300, 3 * HOUR), nobody=True)
    named = warned(2700, between.row[1])
    for now in (HOUR, HOUR + 299):
        verdict = judged_spell(now, named, rule=replace(IDLE, limit=secs(limit)), of=between)
        assert outcome(verdict) == (outcome_then or (HOLD, Reason.WARNED_WAITING))
        assert verdict.idle == secs(HOUR)


@pytest.mark.parametrize("open_one", [warned(None), warned(2700)])
def test_without_a_booking_a_spell_ends(open_one: IdleSpell) -> None:
    assert outcome(judged_spell(3000, open_one, of=None)) == (WITHDRAW, Reason.BOOKING_GONE)


@pytest.mark.parametrize(("now", "reason"), [(3 * HOUR - 1, Reason.DEADLINE_PASSED), (3 * HOUR, Reason.BOOKING_GONE)])
def test_a_spell_ends_when_the_last_slot_is_over(now: float, reason: Reason) -> None:
    assert judged_spell(now, of=booking(slot(0, 2 * HOUR), NEXT, current=NEXT)).reason is reason


@pytest.mark.parametrize("delivered", [None, 2700])
def test_with_nothing_left_to_cancel_a_spell_ends(delivered: float | None) -> None:
    assert outcome(judged_spell(7199, warned(delivered), of=ALONE)) == (WITHDRAW, Reason.NOTHING_TO_CANCEL)


@pytest.mark.parametrize(("freeable", "decision"), [(False, WITHDRAW), (True, CANCEL)])
def test_a_user_who_gave_back_what_was_named_is_let_go_unless_the_model_is_freed(
    freeable: bool, decision: Decision
) -> None:
    verdict = judged_spell(3600, known=facts(freeable=freeable), of=ALONE)
    assert (verdict.decision, verdict.slots) == (decision, ())


def test_a_user_who_gave_back_some_of_the_slots_loses_only_the_others() -> None:
    named = warned(2700, *HOURS[2:])
    booked = booking(*HOURS[:3], current=HOURS[1])
    verdict = judged_spell(HOUR, named, of=booked)
    assert (verdict.decision, verdict.slots) == (CANCEL, (HOURS[2],))


@pytest.mark.parametrize("rule", [IDLE, ALL, WITH_CURRENT], ids=["in row", "all", "with the current one"])
def test_what_was_booked_after_the_warning_stays(rule: IdleRule) -> None:
    added = slot(3 * HOUR, 4 * HOUR, of="later")
    booked = booking(slot(0, 2 * HOUR), NEXT, added)
    verdict = judged_spell(3600, rule=rule, of=booked)
    assert (verdict.decision, verdict.slots) == (CANCEL, (NEXT,))


def test_nothing_but_what_was_booked_after_the_warning_is_nothing_left() -> None:
    booked = booking(slot(0, 2 * HOUR), slot(2 * HOUR, 4 * HOUR, of="later"))
    assert outcome(judged_spell(3600, of=booked)) == (WITHDRAW, Reason.NOTHING_TO_CANCEL)


def test_a_named_slot_that_has_begun_meanwhile_may_go_and_one_that_is_over_may_not() -> None:
    named = warned(2700, *HOURS[1:3], not_before=3600)
    booked = booking(*HOURS[:3], current=HOURS[1])
    assert judged_spell(HOUR, named, of=booked).slots == (HOURS[1], HOURS[2])
    assert judged_spell(2 * HOUR - 1, named, of=booked).slots == (HOURS[1], HOURS[2])
    assert judged_spell(2 * HOUR, named, of=booked).slots == (HOURS[2],)


def test_the_slot_of_the_warning_goes_only_if_it_was_named() -> None:
    current = ROW.row[0]
    assert judged_spell(3600, rule=WITH_CURRENT).slots == (NEXT,)  # configured after the warning: not named
    assert judged_spell(3600, warned(2700, current, NEXT), rule=WITH_CURRENT).slots == (current, NEXT)


def test_in_all_a_spell_lives_on_between_two_slots_and_goes_on_in_the_next() -> None:
    daily = [slot(day * DAY, day * DAY + 50 * MINUTE) for day in range(3)]
    named = warned(2700, daily[2], not_before=DAY + 600)
    between = booking(nobody=True, earlier=daily[:1], later=daily[1:])
    for now in (50 * MINUTE, DAY - 1):
        verdict = judged_spell(now, named, rule=ALL, of=between)
        assert (outcome(verdict), verdict.idle) == ((HOLD, Reason.WARNED_WAITING), secs(3000))
    second = booking(daily[1], earlier=daily[:1], later=daily[2:])
    assert judged_spell(DAY + 599, named, rule=ALL, of=second).decision is HOLD
    verdict = judged_spell(DAY + 600, named, rule=ALL, of=second)
    assert (verdict.decision, verdict.slots, verdict.idle) == (CANCEL, (daily[2],), secs(HOUR))


def test_in_row_a_spell_that_would_only_free_the_model_ends_with_its_row() -> None:
    tomorrow = slot(DAY, DAY + 2 * HOUR)
    lone, known = spell(2700, not_before=3600), facts(freeable=True)
    between = booking(nobody=True, earlier=[slot(0, HOUR)], later=[tomorrow])
    assert outcome(judged_spell(HOUR, lone, known, of=between)) == (WITHDRAW, Reason.NOTHING_TO_CANCEL)
    next_row = booking(tomorrow, earlier=[slot(0, HOUR)])
    verdict = judged_spell(DAY + HOUR + 1, lone, known, of=next_row)
    assert outcome(verdict) == (WITHDRAW, Reason.NOTHING_TO_CANCEL)  # a new row needs a new warning
    assert judged_spell(HOUR, lone, known, ALL, between).decision is CANCEL


def test_in_row_a_spell_ends_with_its_row_also_if_slots_that_it_named_are_in_another_now() -> None:
    following = slot(2 * HOUR, 5 * HOUR)
    named = warned(2700, following)
    between = booking(nobody=True, earlier=[slot(0, 3000)], later=[following])
    assert outcome(judged_spell(3000, named, of=between)) == (WITHDRAW, Reason.NOTHING_TO_CANCEL)
    assert outcome(judged_spell(3000, named, rule=ALL, of=between)) == (HOLD, Reason.WARNED_WAITING)
    next_row = booking(following, earlier=[slot(0, 3000)])
    assert outcome(judged_spell(3 * HOUR, named, of=next_row)) == (WITHDRAW, Reason.NOTHING_TO_CANCEL)
    same_row = booking(slot(0, 3000), slot(3300, 2 * HOUR), following, current=following)
    assert judged_spell(2 * HOUR, named, of=same_row).decision is CANCEL


# --- exempt and kept --------------------------------------------------------------------------------------------------


def test_an_exempt_model_is_held_and_its_warning_withdrawn() -> None:
    exempt = replace(IDLE, exempt=True)
    assert outcome(judged(7199, rule=exempt)) == (HOLD, Reason.EXEMPT)
    assert outcome(judged_spell(7199, rule=exempt)) == (WITHDRAW, Reason.EXEMPT)
    assert judged_spell(7199, known=facts(known=False), rule=exempt).decision is WITHDRAW


def test_a_kept_booking_is_held_and_its_warning_withdrawn() -> None:
    kept = facts(kept=True)
    assert outcome(judged(7199, kept)) == (HOLD, Reason.KEPT)
    for open_one in (warned(None), warned(2700)):
        assert outcome(judged_spell(7199, open_one, kept)) == (WITHDRAW, Reason.KEPT)
    assert outcome(judged_spell(7199, known=facts(kept=True, known=False))) == (WITHDRAW, Reason.KEPT)


def test_exempt_comes_before_kept_and_kept_before_used() -> None:
    exempt = replace(IDLE, exempt=True)
    assert judged(7199, facts(kept=True), exempt).reason is Reason.EXEMPT
    assert judged_spell(7199, known=facts(kept=True, used_at=at(5000)), rule=exempt).reason is Reason.EXEMPT
    assert judged_spell(7199, known=facts(kept=True, used_at=at(5000))).reason is Reason.KEPT


# --- quiet hours ------------------------------------------------------------------------------------------------------

QUIET = replace(IDLE, quiet=QuietHours(time(0, 50), time(2, 0)))  # at(3000) to at(7200)
LONG = booking(slot(0, 4 * HOUR), slot(4 * HOUR, 5 * HOUR))
FOUR = slot(4 * HOUR, 5 * HOUR)


@pytest.mark.parametrize(
    ("now", "outcome_then"),
    [
        (2999, (WARN, Reason.UNUSED)),
        (3000, (HOLD, Reason.QUIET_HOURS)),
        (7199, (HOLD, Reason.QUIET_HOURS)),
        (7200, (WARN, Reason.UNUSED)),
    ],
)
def test_nobody_is_warned_in_the_quiet_hours(now: float, outcome_then: tuple[Decision, Reason]) -> None:
    assert outcome(judged(now, rule=QUIET, of=LONG)) == outcome_then


@pytest.mark.parametrize(
    ("now", "reason"),
    [
        (2999.999, Reason.WARNING_UNDELIVERED),
        (3000, Reason.QUIET_HOURS),
        (7199.999, Reason.QUIET_HOURS),
        (7200, Reason.WARNING_UNDELIVERED),
    ],
)
def test_a_warning_that_the_quiet_hours_hold_back_is_no_fault_of_the_broker(now: float, reason: Reason) -> None:
    verdict = judged_spell(now, warned(None), rule=QUIET)
    assert (outcome(verdict), verdict.slots) == ((HOLD, reason), (NEXT,))


def test_what_waits_for_the_end_of_the_quiet_hours_shows_all_that_is_known() -> None:
    waiting = judged(3000, rule=QUIET, of=LONG)
    assert waiting == Verdict(HOLD, Reason.QUIET_HOURS, at(0), secs(3000), at(8100), (FOUR,))
    early = warned(1000, FOUR, not_before=1900)
    held = judged_spell(4000, early, rule=QUIET, of=LONG)
    assert held == Verdict(HOLD, Reason.QUIET_HOURS, at(0), secs(4000), at(1900), (FOUR,))


@pytest.mark.parametrize(
    ("now", "deadline"),
    [
        (2700, 7200 + 600),  # 300 of the lead before the quiet hours, 600 after them
        (2999, 7200 + 899),
        (3000, 7200 + 900),
        (7200, 7200 + 900),
        (8000, 8900),
    ],
)
def test_the_lead_counts_only_outside_the_quiet_hours(now: float, deadline: float) -> None:
    assert judged(now, rule=QUIET, of=LONG).not_before == at(deadline)


@pytest.mark.parametrize(
    ("not_before", "delivered", "earliest"),
    [
        (3600, 2000, 7200),  # both before or within: the end of the quiet hours
        (2900, 2000, 2900),
        (2999, 2100, 7200),  # the lead ends as they begin
        (3600, 2700, 7800),
        (9000, 2700, 9000),
        (8999, 8100, 9000),
    ],
)
def test_a_deadline_is_the_later_of_the_promise_and_a_full_lead_and_never_in_the_quiet_hours(
    not_before: float, delivered: float, earliest: float
) -> None:
    assert QUIET.earliest(at(not_before), at(delivered)) == at(earliest)


def test_without_quiet_hours_a_deadline_is_the_later_of_the_two() -> None:
    assert IDLE.earliest(at(3600), at(2700)) == at(3600)
    assert IDLE.earliest(at(3600), at(2701)) == at(3601)
    assert IDLE.earliest(at(3601), at(2701)) == at(3601)


@pytest.mark.parametrize(
    ("now", "decision", "reason"),
    [
        (7199, HOLD, Reason.WARNED_WAITING),
        (7200, CANCEL, Reason.DEADLINE_PASSED),
        (86400 + 2999, CANCEL, Reason.DEADLINE_PASSED),
        (86400 + 3000, HOLD, Reason.QUIET_HOURS),  # of the next night
        (86400 + 7200, CANCEL, Reason.DEADLINE_PASSED),
    ],
)
def test_nobody_is_cancelled_in_the_quiet_hours(now: float, decision: Decision, reason: Reason) -> None:
    named = warned(2000, FOUR)
    two_days = booking(slot(0, 3 * DAY), replace(FOUR, end=at(3 * DAY)))
    assert outcome(judged_spell(now, named, rule=QUIET, of=two_days)) == (decision, reason)


# --- right before a warning is sent ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("named", "used", "rule", "now", "why"),
    [
        (warned(None), None, IDLE, 2700, None),
        (warned(None), 0, IDLE, 2700, None),  # the last use before idle time began
        (warned(None), 1, IDLE, 2700, Reason.USED_AGAIN),
        (warned(None), None, replace(IDLE, exempt=True), 2700, Reason.EXEMPT),
        (warned(None), None, IDLE, 3 * HOUR - 901, None),
        (warned(None), None, IDLE, 3 * HOUR - 900, Reason.NOTHING_TO_CANCEL),
        (warned(None), None, replace(IDLE, uninstall=True), 3 * HOUR - 900, None),  # the model may still be freed
        (replace(warned(None), steps=()), None, IDLE, 3 * HOUR, None),
        (replace(warned(None), dry_run=True), None, IDLE, 2700, Reason.MODE_CHANGED),
        (warned(None), None, replace(QUIET, limit=secs(3600)), 3600, Reason.QUIET_HOURS),
        (warned(None), None, replace(QUIET, limit=secs(3600)), 7200, None),
        # It was tried, and closed since: it goes before what closes it.
        (replace(warned(None), state=SpellState.WITHDRAWN), 1, IDLE, 2700, None),
        (replace(warned(None), state=SpellState.WITHDRAWN), 1, QUIET, 3600, Reason.QUIET_HOURS),
    ],
)
def test_a_warning_is_held_back_if_it_would_be_withdrawn_or_could_not_come_true_and_in_the_quiet_hours(
    named: IdleSpell, used: float | None, rule: IdleRule, now: float, why: Reason | None
) -> None:
    assert held_back(policy(idle=rule), named, None if used is None else at(used), [], at(now)) is why


@pytest.mark.parametrize(("until", "why"), [(0, None), (1, Reason.KEPT), (2701, Reason.KEPT)])
def test_a_warning_is_held_back_if_its_booking_is_kept_or_was_meanwhile(until: float, why: Reason | None) -> None:
    keeps = [Keep(ROW.model.name, None, at(0), at(until))]
    assert held_back(policy(), warned(None), None, keeps, at(2700)) is why


# --- the spell itself -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("delivered", "dry_run", "state"),
    [
        (False, False, SpellState.WARNING_PENDING),
        (True, False, SpellState.WARNED),
        (False, True, SpellState.WARNED),  # nothing is delivered in a dry run, and the timeline goes on
    ],
)
def test_a_warning_opens_a_spell_that_names_the_slots_at_risk(
    delivered: bool, dry_run: bool, state: SpellState
) -> None:
    verdict = judged(2700)
    opened = open_spell(spell().id, ROW, verdict, at(2700), delivered=delivered, dry_run=dry_run)
    assert (opened.state, opened.dry_run) == (state, dry_run)
    assert opened.delivered_at == (None if state is SpellState.WARNING_PENDING else at(2700))
    assert opened.id == spell().id
    assert opened.steps == (Step(NEXT, StepState.NAMED),)
    assert (opened.named, opened.slot) == ((NEXT,), ROW.current)
    assert (opened.idle_since, opened.opened_at, opened.not_before) == (at(0), at(2700), at(3600))
    assert (opened.key, opened.model_name) == ((ROW.model.id, ROW.user.id), ROW.model.name)
    assert (opened.uninstall, opened.stopped_for, opened.enforcing_at, opened.settled_at) == (None, None, None, None)


def test_at_the_deadline_what_is_left_is_planned_and_the_rest_is_over_or_gone() -> None:
    over, left, gone = slot(0, HOUR), slot(HOUR, 2 * HOUR), slot(2 * HOUR, 3 * HOUR)
    ends_now = slot(1800, 5000)
    planned = planned_steps(steps(over, ends_now, left, gone), [left], [], at(5000))
    states = [StepState.STOPPED, StepState.STOPPED, StepState.PLANNED, StepState.ALREADY_GONE]
    assert [step.state for step in planned] == states
    assert [step.slot for step in planned] == [over, ends_now, left, gone]


def test_a_named_slot_whose_times_were_changed_is_planned_still() -> None:
    moved = slot(5 * HOUR, 6 * HOUR, id=NEXT.id)
    (planned,) = planned_steps(steps(NEXT), [moved], [], at(3600))
    assert (planned.state, planned.slot) == (StepState.PLANNED, NEXT)


@pytest.mark.parametrize("state", StepState)
def test_what_may_still_be_cancelled_is_known_by_its_ids_and_has_the_times_it_is_booked_for_now(
    state: StepState,
) -> None:
    moved, named = slot(5 * HOUR, 6 * HOUR, id=NEXT.id), spell(2000, steps=steps(NEXT, HOURS[3], state=state))
    is_open = state in (StepState.NAMED, StepState.PLANNED)
    found = as_booked(named, Bookings((reservation(moved),)))
    assert found == replace(named, steps=steps(moved if is_open else NEXT, HOURS[3], state=state))


@pytest.mark.parametrize(
    "now",
    [
        pytest.param(reservation(NEXT), id="as it was"),
        pytest.param(reservation(slot(5 * HOUR, 6 * HOUR, id=NEXT.id), user=BORIS), id="another user's"),
        pytest.param(reservation(slot(5 * HOUR, 6 * HOUR, id=NEXT.id), model=2), id="of another model"),
        pytest.param(reservation(slot(5 * HOUR, 6 * HOUR, id="added")), id="another slot"),
        pytest.param(reservation(slot(5 * HOUR, 6 * HOUR, id=NEXT.id, of="r2")), id="another reservation"),
    ],
)
def test_a_slot_that_is_not_booked_as_it_was_named_or_was_not_moved_stays_as_it_is(now: Reservation) -> None:
    named = spell(2000, steps=steps(NEXT))
    assert as_booked(named, Bookings((now,))) is named


def test_a_slot_of_the_same_id_in_another_reservation_is_another_slot() -> None:
    other = slot(2 * HOUR, 3 * HOUR, id=NEXT.id, of="r2")
    assert planned_steps(steps(NEXT), [other], [], at(3600))[0].state is StepState.ALREADY_GONE


def test_the_slots_of_a_spell_are_found_by_the_states_of_their_steps() -> None:
    found = spell(steps=steps(HOURS[0], state=StepState.DONE) + steps(*HOURS[1:3], state=StepState.FAILED))
    assert found.slots(StepState.DONE) == (HOURS[0],)
    assert found.slots(StepState.FAILED, StepState.DONE) == tuple(HOURS[:3])
    assert found.slots(StepState.PLANNED) == ()
    assert found.named == tuple(HOURS[:3])


def test_open_states_have_arrows_and_ends_have_none() -> None:
    assert set(ARROWS) == set(OPEN_STATES)
    assert set(SpellState) - set(OPEN_STATES) == {SpellState.ENFORCED, SpellState.WITHDRAWN}
    assert all(ARROWS.values())


def test_only_a_warned_spell_is_enforced_and_every_state_can_be_reached() -> None:
    assert [source for source, arrows in ARROWS.items() if SpellState.ENFORCING in arrows] == [SpellState.WARNED]
    assert [source for source, arrows in ARROWS.items() if SpellState.ENFORCED in arrows] == [SpellState.ENFORCING]
    reached = {SpellState.WARNING_PENDING} | {target for arrows in ARROWS.values() for target in arrows}
    assert reached == set(SpellState)
    assert all(source not in arrows and all(arrows.values()) for source, arrows in ARROWS.items())
    assert all(SpellState.WITHDRAWN in arrows for arrows in ARROWS.values())


@pytest.mark.parametrize(
    ("reason", "word"),
    [
        (Reason.USED_AGAIN, "used"),
        (Reason.KEPT, "kept"),
        (Reason.EXEMPT, "exempt"),
        (Reason.BOOKING_GONE, "booking_gone"),
        (Reason.NOTHING_TO_CANCEL, "nothing_left"),
        (Reason.MODEL_GONE, "model_gone"),
        (Reason.MODE_CHANGED, "mode_changed"),
        (Reason.BY_OPERATOR, "by_operator"),
        (Reason.HELD_BY_ANOTHER, "nothing_left"),
    ],
)
def test_a_withdrawal_says_its_reason_in_the_events_words(reason: Reason, word: str) -> None:
    assert closing_reason(reason) == word


def test_every_reason_of_a_verdict_to_withdraw_has_a_word() -> None:
    assert len(set(CLOSING_REASONS.values())) == len(CLOSING_REASONS) == 8
