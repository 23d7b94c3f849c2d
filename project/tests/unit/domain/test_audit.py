"""Decisions in words: the numbers that led to them, as an operator reads them at night."""

import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from uuid import UUID

import pytest

from limiter.domain.audit import DecisionRecord, Numbers, duration, explanation
from limiter.domain.decision import Decision, Reason

AT = datetime(2026, 3, 2, 11, 2, tzinfo=UTC)
MODEL, USER = UUID(int=1), UUID(int=101)


def moment(hour: int, minute: int, second: int = 0, day: int = 2) -> float:
    return datetime(2026, 3, day, hour, minute, second, tzinfo=UTC).timestamp()


SCALE: Numbers = {
    "rps": 12.0,
    "rps_down": 6.9,
    "rps_per_replica": 12.0,
    "rps_tick": 41.0,
    "rps_expected": 13.2,
    "rps_slope": 0.9,
    "lead_seconds": 75.0,
    "burst_factor": 2.0,
    "replicas": 1,
    "fewer": 1,
    "wanted": 2,
    "target": 10.0,
    "up_factor": 1.1,
    "headroom": 0.7,
    "minimum": 1,
    "maximum": 8,
    "wish": "up",
    "held_seconds": 31.0,
    "needed_seconds": 30.0,
    "failures": 3,
}
IDLE: Numbers = {
    "idle_since_at": moment(10, 2),
    "idle_seconds": 2520.0,
    "delivered_at": moment(10, 47),
    "cancelled_at": moment(11, 2),
    "not_before_at": moment(11, 2),
    "used_at": moment(10, 59, 7),
    "slots": 2,
    "done": 1,
    "failed": 1,
    "mode": "in row",
}


def record(reason: Reason, decision: Decision = Decision.HOLD, numbers: Numbers | None = None) -> DecisionRecord:
    return DecisionRecord(AT, MODEL, "m", USER, decision, reason, {**SCALE, **IDLE} if numbers is None else numbers)


@pytest.mark.parametrize(
    ("decision", "reason", "words"),
    [
        (Decision.SCALE_UP, Reason.OVERLOADED, "12.0 RPS per replica > 10 × 1.1 for 31 s: 1 → 2"),
        (
            Decision.SCALE_UP,
            Reason.EXPECTED_OVERLOAD,
            "12.0 RPS grow by 0.9 a minute: 13.2 in 75 s on 1, wished for 31 s: 1 → 2",
        ),
        (Decision.SCALE_UP, Reason.BURST, "41.0 RPS in the last tick alone ≥ 2 × 10 × 1: 1 → 2"),
        (Decision.SCALE_DOWN, Reason.UNDERUSED, "6.9 RPS ≤ 10 × 0.7 × 1 for 31 s: 1 → 2"),
        (Decision.SCALE_UP, Reason.BELOW_MIN, "the minimum is 1: 1 → 2"),
        (Decision.SCALE_DOWN, Reason.ABOVE_MAX, "the maximum is 8: 1 → 2"),
        (Decision.HOLD, Reason.AT_MAX, "12.0 RPS per replica: it would go up, and 1 is the maximum"),
        (Decision.HOLD, Reason.STABILIZING, "12.0 RPS per replica on 1: the wish to go up must hold for 30 s"),
        (Decision.HOLD, Reason.BACKING_OFF, "3 commands for this model failed in a row"),
        (
            Decision.CANCEL,
            Reason.DEADLINE_PASSED,
            "unused since 10:02 (42 min), warned 10:47, cancelled 11:02: 2 slots in row",
        ),
        (
            Decision.WARN,
            Reason.UNUSED,
            "unused since 10:02 (42 min): 2 slots at risk (in row), not before 11:02",
        ),
        (Decision.UNINSTALL, Reason.DEADLINE_PASSED, "nobody uses or needs it: uninstalled"),
        (Decision.WITHDRAW, Reason.USED_AGAIN, "used again 10:59:07: the warning is withdrawn"),
        (Decision.CANCEL, Reason.USED_AGAIN, "used again after 1 of 2 slots were cancelled: the rest stays"),
        (Decision.HOLD, Reason.USED_AGAIN, "not uninstalled: used again"),
        (Decision.CANCEL, Reason.REFUSED, "the booking service refused 1 of 2 slots"),
        (Decision.WITHDRAW, Reason.EXEMPT, "the operator exempts this model: the warning is withdrawn"),
        (Decision.HOLD, Reason.EXEMPT, "the operator exempts this model"),
        (Decision.HOLD, Reason.KEPT, "somebody asked to keep it"),
        (Decision.WITHDRAW, Reason.KEPT, "somebody asked to keep it: the warning is withdrawn"),
        (
            Decision.WITHDRAW,
            Reason.NOTHING_TO_CANCEL,
            "nothing that the warning named is left: it is withdrawn",
        ),
        (
            Decision.HOLD,
            Reason.NOTHING_TO_CANCEL,
            "nothing is left to cancel at the deadline, and nothing to free",
        ),
        (Decision.CANCEL, Reason.KEPT, "kept after 1 of 2 slots were cancelled: the rest stays"),
        (Decision.CANCEL, Reason.EXEMPT, "exempted after 1 of 2 slots were cancelled: the rest stays"),
        (Decision.CANCEL, Reason.BY_OPERATOR, "ended by an operator after 1 of 2 slots were cancelled"),
        (Decision.WITHDRAW, Reason.BY_OPERATOR, "closed by an operator"),
        (Decision.HOLD, Reason.REFUSED, "the booking service refuses: tried again later"),
        (Decision.HOLD, Reason.QUIET_HOURS, "these are quiet hours: nobody is warned or cancelled"),
        (Decision.HOLD, Reason.SURGE, "too many turned idle at once: a person must allow it"),
        (Decision.HOLD, Reason.KEEPS_SLOT, "not uninstalled: the user's own later slot starts soon"),
        (Decision.HOLD, Reason.UNINSTALL_LATE, "the uninstall took too long: told as not done"),
        (
            Decision.HOLD,
            Reason.WARNED_WAITING,
            "unused since 10:02 (42 min), warned 10:47: cancelling not before 11:02",
        ),
    ],
)
def test_a_decision_reads_as_its_numbers(decision: Decision, reason: Reason, words: str) -> None:
    assert record(reason, decision).why == words


@pytest.mark.parametrize("reason", Reason)
def test_every_reason_has_words_that_need_only_known_numbers(reason: Reason) -> None:
    words = record(reason).why
    assert words
    assert "{" not in words


@pytest.mark.parametrize(
    ("decision", "reason", "words"),
    [
        (Decision.WITHDRAW, Reason.USED_AGAIN, "used again: the warning is withdrawn"),
        (Decision.HOLD, Reason.USED_AGAIN, "not uninstalled: used again"),
        (Decision.HOLD, Reason.BACKING_OFF, "a command for this model has just failed"),
        (Decision.HOLD, Reason.COMMAND_UNFINISHED, "an earlier command for this model is unfinished"),
        (Decision.HOLD, Reason.READING_UNKNOWN, "no trustworthy reading: unknown is not zero"),
    ],
)
def test_in_the_middle_of_a_cancelling_there_are_words_without_numbers(
    decision: Decision, reason: Reason, words: str
) -> None:
    assert record(reason, decision, {}).why == words


def test_a_number_that_an_earlier_version_did_not_record_is_a_question_mark() -> None:
    found = DecisionRecord(AT, MODEL, "m", None, Decision.HOLD, Reason.WITHIN_TARGET, {"replicas": 2})
    assert found.why == "? RPS per replica on 2: neither too much nor too little"


def test_a_load_below_one_call_a_second_shows_on_which_side_of_its_target_it_is() -> None:
    slow = {**SCALE, "rps_per_replica": 0.0345, "target": 0.03, "rps_down": 0.0}
    up, down = record(Reason.OVERLOADED, Decision.SCALE_UP, slow), record(Reason.UNDERUSED, Decision.SCALE_DOWN, slow)
    assert up.why == "0.035 RPS per replica > 0.03 × 1.1 for 31 s: 1 → 2"
    assert down.why == "0.0 RPS ≤ 0.03 × 0.7 × 1 for 31 s: 1 → 2"


def test_one_slot_is_not_slots() -> None:
    one = replace(record(Reason.UNUSED), numbers={**IDLE, "slots": 1})
    assert "1 slot at risk (in row)" in one.why


def test_a_moment_of_another_day_names_the_day() -> None:
    old = replace(record(Reason.UNUSED), numbers={**IDLE, "idle_since_at": moment(23, 50, day=1)})
    assert old.why.startswith("unused since 2026-03-01 23:50 (42 min)")


def test_a_number_of_one_has_a_noun_of_one() -> None:
    assert record(Reason.BACKING_OFF, numbers={"failures": 1}).why == "1 command for this model failed in a row"


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (-0.3, "0 s"),
        (0, "0 s"),
        (31.4, "31 s"),
        (119.4, "119 s"),
        (120, "2 min"),
        (2520, "42 min"),
        (7199, "120 min"),
        (7200, "2.0 h"),
    ],
)
def test_durations_are_in_the_unit_people_use(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def test_an_explanation_says_first_what_stands_for_each_and_then_how_it_came_to_that() -> None:
    early = replace(record(Reason.IN_USE), at=AT - timedelta(minutes=30))
    late = record(Reason.NOTHING_TO_CANCEL)
    of_model = replace(record(Reason.WITHIN_TARGET), user_id=None, at=AT - timedelta(hours=1))
    lines = explanation([(late, False), (early, False), (of_model, False)], {MODEL})
    assert lines == [
        "stands:",
        f"since 2026-03-02 11:02:00  model {MODEL}, user {USER}: hold (nothing_to_cancel): {late.why}",
        f"since 2026-03-02 10:02:00  model {MODEL}: hold (within_target): {of_model.why}",
        "changes, the newest first:",
        f"2026-03-02 11:02:00  model {MODEL}, user {USER}: hold (nothing_to_cancel): {late.why}",
        f"2026-03-02 10:32:00  model {MODEL}, user {USER}: hold (in_use): {early.why}",
        f"2026-03-02 10:02:00  model {MODEL}: hold (within_target): {of_model.why}",
    ]


def test_an_explanation_does_not_say_that_a_dry_run_did_anything_or_that_something_stands_for_what_is_gone() -> None:
    done = record(Reason.BY_OPERATOR, decision=Decision.CANCEL)
    line = f"2026-03-02 11:02:00  model {MODEL}, user {USER}: would cancel (by_operator): {done.why}"
    assert explanation([(done, True)], ()) == [
        "stands:",
        f"not known to run; last {line}",
        "changes, the newest first:",
        line,
    ]


def test_times_are_in_utc_wherever_the_service_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Pacific/Kiritimati")  # fourteen hours ahead
    time.tzset()
    try:
        there = replace(record(Reason.UNUSED), at=AT.astimezone(timezone(timedelta(hours=14))))
        assert there.why.startswith("unused since 10:02 (42 min)")
    finally:
        monkeypatch.undo()
        time.tzset()


def test_hours_are_rounded_to_a_tenth() -> None:
    assert duration(36_000_000) == "10000.0 h"
