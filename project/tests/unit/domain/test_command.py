"""The words that rows, logs and metrics share, and how long a model is left alone after a command."""

from dataclasses import replace
from datetime import timedelta
from uuid import UUID

import pytest

from limiter.domain.command import (
    UNFINISHED,
    Command,
    CommandKind,
    CommandState,
    Effect,
    FollowUp,
    backoff,
    effect_of,
    follow_up,
)
from limiter.domain.decision import Decision, Reason
from limiter.domain.fleet import Fleet
from tests.unit.domain.build import PACING, at, command, secs, served

SCALES = (CommandKind.SCALE_UP, CommandKind.SCALE_DOWN)
FIRST, LONGEST = timedelta(minutes=1), timedelta(minutes=30)


@pytest.mark.parametrize(
    ("failures", "minutes"), [(0, 1), (1, 1), (2, 2), (3, 4), (4, 8), (5, 16), (6, 30), (7, 30), (10**6, 30)]
)
def test_backs_off_1_2_4_up_to_30_minutes(failures: int, minutes: int) -> None:
    assert backoff(failures, FIRST, LONGEST) == timedelta(minutes=minutes)


def test_the_longest_pauses_that_can_be_set_do_not_add_up_beyond_the_longest() -> None:
    year = timedelta(days=365)
    assert backoff(40, year, year) == year
    assert backoff(40, timedelta(microseconds=1), year) == timedelta(seconds=2**30 / 10**6)


@pytest.mark.parametrize("state", CommandState)
def test_a_command_is_unfinished_until_it_completed_failed_or_was_only_a_dry_run(state: CommandState) -> None:
    over = {CommandState.COMPLETED, CommandState.FAILED, CommandState.DRY_RUN}
    assert command(state).unfinished is (state not in over)
    assert (state in UNFINISHED) is (state not in over)


def test_nothing_blocks_a_model_that_was_never_commanded() -> None:
    assert PACING.blocks(None, at(0)) is None


@pytest.mark.parametrize("state", UNFINISHED)
def test_an_unfinished_command_blocks_for_ever(state: CommandState) -> None:
    assert PACING.blocks(command(state), at(10**7)) is Reason.COMMAND_UNFINISHED


@pytest.mark.parametrize("state", [CommandState.COMPLETED, CommandState.DRY_RUN])
@pytest.mark.parametrize(("now", "blocked"), [(100, True), (159.999, True), (160, False)])
def test_cools_down_for_60_seconds_from_the_end_of_the_command(state: CommandState, now: float, blocked: bool) -> None:
    reason = PACING.blocks(command(state, finished=100), at(now))
    assert reason is (Reason.COOLING_DOWN if blocked else None)


@pytest.mark.parametrize(("failures", "seconds"), [(1, 60), (2, 120), (3, 240), (6, 1800), (50, 1800)])
def test_a_failed_command_blocks_for_its_backoff_to_the_second(failures: int, seconds: int) -> None:
    failed = command(CommandState.FAILED, finished=100, failures=failures)
    assert PACING.blocks(failed, at(100 + seconds - 0.001)) is Reason.BACKING_OFF
    assert PACING.blocks(failed, at(100 + seconds)) is None


def test_a_command_that_was_forbidden_before_it_was_sent_blocks_nothing() -> None:
    assert PACING.blocks(command(CommandState.FAILED, finished=100, failures=0), at(100)) is None


def test_a_command_that_ended_before_the_clock_was_set_back_blocks_nothing() -> None:
    ended = command(CommandState.COMPLETED, finished=600)
    assert PACING.blocks(ended, at(0)) is Reason.COOLING_DOWN  # it may have ended while the run went on
    assert PACING.blocks(ended, at(-1)) is None


def test_a_command_whose_end_is_not_recorded_cools_down_from_its_plan() -> None:
    unended = command(CommandState.COMPLETED, planned=100)
    assert PACING.blocks(unended, at(159)) is Reason.COOLING_DOWN
    assert PACING.blocks(unended, at(160)) is None


def unsent(kind: CommandKind) -> Command:
    return replace(command(CommandState.PLANNED, planned=100), kind=kind)


def followed(asked: Command, now: float) -> FollowUp:
    return follow_up(asked, at(now), in_flight=secs(20), timeout=secs(900))


@pytest.mark.parametrize("kind", SCALES)
@pytest.mark.parametrize(("now", "what"), [(100, FollowUp.SEND), (1000, FollowUp.SEND), (1000.001, FollowUp.DROP)])
def test_a_scale_that_was_never_sent_is_sent_until_the_saga_timeout(
    kind: CommandKind, now: float, what: FollowUp
) -> None:
    assert followed(unsent(kind), now) is what


@pytest.mark.parametrize(("now", "what"), [(100, FollowUp.WAIT), (120, FollowUp.WAIT), (120.001, FollowUp.DROP)])
def test_an_uninstall_that_was_never_sent_is_never_sent_later(now: float, what: FollowUp) -> None:
    assert followed(unsent(CommandKind.UNINSTALL), now) is what


@pytest.mark.parametrize("kind", CommandKind)
@pytest.mark.parametrize(
    ("now", "what"), [(500, FollowUp.WAIT), (520, FollowUp.WAIT), (520.001, FollowUp.ASK_REGISTRY)]
)
def test_a_call_that_may_be_under_way_is_not_judged(kind: CommandKind, now: float, what: FollowUp) -> None:
    assert followed(replace(unsent(kind), sent_at=at(500)), now) is what


def test_a_command_whose_sender_has_a_clock_before_ours_is_not_judged() -> None:
    assert followed(replace(unsent(CommandKind.SCALE_UP), sent_at=at(510)), 500) is FollowUp.WAIT


@pytest.mark.parametrize("now", [100, 10**6])
def test_a_command_with_a_saga_is_followed_by_it_however_old(now: float) -> None:
    assert followed(replace(unsent(CommandKind.SCALE_UP), sent_at=at(100), saga_id=UUID(int=3)), now) is (
        FollowUp.ASK_SAGA
    )


def test_the_age_of_a_command_counts_from_the_time_it_was_sent() -> None:
    sent = replace(unsent(CommandKind.SCALE_UP), sent_at=at(500))
    assert not sent.older_than(secs(900), at(1400))
    assert sent.older_than(secs(900), at(1400.001))


@pytest.mark.parametrize("kind", SCALES)
@pytest.mark.parametrize(
    ("fleet", "effect"),
    [
        (Fleet((served(replicas=2),)), Effect.SHOWN),
        (Fleet((served(replicas=2),), complete=False), Effect.SHOWN),
        (Fleet((served(replicas=1),)), Effect.ABSENT),
        (Fleet((served(replicas=3),), complete=False), Effect.ABSENT),
        (Fleet((served(number=2, replicas=2),)), Effect.ABSENT),
        (Fleet((), complete=False), Effect.UNKNOWN),
        (Fleet((), unreadable=frozenset({UUID(int=1)})), Effect.UNKNOWN),
        (Fleet((), unreadable=frozenset({UUID(int=2)})), Effect.ABSENT),
    ],
)
def test_a_scale_took_effect_when_the_model_has_the_replicas(kind: CommandKind, fleet: Fleet, effect: Effect) -> None:
    assert effect_of(unsent(kind), fleet) is effect


@pytest.mark.parametrize(
    ("fleet", "effect"),
    [
        (Fleet(()), Effect.SHOWN),
        (Fleet((served(replicas=2),)), Effect.ABSENT),
        (Fleet((), complete=False), Effect.UNKNOWN),
        (Fleet((), unreadable=frozenset({UUID(int=1)})), Effect.UNKNOWN),
        (Fleet((), unreadable=frozenset({UUID(int=2)})), Effect.SHOWN),
    ],
)
def test_an_uninstall_took_effect_when_the_model_is_certainly_gone(fleet: Fleet, effect: Effect) -> None:
    assert effect_of(replace(unsent(CommandKind.UNINSTALL), replicas=None), fleet) is effect


def test_reasons_and_decisions_can_be_metric_labels() -> None:
    assert all(word.value.isidentifier() and word.value.islower() for word in (*Reason, *Decision))
