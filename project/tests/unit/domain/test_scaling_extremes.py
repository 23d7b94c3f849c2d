"""decide() under rules and loads that no platform has, but that the settings take: it counts on, within its bounds."""

from dataclasses import replace
from itertools import product

import pytest

from limiter.domain.decision import Decision
from limiter.domain.load import Load
from limiter.domain.scaling import decide, numbers
from limiter.domain.scaling_rule import ScalingRule
from tests.unit.domain.build import SCALING, at, remembered

TARGETS = (5e-324, 1e-320, 1e-300, 1e-15, 1e15, 1.7e308)
HEADROOMS = (5e-324, 1e-300, 1e-9, 0.7, 1 - 2**-53)
RATES = (0.0, 5e-324, 1e-300, 1.0, 3e17, 1e300)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("headroom", HEADROOMS)
@pytest.mark.parametrize("tolerance", [0, 10])
def test_every_decision_stays_within_the_bounds(target: float, headroom: float, tolerance: float) -> None:
    rule = replace(SCALING, target_rps=target, headroom=headroom, tolerance=tolerance, burst_factor=1.5, down_step=0)
    for rps, tick, replicas in product(RATES, RATES, (1, 3, 8)):
        load = Load(rps, rps, True, tick=tick, tick_calls=15 * tick)
        for state in (
            remembered(replicas, overloaded_since=0),
            replace(remembered(replicas, underused_since=0), underused_peak=rps),
            remembered(replicas),
        ):
            verdict = decide(rule, state, load, None, at(300))
            assert 1 <= verdict.replicas <= 8
            assert (verdict.replicas > replicas) == (verdict.decision is Decision.SCALE_UP)
            assert (verdict.replicas < replicas) == (verdict.decision is Decision.SCALE_DOWN)
            assert numbers(rule, state, load, verdict, at(300))


@pytest.mark.parametrize(("target", "rps"), [(1e-320, 1.0), (1e-15, 3.0), (5e-324, 5e-324), (0.1, 1e18)])
def test_what_no_number_of_replicas_carries_needs_more_than_any_maximum_allows(target: float, rps: float) -> None:
    assert replace(SCALING, target_rps=target, headroom=0.3).fewest(rps) >= 100_000 or rps == target


def test_nothing_needs_no_replica() -> None:
    rule: ScalingRule = replace(SCALING, target_rps=5e-324, headroom=0.1)
    assert (rule.fewest(0.0), SCALING.fewest(0.0)) == (0, 0)
