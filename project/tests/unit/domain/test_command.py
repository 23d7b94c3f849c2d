"""The words that rows, logs and metrics share, and how long a model is left alone after a command."""

from datetime import timedelta

import pytest

from limiter.domain.command import UNFINISHED, CommandState, backoff
from limiter.domain.decision import Decision, Reason
from tests.unit.domain.build import PACING, at, command

FIRST, LONGEST = timedelta(minutes=1), timedelta(minutes=30)


@pytest.mark.parametrize(
    ("failures", "minutes"), [(0, 1), (1, 1), (2, 2), (3, 4), (4, 8), (5, 16), (6, 30), (7, 30), (10**6, 30)]
)
def test_backs_off_1_2_4_up_to_30_minutes(failures: int, minutes: int) -> None:
    assert backoff(failures, FIRST, LONGEST) == timedelta(minutes=minutes)


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


def test_a_command_whose_end_is_not_recorded_cools_down_from_its_plan() -> None:
    unended = command(CommandState.COMPLETED, planned=100)
    assert PACING.blocks(unended, at(159)) is Reason.COOLING_DOWN
    assert PACING.blocks(unended, at(160)) is None


def test_reasons_and_decisions_can_be_metric_labels() -> None:
    assert all(word.value.isidentifier() and word.value.islower() for word in (*Reason, *Decision))
