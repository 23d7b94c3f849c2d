"""What a replay takes over from a recording, and where its own decisions diverge from it."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from limiter.config.policy import PolicySettings
from limiter.domain.audit import DecisionRecord
from limiter.domain.closing import Close, Tell
from limiter.domain.command import CommandState
from limiter.domain.decision import Decision, Reason
from limiter.domain.enforcement import Delete
from limiter.domain.fleet import Fleet
from limiter.domain.idle_spell import StepState
from limiter.domain.job import Job
from limiter.domain.keep import Keep
from limiter.domain.policy import Policy
from limiter.domain.reservations import Bookings, Slot
from limiter.domain.snapshot import BookingKey, Snapshot
from limiter.domain.usage import Memory, ScrapedPage
from limiter.recording.format import Start
from limiter.recording.lines import Began, Idle, Line, RecordedSnapshot, Tick
from limiter.recording.reader import read
from limiter.recording.recorder import Recorder
from limiter.recording.trace import RunTrace
from limiter.replay.player import Player
from limiter.replay.simulation import Simulation
from limiter.replay.summary import Summary, summarize
from tests.unit.domain.build import ANNA, HOUR, at, page, reservation, secs, served, slot

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


@pytest.mark.parametrize("basis", [2700, 2703], ids=["when the tick began", "when its pages were read"])
def test_a_snapshot_builds_on_the_tick_that_it_was_recorded_with(basis: float) -> None:
    """Earlier versions remembered of a page when the tick began, and told that."""
    ticks = [replace(tick(now), scrapes=tick(now + 3).scrapes) for now in (0, 2700, 2715)]
    looked = warning(2705)
    based = replace(looked, snapshots=[replace(looked.snapshots[0], basis=at(basis).timestamp())])
    assert acts(began(), *ticks, based) == [(Decision.WARN, secs(2705))]


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


# --- a recorded service, and its replay -------------------------------------------------------------------------------

THREE = reservation(*(slot(hour * HOUR, (hour + 1) * HOUR) for hour in (2, 3, 4)), name="m")
NOW = reservation(slot(0, 2 * HOUR, of="r0"), name="m")
LAST = reservation(slot(5 * HOUR, 6 * HOUR, of="r5"), name="m")


@dataclass
class Recorded:
    """A service that records what it does, minute by minute, over a platform that the test changes."""

    path: Path
    policy: Policy = POLICY
    bookings: Bookings = field(default_factory=lambda: Bookings((NOW, THREE, LAST)))
    calls: float = 1.0
    now: float = -60.0
    sagas: bool = True  # whether they end
    steps: int = 0
    before_step: Callable[[int], None] = lambda step: None
    answers: Callable[[Delete], StepState | None] = lambda delete: None
    paused: bool = False

    def __post_init__(self) -> None:
        self.to = Recorder(str(self.path), 10**8, PolicySettings().model_dump(mode="json"))
        self.service = Simulation(self.policy, refuses=self._answer, braked=lambda: self.paused)
        self.trace: list[tuple[BookingKey | None, Snapshot]] = []
        self.cancelled: list[tuple[BookingKey, Slot]] = []

    def until(self, minute: float, **changes: Any) -> "Recorded":
        """Run all jobs once a minute up to that one."""
        for name, value in changes.items():
            setattr(self, name, value)
        while self.now < minute * 60:
            self.now += 60
            self._minute()
        return self

    def page(self) -> ScrapedPage:
        return page(self.now, {"m": self.calls, "other": self.now + 100})

    def _minute(self) -> None:
        service, now = self.service, at(self.now)
        before = (service.memory, service.scaling_states)
        commands = dict(service.commands)
        found = service.tick(now, [self.page()], FLEET)
        self.to.tick(now, [self.page()], FLEET, commands, found, before, service.saga_seconds)
        self._idle(Job.IDLE_WARNING, lambda sweep: service.warn(sweep, delivers=False))
        for key, spell in service.spells.items():
            if spell.delivered_at is None:
                service.delivered(key, now)
        self._idle(Job.IDLE_ENFORCE, lambda sweep: service.enforce(sweep, self._read, now))
        for id, command in service.commands.items():
            if command.unfinished and self.sagas:
                service.commands[id] = replace(command, state=CommandState.COMPLETED, finished_at=at(self.now + 1))

    def _idle(self, job: Job, run: Callable[[Snapshot], list[DecisionRecord]]) -> None:
        self.trace, self.cancelled, self.steps = [], [], 0
        found = run(self._snapshot(None))
        self.to.idle(job, at(self.now), RunTrace(tuple(self.trace), tuple(found), (), tuple(self.cancelled)))

    def _snapshot(self, key: BookingKey | None) -> Snapshot:
        taken = self.service.snapshot(at(self.now), [self.page()], FLEET, self.bookings, only=key)
        self.trace.append((key, taken))
        return taken

    def _read(self, key: BookingKey) -> Snapshot:
        self.steps += 1
        self.before_step(self.steps)
        return self._snapshot(key)

    def _answer(self, delete: Delete) -> StepState | None:
        answer = self.answers(delete)
        if answer in (None, StepState.DONE):
            self.cancelled += [(KEY, slot) for slot in delete.slots]
            self.remove(*delete.slots)
        return answer

    def remove(self, *slots: Slot) -> None:
        booked = self.bookings.reservations
        left = (replace(one, slots=tuple(slot for slot in one.slots if slot not in slots)) for one in booked)
        self.bookings = Bookings(tuple(one for one in left if one.slots))

    def closings(self) -> list[Tell | Close]:
        return [step for _, step in self.service.closings]

    def replayed(self, policy: Policy | None = None) -> tuple[Summary, Player]:
        player = Player(policy or self.policy)
        list(player.play(read(self.path)))
        return summarize("again", policy or self.policy, read(self.path)), player


def assert_same(recorded: Recorded) -> Player:
    """The replay takes exactly the recorded decisions, and comes to the same end."""
    summary, player = recorded.replayed()
    assert not summary.missing
    assert not summary.extra
    assert [step for _, step in player.simulation.closings] == recorded.closings()
    assert player.simulation.spells.keys() == recorded.service.spells.keys()
    return player


UNINSTALLS = replace(POLICY, idle_rule=replace(POLICY.idle_rule, uninstall=True))
GONE = tuple(slot for one in (THREE, LAST) for slot in one.slots)


def test_a_replay_takes_the_recorded_decisions(tmp_path: Path) -> None:
    recorded = Recorded(tmp_path / "r.jsonl").until(70)
    assert recorded.closings() == [Tell(GONE, (), (), False, Reason.DEADLINE_PASSED)]
    player = assert_same(recorded)
    assert {cut.slot for cut in player.simulation.cuts} == set(GONE)


@pytest.mark.parametrize("answer", [StepState.PLANNED, StepState.FAILED, StepState.ALREADY_GONE])
@pytest.mark.parametrize("which", ["r1", "r5"])
def test_a_replay_follows_what_the_booking_service_refused(tmp_path: Path, answer: StepState, which: str) -> None:
    recorded = Recorded(tmp_path / "r.jsonl", UNINSTALLS)
    recorded.until(63, answers=lambda delete: answer if delete.reservation_id == which else None)
    player = assert_same(recorded)
    refused = {slot for slot in GONE if slot.reservation_id == which}
    if answer is StepState.PLANNED:
        assert not recorded.closings()
        assert {cut.slot for cut in player.simulation.cuts} == set(GONE) - refused
    recorded.until(80, answers=lambda delete: None)
    assert len(recorded.closings()) == 1
    assert_same(recorded)


def test_a_replay_follows_an_uninstall_that_ends_and_one_that_does_not(tmp_path: Path) -> None:
    ends = Recorded(tmp_path / "ends.jsonl", UNINSTALLS).until(70)
    assert ends.closings() == [Tell(GONE, (), (), True, Reason.DEADLINE_PASSED)]
    assert_same(ends)
    hangs = Recorded(tmp_path / "hangs.jsonl", UNINSTALLS, sagas=False).until(70)
    assert hangs.closings() == [Tell(GONE, (), (), False, Reason.UNINSTALL_LATE)]
    assert_same(hangs)


@pytest.mark.parametrize(
    ("begins", "closings"),
    [
        (0, []),  # before the warning
        (50, [Close(Reason.KEPT)]),
    ],
)
def test_a_replay_follows_a_keep_and_its_end(tmp_path: Path, begins: float, closings: list[Tell | Close]) -> None:
    long, after = slot(0, 9 * HOUR, of="r0"), slot(9 * HOUR, 10 * HOUR, of="r5")
    booked = Bookings((reservation(long, name="m"), reservation(after, name="m")))
    recorded = Recorded(tmp_path / "r.jsonl", bookings=booked)
    recorded.until(begins)
    recorded.service.keeps = [Keep("m", ANNA.id, at(begins * 60), at(2 * HOUR))]
    recorded.until(100)
    assert recorded.closings() == closings
    assert_same(recorded)
    recorded.until(181)  # a new hour after the end of the keep
    assert isinstance(recorded.closings()[-1], Tell)
    assert_same(recorded)


@pytest.mark.parametrize("step", [1, 2, 3])  # the first reading is that of the decision to cancel
@pytest.mark.parametrize("reason", [Reason.KEPT, Reason.USED_AGAIN])
def test_a_replay_follows_a_keep_and_use_between_two_steps(tmp_path: Path, step: int, reason: Reason) -> None:
    recorded = Recorded(tmp_path / "r.jsonl")

    def happens(number: int) -> None:
        if number == step and recorded.now == HOUR:
            if reason is Reason.KEPT:
                recorded.service.keeps = [Keep("m", None, at(HOUR), at(9 * HOUR))]
            else:
                recorded.calls += 1

    recorded.until(65, before_step=happens)
    assert recorded.closings() == [Close(reason) if step < 3 else Tell(THREE.slots, (), (), False, reason)]
    assert_same(recorded)


@pytest.mark.parametrize("step", [1, 2, 3])
def test_a_replay_follows_what_was_given_back_between_two_steps(tmp_path: Path, step: int) -> None:
    recorded = Recorded(tmp_path / "r.jsonl")

    def give_back(number: int) -> None:
        if number == step and recorded.now == HOUR:
            recorded.remove(*LAST.slots)

    recorded.until(65, before_step=give_back)
    assert recorded.closings() == [Tell(THREE.slots, LAST.slots, (), False, Reason.DEADLINE_PASSED)]
    assert_same(recorded)


@pytest.mark.parametrize("step", [2, 3])
def test_a_replay_stops_where_a_pause_stopped_the_recorded_run_and_goes_on_with_it(tmp_path: Path, step: int) -> None:
    recorded = Recorded(tmp_path / "r.jsonl")

    def pause(number: int) -> None:
        recorded.paused = recorded.paused or (number == step and recorded.now == HOUR)

    recorded.until(60, before_step=pause)
    assert not recorded.closings()
    assert_same(recorded)
    recorded.until(65, paused=False)
    assert len(recorded.closings()) == 1
    assert_same(recorded)


def test_a_replay_of_a_dry_run_cancels_nothing_either(tmp_path: Path) -> None:
    dry = replace(POLICY, dry_run=True)
    recorded = Recorded(tmp_path / "r.jsonl", dry).until(130)
    assert recorded.bookings == Bookings((NOW, THREE, LAST))
    assert recorded.closings()[0] == Tell(GONE, (), (), False, Reason.DEADLINE_PASSED)
    player = assert_same(recorded)
    assert not player.simulation.cuts


def test_a_policy_that_would_not_have_cancelled_keeps_what_the_recorded_service_took(tmp_path: Path) -> None:
    recorded = Recorded(tmp_path / "r.jsonl").until(70)
    patient = replace(POLICY, idle_rule=replace(POLICY.idle_rule, limit=timedelta(hours=1.5)))
    _, player = recorded.replayed(patient)
    assert not player.simulation.cuts
    recorded.until(100)
    _, player = recorded.replayed(patient)
    assert {cut.slot for cut in player.simulation.cuts} == set(GONE)
