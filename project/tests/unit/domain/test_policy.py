"""Which rule is in force for which model."""

from dataclasses import replace
from datetime import timedelta

import pytest

from limiter.domain.policy import Policy
from tests.unit.domain.build import IDLE, PACING, SCALING, secs

OWN = replace(SCALING, target_rps=99), replace(IDLE, exempt=True)
POLICY = Policy(
    SCALING,
    IDLE,
    {"own": OWN},
    PACING,
    enforce_per_run=10,
    saga_timeout=timedelta(minutes=15),
    retention=timedelta(days=7),
)


def test_a_model_with_rules_of_its_own_goes_by_them_and_the_others_by_the_fleets() -> None:
    assert (POLICY.scaling("own"), POLICY.idle("own")) == OWN
    assert (POLICY.scaling("any"), POLICY.idle("any")) == (SCALING, IDLE)


@pytest.mark.parametrize(("up", "down"), [(60, 300), (300, 60)])
def test_calls_are_remembered_for_the_longer_window(up: int, down: int) -> None:
    rule = replace(SCALING, up_window=secs(up), down_window=secs(down))
    assert replace(POLICY, scaling_rule=rule).window == secs(300)


@pytest.mark.parametrize(("up", "down"), [(60, 900), (900, 60)])
def test_the_longest_window_of_any_model_counts(up: int, down: int) -> None:
    own = replace(SCALING, up_window=secs(up), down_window=secs(down)), IDLE
    assert replace(POLICY, own_rules={"own": own, "other": OWN}).window == secs(900)


def test_a_model_with_a_pause_of_its_own_goes_by_it_and_the_longest_of_all_is_remembered() -> None:
    own = replace(PACING, cooldown=secs(9000))
    policy = replace(POLICY, own_pacing={"own": own})
    assert (policy.pacing_of("own"), policy.pacing_of("any")) == (own, PACING)
    assert policy.longest_rest == secs(9000)
    assert POLICY.longest_rest == max(PACING.cooldown, PACING.backoff_longest)
