"""Constant load never makes a model go up and down again, whatever the load, the replicas and the limits.

FLAP_CASES=200000 python -m pytest -s project/tests/unit/domain/test_no_flap.py
"""

import os
import random
from datetime import timedelta
from itertools import pairwise

from limiter.domain.decision import Decision
from limiter.domain.fleet import ScalingState
from limiter.domain.load import Load
from limiter.domain.scaling import decide
from limiter.domain.scaling_rule import ScalingRule
from tests.unit.domain.build import at, served

CASES = int(os.environ.get("FLAP_CASES", "1000"))
TICKS, TICK = 60, 15
AT_ONCE, MINUTE = timedelta(0), timedelta(minutes=1)


def a_rule(dice: random.Random) -> ScalingRule:
    """Any rule that the settings allow; without stabilization, which would only hide a flap."""
    fewest = dice.randint(1, 5)
    return ScalingRule(
        target_rps=10 ** dice.uniform(-2, 3),
        tolerance=dice.choice((0.0, 0.1, dice.uniform(0, 2))),
        headroom=dice.choice((0.7, 0.999, dice.uniform(0.01, 0.999))),
        min_replicas=fewest,
        max_replicas=fewest + dice.choice((0, 1, dice.randint(0, 60))),
        up_window=MINUTE,
        down_window=MINUTE,
        up_stabilization=AT_ONCE,
        down_stabilization=AT_ONCE,
        burst_factor=dice.choice((0, 1.01, 2)),
        lead_most=1.5,
        down_step=dice.choice((0, 1, 3)),
    )


def a_load(dice: random.Random, rule: ScalingRule) -> float:
    """Often just at a border, where rounding decides."""
    replicas = dice.randint(1, rule.max_replicas + 1)
    edges = (rule.target_rps, rule.target_rps * (1 + rule.tolerance), rule.headroom * rule.target_rps)
    return dice.choice((dice.uniform(0, 3 * rule.target_rps * rule.max_replicas), dice.choice(edges) * replicas))


def steps(rule: ScalingRule, rps: float, replicas: int) -> list[Decision]:
    """What is done in 60 ticks, each command having its effect before the next tick."""
    model = served(replicas=replicas)
    taken: list[Decision] = []
    load = Load(rps, rps, known=True, tick=rps, tick_calls=TICK * rps, lead=40)
    for tick in range(TICKS):
        state = ScalingState(model.id, model.name, replicas, at(0))
        verdict = decide(rule, state, load, None, at(tick * TICK))
        if verdict.decision is not Decision.HOLD:
            assert verdict.replicas != replicas
            assert rule.min_replicas <= verdict.replicas <= rule.max_replicas
            taken.append(verdict.decision)
            replicas = verdict.replicas
    return taken


def test_constant_load_never_reverses_a_model() -> None:
    dice, moved = random.Random(7), 0
    for case in range(CASES):
        rule = a_rule(dice)
        rps, replicas = a_load(dice, rule), dice.randint(1, rule.max_replicas + 3)
        taken = steps(rule, rps, replicas)
        moved += bool(taken)
        assert all(before is after for before, after in pairwise(taken)), (case, rule, rps, replicas, taken)
    print(f"{CASES} cases of {TICKS} ticks, {moved} of which moved: no reversal")
    assert moved > CASES / 4
