"""What a replay takes over from a recording, and where its own decisions diverge from it."""

from dataclasses import replace
from datetime import timedelta
from uuid import UUID

import pytest

from limiter.config.policy import PolicySettings
from limiter.domain.audit import DecisionRecord
from limiter.domain.decision import Decision, Reason
from limiter.domain.fleet import Fleet
from limiter.domain.job import Job
from limiter.domain.reservations import Bookings
from limiter.domain.snapshot import BookingKey
from limiter.domain.usage import Memory
from limiter.recording.format import Start
from limiter.recording.lines import Began, Idle, Line, RecordedSnapshot, Tick
from limiter.replay.player import Player
from tests.unit.domain.build import ANNA, HOUR, at, page, reservation, served, slot

FLEET = Fleet((served(1, "m"), served(2, "other")))
BOOKED = reservation(slot(0, 2 * HOUR), slot(2 * HOUR, 3 * HOUR), name="m")
KEY: BookingKey = (UUID(int=1), ANNA.id)
POLICY = PolicySettings().policy()


def began(**standing: str) -> Began:
    return Began({}, Start(Memory(), [], [], [], [], [(*KEY, stands) for stands in standing.values()]))


def tick(now: float, m: float = 1.0, fleet: Fleet = FLEET) -> Tick:
    return Tick(at(now), (page(now, {"m": m, "other": now + 1}),), fleet, {}, [])


def warning(now: float, *found: Reason, bookings: Bookings | None = None) -> Idle:
    """A recorded run of idle_warning that changed these decisions about Anna, and knew of no spell."""
    scrapes = (page(now, {"m": 1.0, "other": now + 1}),)
    snapshot = RecordedSnapshot(
        None, at(now), at(now).timestamp(), scrapes, FLEET, bookings or Bookings((BOOKED,)), {}, {}, None
    )
    changed = [DecisionRecord(at(now), KEY[0], "m", ANNA.id, Decision.HOLD, reason, {}) for reason in found]
    return Idle(Job.IDLE_WARNING, at(now), [snapshot], changed, [])


def acts(*lines: Line) -> list[tuple[Decision, timedelta]]:
    moments = Player(POLICY).play(lines)
    return [(one.decision, one.at - at(0)) for moment in moments for one in moment.found if one.decision != "hold"]


def minutes(number: float) -> timedelta:
    return timedelta(minutes=number)


def test_a_warning_that_nobody_recorded_is_delivered_at_once_and_enforced_without_a_recorded_run() -> None:
    lines = [line for now in range(0, 4000, 300) for line in (tick(now), warning(now))]
    assert acts(began(), *lines) == [(Decision.WARN, minutes(45)), (Decision.CANCEL, minutes(60))]


def test_who_had_no_address_cannot_be_warned_until_the_recording_says_something_else_of_him() -> None:
    blocked: list[Line] = [
        tick(0),
        tick(2700),
        warning(2700, Reason.ADDRESS_UNKNOWN),
        tick(3000),
        warning(3000),
        tick(3300),
    ]
    assert acts(began(), *blocked, warning(3300)) == []
    assert acts(began(), *blocked, warning(3300, Reason.WARNED_WAITING)) == [(Decision.WARN, minutes(55))]


def test_who_had_no_address_when_the_recording_began_has_none_either() -> None:
    lines: list[Line] = [tick(0), tick(2700), warning(2700)]
    assert acts(began(stands="hold:address_unknown"), *lines) == []
    assert acts(began(stands="hold:in_use"), *lines) == [(Decision.WARN, minutes(45))]


def test_slots_that_we_cancelled_stay_cancelled_though_the_recording_still_has_them() -> None:
    player = Player(POLICY)
    lines = [line for now in range(0, 10_000, 300) for line in (tick(now), warning(now))]
    list(player.play([began(), *lines]))
    assert [cut.slot for cut in player.simulation.cuts] == [BOOKED.slots[1]]


def test_somebody_elses_scaling_is_taken_over() -> None:
    more = Fleet((served(1, "m", 4), served(2, "other")))
    moments = list(Player(POLICY).play([began(), tick(0), tick(15, fleet=more)]))
    assert moments[1].fleet is more


@pytest.mark.parametrize("lines", [[tick(0)], [warning(0)]])
def test_a_file_may_begin_with_any_job(lines: list[Line]) -> None:
    (moment,) = Player(replace(POLICY, dry_run=True)).play(lines)
    assert moment.at == at(0)
