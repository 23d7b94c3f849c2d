"""What judge() promises whatever it is given."""

from dataclasses import replace
from datetime import timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from limiter.domain.active_bookings import ActiveBooking
from limiter.domain.decision import Decision, Reason
from limiter.domain.idleness import Facts, IdleRule, IdleSpell, anchor, judge
from limiter.domain.reservations import UnbookingMode
from limiter.domain.usage import Gap, unknown_time
from tests.unit.domain.build import HOUR, IDLE, UNHURRIED, at, booking, facts, slot, spell

DAY = st.integers(0, 3 * HOUR)
EARLY = st.none() | st.integers(0, HOUR).map(at)
WHEN = st.integers(HOUR, 8 * HOUR)
OFTEN = settings(UNHURRIED, max_examples=400)
MOSTLY = st.sampled_from([True, True, True, True, False])  # else hardly any example reaches the verdicts by time
MOMENT = DAY.map(at)
RULES = st.builds(
    lambda lead, more, mode, current, exempt: replace(
        IDLE,
        lead=timedelta(seconds=lead),
        limit=timedelta(seconds=lead + more),
        mode=mode,
        cancel_current=current,
        exempt=exempt,
    ),
    lead=st.integers(1, HOUR),
    more=st.integers(1, HOUR),
    mode=st.sampled_from(UnbookingMode),
    current=st.booleans(),
    exempt=MOSTLY.map(lambda usual: not usual),
)
FACTS = st.builds(
    facts,
    known=MOSTLY,
    first_seen_at=st.integers(0, HOUR).map(at),
    measured_since=MOMENT,
    used_at=EARLY,
    resumed_at=EARLY,
    closed_at=EARLY,
    gaps=st.lists(st.tuples(DAY, DAY).map(sorted).map(lambda two: Gap("a", at(two[0]), at(two[1]))), max_size=3),
    bookings_readable=MOSTLY,
    freeable=st.booleans(),
)
SPELLS = st.none() | st.builds(spell, st.none() | DAY, DAY, DAY) | st.builds(spell, DAY, DAY, st.integers(0, HOUR))
BOOKINGS = st.builds(
    lambda start, later, nobody: booking(
        slot(start, 9 * HOUR), *[slot(9 * HOUR + 60 * number, 10 * HOUR) for number in range(later)], nobody=nobody
    ),
    st.integers(0, HOUR),
    st.integers(0, 2),
    MOSTLY.map(lambda usual: not usual),
)


@OFTEN
@given(RULES, BOOKINGS, SPELLS, FACTS, WHEN)
def test_never_cancels_without_a_delivered_warning_a_lead_ago_and_a_known_idle_time_of_the_limit(
    rule: IdleRule, booked: ActiveBooking, open_spell: IdleSpell | None, known: Facts, seconds: int
) -> None:
    now = at(seconds)
    verdict = judge(rule, booked, open_spell, known, now)
    if verdict.decision is Decision.CANCEL:
        assert open_spell is not None
        assert open_spell.delivered_at is not None
        assert open_spell.delivered_at + rule.lead <= now
        assert open_spell.not_before <= now
        assert known.used_at is None or known.used_at <= open_spell.idle_since
        since = anchor(booked, known)
        assert now - since - unknown_time(known.gaps, since, now) >= rule.limit
        assert known.known
        assert known.bookings_readable
        assert not rule.exempt
        assert verdict.slots or known.freeable


@OFTEN
@given(RULES, BOOKINGS, SPELLS, FACTS, WHEN)
def test_warns_only_without_an_open_spell_after_a_known_idle_time_and_promises_a_full_lead(
    rule: IdleRule, booked: ActiveBooking, open_spell: IdleSpell | None, known: Facts, seconds: int
) -> None:
    now = at(seconds)
    verdict = judge(rule, booked, open_spell, known, now)
    if verdict.decision is Decision.WARN:
        assert open_spell is None
        assert known.known
        assert verdict.idle >= rule.limit - rule.lead
        assert verdict.not_before is not None
        assert verdict.not_before >= now + rule.lead
        assert verdict.slots or known.freeable


@UNHURRIED
@given(RULES, BOOKINGS, SPELLS, FACTS, WHEN)
def test_slots_to_cancel_are_the_users_own_and_have_not_begun_but_for_the_current_one(
    rule: IdleRule, booked: ActiveBooking, open_spell: IdleSpell | None, known: Facts, seconds: int
) -> None:
    now = at(seconds)
    for going in judge(rule, booked, open_spell, known, now).slots:
        assert going in booked.slots
        assert going.start > now or (rule.cancel_current and going == booked.current)


@UNHURRIED
@given(RULES, BOOKINGS, SPELLS, FACTS, WHEN)
def test_an_unknown_reading_takes_nothing_away_and_a_call_that_was_seen_still_withdraws(
    rule: IdleRule, booked: ActiveBooking, open_spell: IdleSpell | None, known: Facts, seconds: int
) -> None:
    verdict = judge(replace(rule, exempt=False), booked, open_spell, replace(known, known=False), at(seconds))
    if open_spell and known.used_at and known.used_at > open_spell.idle_since:
        assert (verdict.decision, verdict.reason) == (Decision.WITHDRAW, Reason.USED_AGAIN)
    else:
        assert (verdict.decision, verdict.reason) == (Decision.HOLD, Reason.READING_UNKNOWN)


@UNHURRIED
@given(RULES, BOOKINGS, FACTS, WHEN, DAY)
def test_a_later_delivery_never_cancels_earlier(
    rule: IdleRule, booked: ActiveBooking, known: Facts, seconds: int, delay: int
) -> None:
    early, late = (judge(rule, booked, spell(sent), known, at(seconds)) for sent in (HOUR, HOUR + delay))
    assert late.decision is not Decision.CANCEL or early.decision is Decision.CANCEL
