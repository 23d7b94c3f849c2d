"""What judge() and judge_spell() promise whatever they are given."""

from dataclasses import replace
from datetime import datetime, time, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from limiter.domain.active_bookings import ActiveBooking
from limiter.domain.decision import Decision, Reason
from limiter.domain.idle_rule import IdleRule
from limiter.domain.idle_spell import IdleSpell
from limiter.domain.idleness import Facts, anchor, judge, judge_spell
from limiter.domain.quiet_hours import NEVER_QUIET, QuietHours
from limiter.domain.reservations import Slot, UnbookingMode
from limiter.domain.usage import Gap
from tests.unit.domain.build import HOUR, IDLE, MINUTE, UNHURRIED, at, booking, facts, slot, spell, steps

# Everything happens on whole minutes, so that time can be counted by them.
EARLY = st.none() | st.integers(0, 60).map(lambda minute: at(minute * MINUTE))
MOMENT = st.integers(0, 180).map(lambda minute: at(minute * MINUTE))
WHEN = st.integers(60, 480).map(lambda minute: at(minute * MINUTE))
OFTEN = settings(UNHURRIED, max_examples=4 * settings().max_examples)
MOSTLY = st.sampled_from([True, True, True, True, False])  # else hardly any example reaches the verdicts by time
RULES = st.builds(
    lambda lead, more, mode, current, exempt, quiet: replace(
        IDLE,
        lead=timedelta(minutes=lead),
        limit=timedelta(minutes=lead + more),
        mode=mode,
        cancel_current=current,
        exempt=exempt,
        quiet=quiet,
    ),
    lead=st.integers(1, 60),
    more=st.integers(1, 60),
    mode=st.sampled_from(UnbookingMode),
    current=st.booleans(),
    exempt=MOSTLY.map(lambda usual: not usual),
    quiet=st.sampled_from([NEVER_QUIET, QuietHours(time(2), time(3)), QuietHours(time(1, 30), time(4))]),
)
GAPS = st.lists(st.tuples(MOMENT, MOMENT).map(sorted).map(lambda two: Gap("a", two[0], two[1])), max_size=3)
FACTS = st.builds(
    facts,
    known=MOSTLY,
    first_seen_at=st.integers(0, 60).map(lambda minute: at(minute * MINUTE)),
    measured_since=MOMENT,
    used_at=EARLY,
    resumed_at=EARLY,
    closed_at=EARLY,
    keep_ended_at=EARLY,
    gaps=GAPS,
    bookings_readable=MOSTLY,
    freeable=st.booleans(),
    kept=MOSTLY.map(lambda usual: not usual),
)
LATER = [slot(9 * HOUR, 10 * HOUR), slot(10 * HOUR, 12 * HOUR), slot(11 * HOUR, 13 * HOUR, of="r2")]


def _booking(start: int, end: int, earlier: bool, row: int, apart: int, nobody: bool) -> ActiveBooking:
    """A row of a slot up to the evening and those that follow it, perhaps a slot before it, and some on another day."""
    first, second = slot(start * MINUTE, end * MINUTE), slot(end * MINUTE, 9 * HOUR)
    before = [slot(-3 * HOUR, -2 * HOUR)] if earlier else []
    days = [slot(30 * HOUR + number * HOUR, 31 * HOUR + number * HOUR) for number in range(apart)]
    return booking(first, second, *LATER[:row], earlier=before, later=days, current=second, nobody=nobody)


BOOKINGS = st.builds(
    _booking,
    start=st.integers(0, 30),
    end=st.integers(31, 60),
    earlier=st.booleans(),
    row=st.integers(0, 3),
    apart=st.integers(0, 2),
    nobody=MOSTLY.map(lambda usual: not usual),
)
NAMED = st.lists(st.sampled_from([*LATER, slot(30 * HOUR, 31 * HOUR), slot(50 * HOUR, 51 * HOUR)]), unique=True)


def _spell(delivered: datetime | None, idle_since: datetime, not_before: datetime, named: list[Slot]) -> IdleSpell:
    of = spell(None if delivered is None else 0, steps=steps(*sorted(named)))
    return replace(of, idle_since=idle_since, opened_at=idle_since, not_before=not_before, delivered_at=delivered)


SPELLS = st.builds(_spell, st.none() | MOMENT, MOMENT, MOMENT, NAMED) | st.builds(
    _spell, MOMENT, st.integers(0, 60).map(lambda minute: at(minute * MINUTE)), MOMENT, NAMED
)


def up_to(known: Facts, now: datetime) -> Facts:
    """The same, without gaps that are yet to come: there are none."""
    gaps = [replace(gap, until=min(gap.until, now)) for gap in known.gaps if gap.since < now]
    return replace(known, gaps=gaps)


def idle_minutes(rule: IdleRule, booked: ActiveBooking, known: Facts, since: datetime, now: datetime) -> timedelta:
    """Booked and measured time between the two, counted minute by minute."""
    slots = booked.row if rule.mode is UnbookingMode.IN_ROW else booked.slots
    minute, total = since, timedelta()
    while minute < now:
        covered = any(one.covers(minute) for one in slots)
        if covered and not any(gap.since <= minute < gap.until for gap in known.gaps):
            total += timedelta(minutes=1)
        minute += timedelta(minutes=1)
    return total


def open_minutes(rule: IdleRule, since: datetime, now: datetime) -> timedelta:
    """The time between the two that is not quiet, counted minute by minute."""
    minutes = range(max(0, int((now - since) / timedelta(minutes=1))))
    moments = (since + timedelta(minutes=number) for number in minutes)
    return timedelta(minutes=sum(rule.quiet.open_from(moment) == moment for moment in moments))


@OFTEN
@given(RULES, BOOKINGS, SPELLS, FACTS, WHEN)
def test_never_cancels_without_a_delivered_warning_a_lead_ago_and_a_known_booked_idle_time_of_the_limit(
    rule: IdleRule, booked: ActiveBooking, open_spell: IdleSpell, known: Facts, now: datetime
) -> None:
    verdict = judge_spell(rule, booked, open_spell, known, now)
    if verdict.decision is Decision.CANCEL:
        assert open_spell.delivered_at is not None
        assert open_minutes(rule, open_spell.delivered_at, now) >= rule.lead
        assert open_spell.not_before <= now
        assert known.used_at is None or known.used_at <= open_spell.idle_since
        since = anchor(rule, booked, known, open_spell)
        assert since >= open_spell.idle_since
        assert idle_minutes(rule, booked, known, since, now) == verdict.idle >= rule.limit
        assert known.known
        assert known.bookings_readable
        assert not rule.exempt
        assert not known.kept
        assert rule.quiet.open_from(now) == now
        assert verdict.slots or known.freeable


@OFTEN
@given(RULES, BOOKINGS, FACTS, WHEN)
def test_warns_only_after_a_known_booked_idle_time_and_promises_a_full_lead_and_what_can_come_true(
    rule: IdleRule, booked: ActiveBooking, known: Facts, now: datetime
) -> None:
    known = up_to(known, now)
    verdict = judge(rule, booked, known, now)
    if verdict.decision is Decision.WARN:
        assert known.known
        assert known.bookings_readable
        assert not rule.exempt
        assert not known.kept
        assert booked.current is not None
        assert rule.quiet.open_from(now) == now
        since = anchor(rule, booked, known)
        assert idle_minutes(rule, booked, known, since, now) == verdict.idle >= rule.limit - rule.lead
        deadline = verdict.not_before
        assert deadline is not None
        assert open_minutes(rule, now, deadline) >= rule.lead
        assert rule.quiet.open_from(deadline) == deadline
        assert idle_minutes(rule, booked, known, since, deadline) >= rule.limit, "nobody may be cancelled then"
        assert verdict.slots or known.freeable
        assert verdict.slots or booked.ends_after(deadline)


@OFTEN
@given(RULES, BOOKINGS, FACTS, WHEN)
def test_a_warning_that_nobody_answers_is_enforced_at_its_deadline_and_not_before(
    rule: IdleRule, booked: ActiveBooking, known: Facts, now: datetime
) -> None:
    known = up_to(known, now)
    verdict = judge(rule, booked, known, now)
    if verdict.decision is Decision.WARN:
        assert verdict.not_before is not None
        assert verdict.idle_since is not None
        opened = _spell(now, verdict.idle_since, verdict.not_before, list(verdict.slots))
        before = judge_spell(rule, booked, opened, known, verdict.not_before - timedelta(minutes=1))
        then = judge_spell(rule, booked, opened, known, verdict.not_before)
        assert before.decision is Decision.HOLD
        assert (then.decision, then.slots) == (Decision.CANCEL, verdict.slots)


@UNHURRIED
@given(RULES, BOOKINGS, FACTS, WHEN)
def test_slots_at_risk_are_the_users_own_and_begin_at_the_deadline_or_later_but_for_the_current_one(
    rule: IdleRule, booked: ActiveBooking, known: Facts, now: datetime
) -> None:
    verdict = judge(rule, booked, known, now)
    for risked in verdict.slots:
        assert risked in (booked.row if rule.mode is UnbookingMode.IN_ROW else booked.slots)
        assert verdict.not_before is not None
        assert risked.start >= verdict.not_before or (rule.cancel_current and risked == booked.current)


@UNHURRIED
@given(RULES, BOOKINGS, SPELLS, FACTS, WHEN)
def test_slots_to_cancel_are_named_by_the_warning_still_booked_and_not_over(
    rule: IdleRule, booked: ActiveBooking, open_spell: IdleSpell, known: Facts, now: datetime
) -> None:
    for going in judge_spell(rule, booked, open_spell, known, now).slots:
        assert going in open_spell.named
        assert going in booked.slots
        assert going.end > now


@UNHURRIED
@given(RULES, BOOKINGS, SPELLS, FACTS, WHEN)
def test_an_unknown_reading_takes_nothing_away_and_a_call_that_was_seen_still_withdraws(
    rule: IdleRule, booked: ActiveBooking, open_spell: IdleSpell, known: Facts, now: datetime
) -> None:
    rule, known = replace(rule, exempt=False), replace(known, known=False, kept=False)
    verdict = judge_spell(rule, booked, open_spell, known, now)
    if known.used_at and known.used_at > open_spell.idle_since:
        assert (verdict.decision, verdict.reason) == (Decision.WITHDRAW, Reason.USED_AGAIN)
    else:
        assert (verdict.decision, verdict.reason) == (Decision.HOLD, Reason.READING_UNKNOWN)
    assert (judge(rule, booked, known, now).reason) is Reason.READING_UNKNOWN


@UNHURRIED
@given(RULES, BOOKINGS, NAMED, FACTS, WHEN, st.integers(0, 180))
def test_a_later_delivery_never_cancels_earlier(
    rule: IdleRule, booked: ActiveBooking, named: list[Slot], known: Facts, now: datetime, delay: int
) -> None:
    early, late = (
        judge_spell(rule, booked, _spell(at(sent * MINUTE), at(0), at(0), named), known, now)
        for sent in (60, 60 + delay)
    )
    assert late.decision is not Decision.CANCEL or early.decision is Decision.CANCEL


@UNHURRIED
@given(RULES, BOOKINGS, SPELLS, FACTS, WHEN)
def test_a_slot_more_never_takes_more_away(
    rule: IdleRule, booked: ActiveBooking, open_spell: IdleSpell, known: Facts, now: datetime
) -> None:
    added = slot(60 * HOUR, 61 * HOUR, of="later")
    more = replace(booked, slots=(*booked.slots, added))
    assert added not in judge_spell(rule, more, open_spell, known, now).slots
